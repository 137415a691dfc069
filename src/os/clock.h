// The only clocks of the program. Pure rooms are handed what these return.
#pragma once

#include <chrono>

namespace bladepsgi::os {

using Monotonic = std::chrono::steady_clock::time_point;
using WallClock = std::chrono::system_clock::time_point;

[[nodiscard]] inline Monotonic monotonic_now() {
  return std::chrono::steady_clock::now();
}

[[nodiscard]] inline WallClock wall_clock_now() {
  return std::chrono::system_clock::now();
}

}  // namespace bladepsgi::os
