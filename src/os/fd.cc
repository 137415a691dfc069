#include "os/fd.h"

#include <unistd.h>

#include <cerrno>

#include "os/system_error.h"

namespace bladepsgi::os {

void Fd::reset() noexcept {
  if (fd_ < 0) return;
  const int saved = errno;
  // Linux frees the number whatever close says; only EBADF means that somebody else closed what we own.
  if (::close(fd_) != 0 && errno == EBADF) {
    broken_invariant(__FILE__, __LINE__,
                     "descriptor " + std::to_string(fd_) + " was closed by another owner");
  }
  fd_ = -1;
  errno = saved;
}

}  // namespace bladepsgi::os
