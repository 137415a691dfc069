// Watchdog: how long what the application does at the beginning and at the end of a worker may take.
//
// Nothing else limits that: no request is under way, and who leaves is waited for. Over the limit a signal handler says in the log where the
// application is, and ends the process; a second later, if the application lets no signal in, the kernel kills it. One object at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "os/clock.h"
#include "os/log.h"
#include "os/signal_timer.h"
#include "runtime/app.h"

namespace bladepsgi::worker {

class Watchdog {
 public:
  // From now on, until it is destroyed. "on_worker_start", "--start-timeout"; both outlive this.
  Watchdog(std::string_view what,
           std::string_view option,
           std::chrono::milliseconds limit,
           runtime::App& app,
           os::LogChannel channel,
           std::uint32_t number);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog();

 private:
  static void on_signal(int number);
  [[noreturn]] void end_process() const noexcept;

  std::string_view what_;
  std::string_view option_;
  runtime::App& app_;
  os::LogChannel channel_;
  std::uint32_t number_;
  os::Monotonic started_;
  std::optional<os::SignalTimer> timer_;
  std::optional<os::SignalTimer> last_timer_;
};

}  // namespace bladepsgi::worker
