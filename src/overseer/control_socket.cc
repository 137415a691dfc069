#include "overseer/control_socket.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string_view>
#include <utility>

#include "control/place.h"
#include "os/system_error.h"

namespace bladepsgi::overseer {

namespace {

constexpr int kBacklog = 64;
constexpr mode_t kSocketMode = 0600;
// The socket's own mode and the question who the peer is guard it. Who may not look into the folder may still pass through it: sockets of
// applications for a web server lie there, too.
constexpr mode_t kDirectoryMode = 0711;

Result<void> make_directory(const std::string& directory) {
  if (::mkdir(directory.c_str(), kDirectoryMode) != 0 && errno != EEXIST)
    return fail(os::system_failure(errno, "make the folder", directory));

  struct stat info {};

  if (::lstat(directory.c_str(), &info) != 0)
    return fail(os::system_failure(errno, "look at the folder", directory));
  const bool is_safe = S_ISDIR(info.st_mode) && (info.st_uid == 0 || info.st_uid == ::geteuid()) &&
                       (info.st_mode & (S_IWGRP | S_IWOTH)) == 0;
  if (!is_safe)
    return fail(Remedy::Refuse,
                "'" + directory + "' is no folder that only this user, or root, can write to");
  return {};
}

// Who lives is not asked: a connection that comes to nothing would be something to look after.
bool is_of_living(std::string_view name) {
  const auto pid = control::pid_of(name);
  return pid && (::kill(*pid, 0) == 0 || errno != ESRCH);
}

void sweep(const std::string& directory) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(directory.c_str()), &::closedir);
  if (!entries) return;
  while (const dirent* entry = ::readdir(entries.get())) {
    if (!control::pid_of(entry->d_name) || is_of_living(entry->d_name)) continue;
    const std::string path = directory + "/" + entry->d_name;
    // It may be of another pid namespace.
    if (os::is_deserted_socket(path)) ::unlink(path.c_str());
  }
}

Result<std::unique_ptr<os::UnixListener>> create_and_publish(const std::string& path) {
  auto listener = os::UnixListener::create(
      path, kBacklog, {.mode = kSocketMode, .owner = std::nullopt, .group = std::nullopt});
  if (!listener) return listener;
  if (auto published = (*listener)->publish(); !published) return fail(published.error());
  return listener;
}

}  // namespace

Result<ControlSocket> ControlSocket::create(const ControlPlace& place) {
  if (!place.path.empty()) {
    auto listener = create_and_publish(place.path);
    if (!listener) return fail(listener.error());
    return ControlSocket(std::move(*listener), {});
  }
  const std::string path = place.directory + "/" + control::socket_name(::getpid());
  // Again when another server, the last one there, has taken the folder away meanwhile.
  for (int tries = 3;; --tries) {
    if (place.is_ours) {
      if (auto made = make_directory(place.directory); !made) return fail(made.error());
      sweep(place.directory);
    }
    auto listener = create_and_publish(path);
    if (listener)
      return ControlSocket(std::move(*listener), place.is_ours ? place.directory : std::string());
    if (tries == 1 || ::access(place.directory.c_str(), F_OK) == 0) return fail(listener.error());
  }
}

ControlSocket::~ControlSocket() {
  if (!listener_) return;  // moved from
  listener_->remove();
  if (!directory_.empty()) ::rmdir(directory_.c_str());  // not while something is in it
}

os::Fd ControlSocket::descriptor() const {
  os::Fd copy(::fcntl(listener_->fd(), F_DUPFD_CLOEXEC, 0));
  if (!copy.is_open()) throw os::SystemError(errno, "duplicate the control socket");
  return copy;
}

}  // namespace bladepsgi::overseer
