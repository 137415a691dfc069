// What does it cost to turn the bytes of an nginx-like request into the list of parameters for an application?
#include <algorithm>
#include <cstdlib>
#include <string>

#include <benchmark/benchmark.h>

#include "base/bytes.h"
#include "cgi/environment.h"
#include "fcgi/connection.h"
#include "fcgi/testing.h"

namespace bladepsgi {
namespace {

// 35 parameters, a cookie of 1 KB: what the figures of the whole server are taken with.
fcgi::testing::Pairs nginx_parameters() {
  return {
      {"QUERY_STRING", "page=2&sort=name"},
      {"REQUEST_METHOD", "GET"},
      {"CONTENT_TYPE", ""},
      {"CONTENT_LENGTH", ""},
      {"SCRIPT_NAME", "/app/list"},
      {"REQUEST_URI", "/app/list?page=2&sort=name"},
      {"DOCUMENT_URI", "/app/list"},
      {"DOCUMENT_ROOT", "/usr/share/nginx/html"},
      {"SERVER_PROTOCOL", "HTTP/1.1"},
      {"REQUEST_SCHEME", "https"},
      {"HTTPS", "on"},
      {"GATEWAY_INTERFACE", "CGI/1.1"},
      {"SERVER_SOFTWARE", "nginx/1.22.1"},
      {"REMOTE_ADDR", "192.0.2.17"},
      {"REMOTE_PORT", "51234"},
      {"REMOTE_USER", ""},
      {"SERVER_ADDR", "198.51.100.4"},
      {"SERVER_PORT", "443"},
      {"SERVER_NAME", "www.example.org"},
      {"REDIRECT_STATUS", "200"},
      {"HTTP_HOST", "www.example.org"},
      {"HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
      {"HTTP_ACCEPT", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
      {"HTTP_ACCEPT_LANGUAGE", "en-US,en;q=0.5"},
      {"HTTP_ACCEPT_ENCODING", "gzip, deflate, br"},
      {"HTTP_REFERER", "https://www.example.org/app/list?page=1&sort=name"},
      {"HTTP_COOKIE", std::string(1000, 'c')},
      {"HTTP_CONNECTION", "keep-alive"},
      {"HTTP_UPGRADE_INSECURE_REQUESTS", "1"},
      {"HTTP_SEC_FETCH_DEST", "document"},
      {"HTTP_SEC_FETCH_MODE", "navigate"},
      {"HTTP_SEC_FETCH_SITE", "same-origin"},
      {"HTTP_SEC_FETCH_USER", "?1"},
      {"HTTP_CACHE_CONTROL", "max-age=0"},
      {"HTTP_X_FORWARDED_FOR", "192.0.2.17"}};
}

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
