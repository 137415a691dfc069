// Options: the one declaration of every argument and option of the command line.
//
// The parser, the text of --help, the manual page and docs/options.md all come from these tables, so none of them can
// say something else than the program does. To add an option: a field in Config, a row here, `./dev format`,
// `./dev docs`.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "config/config.h"

namespace bladepsgi::config {

class Forms {
 public:
  constexpr Forms(std::initializer_list<Form> forms) {
    for (const Form form : forms)
      bits_ |= bit(form);
  }

  [[nodiscard]] constexpr bool has(Form form) const { return (bits_ & bit(form)) != 0; }

 private:
  static constexpr unsigned bit(Form form) { return 1U << static_cast<unsigned>(form); }

  unsigned bits_ = 0;
};

inline constexpr std::array kForms{Form::Classic, Form::Application, Form::FcgiScript};

// Which of them a program's command line can have.
[[nodiscard]] constexpr std::span<const Form> forms_of(Program program) {
  const std::span<const Form> all(kForms);
  return program == Program::BladepsgiFcgi ? all.last(1) : all.first(2);
}

[[nodiscard]] constexpr std::string_view name_of(Program program) {
  return program == Program::BladepsgiFcgi ? "bladepsgi-fcgi" : "bladepsgi";
}

// "with four arguments"
[[nodiscard]] std::string_view form_name(Form form);

inline constexpr Forms kEveryForm{Form::Classic, Form::Application, Form::FcgiScript};
inline constexpr Forms kNotClassic{Form::Application, Form::FcgiScript};

// What an option's value is and where in Config it goes. Bounds are inclusive.
struct Flag {
  bool Config::*field;
};

struct Text {
  std::string Config::*field;
  bool may_be_empty = false;
};

// May be given several times: each adds one.
struct TextList {
  std::vector<std::string> Config::*field;
};

struct UrlPrefix {
  std::optional<std::string> Config::*field;
};

struct Number {
  std::uint32_t Config::*field;
  std::uint32_t least;
  std::uint32_t most;
};

// One that is not set is something else than one that is 0.
struct OptionalNumber {
  std::optional<std::uint32_t> Config::*field;
  std::uint32_t least;
  std::uint32_t most;
};

// In percent, with or without the sign.
struct Share {
  std::uint32_t Config::*field;
  std::uint32_t least;
  std::uint32_t most = 100;
};

struct FileMode {
  std::uint32_t Config::*field;
};

struct Size {
  std::uint64_t Config::*field;
  std::uint64_t least;
  std::uint64_t most;
};

struct Duration {
  std::chrono::milliseconds Config::*field;
  std::chrono::milliseconds least;
  std::chrono::milliseconds most;
};

// The words stand in the order of the enumerators.
struct Choice {
  std::span<const std::string_view> words;
  void (*store)(Config& config, std::size_t index);
  std::size_t (*load)(const Config& config);
};

// May be given several times: each adds one.
struct ListenAddress {
  std::optional<Protocol> protocol;  // none: what the form of the command line says
};

// Of a server that is running.
struct PeerAddress {
  std::optional<Address> Config::*field;
};

struct Hint {
  std::string Hints::*field;
};

// Taken from another server's command line, where it may stay.
struct Ignored {
  std::string_view note;  // for the log; empty: nothing is lost
};

struct Refused {
  std::string_view reason;  // and what to do instead
};

enum class Question : std::uint8_t { Help, Version };

using Kind = std::variant<Flag,
                          Text,
                          TextList,
                          UrlPrefix,
                          Number,
                          OptionalNumber,
                          Share,
                          FileMode,
                          Size,
                          Duration,
                          Choice,
                          ListenAddress,
                          PeerAddress,
                          Hint,
                          Ignored,
                          Refused,
                          Question>;

enum class Section : std::uint8_t {
  Application,
  Processes,
  Socket,
  TimeLimits,
  RequestLimits,
  RequestBody,
  Log,
  OtherServers,
  Information,
};

struct Option {
  std::string_view name;     // long form without its dashes
  std::string_view letters;  // short forms, one character each; more of them in kSpellings
  std::string_view value;    // what the value is called in help; empty: takes none
  std::string_view initial;  // as it would be written on the command line; empty: unset
  std::string_view unset;    // what unset means, where that needs words
  Section section;
  Kind kind;
  std::string_view help;  // sentences; every one also makes sense in the manual page
  // In version 1.0 there were no other options: a prefix that named one of these then still names it.
  bool since_first_version = false;
  Forms forms = kEveryForm;
  std::string_view argument = {};  // of the classic form, where the option says nothing more
};

// Another way to write an option: a letter that means it in these forms only, or a second long name.
struct Spelling {
  std::string_view word;
  Forms forms;
  std::string_view option;
};

// Looked at under the name bladepsgi-fcgi only; an option that says the same counts more.
struct Variable {
  std::string_view name;
  std::string_view option;  // empty: without effect, and the log says so
};

struct Argument {
  std::string_view name;
  std::string_view help;
};

inline constexpr std::uint32_t kMostWorkers = 65536;
// sun_path has 108 bytes, the last one a NUL (unix(7)).
inline constexpr std::size_t kLongestSocketPath = 107;

inline constexpr std::array<Argument, 4> kArguments{{
    {"APPLICATION_PATH",
     "Path of the PSGI application file, handed to the loader if there is one."},
    {"NUM_WORKERS", "Number of worker processes, 1 to 65536."},
    {"FASTCGI_SOCKET_PATH",
     "UNIX domain socket to create and to serve FastCGI on, at most 107 bytes long."},
    {"STATS_SOCKET_PATH",
     "UNIX domain socket to create for the statistics text, at most 107 bytes long."},
}};

struct SectionTitle {
  Section section;
  std::string_view title;
};

inline constexpr std::array<SectionTitle, 9> kSections{{
    {Section::Application, "Application"},
    {Section::Processes, "Processes"},
    {Section::Socket, "Sockets"},
    {Section::TimeLimits, "Time limits"},
    {Section::RequestLimits, "Request limits"},
    {Section::RequestBody, "Request body"},
    {Section::Log, "Log"},
    {Section::OtherServers, "Taken from other servers' command lines"},
    {Section::Information, "Information"},
}};

// What an operator needs first, by purpose: the table in README.md.
struct Purpose {
  std::string_view title;
  std::array<std::string_view, 9> options;  // names; empty ones at the end
};

inline constexpr std::array<Purpose, 6> kPurposes{{
    {"The application", {"loader", "include", "mount", "no-preload"}},
    {"Where it listens",
     {"http", "fastcgi", "listen", "port", "socket-group", "socket-mode", "trust-proxy", "health",
      "stats"}},
    {"Processes",
     {"workers", "min-workers", "user", "group", "on-crash", "daemonize", "pidfile", "control"}},
    {"Requests", {"request-timeout", "input", "max-body", "head-timeout", "body-timeout"}},
    {"Log", {"access-log", "errors"}},
    {"Looking at it", {"print-config", "ping"}},
}};

inline constexpr std::array<std::string_view, 3> kPathInfoWords{"auto", "plack", "server"};
inline constexpr std::array<std::string_view, 2> kOnCrashWords{"restart", "stop"};
inline constexpr std::array<std::string_view, 3> kInputWords{"auto", "stream", "spool"};
inline constexpr std::array<std::string_view, 3> kForwardedWords{"x-forwarded", "forwarded",
                                                                 "both"};
inline constexpr std::array<std::string_view, 2> kErrorsWords{"log", "fastcgi"};

template <auto Field>
constexpr Choice choice(std::span<const std::string_view> words) {
  return {words,
          [](Config& config, std::size_t index) {
            config.*Field = static_cast<std::remove_reference_t<decltype(config.*Field)>>(index);
          },
          [](const Config& config) {
            return static_cast<std::size_t>(config.*Field);
          }};
}

inline constexpr std::uint64_t kKibi = 1024;
inline constexpr std::uint64_t kMebi = 1024 * kKibi;
inline constexpr std::uint64_t kGibi = 1024 * kMebi;
inline constexpr std::uint64_t kPebi = kMebi * kGibi;
inline constexpr std::chrono::milliseconds kShortest{1};
inline constexpr std::chrono::milliseconds kLongest{std::chrono::hours{24}};
inline constexpr std::chrono::milliseconds kLongestLife{std::chrono::hours{24 * 365}};

inline constexpr std::string_view kNoReload =
    "nothing is reloaded when a file changes: restart the server, or use plackup -r -s BladePSGI";

inline constexpr std::array kOptions{
    Option{"app", "a", "FILE", "", "APPLICATION_PATH", Section::Application,
           Text{&Config::application_path},
           "Path of the PSGI application file, instead of the argument.", false, kNotClassic,
           "APPLICATION_PATH"},
    Option{"eval", "", "CODE", "", "nothing", Section::Application, Text{&Config::application_code},
           "Perl code whose value is the application. With a PSGI application file as well it may "
           "be the middleware around that, in words of Plack::Builder.",
           false, kNotClassic},
    Option{"include", "", "DIRECTORY", "", "@INC as it is", Section::Application,
           TextList{&Config::include_directories},
           "Look for Perl modules there first; may be given several times."},
    Option{"module", "", "MODULE", "", "none", Section::Application, TextList{&Config::modules},
           "Use this Perl module before the application is loaded, written as for perl -M; may be "
           "given several times."},
    Option{"env", "", "NAME", "", "as in the environment, else deployment", Section::Application,
           Text{&Config::plack_env},
           "PLACK_ENV of the application. No value of it adds any middleware."},
    Option{"loader", "", "MODULE", "", "the application is loaded as a PSGI file",
           Section::Application, Text{&Config::loader},
           "Perl module that loads the application, found through @INC. See BPSGI::Context.", true},
    Option{"mount", "", "PATH", "", "as the web server's SCRIPT_NAME says", Section::Application,
           UrlPrefix{&Config::mount},
           "URL prefix the application is mounted at, / for the root of the site: SCRIPT_NAME "
           "becomes this and PATH_INFO what follows it in REQUEST_URI."},
    Option{
        "path-info", "", "RULE", "auto", "", Section::Application,
        choice<&Config::path_info>(kPathInfoWords),
        "Where PATH_INFO comes from without --mount. auto: made right for the web server in "
        "front. plack: exactly as Plack::Handler::FCGI does. server: as the web server sent it."},
    Option{"load-timeout", "", "TIME", "300s", "", Section::Application,
           Duration{&Config::load_timeout, kShortest, kLongest},
           "How long loading the application may take."},
    Option{"no-preload", "", "", "", "", Section::Application, Flag{&Config::no_preload},
           "Load the application in each worker after its fork, instead of once before: for code "
           "that does not survive a fork. Workers then share none of its memory."},
    Option{"reload-step", "", "NUMBER", "1", "", Section::Application,
           Number{&Config::reload_step, 1, kMostWorkers},
           "When the application is loaded again, so many workers are replaced at once. Each goes "
           "on serving until its successor is ready."},
    Option{"probe", "", "PATH", "", "none", Section::Application, Text{&Config::probe},
           "When the application is loaded again, ask the first new worker for this path (with a "
           "query, if there is one) before it serves anybody else. Unless it answers with a status "
           "from 200 to 399, the running generation stays."},
    Option{"probe-timeout", "", "TIME", "30s", "", Section::Application,
           Duration{&Config::probe_timeout, kShortest, kLongest}, "How long that answer may take."},
    Option{
        "canary", "", "SHARE", "0%", "", Section::Application, Share{&Config::canary, 0},
        "When the application is loaded again, let this share of the workers change over first, "
        "at least one, and see how they do: when one of them crashes, when all of their requests "
        "fail, or clearly more (three, and twice the share) than of the others', workers of the "
        "running generation take their places again. A response of 500 or above is a failure. "
        "0% changes over without a trial."},
    Option{"canary-requests", "", "NUMBER", "100", "", Section::Application,
           Number{&Config::canary_requests, 1, 1'000'000},
           "So many requests to these workers are enough to tell."},
    Option{"canary-time", "", "TIME", "30s", "", Section::Application,
           Duration{&Config::canary_time, kShortest, kLongest},
           "How long to wait for so many; then what there is decides."},
    Option{"canary-slowness", "", "NUMBER", "4", "", Section::Application,
           Number{&Config::canary_slowness, 0, 1000},
           "They are no good either when their requests take so many times as long as the others', "
           "on the average of at least 20, and a quarter of a second longer. 0 for however long."},

    Option{"workers", "", "NUMBER", "", "one for each processor, at least 2", Section::Processes,
           Number{&Config::workers, 1, kMostWorkers},
           "Number of worker processes. With --min-workers, the most that there may be.", false,
           kNotClassic, "NUM_WORKERS"},
    Option{"min-workers", "", "NUMBER", "", "as many as --workers", Section::Processes,
           OptionalNumber{&Config::min_workers, 0, kMostWorkers},
           "Least number of worker processes. When it is below --workers, another worker is "
           "started the moment a request waits and none is free for it, and those that have "
           "nothing to do end. 0 for none at all while nobody asks for anything."},
    Option{"min-spare", "", "NUMBER", "0", "", Section::Processes,
           Number{&Config::min_spare, 0, kMostWorkers},
           "With --min-workers: start more workers, up to --workers, while fewer than so many "
           "are idle."},
    Option{"max-spare", "", "NUMBER", "0", "", Section::Processes,
           Number{&Config::max_spare, 0, kMostWorkers},
           "With --min-workers: when more workers are idle, end one a second, the youngest "
           "first, without waiting for --worker-idle-timeout. 0 for no limit."},
    Option{"worker-idle-timeout", "", "TIME", "10s", "", Section::Processes,
           Duration{&Config::worker_idle_timeout, kShortest, kLongest},
           "With --min-workers: how long a worker above that number may be idle before it ends, "
           "the youngest first."},
    Option{"max-workers", "", "NUMBER", "", "twice --workers, at least 32", Section::Processes,
           Number{&Config::max_workers, 1, kMostWorkers},
           "As many workers as 'bladectl scale' and SIGTTIN may ask for while the server runs. "
           "Those that are not there cost nothing."},
    Option{"proctitle-prefix", "", "PREFIX", "Blade", "", Section::Processes,
           Text{&Config::proctitle_prefix, true}, "Prefix of all process titles.", true},
    Option{"pidfile", "", "FILE", "", "none", Section::Processes, Text{&Config::pid_file},
           "File to write the overseer's pid to once the server is ready, removed at exit."},
    Option{
        "daemonize", "", "", "", "", Section::Processes, Flag{&Config::daemonize},
        "Go into the background once the server is ready; a start that fails still ends with its "
        "exit code. The log stays where standard error goes. Without need under systemd."},
    Option{"stop-timeout", "", "TIME", "0", "", Section::Processes,
           Duration{&Config::stop_timeout, std::chrono::milliseconds{0}, kLongest},
           "How long a stop on SIGTERM may take, 0 for any time: then the log names the requests "
           "that are still being served, and everything ends at once. Less than the time after "
           "which whoever stops the server kills it."},
    Option{"drain-delay", "", "TIME", "0", "", Section::Processes,
           Duration{&Config::drain_delay, std::chrono::milliseconds{0}, kLongest},
           "On SIGTERM go on serving everybody for so long before the stop begins, while --health "
           "says 503: for load balancers that need a moment to look elsewhere. Not part of "
           "--stop-timeout."},
    Option{"user", "", "NAME", "", "unchanged", Section::Processes, Text{&Config::user},
           "User to become before the application is loaded."},
    Option{"group", "", "NAME", "", "that of --user", Section::Processes, Text{&Config::group},
           "Group to become before the application is loaded."},
    Option{
        "on-crash", "", "ACTION", "restart", "", Section::Processes,
        choice<&Config::on_crash>(kOnCrashWords),
        "When a process ends unexpectedly, restart it, or stop the whole server with exit code 1 "
        "as version 1.0 did."},
    Option{"max-requests", "", "NUMBER", "0", "", Section::Processes,
           Number{&Config::max_requests, 0, 2'000'000'000},
           "Replace a worker that has served so many requests, 0 for no limit. Each draws a limit "
           "of its own, up to a fifth lower, and serves until its replacement is ready."},
    Option{"max-lifetime", "", "TIME", "0", "", Section::Processes,
           Duration{&Config::max_lifetime, std::chrono::milliseconds{0}, kLongestLife},
           "Replace a worker that has lived so long, 0 for no limit; as --max-requests."},
    Option{"max-memory", "", "SIZE", "0", "", Section::Processes,
           Size{&Config::max_memory, 0, kPebi},
           "Replace a worker that has more memory than this for itself, without what it shares "
           "with others; 0 for no limit. Looked at between requests, once a second at most."},
    Option{"recycle-share", "", "SHARE", "25%", "", Section::Processes,
           Share{&Config::recycle_share, 1},
           "At most this share of the workers, but at least one, is replaced at once for these "
           "reasons, or by bladectl recycle."},
    Option{"shared-memory", "", "SIZE", "64M", "", Section::Processes,
           Size{&Config::shared_memory, kMebi, 1024 * kGibi},
           "Address space for shared semaphores and atomics. Only what is used takes memory."},

    Option{
        "listen", "", "ADDRESS", "", "see --port", Section::Socket, ListenAddress{std::nullopt},
        "Listen there; may be given several times. A path, HOST:PORT, [ADDRESS]:PORT, :PORT (this "
        "machine only), *:PORT (every interface), or fd:NUMBER (a socket that the server was "
        "started with). It speaks FastCGI; but with an application alone HOST:PORT and the like "
        "speak HTTP, as with plackup."},
    Option{"fastcgi", "", "ADDRESS", "", "FASTCGI_SOCKET_PATH, else none", Section::Socket,
           ListenAddress{Protocol::FastCgi},
           "Serve FastCGI there, in every form of the command line; may be given several times. "
           "Addresses as for --listen."},
    Option{"http", "", "ADDRESS", "", "see --port", Section::Socket, ListenAddress{Protocol::Http},
           "Serve HTTP/1.1 there, in every form of the command line; may be given several times. "
           "Addresses as for --listen."},
    Option{"host", "", "HOST", "", "127.0.0.1", Section::Socket, Hint{&Hints::host},
           "Serve HTTP (under the name bladepsgi-fcgi, or with --server=FCGI: FastCGI) on this "
           "address or name, * for every interface, at the port of --port.",
           false, kNotClassic},
    Option{"port", "", "PORT", "", "5000", Section::Socket, Hint{&Hints::port},
           "Serve HTTP (or FastCGI, as with --host) on this port of --host, 0 for one that is "
           "free. An application alone that has no other socket, asked for or inherited, is "
           "served on http://127.0.0.1:5000/.",
           false, kNotClassic},
    Option{"stats", "", "PATH", "", "no statistics socket", Section::Socket,
           Text{&Config::stats_socket_path},
           "UNIX domain socket to create for the statistics text.", false, kNotClassic,
           "STATS_SOCKET_PATH"},
    Option{"control", "", "PATH", "",
           "PID.control in $RUNTIME_DIRECTORY, in $XDG_RUNTIME_DIR/bladepsgi or, as root, in "
           "/run/bladepsgi",
           Section::Socket, Text{&Config::control_socket_path},
           "UNIX domain socket to create for bladectl, or none. Only root and the user that starts "
           "the server may command it."},
    Option{"socket-mode", "", "MODE", "0660", "", Section::Socket, FileMode{&Config::socket_mode},
           "Permissions of UNIX sockets."},
    Option{"socket-owner", "", "NAME", "", "that of --user, else the user that starts the server",
           Section::Socket, Text{&Config::socket_owner}, "Owner of UNIX sockets."},
    Option{"socket-group", "", "NAME", "",
           "that of --group or --user, else the group that starts the server", Section::Socket,
           Text{&Config::socket_group}, "Group of UNIX sockets, usually that of the web server."},
    Option{"backlog", "", "NUMBER", "1024", "", Section::Socket, Number{&Config::backlog, 1, 65535},
           "Connections that may wait for a worker. The kernel cuts it to net.core.somaxconn."},
    Option{
        "abandoned-tcp", "", "", "", "", Section::Socket, Flag{&Config::abandoned_tcp},
        "On TCP, drop a request whose client has closed its side before the application is called, "
        "as is done on UNIX sockets; a client that only half-closes is then not answered."},
    Option{
        "health", "", "ADDRESS", "", "nowhere", Section::Socket, ListenAddress{Protocol::Health},
        "Answer HTTP requests for /healthz there, without a worker: status 200 while a worker is "
        "ready, else 503. Addresses as for --listen."},
    Option{"allow", "", "LIST", "*", "", Section::Socket, Text{&Config::allow},
           "Who may connect: on TCP, addresses and networks; on UNIX sockets, user:NAME and "
           "group:NAME, or unix for every user; * for everybody. Between commas. Who is not named "
           "is refused, on either kind of socket. Neither the statistics socket nor --health is "
           "guarded by it."},
    Option{
        "trust-proxy", "", "LIST", "", "nobody", Section::Socket, Text{&Config::trust_proxy},
        "Front ends whose word is taken for who an HTTP client is: addresses and networks between "
        "commas, unix for peers on UNIX sockets, * for everybody."},
    Option{
        "forwarded", "", "FIELDS", "x-forwarded", "", Section::Socket,
        choice<&Config::forwarded>(kForwardedWords),
        "What such a front end says it in. x-forwarded: X-Forwarded-For, -Proto, -Host and -Port. "
        "forwarded: Forwarded (RFC 7239). both: for a front end that writes or removes all of "
        "these."},

    Option{"request-timeout", "", "TIME", "0", "", Section::TimeLimits,
           Duration{&Config::request_timeout, std::chrono::milliseconds{0}, kLongest},
           "How long the application may have a request, 0 for no limit. Over it, a BPSGI::Timeout "
           "is thrown into the application, every second again, and what it does not catch is "
           "answered with status 504. Waiting for the client does not count."},
    Option{"request-timeout-grace", "", "TIME", "5s", "", Section::TimeLimits,
           Duration{&Config::request_timeout_grace, std::chrono::milliseconds{0}, kLongest},
           "How long after that an application that goes on all the same is ended: with status "
           "504 where nothing has been sent, and a new worker in its place."},
    Option{"start-timeout", "", "TIME", "60s", "", Section::TimeLimits,
           Duration{&Config::start_timeout, kShortest, kLongest},
           "How long on_worker_start may take in a new worker; then it is ended, and another one "
           "is tried after a growing pause."},
    Option{"exit-timeout", "", "TIME", "30s", "", Section::TimeLimits,
           Duration{&Config::exit_timeout, kShortest, kLongest},
           "How long on_worker_exit and END blocks may take in a worker that leaves; then it is "
           "ended."},
    Option{"queue-timeout", "", "TIME", "0", "", Section::TimeLimits,
           Duration{&Config::queue_timeout, std::chrono::milliseconds{0}, kLongest},
           "Answer a request with status 503 when it has waited longer before it reaches the "
           "application, 0 for no limit. Only where a front end says in X-Request-Start or "
           "X-Queue-Start when it got the request."},
    Option{
        "head-timeout", "", "TIME", "10s", "", Section::TimeLimits,
        Duration{&Config::head_timeout, kShortest, kLongest},
        "From the first byte of a request, or a fresh connection, to the end of its parameters."},
    Option{"body-timeout", "", "TIME", "60s", "", Section::TimeLimits,
           Duration{&Config::body_timeout, kShortest, kLongest},
           "Longest silence of the peer within a request body."},
    Option{"send-timeout", "", "TIME", "60s", "", Section::TimeLimits,
           Duration{&Config::send_timeout, kShortest, kLongest},
           "Longest time in which the peer takes nothing of a response; then it is dropped."},
    Option{"idle-timeout", "", "TIME", "75s", "", Section::TimeLimits,
           Duration{&Config::idle_timeout, kShortest, kLongest},
           "How long a kept connection may wait for its next request."},
    Option{"request-wait", "", "TIME", "2ms", "", Section::TimeLimits,
           Duration{&Config::request_wait, std::chrono::milliseconds{0}, kLongest},
           "How long a worker waits itself for the rest of a request before the lobby does. While "
           "that is often in vain, not at all."},

    Option{"max-params-bytes", "", "SIZE", "1M", "", Section::RequestLimits,
           Size{&Config::max_params_bytes, kKibi, kGibi},
           "Most bytes of parameters in a request; more is answered with status 431."},
    Option{"max-params", "", "NUMBER", "4096", "", Section::RequestLimits,
           Number{&Config::max_params, 16, 1'000'000},
           "Most parameters in a request; more is answered with status 431."},
    Option{"max-body", "", "SIZE", "0", "", Section::RequestLimits,
           Size{&Config::max_body, 0, kPebi},
           "Longest request body, 0 for no limit; a longer one is answered with status 413, also "
           "where the application has read a part of it."},
    Option{"drain-limit", "", "SIZE", "64M", "", Section::RequestLimits,
           Size{&Config::drain_limit, 0, kPebi},
           "How much of a body that the application did not read is swallowed after its response, "
           "so that the connection can be kept; with more left it is closed."},
    Option{"min-body-rate", "", "SIZE", "100", "", Section::RequestLimits,
           Size{&Config::min_body_rate, 0, kGibi},
           "Fewest bytes a second of a request body, on average over ten seconds of waiting for "
           "it; a slower one is cut off. 0 for no limit."},
    Option{
        "slow-bodies", "", "NUMBER", "", "half of the workers", Section::RequestLimits,
        Number{&Config::slow_bodies, 1, kMostWorkers},
        "Most workers that serve requests whose body has not come completely, or stream to "
        "clients that do not read; others like these wait, or have to go when somebody waits for "
        "a worker. At least one, and never all workers where there are several."},
    Option{"lobby-connections", "", "NUMBER", "65536", "", Section::RequestLimits,
           Number{&Config::lobby_connections, 0, 10'000'000},
           "Most connections that wait in the lobby: kept ones, those with a request that is "
           "not complete, and those that take a finished response slowly; never more than the "
           "limit of open files allows. Over it, those that "
           "have waited longest are closed, idle ones first. 0 for no lobby: workers wait."},
    Option{"lobby-memory", "", "SIZE", "256M", "", Section::RequestLimits,
           Size{&Config::lobby_memory, kMebi, kPebi},
           "Most bytes of requests that are not complete, in all; over it the largest is "
           "dropped. And as many of finished responses that clients take slowly, files not "
           "counted; over it the one that is taken most slowly is dropped."},

    Option{"input", "", "HOW", "auto", "", Section::RequestBody,
           choice<&Config::input>(kInputWords),
           "How the application gets the body. auto: up to --input-memory bytes in memory and "
           "seekable, larger ones streamed. stream: always read from the connection. spool: larger "
           "ones in a temporary file, always seekable."},
    Option{"input-memory", "", "SIZE", "64K", "", Section::RequestBody,
           Size{&Config::input_memory, 0, kGibi}, "Largest body that is kept in memory."},
    Option{"body-ahead", "", "SIZE", "64K", "", Section::RequestBody,
           Size{&Config::body_ahead, 0, kGibi},
           "How much of a body must have come before a worker is occupied with its request, if "
           "not all of it."},
    Option{"spool-directory", "", "DIRECTORY", "", "$TMPDIR, else /tmp", Section::RequestBody,
           Text{&Config::spool_directory}, "Where --input=spool makes its temporary files."},

    Option{
        "errors", "", "WHERE", "log", "", Section::Log, choice<&Config::errors>(kErrorsWords),
        "Where psgi.errors goes. log: to the server's log. fastcgi: to the web server, as FastCGI "
        "standard error."},
    Option{
        "access-log", "", "FILE", "", "- for HTTP, off for FastCGI", Section::Log,
        Text{&Config::access_log},
        "Write a line for each request, HTTP and FastCGI, to this file; - is standard output, off "
        "none."},
    Option{
        "access-log-format", "", "FORMAT", "combined", "", Section::Log,
        Text{&Config::access_log_format},
        "common, combined, json, or text with %h %u %t %r %m %U %q %H %v %p %s %b %B %D %T %P %L "
        "%{Header}i as in Apache's LogFormat; %L is the request id."},
    Option{"raw-output", "", "", "", "", Section::Log, Flag{&Config::raw_output},
           "Leave standard output and standard error of the application as they are, instead of "
           "writing them to the log line by line."},

    Option{"server", "s", "NAME", "", "BladePSGI", Section::OtherServers, Hint{&Hints::server},
           "FCGI: --listen, --host and --port serve FastCGI. Any other name changes nothing.",
           false, kNotClassic},
    Option{"no-default-middleware", "", "", "", "", Section::OtherServers, Ignored{""},
           "Changes nothing: there is none.", false, kNotClassic},
    Option{"reload", "r", "", "", "", Section::OtherServers, Refused{kNoReload},
           "Refused: nothing is reloaded when a file changes.", false, kNotClassic},
    Option{"Reload", "R", "PATHS", "", "", Section::OtherServers, Refused{kNoReload},
           "Refused, as --reload.", false, kNotClassic},
    Option{"manager", "", "CLASS", "", "", Section::OtherServers,
           Ignored{"--manager is without effect: BladePSGI manages its processes itself"},
           "Changes nothing: the processes are managed here.", false, kNotClassic},
    Option{"keeperr", "", "", "", "", Section::OtherServers, Ignored{""},
           "Changes nothing: psgi.errors goes to the log. --errors=fastcgi is the other way.",
           false, kNotClassic},

    Option{"help", "h?", "", "", "", Section::Information, Question::Help,
           "Print this text and exit.", true},
    Option{"version", "v", "", "", "", Section::Information, Question::Version,
           "Print the version and exit.", true},
    Option{"print-config", "", "", "", "", Section::Information, Flag{&Config::print_config},
           "Print every option as it would be in force, one a line as for a shell, and exit. Those "
           "that are unset stand behind a #."},
    Option{
        "ping", "", "ADDRESS", "", "a server is started", Section::Information,
        PeerAddress{&Config::ping},
        "Ask the server that runs with --health=ADDRESS how it is, print a line and exit: code 0 "
        "when it is healthy, 1 when it is not or does not answer within 5 seconds. Stands alone, "
        "without an application."},
};

// In version 1.0 -l and -p were what they still are with four arguments. With an application alone they are what they are to
// plackup; under the name bladepsgi-fcgi what they are to Catalyst's *_fastcgi.pl.
inline constexpr std::array kSpellings{
    Spelling{"l", {Form::Classic}, "loader"},
    Spelling{"p", {Form::Classic}, "proctitle-prefix"},

    Spelling{"l", {Form::Application}, "listen"},
    Spelling{"p", {Form::Application}, "port"},
    Spelling{"e", {Form::Application}, "eval"},
    Spelling{"M", {Form::Application}, "module"},

    Spelling{"l", {Form::FcgiScript}, "listen"},
    Spelling{"n", {Form::FcgiScript}, "workers"},
    Spelling{"p", {Form::FcgiScript}, "pidfile"},
    Spelling{"d", {Form::FcgiScript}, "daemonize"},
    Spelling{"e", {Form::FcgiScript}, "keeperr"},
    Spelling{"M", {Form::FcgiScript}, "manager"},
    Spelling{"b", {Form::FcgiScript}, "backlog"},

    Spelling{"D", kNotClassic, "daemonize"},
    Spelling{"I", kNotClassic, "include"},
    Spelling{"E", kNotClassic, "env"},
    Spelling{"o", kNotClassic, "host"},
    Spelling{"S", kNotClassic, "listen"},
    Spelling{"L", kNotClassic, "loader"},
    Spelling{"path", kNotClassic, "mount"},
    Spelling{"socket", kNotClassic, "listen"},
    Spelling{"nproc", kNotClassic, "workers"},
    Spelling{"proc_title", kNotClassic, "proctitle-prefix"},
    Spelling{"proc-title", kNotClassic, "proctitle-prefix"},
    Spelling{"detach", kNotClassic, "daemonize"},
    Spelling{"keep-stderr", kNotClassic, "keeperr"},
};

inline constexpr std::array kVariables{
    Variable{"FCGI_SOCKET_PATH", "listen"},
    Variable{"FCGI_LISTEN_QUEUE", "backlog"},
    Variable{"FCGI_SOCKET_PERM", "socket-mode"},
    Variable{"PM_MAX_REQUESTS", "max-requests"},
    Variable{"PM_MAX_SIZE", ""},
};

// All of them, that of Option::letters first.
[[nodiscard]] std::vector<Spelling> spellings_of(const Option& option);

// Null: no such letter or name in that form.
[[nodiscard]] const Option* find_letter(char letter, Form form);
[[nodiscard]] const Option& named_option(std::string_view name);

// The values a message or a manual names: "1ms to 24h", "auto, stream or spool"; empty when anything goes.
[[nodiscard]] std::string accepted_values(const Option& option);

// Puts `value` where `option` says. Otherwise the message for the operator: option, value, what is accepted.
[[nodiscard]] std::optional<std::string> store_value(const Option& option,
                                                     std::string_view value,
                                                     Config& config);

// What store_value would take to make `config` what it is: one value, of a list all, none when the option is unset, of a flag
// an empty one. Nothing for options that leave no trace but in others.
[[nodiscard]] std::optional<std::vector<std::string>> stored_values(const Option& option,
                                                                    const Config& config);

}  // namespace bladepsgi::config
