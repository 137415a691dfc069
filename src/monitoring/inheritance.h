// Inheritance: everything that survives the fork into the monitoring process.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "os/fd.h"
#include "os/log.h"
#include "shm/mapping.h"

namespace bladepsgi::monitoring {

struct Options {
  std::size_t most_clients = 64;  // one more, and the oldest is dropped
  std::size_t most_unsent_bytes = std::size_t{16}
                                  << 20;          // of all clients; more, and the oldest is dropped
  std::chrono::milliseconds client_limit{10000};  // for reading its answer
  std::chrono::milliseconds accept_pause{
      100};  // when there is no descriptor or memory for another client
};

struct Inheritance {
  // Non-blocking; their paths are the overseer's. Either may be missing.
  os::Fd statistics;
  std::vector<os::Fd> health;             // HTTP
  const shm::Mapping* mapping = nullptr;  // inherited memory
  os::LogChannel log{-1};  // its pipe belongs to the overseer's hand-over, not to this object
  pid_t parent = 0;
  Options options;
};

}  // namespace bladepsgi::monitoring
