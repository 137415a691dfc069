// Signals: masks and signalfd for processes that handle signals in their poll loop, and the names of signals.
#pragma once

#include <csignal>
#include <initializer_list>
#include <optional>
#include <string>

#include "os/fd.h"

namespace bladepsgi::os {

[[nodiscard]] sigset_t signal_set(std::initializer_list<int> signals);

// Blocks all signals while it lives, then restores the mask that was in force.
class SignalBlock {
 public:
  SignalBlock();
  SignalBlock(const SignalBlock&) = delete;
  SignalBlock& operator=(const SignalBlock&) = delete;
  ~SignalBlock();

 private:
  sigset_t before_{};
};

// Blocks `signals` for the process and delivers them as readable bytes. They stay blocked after its end: whoever
// stops reading decides what comes next.
class SignalFd {
 public:
  explicit SignalFd(const sigset_t& signals);

  [[nodiscard]] int fd() const { return fd_.get(); }

  struct Caught {
    int number = 0;
    int sender = 0;  // pid, 0 when the kernel sent it
  };

  // Empty when none is pending.
  [[nodiscard]] std::optional<Caught> try_take();

 private:
  Fd fd_;
};

// Sets the mask of a fresh child: nothing blocked.
void unblock_all_signals() noexcept;
void block_all_signals() noexcept;

// Default action for every signal, as programs started by exec expect; SIGPIPE too.
void reset_signal_handlers() noexcept;

// Sets a handler; `flags` as in sigaction(2). Async-signal-safe.
void set_signal_handler(int number, void (*handler)(int), int flags) noexcept;
[[nodiscard]] bool has_signal_handler(int number, void (*handler)(int)) noexcept;

// A handler that does nothing: unlike SIG_IGN it is not inherited by programs that the application starts.
void shrug(int) noexcept;

// "SIGKILL", "SIGRTMIN+3".
[[nodiscard]] std::string signal_name(int number);

}  // namespace bladepsgi::os
