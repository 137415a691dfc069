// Generator: sends requests over some connections, each one at a time, and looks at every byte of what comes back.
//
// One thread and one epoll set; nothing is allocated for a request. A request that was not answered, or not exactly as expected,
// is counted as an error and its connection closed. As web servers do, it asks once more over a fresh connection when a kept one
// turns out to be closed before a byte of the response has come: that is a reconnect.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "load/latencies.h"
#include "load/request.h"
#include "load/response_check.h"

namespace bladepsgi::load {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;

  // Throws std::invalid_argument.
  static Address unix_path(std::string_view path);
  static Address tcp(std::string_view host_and_port);  // a numeric IPv4 address
};

struct Options {
  Address address;
  Protocol protocol = Protocol::FastCgi;
  std::size_t connections = 8;
  bool keep = false;

  // The end of the run, whichever comes first; 0: not bounded by it.
  std::uint64_t requests = 0;
  std::chrono::milliseconds time{0};

  // Of each request.
  std::chrono::milliseconds time_limit{30'000};

  // In uri and body text %n stands for a number that is another one for each of so many requests that take turns: an answer to
  // somebody else's request, or to an earlier one, is a wrong one.
  RequestSpec request;
  int status = 200;
  std::string body_text;
  std::uint64_t body_pattern = 0;  // its length
  bool is_body_pattern = false;
  unsigned variants = 16;

  // Connections beside the measured ones: kept ones that have been served once and say nothing more, and ones that have sent half
  // a head. At the end both get an answer, unless the server has closed them.
  std::size_t idle = 0;
  std::size_t half = 0;

  // Before the measured load, when those are there, and behind it, before they are answered. May be empty.
  std::function<void()> on_ready;
  std::function<void()> on_measured;
};

struct Report {
  std::uint64_t requests = 0;  // answered as expected
  std::uint64_t errors = 0;
  std::uint64_t reconnects = 0;
  double seconds = 0;
  double client_cpu_seconds = 0;
  Latencies latencies;
  std::vector<std::string> problems;  // the first few

  struct Crowd {
    std::uint64_t opened = 0;
    std::uint64_t closed = 0;  // by the server
    std::uint64_t answered = 0;
  };

  Crowd idle;
  Crowd half;
};

// Throws std::system_error when it cannot work at all.
[[nodiscard]] Report run(const Options& options);

}  // namespace bladepsgi::load
