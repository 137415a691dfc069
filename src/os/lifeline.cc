#include "os/lifeline.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <utility>

#include "os/socket.h"
#include "os/system_error.h"

namespace bladepsgi::os {

Lifeline::Lifeline() {
  Pipe pipe = make_pipe();
  // Whoever gives root up ties itself afterwards too. Only those who have inherited the pipe can name it.
  if (::fchmod(pipe.read.get(), S_IRUSR | S_IRGRP | S_IROTH) != 0)
    throw SystemError(errno, "make lifeline readable");
  read_ = std::move(pipe.read);
  write_ = std::move(pipe.write);
}

Fd tie_to(int lifeline) {
  const std::string path = "/proc/self/fd/" + std::to_string(lifeline);
  // Not close-on-exec, for the tie shall last when this process becomes another program: changing the user and then exec is what
  // auxiliary processes do. What it forks holds no tie, so nothing is lost if that inherits the descriptor.
  Fd own(::open(path.c_str(), O_RDONLY | O_NONBLOCK));  // NOLINT(android-cloexec-open): see above
  if (!own.is_open()) return {};
  const bool is_tied = ::fcntl(own.get(), F_SETOWN, ::getpid()) == 0 &&
                       ::fcntl(own.get(), F_SETSIG, SIGKILL) == 0 &&
                       ::fcntl(own.get(), F_SETFL, O_ASYNC | O_NONBLOCK) == 0;
  if (!is_tied) return {};
  pollfd holder{.fd = own.get(), .events = 0, .revents = 0};
  if (::poll(&holder, 1, 0) > 0 && (holder.revents & POLLHUP) != 0) ::_exit(1);
  return own;
}

}  // namespace bladepsgi::os
