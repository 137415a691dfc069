// LimitedLog: lines about what peers do wrong: at most one a second, the others counted.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "os/clock.h"
#include "os/log.h"

namespace bladepsgi::os {

class LimitedLog {
 public:
  explicit LimitedLog(LogChannel channel) : channel_(channel) {}

  void say(Severity severity, std::string_view text) {
    const Monotonic now = monotonic_now();
    if (now < next_) {
      ++suppressed_;
      return;
    }
    next_ = now + std::chrono::seconds(1);
    if (suppressed_ == 0) {
      channel_.text(severity, text);
    } else {
      channel_.text(severity, std::string(text) + " (" + std::to_string(suppressed_) +
                                  " more like this were not logged)");
      suppressed_ = 0;
    }
  }

 private:
  LogChannel channel_;
  Monotonic next_{};
  std::uint64_t suppressed_ = 0;
};

}  // namespace bladepsgi::os
