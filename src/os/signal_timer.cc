#include "os/signal_timer.h"

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "os/system_error.h"

namespace bladepsgi::os {

SignalTimer::SignalTimer(int signal) {
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = signal;
  if (::timer_create(CLOCK_MONOTONIC, &event, &id_) != 0) throw SystemError(errno, "create timer");
}

SignalTimer::~SignalTimer() {
  ::timer_delete(id_);
}

void SignalTimer::set(Monotonic when) noexcept {
  constexpr std::int64_t kSecond = 1'000'000'000;
  // Zero would switch it off.
  const std::int64_t time = std::max<std::int64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(when.time_since_epoch()).count(), 1);
  itimerspec spec{};
  spec.it_value.tv_sec = time / kSecond;
  spec.it_value.tv_nsec = time % kSecond;
  ::timer_settime(id_, TIMER_ABSTIME, &spec, nullptr);
}

}  // namespace bladepsgi::os
