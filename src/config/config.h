// Config: what the operator asked for, read once from the command line and never changed afterwards.
//
// A leaf: it knows no other room, so overseer translates it into each room's own Options. Nothing is looked at but the
// words given (no file, no clock), and nothing is created: a wrong command line has no effect at all.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/address.h"

namespace bladepsgi::config {

// One binary, two names. The second has the habits of FastCGI scripts: `plackup -s FCGI`, Catalyst's *_fastcgi.pl.
enum class Program : std::uint8_t { Bladepsgi, BladepsgiFcgi };

// What a command line looks like, and so what its letters mean.
enum class Form : std::uint8_t {
  Classic,      // the four arguments of version 1.0
  Application,  // an application alone, as with plackup
  FcgiScript,   // under the name bladepsgi-fcgi
};

enum class OnCrash : std::uint8_t { Restart, Stop };

// Where a request body is while the application reads it.
enum class Input : std::uint8_t {
  Auto,    // in memory up to input_memory, else streamed
  Stream,  // always read from the connection
  Spool,   // larger than input_memory: a temporary file
};

// Where SCRIPT_NAME and PATH_INFO come from when no mount is given.
enum class PathInfo : std::uint8_t { Auto, Plack, Server };

// The fields in which a trusted front end says for whom it speaks.
enum class Forwarded : std::uint8_t { XForwarded, Forwarded, Both };

enum class Protocol : std::uint8_t {
  FastCgi,
  Http,
  Health,  // HTTP, for /healthz alone
};

struct Listen {
  Address address;
  Protocol protocol = Protocol::FastCgi;
};

enum class Errors : std::uint8_t { Log, FastCgi };

// What only parse() needs, to know what was meant.
struct Hints {
  std::vector<Address> listen;  // of no protocol yet
  std::string host;
  std::string port;
  std::string server;
};

// For --control: there shall be no control socket.
inline constexpr std::string_view kNoControl = "none";

// Plain data. Made only by parse() and defaults(): the values of options not given are those of the table in options.h,
// the zeros here are never seen.
struct Config {
  Form form = Form::Classic;
  Hints hints;                     // parse() has drawn its conclusions; nobody else looks at them
  std::vector<std::string> notes;  // what was asked for and is not done; the log says so once

  bool print_config = false;    // instead of serving
  std::optional<Address> ping;  // ask the server there instead; nothing else is set then

  // Arguments, as given.
  std::string application_path;   // empty: application_code is all there is
  std::uint32_t workers = 0;      // 0: as many as the machine likes
  std::vector<Listen> listen;     // FASTCGI_SOCKET_PATH is the first
  std::string stats_socket_path;  // empty: none

  // Of sockets that the process was started with, when nothing else says it.
  Protocol inherited_protocol = Protocol::FastCgi;
  // Where to listen when there is nothing else to listen on, inherited or asked for.
  std::optional<Listen> fallback;

  // Application
  std::string
      application_code;  // evaluated to get the application; may use that of application_path
  std::string loader;    // empty: application_path is a PSGI file
  std::vector<std::string> include_directories;
  std::vector<std::string> modules;  // as perl's -M takes them
  std::string plack_env;             // empty: as in the environment
  std::optional<std::string> mount;  // "" is the root, else "/…" without a trailing slash
  PathInfo path_info = PathInfo::Auto;
  std::chrono::milliseconds load_timeout{};
  bool no_preload = false;
  std::uint32_t reload_step = 0;
  std::string probe;  // path and query; empty: none
  std::chrono::milliseconds probe_timeout{};
  std::uint32_t canary = 0;  // percent of the workers; 0: none
  std::uint32_t canary_requests = 0;
  std::chrono::milliseconds canary_time{};
  std::uint32_t canary_slowness = 0;  // 0: any

  // Processes
  std::string proctitle_prefix;
  std::string pid_file;  // empty: none
  bool daemonize = false;
  std::string user;   // empty: stay who we are
  std::string group;  // empty: that of `user`
  OnCrash on_crash = OnCrash::Restart;
  std::chrono::milliseconds stop_timeout{};  // 0: none
  std::chrono::milliseconds drain_delay{};
  std::uint64_t shared_memory = 0;
  // Workers come and go between these; unset: there are always `workers`.
  std::optional<std::uint32_t> min_workers;
  std::uint32_t min_spare = 0;
  std::uint32_t max_spare = 0;  // 0: any number
  std::chrono::milliseconds worker_idle_timeout{};
  std::uint32_t max_workers = 0;             // 0: see --max-workers
  std::uint32_t max_requests = 0;            // 0: any number
  std::chrono::milliseconds max_lifetime{};  // 0: for ever
  std::uint64_t max_memory = 0;              // 0: any amount
  std::uint32_t recycle_share = 0;           // percent of the workers

  // Sockets
  std::string control_socket_path;  // "none"; empty: where bladectl looks
  std::uint32_t socket_mode = 0;
  std::string socket_owner;  // empty: as created
  std::string socket_group;  // empty: as created
  std::uint32_t backlog = 0;
  bool abandoned_tcp = false;
  std::string allow;  // list of who may connect; "*": everybody
  // FCGI_WEB_SERVER_ADDRS, where a web server has passed the socket.
  std::optional<std::string> web_server_addresses;
  std::string trust_proxy;  // list of addresses; empty: nobody is trusted
  Forwarded forwarded = Forwarded::XForwarded;

  // Time limits
  std::chrono::milliseconds head_timeout{};
  std::chrono::milliseconds body_timeout{};
  std::chrono::milliseconds send_timeout{};
  std::chrono::milliseconds idle_timeout{};
  std::chrono::milliseconds request_wait{};
  std::chrono::milliseconds request_timeout{};  // 0: none
  std::chrono::milliseconds request_timeout_grace{};
  std::chrono::milliseconds start_timeout{};
  std::chrono::milliseconds exit_timeout{};
  std::chrono::milliseconds queue_timeout{};  // 0: none

  // Request limits
  std::uint64_t max_params_bytes = 0;
  std::uint32_t max_params = 0;
  std::uint64_t max_body = 0;  // 0: no limit
  std::uint64_t drain_limit = 0;
  std::uint64_t min_body_rate = 0;      // bytes a second; 0: none
  std::uint32_t slow_bodies = 0;        // 0: half of the workers
  std::uint32_t lobby_connections = 0;  // 0: there is no lobby
  std::uint64_t lobby_memory = 0;

  // Request body
  Input input = Input::Auto;
  std::uint64_t input_memory = 0;
  std::uint64_t body_ahead = 0;
  std::string spool_directory;  // empty: $TMPDIR when the server runs, else /tmp

  // Log
  Errors errors = Errors::Log;
  bool raw_output = false;
  std::string access_log;  // path, "-", "off"; empty: "-" for HTTP only
  std::string access_log_format;
};

// Print `text` on stdout and leave with success: --help, --version.
struct Information {
  std::string text;
};

// Print `text()` on stderr and leave with ExitCode::Usage.
struct UsageError {
  // One sentence without newline: what is wrong with which word, and what would be right.
  std::string message;
  Program program = Program::Bladepsgi;
  // The message, the usage lines and where to find help, newline at the end.
  [[nodiscard]] std::string text() const;
};

using Parsed = std::variant<Config, Information, UsageError>;

// Which of the two names argv[0] ends in.
[[nodiscard]] Program program_of(std::string_view path);

// Of the environment, what kVariables in options.h names and is set.
using Environment = std::map<std::string, std::string, std::less<>>;

// --help or --version anywhere among the options wins over whatever else is wrong.
[[nodiscard]] Parsed parse(int argc, const char* const* argv, const Environment& environment = {});

// What --print-config prints. With the "#" lines left out it is an application form that makes the same configuration.
[[nodiscard]] std::string config_text(const Config& config);

// How long --ping waits for all of an answer. Whoever runs it as a health check has a limit of his own, and ought to see ours.
inline constexpr std::chrono::seconds kPingLimit{5};

// Requests are listened for somewhere; --health is no such place.
[[nodiscard]] bool has_service(const Config& config);

// Every option at its default; the arguments empty.
[[nodiscard]] Config defaults();

// The program's version, "2.0.0".
[[nodiscard]] std::string_view version();

}  // namespace bladepsgi::config
