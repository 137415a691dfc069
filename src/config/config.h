// Config: what the operator asked for, read once from the command line and never changed afterwards.
//
// A leaf: it knows no other room, so overseer translates it into each room's own Options. Nothing is looked at but the
// words given (no file, no environment, no clock), and nothing is created: a wrong command line has no effect at all.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/address.h"

namespace bladepsgi::config {

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

// Plain data. Made only by parse() and defaults(): the values of options not given are those of the table in options.h,
// the zeros here are never seen.
struct Config {
  // Arguments, as given.
  std::string application_path;
  std::uint32_t workers = 0;
  std::vector<Listen> listen;     // FASTCGI_SOCKET_PATH is the first
  std::string stats_socket_path;  // empty: none

  // Application
  std::string loader;                // empty: application_path is a PSGI file
  std::optional<std::string> mount;  // "" is the root, else "/…" without a trailing slash
  PathInfo path_info = PathInfo::Auto;
  std::chrono::milliseconds load_timeout{};
  bool no_preload = false;

  // Processes
  std::string proctitle_prefix;
  std::string user;   // empty: stay who we are
  std::string group;  // empty: that of `user`
  OnCrash on_crash = OnCrash::Restart;
  std::uint64_t shared_memory = 0;

  // Sockets
  std::uint32_t socket_mode = 0;
  std::string socket_owner;  // empty: as created
  std::string socket_group;  // empty: as created
  std::uint32_t backlog = 0;
  bool abandoned_tcp = false;
  std::string trust_proxy;  // list of addresses; empty: nobody is trusted
  Forwarded forwarded = Forwarded::XForwarded;

  // Time limits
  std::chrono::milliseconds head_timeout{};
  std::chrono::milliseconds body_timeout{};
  std::chrono::milliseconds send_timeout{};
  std::chrono::milliseconds idle_timeout{};

  // Request limits
  std::uint64_t max_params_bytes = 0;
  std::uint32_t max_params = 0;
  std::uint64_t max_body = 0;  // 0: no limit
  std::uint64_t drain_limit = 0;

  // Request body
  Input input = Input::Auto;
  std::uint64_t input_memory = 0;
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
  std::string
      message;  // one sentence without newline: what is wrong with which word, and what would be right
  [[nodiscard]] std::string text()
      const;  // the message, the usage line and where to find help, newline at the end
};

using Parsed = std::variant<Config, Information, UsageError>;

// `argv[0]` is not looked at. --help or --version anywhere among the options wins over whatever else is wrong.
[[nodiscard]] Parsed parse(int argc, const char* const* argv);

// Every option at its default; the four arguments empty.
[[nodiscard]] Config defaults();

// The program's version, "2.0.0".
[[nodiscard]] std::string_view version();

}  // namespace bladepsgi::config
