// Inheritance: everything that crosses the fork from overseer to lobby.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "fcgi/connection.h"
#include "http/limits.h"
#include "os/log.h"
#include "shm/mapping.h"

namespace bladepsgi::lobby {

struct Options {
  fcgi::Limits fcgi_limits;
  http::Limits http_limits;
  std::chrono::milliseconds idle_timeout{75'000};  // of a connection between two requests
  std::chrono::milliseconds head_timeout{
      10'000};  // from the first byte of a request to the end of its head
  std::chrono::milliseconds body_timeout{60'000};  // for each wait for the body
  std::chrono::milliseconds send_timeout{60'000};  // for each wait for a peer that takes nothing
  std::chrono::milliseconds close_timeout{
      2'000};  // for the end of the peer's side, when all is sent
  std::uint64_t drain_bytes =
      std::uint64_t{8} * 1024 * 1024;  // read of a connection that is to be closed
  std::uint64_t body_ahead =
      std::uint64_t{64} * 1024;          // with so much of its body a request may go to a worker
  std::uint64_t min_body_rate = 0;       // bytes a second
  std::size_t most_connections = 65536;  // never more than there are descriptors for
  std::uint64_t most_bytes =
      std::uint64_t{256} * 1024 * 1024;  // of requests that are not complete, in all
};

struct Inheritance {
  // Message sockets (handoff/transfer.h), non-blocking; the overseer keeps both ends of both.
  int parking = -1;  // from workers
  int ready = -1;    // to workers
  // From the lobby in whose place this one is, and to the one that takes this one's place; -1: there are none.
  int predecessor = -1;
  int successor = -1;
  const shm::Mapping* mapping = nullptr;
  std::uint32_t slot = 0;
  os::LogChannel log{-1};
  pid_t parent = 0;
  Options options;
};

}  // namespace bladepsgi::lobby
