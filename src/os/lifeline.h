// Lifeline: processes that die with the one that holds it, whatever user they have become.
//
// The parent-death signal (die_with_parent) is forgotten by the kernel when a process changes its credentials. A lifeline is
// not: a pipe whose write end one process holds and into which nobody writes. When that process is gone, however it ended, the
// kernel kills everybody tied to the read end (fcntl(2), F_SETSIG), with the permissions of the moment in which the tie was made.
#pragma once

#include <utility>

#include "os/fd.h"

namespace bladepsgi::os {

// Made by the process whose death shall count; its children must close what they inherit of it (close_all_except) but the
// descriptor that they, or their children, tie themselves to.
class Lifeline {
 public:
  Lifeline();  // throws SystemError

  // Goes on with that of the program that this process was before.
  Lifeline(Fd read, Fd write) : read_(std::move(read)), write_(std::move(write)) {}

  [[nodiscard]] int descriptor() const { return read_.get(); }

  [[nodiscard]] int held_end() const { return write_.get(); }

 private:
  Fd read_;
  Fd write_;
};

// Ties this process, not what it forks later: each has to tie itself, through a description of its own. Ends this process if the
// holder has gone already. The tie lasts as long as the descriptor returned, also across an exec; what is forked later
// inherits that, not the tie. None: it cannot be made (no /proc), and only the parent-death signal is left.
[[nodiscard]] Fd tie_to(int lifeline);

}  // namespace bladepsgi::os
