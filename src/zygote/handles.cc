#include "zygote/handles.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <memory>

#include "base/text.h"

namespace bladepsgi::zygote {

namespace {

std::string describe_address(const sockaddr_storage& storage, socklen_t size) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (storage.ss_family == AF_INET) {
    const auto& address = reinterpret_cast<const sockaddr_in&>(storage);
    ::inet_ntop(AF_INET, &address.sin_addr, text.data(), text.size());
    return fmt::format("{}:{}", text.data(), ntohs(address.sin_port));
  }
  if (storage.ss_family == AF_INET6) {
    const auto& address = reinterpret_cast<const sockaddr_in6&>(storage);
    ::inet_ntop(AF_INET6, &address.sin6_addr, text.data(), text.size());
    return fmt::format("[{}]:{}", text.data(), ntohs(address.sin6_port));
  }
  if (storage.ss_family == AF_UNIX && size > offsetof(sockaddr_un, sun_path)) {
    const auto& address = reinterpret_cast<const sockaddr_un&>(storage);
    const std::size_t length = size - offsetof(sockaddr_un, sun_path);
    if (address.sun_path[0] == '\0') return "@" + printable({address.sun_path + 1, length - 1});
    return printable({address.sun_path, ::strnlen(address.sun_path, length)});
  }
  return {};
}

}  // namespace

std::string describe_socket(int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0) return {};
  sockaddr_storage address{};
  size = sizeof address;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    const std::string peer = describe_address(address, size);
    return peer.empty() ? fmt::format("socket {} (connected)", fd)
                        : fmt::format("socket {} connected to {}", fd, peer);
  }
  size = sizeof address;
  std::string local;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0)
    local = describe_address(address, size);
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
