// Guest: one connection in the lobby.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "base/pace.h"
#include "handoff/message.h"
#include "lobby/sending.h"
#include "lobby/waiting.h"
#include "os/clock.h"
#include "os/fd.h"

namespace bladepsgi::lobby {

struct Guest {
  os::Fd connection;
  Waiting waiting;
  os::Monotonic
      started{};  // when the request has begun; of a connection without one yet, when that came
  bool is_fresh = false;  // no request has ever come on it
  bool is_overdue = false;
  Pace pace;
  os::Monotonic last_bytes{};
  std::uint64_t drained = 0;  // of one that is closing
  std::unique_ptr<Sending> sending{};
  os::Monotonic sending_since{};
  std::uint64_t sent = 0;
  bool is_input_over = false;  // while something is sent: nothing more is read
};

inline os::Monotonic as_time(handoff::Deadline deadline) {
  return os::Monotonic(
      std::chrono::duration_cast<os::Monotonic::duration>(std::chrono::nanoseconds(deadline)));
}

inline handoff::Deadline as_deadline(os::Monotonic time) {
  return static_cast<handoff::Deadline>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count());
}

}  // namespace bladepsgi::lobby
