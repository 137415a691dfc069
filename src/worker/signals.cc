#include "worker/signals.h"

#include <pthread.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>

#include "os/signals.h"
#include "os/system_error.h"

namespace bladepsgi::worker {

namespace {

std::atomic<bool> leave_requested{false};
std::atomic<int> wake{-1};

static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

// A terminal's are the overseer's business; a write that is refused (a closed pipe, a file as large as its limit allows) says so by errno.
constexpr std::array<int, 5> kShrugged{SIGINT, SIGQUIT, SIGHUP, SIGPIPE, SIGXFSZ};

void on_terminate(int) {
  const int saved = errno;
  if (!leave_requested.exchange(true)) {
    const char byte = 'T';
    [[maybe_unused]] const ssize_t written = ::write(wake.load(), &byte, 1);
  }
  errno = saved;
}

// The application's own handlers, set while it loaded, stay.
void shrug_unless_handled(int number) {
  if (os::has_signal_handler(number, SIG_DFL))
    os::set_signal_handler(number, os::shrug, SA_RESTART);
}

void forget_in_forked_child() {
  if (os::has_signal_handler(SIGTERM, on_terminate)) os::set_signal_handler(SIGTERM, SIG_DFL, 0);
  for (const int number : kShrugged) {
    if (os::has_signal_handler(number, os::shrug)) os::set_signal_handler(number, SIG_DFL, 0);
  }
}

}  // namespace

void install_signal_handlers(int wake_write) {
  wake = wake_write;
  if (const int error = ::pthread_atfork(nullptr, nullptr, forget_in_forked_child); error != 0) {
    throw os::SystemError(error, "watch forks");
  }
  os::set_signal_handler(SIGTERM, on_terminate, SA_RESTART);
  for (const int number : kShrugged)
    shrug_unless_handled(number);
}

void keep_signal_handlers() {
  if (!os::has_signal_handler(SIGTERM, on_terminate))
    os::set_signal_handler(SIGTERM, on_terminate, SA_RESTART);
}

bool is_leave_requested() {
  return leave_requested.load(std::memory_order_relaxed);
}

void request_leave() {
  on_terminate(SIGTERM);
}

}  // namespace bladepsgi::worker
