#include "os/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

#include "base/text.h"

namespace bladepsgi::os {

NumericAddress numeric_address(const sockaddr_storage& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    ::inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
    return {.host = text.data(), .port = ntohs(v4.sin_port)};
  }
  if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    constexpr std::size_t kMappedOffset = 12;  // of the IPv4 address in one that maps it
    if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
      ::inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[kMappedOffset], text.data(), text.size());
    } else {
      ::inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
    }
    return {.host = text.data(), .port = ntohs(v6.sin6_port)};
  }
  return {};
}

std::string describe_address(const sockaddr_storage& address, socklen_t size) {
  if (address.ss_family == AF_UNIX && size > offsetof(sockaddr_un, sun_path)) {
    const auto& local = reinterpret_cast<const sockaddr_un&>(address);
    const std::size_t length = size - offsetof(sockaddr_un, sun_path);
    if (local.sun_path[0] == '\0') return "@" + printable({local.sun_path + 1, length - 1});
    return printable({local.sun_path, ::strnlen(local.sun_path, length)});
  }
  const NumericAddress numeric = numeric_address(address);
  if (numeric.host.empty()) return {};
  const bool is_v6 = numeric.host.find(':') != std::string::npos;
  return (is_v6 ? "[" + numeric.host + "]:" : numeric.host + ":") + std::to_string(numeric.port);
}

}  // namespace bladepsgi::os
