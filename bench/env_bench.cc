// What does it cost to call an application: with the env of the last request, filled again, and with a fresh one each time? The application
// does next to nothing; the one that has fresh ones keeps the last eight. With a dozen keys, it adds these to each as middleware would.
// What is around the env (the call, the response) is in all figures; the differences are the env's.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/parameter.h"
#include "cgi/environment.h"
#include "nginx_parameters.h"
#include "runtime/exchange.h"
#include "runtime/perl/application.h"
#include "runtime/perl/testing.h"

namespace bladepsgi::perl {
namespace {

void expect(bool condition) {
  if (!condition) std::abort();
}

// A request that is always the same, and a peer that takes whatever is sent.
class SameRequest final : public runtime::Exchange {
 public:
  explicit SameRequest(std::span<const Parameter> parameters) : parameters_(parameters) {}

  [[nodiscard]] std::span<const Parameter> parameters() const noexcept override {
    return parameters_;
  }

  [[nodiscard]] std::string_view request_id() const noexcept override { return "5f2c0a7be41d4b0c"; }

  [[nodiscard]] runtime::BodyInfo body() const noexcept override {
    return {.buffered = true, .length = 0, .memory = {}};
  }

  runtime::BodyRead read_body(WritableBytes /*into*/) noexcept override { return {}; }

  bool seek_body(std::uint64_t /*offset*/) noexcept override { return true; }

  void start_response(int status, std::span<const runtime::Header> /*headers*/) noexcept override {
    status_ = status;
  }

  [[nodiscard]] bool wants_body() const noexcept override { return true; }

  bool write(Bytes bytes) noexcept override {
    benchmark::DoNotOptimize(bytes.data());
    return true;
  }

  std::int64_t send_file(int /*fd*/,
                         off_t /*offset*/,
                         std::uint64_t /*length*/,
                         bool /*is_last*/) noexcept override {
    return -1;
  }

  bool flush() noexcept override { return true; }

  void write_error(Bytes /*bytes*/) noexcept override {}

  [[nodiscard]] bool is_committed() const noexcept override { return false; }

  void discard_response() noexcept override {}

  void finish() noexcept override { ++finished_; }

  void abort() noexcept override {}

  void release_connection() noexcept override {}

  [[nodiscard]] bool is_answered(std::uint64_t times) const {
    return status_ == 200 && finished_ == times;
  }

 private:
  std::span<const Parameter> parameters_;
  int status_ = 0;
  std::uint64_t finished_ = 0;
};

enum class Env : std::uint8_t { Refilled, Fresh };

constexpr std::string_view kDozenKeys = R"(
  $env->{'psgix.session'} = { visits => 1 };
  $env->{'psgix.session.options'} = { id => 'x' };
  $env->{'plack.original_path'} = $env->{PATH_INFO};
  @$env{qw(bench.number bench.id bench.start bench.end bench.user bench.stash bench.language bench.admin bench.done)} = 1 .. 9;
)";

// One in a process.
Application& the_application() {
  static Application* const kStarted = [] {
    auto started = Application::start();
    expect(started.has_value());
    return *started;
  }();
  return *kStarted;
}

void call_application(benchmark::State& state, Env env, std::string_view adds) {
  Application& application = the_application();
  const std::string keep = env == Env::Fresh ? "$held[$turn++ & 7] = $env;" : "";
  runtime::LoadOptions options;
  options.application_code =
      "my (@held, $turn); my $response = [200, [], ['']]; sub { my ($env) = @_; " +
      std::string(adds) + keep + " return $response }";
  FakeHost host;
  expect(application.load(host, options).has_value());
  host.current_role = runtime::ChildRole::Worker;

  const auto sent = nginx_parameters();
  std::vector<Parameter> parameters;
  parameters.reserve(sent.size());
  for (const auto& [name, value] : sent)
    parameters.push_back({name, value});
  cgi::Environment environment;
  expect(environment.build(parameters).has_value());
  SameRequest request(environment.parameters());

  std::uint64_t calls = 0;
  // Until it has been seen that this application keeps them, or that it does not any more.
  for (; calls < 200; ++calls)
    application.serve(request);
  const std::uint64_t kept_before = application.env().times_kept();
  const std::uint64_t calls_before = calls;
  for (auto _ : state) {
    application.serve(request);
    ++calls;
  }
  expect(request.is_answered(calls));
  const std::uint64_t kept = application.env().times_kept() - kept_before;
  expect(kept == (env == Env::Refilled ? calls - calls_before : 0));
}

void refilled(benchmark::State& state) {
  call_application(state, Env::Refilled, "");
}

BENCHMARK(refilled);

void fresh(benchmark::State& state) {
  call_application(state, Env::Fresh, "");
}

BENCHMARK(fresh);

void refilled_with_a_dozen_keys(benchmark::State& state) {
  call_application(state, Env::Refilled, kDozenKeys);
}

BENCHMARK(refilled_with_a_dozen_keys);

void fresh_with_a_dozen_keys(benchmark::State& state) {
  call_application(state, Env::Fresh, kDozenKeys);
}

BENCHMARK(fresh_with_a_dozen_keys);

}  // namespace
}  // namespace bladepsgi::perl
