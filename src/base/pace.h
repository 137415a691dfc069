// Pace: whether somebody who sends a body is quick enough, by what has come while he was waited for.
//
// The average over ten seconds of waiting, judged when something comes: of silence other limits take care, so a single one counts
// for no more than that either. Time in which nobody waited does not count.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace bladepsgi {

class Pace {
 public:
  explicit Pace(std::uint64_t bytes_per_second) : rate_(bytes_per_second) {}

  void start() {
    waited_ = {};
    bytes_ = 0;
  }

  // After a wait of that length so much came. False: it was too little.
  [[nodiscard]] bool keeps_up(std::chrono::nanoseconds wait, std::uint64_t bytes) {
    waited_ += std::min<std::chrono::nanoseconds>(wait, kSpan);
    bytes_ += bytes;
    if (waited_ < kSpan) return true;
    const auto needed = static_cast<double>(rate_) * std::chrono::duration<double>(waited_).count();
    const bool is_enough = static_cast<double>(bytes_) >= needed;
    start();
    return is_enough;
  }

 private:
  static constexpr std::chrono::seconds kSpan{10};

  std::uint64_t rate_;
  std::chrono::nanoseconds waited_{};
  std::uint64_t bytes_ = 0;
};

}  // namespace bladepsgi
