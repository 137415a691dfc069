// What does it cost to turn the bytes of an HTTP request into the list of parameters for an application, and to write the head of a
// response?
#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <string_view>

#include <benchmark/benchmark.h>

#include "base/bytes.h"
#include "cgi/environment.h"
#include "http/connection.h"
#include "http/parameters.h"
#include "http/response.h"
#include "load/request.h"

namespace bladepsgi::http {
namespace {

void expect(bool condition) {
  if (!condition) std::abort();
}

std::string browser_request() {
  const load::Request request(
      {.protocol = load::Protocol::Http, .keep = true, .uri = "/app/list?page=2&sort=name"});
  std::array<iovec, 1> vector{};
  expect(request.vectors(0, vector) == 1);
  return {static_cast<const char*>(vector[0].iov_base), vector[0].iov_len};
}

void receive(Connection& connection, std::string_view bytes) {
  const auto space = connection.receive_space();
  std::copy_n(as_bytes(bytes).begin(), bytes.size(), space.begin());
  connection.received(bytes.size());
}

void parse_request(benchmark::State& state) {
  const std::string bytes = browser_request();
  Connection connection;
  for (auto _ : state) {
    receive(connection, bytes);
    expect(connection.next() == Event::Request);
    benchmark::DoNotOptimize(connection.request().fields.data());
    expect(connection.next() == Event::BodyEnd);
    connection.request_ended();
  }
}

BENCHMARK(parse_request);

void parse_request_and_build_environment(benchmark::State& state) {
  const std::string bytes = browser_request();
  const Peer peer{.remote_address = "192.0.2.17",
                  .remote_port = 51234,
                  .server_address = "198.51.100.4",
                  .server_port = 80};
  Connection connection;
  Parameters parameters;
  cgi::Environment environment;
  for (auto _ : state) {
    receive(connection, bytes);
    expect(connection.next() == Event::Request);
    expect(environment.build(parameters.build(connection.request(), peer)).has_value());
    benchmark::DoNotOptimize(environment.parameters().data());
    expect(connection.next() == Event::BodyEnd);
    connection.request_ended();
  }
}

BENCHMARK(parse_request_and_build_environment);

void write_response_head(benchmark::State& state) {
  constexpr std::array<Field, 4> kFields = {{{"Content-Type", "text/html; charset=utf-8"},
                                             {"Content-Length", "13"},
                                             {"Cache-Control", "no-cache"},
                                             {"Set-Cookie", "session=5f2c0a7be41d4b0c; Path=/"}}};
  const ResponseContext context{.date = "Sun, 06 Nov 1994 08:49:37 GMT", .known_length = 13};
  std::string head;
  for (auto _ : state) {
    head.clear();
    const Framing framing = append_response_head(head, 200, kFields, context);
    expect(framing.kind == Framing::Kind::Length);
    benchmark::DoNotOptimize(head.data());
  }
}

BENCHMARK(write_response_head);

}  // namespace
}  // namespace bladepsgi::http
