// Recycling: when a worker wants to be replaced, because it has served long enough or has grown.
//
// It only says so, in its slot and on its log channel, and goes on serving: the overseer has a replacement made first and tells it to
// leave when that is ready. Each worker draws limits of its own, up to a fifth lower than those given, so that workers that were made
// together are not replaced together.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>

#include "os/clock.h"
#include "shm/scoreboard.h"

namespace bladepsgi::worker {

// Zero: no limit.
struct RecyclingLimits {
  std::uint32_t requests = 0;
  std::chrono::milliseconds lifetime{};
  std::uint64_t memory = 0;  // bytes that are this worker's alone
};

// Bytes that this process does not share, as the kernel counts them; empty where it does not tell.
[[nodiscard]] std::optional<std::uint64_t> private_memory();

class Recycling {
 public:
  using MemoryReader = std::function<std::optional<std::uint64_t>()>;

  // `chance` is 0 … 1.
  Recycling(const RecyclingLimits& limits,
            os::Monotonic now,
            double chance,
            MemoryReader memory = private_memory);

  // After a request. Not None once only: what it wants it wants for good.
  shm::Wish request_ended(os::Monotonic now);
  // The same, when nothing has happened but time.
  shm::Wish time_passed(os::Monotonic now);

  // When time_passed will have something to say; empty: never.
  [[nodiscard]] std::optional<os::Monotonic> deadline() const;

 private:
  shm::Wish wish(shm::Wish what);

  std::uint32_t requests_left_;  // 0: any number
  std::optional<os::Monotonic> end_;
  std::uint64_t memory_;
  MemoryReader read_memory_;
  os::Monotonic last_look_{};  // at the memory
  bool has_wished_ = false;
};

}  // namespace bladepsgi::worker
