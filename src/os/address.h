// Addresses of sockets as text.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>

namespace bladepsgi::os {

// Numeric, without brackets; an IPv4 client of a socket for both families has its IPv4 address. Both empty for a UNIX socket.
struct NumericAddress {
  std::string host;
  std::uint16_t port = 0;
};

[[nodiscard]] NumericAddress numeric_address(const sockaddr_storage& address);

// For people: "127.0.0.1:5432", "[::1]:80", "/run/app.sock", "@abstract"; empty when it has no name.
[[nodiscard]] std::string describe_address(const sockaddr_storage& address, socklen_t size);

}  // namespace bladepsgi::os
