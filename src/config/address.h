// Address: where to listen, as an operator writes it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace bladepsgi::config {

// /run/app.sock, ./app.sock, app.sock, unix:app.sock    a UNIX domain socket
// 127.0.0.1:8080, [::1]:8080, name:8080                 TCP on that address
// :8080, 8080                                           TCP on this machine's own (loopback) addresses
// *:8080                                                TCP on every interface
// fd:3                                                  a socket that this process was started with
// Port 0 is one that is free.
struct Address {
  enum class Kind : std::uint8_t { Unix, Tcp, Descriptor };
  enum class Scope : std::uint8_t { Host, Loopback, Everywhere };

  Kind kind = Kind::Unix;
  std::string path;  // Unix
  Scope scope = Scope::Host;
  std::string host;  // Tcp with Scope::Host; without brackets
  std::uint16_t port = 0;
  int descriptor = -1;

  [[nodiscard]] bool operator==(const Address&) const = default;
};

// The message says what is wrong with the text and what would be right.
[[nodiscard]] Result<Address, std::string> parse_address(std::string_view text);

// As it would be written: parse_address(to_text(a)) is a.
[[nodiscard]] std::string to_text(const Address& address);

// Has the form of a TCP address, so it is hardly meant as the name of a file: "127.0.0.1:9000".
[[nodiscard]] bool looks_like_tcp(std::string_view text);

}  // namespace bladepsgi::config
