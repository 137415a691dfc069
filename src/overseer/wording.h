// Wording: how the overseer puts numbers and times for people.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "os/clock.h"

namespace bladepsgi::overseer {

// "1.5 s".
inline std::string seconds_text(os::Monotonic::duration duration) {
  return fmt::format("{:.1f} s", std::chrono::duration<double>(duration).count());
}

// "1 worker", "3 workers".
inline std::string plural(std::uint32_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

}  // namespace bladepsgi::overseer
