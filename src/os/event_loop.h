// EventLoop: epoll and timers for the small processes (overseer, lobby, monitoring).
//
// Callbacks run inside run_once, one after the other; they may add and remove anything, themselves included. A
// descriptor must be removed before it is closed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "os/clock.h"
#include "os/fd.h"

namespace bladepsgi::os {

class EventLoop {
 public:
  using Callback = std::function<void(std::uint32_t events)>;
  using TimerCallback = std::function<void()>;

  struct TimerId {
    Monotonic when{};
    std::uint64_t sequence = 0;  // 0: no timer
  };

  EventLoop();

  void add(int fd, std::uint32_t events, Callback callback);
  void remove(int fd);

  TimerId call_at(Monotonic when, TimerCallback callback);
  void cancel(TimerId& timer);  // also one that has fired; `timer` names none afterwards

  // Waits for the next event or timer and runs what is due.
  void run_once();

 private:
  struct Watch {
    Callback callback;
    std::uint32_t generation = 0;
  };

  Fd epoll_;
  std::unordered_map<int, std::shared_ptr<Watch>> watches_;
  std::map<std::pair<Monotonic, std::uint64_t>, TimerCallback> timers_;
  std::uint64_t next_sequence_ = 1;
  std::uint32_t next_generation_ = 1;
};

}  // namespace bladepsgi::os
