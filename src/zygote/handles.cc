#include "zygote/handles.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/socket.h>

#include <memory>

#include "base/text.h"
#include "os/address.h"

namespace bladepsgi::zygote {

std::string describe_socket(int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0) return {};
  sockaddr_storage address{};
  size = sizeof address;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    const std::string peer = os::describe_address(address, size);
    return peer.empty() ? fmt::format("socket {} (connected)", fd)
                        : fmt::format("socket {} connected to {}", fd, peer);
  }
  size = sizeof address;
  std::string local;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0)
    local = os::describe_address(address, size);
  int listening = 0;
  size = sizeof listening;
  ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);
  return fmt::format("socket {}{}{}", fd,
                     listening != 0  ? " listening on "
                     : local.empty() ? ""
                                     : " bound to ",
                     local);
}

std::vector<int> open_descriptors() {
  std::vector<int> fds;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir("/proc/self/fd"), &::closedir);
  if (!directory) return fds;
  while (const dirent* entry = ::readdir(directory.get())) {
    const auto number = parse_decimal(entry->d_name);
    if (number && static_cast<int>(*number) != ::dirfd(directory.get()))
      fds.push_back(static_cast<int>(*number));
  }
  return fds;
}

}  // namespace bladepsgi::zygote
