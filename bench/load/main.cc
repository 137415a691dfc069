// The load generator: see usage(). Its result is one line of JSON.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "load/generator.h"

namespace bladepsgi::load {

namespace {

constexpr int kGood = 0;
constexpr int kWrongAnswers = 1;
constexpr int kUsage = 2;

constexpr const char* kHelp = R"(Usage: bladepsgi-load --unix=PATH|--tcp=ADDRESS:PORT [OPTION]...

Sends requests and verifies every byte of every answer. Prints a line of JSON; the exit code is 0 only when there was no error.

  --http               speak HTTP/1.1 instead of FastCGI
  --connections=N      clients, each with one request at a time (8)
  --keep               keep connections (FCGI_KEEP_CONN, keep-alive); else each request has one of its own
  --requests=N         how many requests
  --seconds=S          for how long; with neither, 1000 requests
  --time-limit=S       of each request (30)
  --uri=URI            path and query (/); %n is a number, see --variants
  --method=METHOD      (GET; POST with a body)
  --body=SIZE          send a body of so many bytes of the pattern 0, 1, ... 250, 0, 1, ...
  --status=N           expect this status (200)
  --expect=TEXT        expect this body (an empty one); %n as in --uri
  --expect-pattern=N   expect so many bytes of the pattern
  --variants=N         how many different numbers take turns (16)
  --idle=N             so many idle kept connections beside them
  --half=N             so many connections that have sent half a head beside them
  --steps              say "ready" when these are there and "measured" when the load is over, and wait for a line each time
)";

template <typename Number>
Number number(std::string_view text, Number least = 0) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least) {
    throw std::invalid_argument(fmt::format("'{}' is not a number that is possible there", text));
  }
  return value;
}

std::chrono::milliseconds seconds(std::string_view text) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(number<double>(text) * 1000));
}

// Whoever reads it answers with a line.
void step(const char* line) {
  static_cast<void>(std::fputs(line, stdout));
  static_cast<void>(std::fflush(stdout));
  for (int c = 0; c != '\n' && c != EOF;)
    c = std::getchar();
}

using Taker = void (*)(Options&, std::string_view value);

struct OptionRule {
  std::string_view name;
  bool has_value;
  Taker take;
};

constexpr OptionRule kRules[] = {
    {"unix", true,
     [](Options& o, std::string_view value) {
       o.address = Address::unix_path(value);
     }},
    {"tcp", true,
     [](Options& o, std::string_view value) {
       o.address = Address::tcp(value);
     }},
    {"http", false,
     [](Options& o, std::string_view) {
       o.protocol = Protocol::Http;
     }},
    {"connections", true,
     [](Options& o, std::string_view value) {
       o.connections = number<std::size_t>(value, 1);
     }},
    {"keep", false,
     [](Options& o, std::string_view) {
       o.keep = true;
     }},
    {"requests", true,
     [](Options& o, std::string_view value) {
       o.requests = number<std::uint64_t>(value, 1);
     }},
    {"seconds", true,
     [](Options& o, std::string_view value) {
       o.time = seconds(value);
     }},
    {"time-limit", true,
     [](Options& o, std::string_view value) {
       o.time_limit = seconds(value);
     }},
    {"uri", true,
     [](Options& o, std::string_view value) {
       o.request.uri = value;
     }},
    {"method", true,
     [](Options& o, std::string_view value) {
       o.request.method = value;
     }},
    {"body", true,
     [](Options& o, std::string_view value) {
       o.request.has_body = true;
       o.request.body_size = number<std::uint64_t>(value);
     }},
    {"status", true,
     [](Options& o, std::string_view value) {
       o.status = number(value, 100);
     }},
    {"expect", true,
     [](Options& o, std::string_view value) {
       o.body_text = value;
       o.is_body_pattern = false;
     }},
    {"expect-pattern", true,
     [](Options& o, std::string_view value) {
       o.body_pattern = number<std::uint64_t>(value);
       o.is_body_pattern = true;
     }},
    {"variants", true,
     [](Options& o, std::string_view value) {
       o.variants = number<unsigned>(value, 1);
     }},
    {"idle", true,
     [](Options& o, std::string_view value) {
       o.idle = number<std::size_t>(value);
     }},
    {"steps", false,
     [](Options& o, std::string_view) {
       o.on_ready = [] {
         step("ready\n");
       };
       o.on_measured = [] {
         step("measured\n");
       };
     }},
    {"half", true,
     [](Options& o, std::string_view value) {
       o.half = number<std::size_t>(value);
     }},
};

Options read_options(std::span<char* const> arguments) {
  Options options;
  for (const std::string_view argument : arguments) {
    const std::size_t equals = argument.find('=');
    const bool has_value = equals != std::string_view::npos;
    const auto* const rule = std::find_if(std::begin(kRules), std::end(kRules), [&](auto& one) {
      return argument.starts_with("--") && argument.substr(2, equals - 2) == one.name;
    });
    if (rule == std::end(kRules) || rule->has_value != has_value) {
      throw std::invalid_argument(fmt::format("what is '{}'? See --help", argument));
    }
    rule->take(options, has_value ? argument.substr(equals + 1) : std::string_view());
  }
  if (options.address.size == 0) throw std::invalid_argument("--unix or --tcp is missing");
  if (options.request.has_body && options.request.method == "GET") options.request.method = "POST";
  if (options.requests == 0 && options.time.count() == 0) options.requests = 1000;
  return options;
}

void print(const Report& report) {
  const auto per_second =
      report.seconds > 0 ? static_cast<double>(report.requests) / report.seconds : 0;
  const auto crowd = [](const Report::Crowd& c) {
    return fmt::format(R"({{"opened":{},"closed":{},"answered":{}}})", c.opened, c.closed,
                       c.answered);
  };
  const std::string line = fmt::format(
      R"({{"requests":{},"errors":{},"reconnects":{},"seconds":{:.6f},"requests_per_second":{:.1f},)"
      R"("latency_us":{{"p50":{:.1f},"p90":{:.1f},"p99":{:.1f},"max":{:.1f}}},)"
      R"("client_cpu_seconds":{:.6f},"idle":{},"half":{}}})"
      "\n",
      report.requests, report.errors, report.reconnects, report.seconds, per_second,
      report.latencies.microseconds_at(0.5), report.latencies.microseconds_at(0.9),
      report.latencies.microseconds_at(0.99), report.latencies.longest_microseconds(),
      report.client_cpu_seconds, crowd(report.idle), crowd(report.half));
  static_cast<void>(std::fputs(line.c_str(), stdout));
  for (const std::string& problem : report.problems) {
    static_cast<void>(std::fprintf(stderr, "bladepsgi-load: %s\n", problem.c_str()));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--help") {
    static_cast<void>(std::fputs(kHelp, stdout));
    return kGood;
  }
  Options options;
  try {
    options = read_options({argv + 1, static_cast<std::size_t>(argc - 1)});
  } catch (const std::exception& wrong) {
    static_cast<void>(std::fprintf(stderr, "bladepsgi-load: %s\n", wrong.what()));
    return kUsage;
  }
  try {
    const Report report = run(options);
    print(report);
    return report.errors == 0 && report.requests > 0 ? kGood : kWrongAnswers;
  } catch (const std::exception& failure) {
    static_cast<void>(std::fprintf(stderr, "bladepsgi-load: %s\n", failure.what()));
    return kWrongAnswers;
  }
}

}  // namespace bladepsgi::load

int main(int argc, char** argv) {
  return bladepsgi::load::main(argc, argv);
}
