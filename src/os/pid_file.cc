#include "os/pid_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "os/fd.h"
#include "os/system_error.h"

namespace bladepsgi::os {

Result<PidFile> PidFile::create(const std::string& path) {
  const std::string pid = std::to_string(::getpid());
  const std::string temporary = path + "." + pid;
  const auto failed = [&] {
    return fail(system_failure(errno, "write pid file", path));
  };
  ::unlink(temporary.c_str());  // of a process that had our pid
  constexpr mode_t kMode = 0644;
  const Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kMode));
  if (!fd.is_open()) return failed();
  OwnedPath file(temporary);
  const std::string line = pid + "\n";
  const ssize_t written = ::write(fd.get(), line.data(), line.size());
  if (written >= 0 && static_cast<std::size_t>(written) < line.size()) errno = ENOSPC;
  if (written != static_cast<ssize_t>(line.size())) return failed();
  return PidFile(path, std::move(file));
}

}  // namespace bladepsgi::os
