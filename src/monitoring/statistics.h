// Statistics: the text of the statistics socket.
//
//   <start time, seconds since the epoch>
//   <one status octet per worker, in worker order>
//   <requests served since start>
//
//   sem NAME: VALUE
//   atomic NAME: VALUE
//
// One line for each semaphore, then one for each atomic, each kind in order of creation; the fourth line is empty.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "shm/objects.h"
#include "shm/scoreboard.h"

namespace bladepsgi::monitoring {

struct Statistics {
  std::int64_t start_time = 0;
  std::string octets;
  std::uint64_t requests = 0;
  std::vector<shm::ObjectValue> objects;  // in order of creation
};

// What the shared memory says now; waits for nobody.
[[nodiscard]] Statistics collect(const shm::Scoreboard& scoreboard, shm::Objects& objects);

[[nodiscard]] std::string format(const Statistics& statistics);

}  // namespace bladepsgi::monitoring
