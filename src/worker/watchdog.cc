#include "worker/watchdog.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <utility>

#include "os/signals.h"
#include "worker/signal_message.h"

namespace bladepsgi::worker {

namespace {

constexpr std::chrono::seconds kForSignal{1};

std::atomic<Watchdog*> the_watchdog{nullptr};

static_assert(std::atomic<Watchdog*>::is_always_lock_free);

// Beside that of the time limit.
int watch_signal() {
  return SIGRTMAX - 2;
}

}  // namespace

Watchdog::Watchdog(std::string_view what,
                   std::string_view option,
                   std::chrono::milliseconds limit,
                   runtime::App& app,
                   os::LogChannel channel,
                   std::uint32_t number)
    : what_(what),
      option_(option),
      app_(app),
      channel_(channel),
      number_(number),
      started_(os::monotonic_now()),
      timer_(std::in_place, watch_signal()),
      last_timer_(std::in_place, SIGKILL) {
  the_watchdog = this;
  os::set_signal_handler(watch_signal(), on_signal, 0);
  timer_->set(started_ + limit);
  last_timer_->set(started_ + limit + kForSignal);
}

Watchdog::~Watchdog() {
  the_watchdog = nullptr;
  timer_.reset();
  last_timer_.reset();
  os::set_signal_handler(watch_signal(), SIG_IGN, 0);  // one that waits comes to nothing
  os::set_signal_handler(watch_signal(), SIG_DFL, 0);
}

void Watchdog::on_signal(int) {
  if (const Watchdog* watchdog = the_watchdog.load(std::memory_order_relaxed))
    watchdog->end_process();
}

void Watchdog::end_process() const noexcept {
  SignalMessage message;
  message.add(what_);
  message.add(" still runs after ");
  message.add(os::monotonic_now() - started_);
  message.add(" (");
  message.add(option_);
  message.add("), and worker ");
  message.add_number(number_);
  message.add(" ends. It was at\n");
  message.added(app_.write_stack(message.room()));
  channel_.text(Severity::Error, message.text());
  ::_exit(1);
}

}  // namespace bladepsgi::worker
