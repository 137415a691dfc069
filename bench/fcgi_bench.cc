// What does it cost to turn the bytes of an nginx-like request into the list of parameters for an application?
#include <algorithm>
#include <cstdlib>
#include <string>

#include <benchmark/benchmark.h>

#include "base/bytes.h"
#include "cgi/environment.h"
#include "fcgi/connection.h"
#include "fcgi/testing.h"
#include "nginx_parameters.h"

namespace bladepsgi {
namespace {

std::string nginx_request(bool keep) {
  return fcgi::testing::whole_request(1, keep, nginx_parameters());
}

void receive(fcgi::Connection& connection, const std::string& bytes) {
  const auto space = connection.receive_space();
  std::copy_n(as_bytes(bytes).begin(), bytes.size(), space.begin());
  connection.received(bytes.size());
}

void expect(bool condition) {
  if (!condition) std::abort();
}

void decode_request(benchmark::State& state) {
  const std::string bytes = nginx_request(true);
  fcgi::Connection connection;
  for (auto _ : state) {
    receive(connection, bytes);
    expect(connection.next() == fcgi::Event::Request);
    benchmark::DoNotOptimize(connection.request().parameters.data());
    expect(connection.next() == fcgi::Event::BodyEnd);
    connection.request_ended();
  }
}

BENCHMARK(decode_request);

void build_environment(benchmark::State& state) {
  const std::string bytes = nginx_request(true);
  fcgi::Connection connection;
  receive(connection, bytes);
  expect(connection.next() == fcgi::Event::Request);
  cgi::Environment environment;
  for (auto _ : state) {
    expect(environment.build(connection.request().parameters).has_value());
    benchmark::DoNotOptimize(environment.parameters().data());
  }
}

BENCHMARK(build_environment);

void decode_request_and_build_environment(benchmark::State& state) {
  const std::string bytes = nginx_request(true);
  fcgi::Connection connection;
  cgi::Environment environment;
  for (auto _ : state) {
    receive(connection, bytes);
    expect(connection.next() == fcgi::Event::Request);
    expect(environment.build(connection.request().parameters).has_value());
    benchmark::DoNotOptimize(environment.parameters().data());
    expect(connection.next() == fcgi::Event::BodyEnd);
    connection.request_ended();
  }
}

BENCHMARK(decode_request_and_build_environment);

}  // namespace
}  // namespace bladepsgi
