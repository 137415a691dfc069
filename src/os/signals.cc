#include "os/signals.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "os/system_error.h"

namespace bladepsgi::os {

sigset_t signal_set(std::initializer_list<int> signals) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : signals)
    ::sigaddset(&set, number);
  return set;
}

SignalBlock::SignalBlock() {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, &before_);
}

SignalBlock::~SignalBlock() {
  ::sigprocmask(SIG_SETMASK, &before_, nullptr);
}

SignalFd::SignalFd(const sigset_t& signals) {
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  fd_ = Fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd_.is_open()) throw SystemError(errno, "create signal descriptor");
}

std::optional<SignalFd::Caught> SignalFd::try_take() {
  signalfd_siginfo info{};
  const ssize_t size = ::read(fd_.get(), &info, sizeof info);
  if (size != static_cast<ssize_t>(sizeof info)) return std::nullopt;
  return Caught{.number = static_cast<int>(info.ssi_signo),
                .sender = static_cast<int>(info.ssi_pid)};
}

void unblock_all_signals() noexcept {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

void block_all_signals() noexcept {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
}

void reset_signal_handlers() noexcept {
  for (int number = 1; number <= SIGRTMAX; ++number)
    set_signal_handler(number, SIG_DFL, 0);
}

void set_signal_handler(int number, void (*handler)(int), int flags) noexcept {
  struct sigaction action {};

  action.sa_handler = handler;
  action.sa_flags = flags;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(
      number, &action,
      nullptr);  // EINVAL for SIGKILL, SIGSTOP and those glibc keeps: nothing to do about them
}

bool has_signal_handler(int number, void (*handler)(int)) noexcept {
  struct sigaction action {};

  return ::sigaction(number, nullptr, &action) == 0 && action.sa_handler == handler;
}

void shrug(int) noexcept {}

std::string signal_name(int number) {
  if (const char* name = ::sigabbrev_np(number)) return std::string("SIG") + name;
  if (number >= SIGRTMIN && number <= SIGRTMAX)
    return "SIGRTMIN+" + std::to_string(number - SIGRTMIN);
  return "signal " + std::to_string(number);
}

}  // namespace bladepsgi::os
