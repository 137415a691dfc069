// TimeLimit: how long the application may have a request, in a worker.
//
// Over the limit (--request-timeout) the application is interrupted: its language throws something into it that it can catch, so that
// transactions roll back. Who swallows that is interrupted again every second. Over the grace as well (--request-timeout-grace) the signal
// handler answers 504 if nothing was answered yet, says in the log where the application is, and ends the process. Who does not even
// let a signal handler run is killed by the overseer, which reads the deadline in this worker's slot.
//
// What it costs: the timer is set a little later than the limit, so that it serves all requests that begin within that little, and is
// set anew only then; the little is at most half of the grace. It never fires within a request that is in time, whose system calls it would interrupt.
//
// The signal has no SA_RESTART: a read that is started again never sees the exception. The object that handles it is a true global.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string_view>

#include "os/clock.h"
#include "os/log.h"
#include "os/signal_timer.h"
#include "runtime/app.h"
#include "shm/scoreboard.h"

namespace bladepsgi::worker {

class ProtocolExchange;

struct TimeLimitOptions {
  std::chrono::milliseconds limit{};  // zero: none
  std::chrono::milliseconds grace{};
};

// From the deadline on which the worker ends itself to the overseer's patience.
inline constexpr std::chrono::seconds kOverseerPatience{1};

class TimeLimit {
 public:
  // One in a process, for its whole life.
  TimeLimit(const TimeLimitOptions& options,
            runtime::App& app,
            shm::OwnSlot& slot,
            os::LogChannel channel,
            std::uint32_t number);
  TimeLimit(const TimeLimit&) = delete;
  TimeLimit& operator=(const TimeLimit&) = delete;
  ~TimeLimit();

  // Whose request is served next.
  void watch(ProtocolExchange* exchange) { exchange_ = exchange; }

  // Host::call_begins and its kin.
  void begin() noexcept;
  void pause() noexcept;
  void resume() noexcept;
  void end() noexcept;
  [[nodiscard]] std::chrono::nanoseconds age() const noexcept;

 private:
  static void on_signal(int number);
  void on_time() noexcept;
  void count_from(os::Monotonic start) noexcept;
  void arm(os::Monotonic when) noexcept;
  void say(bool is_end, bool is_answered, std::chrono::nanoseconds age) noexcept;
  [[noreturn]] void end_process(std::chrono::nanoseconds age) noexcept;

  TimeLimitOptions options_;
  std::chrono::nanoseconds slack_;
  runtime::App& app_;
  shm::OwnSlot& slot_;
  os::LogChannel channel_;
  std::uint32_t number_;
  ProtocolExchange* exchange_ = nullptr;
  os::SignalTimer timer_;

  // For the handler.
  std::atomic<bool> counts_ = false;
  std::atomic<std::int64_t> start_ = 0;  // of the call, moved by its pauses
  std::atomic<std::int64_t> armed_ = 0;  // when the timer fires; 0: it does not
  std::atomic<bool> was_interrupted_ = false;
  std::atomic<std::int64_t> next_interrupt_ =
      0;  // once it was; reading and writing meanwhile does not put it off
  os::Monotonic paused_{};
};

}  // namespace bladepsgi::worker
