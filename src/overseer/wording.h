// Wording: how the overseer puts numbers and times for people.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/text.h"
#include "os/clock.h"
#include "shm/scoreboard.h"

namespace bladepsgi::overseer {

// "1.5 s".
inline std::string seconds_text(os::Monotonic::duration duration) {
  return fmt::format("{:.1f} s", std::chrono::duration<double>(duration).count());
}

// "1 worker", "3 workers".
inline std::string plural(std::uint32_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

// " while it served GET /report (request id 1f), for 12.0 s"; empty when it was idle.
inline std::string describe_request(const shm::SlotSnapshot& slot, os::Monotonic now) {
  if (slot.state != shm::State::Busy && slot.state != shm::State::Cleanup) return {};
  if (!slot.request_known) return " while it served a request";
  return fmt::format(" while it {} {} {}{} (request id {}), for {}",
                     slot.state == shm::State::Busy ? "served" : "ran cleanup handlers of",
                     printable(slot.method), printable(slot.uri), slot.uri_is_cut ? "…" : "",
                     printable(slot.request_id), seconds_text(now - slot.request_started));
}

}  // namespace bladepsgi::overseer
