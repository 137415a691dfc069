#include "os/background.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <stdexcept>

#include "os/process.h"
#include "os/signals.h"
#include "os/socket.h"
#include "os/system_error.h"

namespace bladepsgi::os {

int run_in_background(const std::function<int(const std::function<void()>& release)>& body) {
  Pipe released = make_pipe();
  const pid_t caller = ::getpid();
  const auto pid = fork_role(Parent::Caller, [&] {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != caller) return 1;
    unblock_all_signals();
    released.read.reset();
    ::setsid();
    return body([&] {
      ::prctl(PR_SET_PDEATHSIG, 0);
      constexpr char kByte = 1;
      // Nobody waits any more: then nobody is left to be told.
      [[maybe_unused]] const ssize_t written = ::write(released.write.get(), &kByte, sizeof kByte);
      released.write.reset();
    });
  });
  if (!pid) throw std::runtime_error(pid.error().message);
  released.write.reset();
  char byte = 0;
  ssize_t size = 0;
  do {
    size = ::read(released.read.get(), &byte, sizeof byte);
  } while (size < 0 && errno == EINTR);
  if (size > 0) return 0;
  int status = 0;
  while (::waitpid(*pid, &status, 0) < 0) {
    if (errno != EINTR) throw SystemError(errno, "wait for the process in the background");
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

}  // namespace bladepsgi::os
