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
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

#include "config/config.h"

namespace bladepsgi::config {

// What an option's value is and where in Config it goes. Bounds are inclusive.
struct Flag {
  bool Config::*field;
};

struct Text {
  std::string Config::*field;
  bool may_be_empty = false;
};

struct UrlPrefix {
  std::optional<std::string> Config::*field;
};

struct Number {
  std::uint32_t Config::*field;
  std::uint32_t least;
  std::uint32_t most;
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
};

// May be given several times: each adds one.
struct ListenAddress {
  Protocol protocol;
};

enum class Question : std::uint8_t { Help, Version };

using Kind = std::variant<Flag,
                          Text,
                          UrlPrefix,
                          Number,
                          FileMode,
                          Size,
                          Duration,
                          Choice,
                          ListenAddress,
                          Question>;

enum class Section : std::uint8_t {
  Application,
  Processes,
  Socket,
  TimeLimits,
  RequestLimits,
  RequestBody,
  Log,
  Information,
};

struct Option {
  std::string_view name;     // long form without its dashes
  std::string_view letters;  // short forms, one character each
  std::string_view value;    // what the value is called in help; empty: takes none
  std::string_view initial;  // as it would be written on the command line; empty: unset
  std::string_view unset;    // what unset means, where that needs words
  Section section;
  Kind kind;
  std::string_view help;  // sentences; every one also makes sense in the manual page
  // In version 1.0 there were no other options: a prefix that named one of these then still names it.
  bool since_first_version = false;
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

inline constexpr std::array<SectionTitle, 8> kSections{{
    {Section::Application, "Application"},
    {Section::Processes, "Processes"},
    {Section::Socket, "Sockets"},
    {Section::TimeLimits, "Time limits"},
    {Section::RequestLimits, "Request limits"},
    {Section::RequestBody, "Request body"},
    {Section::Log, "Log"},
    {Section::Information, "Information"},
}};

inline constexpr std::array<std::string_view, 3> kPathInfoWords{"auto", "plack", "server"};
inline constexpr std::array<std::string_view, 2> kOnCrashWords{"restart", "stop"};
inline constexpr std::array<std::string_view, 3> kInputWords{"auto", "stream", "spool"};
inline constexpr std::array<std::string_view, 3> kForwardedWords{"x-forwarded", "forwarded",
                                                                 "both"};
inline constexpr std::array<std::string_view, 2> kErrorsWords{"log", "fastcgi"};

template <auto Field>
void store_choice(Config& config, std::size_t index) {
  config.*Field = static_cast<std::remove_reference_t<decltype(config.*Field)>>(index);
}

inline constexpr std::uint64_t kKibi = 1024;
inline constexpr std::uint64_t kMebi = 1024 * kKibi;
inline constexpr std::uint64_t kGibi = 1024 * kMebi;
inline constexpr std::uint64_t kPebi = kMebi * kGibi;
inline constexpr std::chrono::milliseconds kShortest{1};
inline constexpr std::chrono::milliseconds kLongest{std::chrono::hours{24}};

inline constexpr std::array kOptions{
    Option{"loader", "l", "MODULE", "", "the application is loaded as a PSGI file",
           Section::Application, Text{&Config::loader},
           "Perl module that loads the application, found through @INC. See BPSGI::Context.", true},
    Option{"mount", "", "PATH", "", "as the web server's SCRIPT_NAME says", Section::Application,
           UrlPrefix{&Config::mount},
           "URL prefix the application is mounted at, / for the root of the site: SCRIPT_NAME "
           "becomes this and PATH_INFO what follows it in REQUEST_URI."},
    Option{
        "path-info", "", "RULE", "auto", "", Section::Application,
        Choice{kPathInfoWords, &store_choice<&Config::path_info>},
        "Where PATH_INFO comes from without --mount. auto: made right for the web server in "
        "front. plack: exactly as Plack::Handler::FCGI does. server: as the web server sent it."},
    Option{"load-timeout", "", "TIME", "300s", "", Section::Application,
           Duration{&Config::load_timeout, kShortest, kLongest},
           "How long loading the application may take."},
    Option{"no-preload", "", "", "", "", Section::Application, Flag{&Config::no_preload},
           "Load the application in each worker after its fork, instead of once before: for code "
           "that does not survive a fork. Workers then share none of its memory."},

    Option{"proctitle-prefix", "p", "PREFIX", "Blade", "", Section::Processes,
           Text{&Config::proctitle_prefix, true}, "Prefix of all process titles.", true},
    Option{"user", "", "NAME", "", "unchanged", Section::Processes, Text{&Config::user},
           "User to become before the application is loaded."},
    Option{"group", "", "NAME", "", "that of --user", Section::Processes, Text{&Config::group},
           "Group to become before the application is loaded."},
    Option{
        "on-crash", "", "ACTION", "restart", "", Section::Processes,
        Choice{kOnCrashWords, &store_choice<&Config::on_crash>},
        "When a process ends unexpectedly, restart it, or stop the whole server with exit code 1 "
        "as version 1.0 did."},
    Option{"shared-memory", "", "SIZE", "64M", "", Section::Processes,
           Size{&Config::shared_memory, kMebi, 1024 * kGibi},
           "Address space for shared semaphores and atomics. Only what is used takes memory."},

    Option{
        "listen", "", "ADDRESS", "", "only on FASTCGI_SOCKET_PATH", Section::Socket,
        ListenAddress{Protocol::FastCgi},
        "Serve FastCGI there, too; may be given several times. A path, HOST:PORT, [ADDRESS]:PORT, "
        ":PORT (this machine only), *:PORT (every interface), or fd:NUMBER (a socket that the "
        "server was started with)."},
    Option{"http", "", "ADDRESS", "", "no HTTP", Section::Socket, ListenAddress{Protocol::Http},
           "Serve HTTP/1.1 there; may be given several times. Addresses as for --listen."},
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
    Option{
        "trust-proxy", "", "LIST", "", "nobody", Section::Socket, Text{&Config::trust_proxy},
        "Front ends whose word is taken for who an HTTP client is: addresses and networks between "
        "commas, unix for peers on UNIX sockets, * for everybody."},
    Option{
        "forwarded", "", "FIELDS", "x-forwarded", "", Section::Socket,
        Choice{kForwardedWords, &store_choice<&Config::forwarded>},
        "What such a front end says it in. x-forwarded: X-Forwarded-For, -Proto, -Host and -Port. "
        "forwarded: Forwarded (RFC 7239). both: for a front end that writes or removes all of "
        "these."},

    Option{
        "head-timeout", "", "TIME", "10s", "", Section::TimeLimits,
        Duration{&Config::head_timeout, kShortest, kLongest},
        "From the first byte of a request, or a fresh connection, to the end of its parameters."},
    Option{"body-timeout", "", "TIME", "60s", "", Section::TimeLimits,
           Duration{&Config::body_timeout, kShortest, kLongest},
           "Longest silence of the peer within a request body."},
    Option{"send-timeout", "", "TIME", "60s", "", Section::TimeLimits,
           Duration{&Config::send_timeout, kShortest, kLongest},
           "Longest time in which the peer takes nothing of a response."},
    Option{"idle-timeout", "", "TIME", "75s", "", Section::TimeLimits,
           Duration{&Config::idle_timeout, kShortest, kLongest},
           "How long a kept connection may wait for its next request."},

    Option{"max-params-bytes", "", "SIZE", "1M", "", Section::RequestLimits,
           Size{&Config::max_params_bytes, kKibi, kGibi},
           "Most bytes of parameters in a request; more is answered with status 431."},
    Option{"max-params", "", "NUMBER", "4096", "", Section::RequestLimits,
           Number{&Config::max_params, 16, 1'000'000},
           "Most parameters in a request; more is answered with status 431."},
    Option{"max-body", "", "SIZE", "0", "", Section::RequestLimits,
           Size{&Config::max_body, 0, kPebi},
           "Longest request body, 0 for no limit; a longer one is answered with status 413."},
    Option{"drain-limit", "", "SIZE", "64M", "", Section::RequestLimits,
           Size{&Config::drain_limit, 0, kPebi},
           "How much of a body that the application did not read is swallowed after its response, "
           "so that the connection can be kept; with more left it is closed."},

    Option{"input", "", "HOW", "auto", "", Section::RequestBody,
           Choice{kInputWords, &store_choice<&Config::input>},
           "How the application gets the body. auto: up to --input-memory bytes in memory and "
           "seekable, larger ones streamed. stream: always read from the connection. spool: larger "
           "ones in a temporary file, always seekable."},
    Option{"input-memory", "", "SIZE", "64K", "", Section::RequestBody,
           Size{&Config::input_memory, 0, kGibi}, "Largest body that is kept in memory."},
    Option{"spool-directory", "", "DIRECTORY", "", "$TMPDIR, else /tmp", Section::RequestBody,
           Text{&Config::spool_directory}, "Where --input=spool makes its temporary files."},

    Option{
        "errors", "", "WHERE", "log", "", Section::Log,
        Choice{kErrorsWords, &store_choice<&Config::errors>},
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

    Option{"help", "h?", "", "", "", Section::Information, Question::Help,
           "Print this text and exit.", true},
    Option{"version", "v", "", "", "", Section::Information, Question::Version,
           "Print the version and exit.", true},
};

// The values a message or a manual names: "1ms to 24h", "auto, stream or spool"; empty when anything goes.
[[nodiscard]] std::string accepted_values(const Option& option);

// Puts `value` where `option` says. Otherwise the message for the operator: option, value, what is accepted.
[[nodiscard]] std::optional<std::string> store_value(const Option& option,
                                                     std::string_view value,
                                                     Config& config);

}  // namespace bladepsgi::config
