// Patience: how long a worker waits itself for the rest of a request before somebody else does.
//
// A web server that has just connected sends its request at once: a moment of waiting is cheaper than handing the connection over. But
// moments that were spent in vain are moments in which nobody was served, so they are limited to a share of the time: who opens many
// connections and sends nothing on them holds a worker up for a tenth of its time, not for the moment times their number.
#pragma once

#include <algorithm>
#include <chrono>

#include "os/clock.h"

namespace bladepsgi::worker {

class Patience {
 public:
  using Duration = os::Monotonic::duration;

  explicit Patience(std::chrono::milliseconds moment)
      : moment_(moment), credit_(kMoments * moment) {}

  // For the connection that is here now: the moment, or zero.
  [[nodiscard]] std::chrono::milliseconds moment() const {
    return credit_ >= moment_ ? moment_ : std::chrono::milliseconds::zero();
  }

  // It was waited for so long, and in vain.
  void spent(Duration time, os::Monotonic now) {
    refill(now);
    credit_ -= time;
  }

  // When there is time to: what is due since the last call.
  void refill(os::Monotonic now) {
    if (last_ != os::Monotonic{}) credit_ += (now - last_) / kShare;
    credit_ = std::min<Duration>(credit_, kMoments * moment_);
    last_ = now;
  }

  [[nodiscard]] bool is_short() const { return credit_ < kMoments * moment_; }

 private:
  static constexpr int kShare = 10;
  static constexpr int kMoments = 10;

  std::chrono::milliseconds moment_;
  Duration credit_;
  os::Monotonic last_{};
};

}  // namespace bladepsgi::worker
