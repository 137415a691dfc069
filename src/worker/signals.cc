#include "worker/signals.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>

#include "os/signals.h"
#include "os/socket.h"

namespace bladepsgi::worker {

namespace {

std::atomic<bool> leave_requested{false};
std::atomic<int> wake_write{-1};
int wake_read = -1;

static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

void on_terminate(int) {
  const int saved = errno;
  if (!leave_requested.exchange(true)) {
    const char byte = 'T';
    [[maybe_unused]] const ssize_t written = ::write(wake_write.load(), &byte, 1);
  }
  errno = saved;
}

// The application's own handlers, set while it loaded, stay.
void shrug_unless_handled(int number) {
  if (os::has_signal_handler(number, SIG_DFL))
    os::set_signal_handler(number, os::shrug, SA_RESTART);
}

}  // namespace

void install_signal_handlers() {
  os::Pipe pipe = os::make_pipe();
  os::set_non_blocking(pipe.write.get());
  wake_read = pipe.read.release();  // for the life of the process
  wake_write = pipe.write.release();
  os::set_signal_handler(SIGTERM, on_terminate, SA_RESTART);
  for (const int number : {SIGINT, SIGQUIT, SIGHUP, SIGPIPE})
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

int wake_descriptor() {
  return wake_read;
}

}  // namespace bladepsgi::worker
