// SignalTimer: a timer of this process alone that ends in a signal, and that a signal handler may set.
//
// A forked child has none of it (timer_create(2)), nor has a program that is executed.
#pragma once

#include <ctime>

#include "os/clock.h"

namespace bladepsgi::os {

class SignalTimer {
 public:
  explicit SignalTimer(int signal);  // throws SystemError
  SignalTimer(const SignalTimer&) = delete;
  SignalTimer& operator=(const SignalTimer&) = delete;
  ~SignalTimer();

  // Once, then; at once if that is past. Takes the place of what was set before. Async-signal-safe.
  void set(Monotonic when) noexcept;

 private:
  timer_t id_{};
};

}  // namespace bladepsgi::os
