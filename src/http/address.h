// Address: IP addresses, networks and host[:port] as text, without asking the system.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace bladepsgi::http {

// IPv4 lies in the last four bytes behind ten zeros and two ff; "::ffff:10.0.0.1" and "10.0.0.1" are the same address.
struct Address {
  std::array<std::uint8_t, 16> bytes{};

  [[nodiscard]] bool is_v4() const;
  friend bool operator==(const Address&, const Address&) = default;
};

// Dotted decimal without leading zeros, or any form of RFC 4291 §2.2. No zone, no brackets, no spaces.
[[nodiscard]] std::optional<Address> parse_address(std::string_view text);

struct Network {
  Address base;
  unsigned prefix = 0;  // bits of the 128

  // IPv4 addresses lie in IPv4 networks only: "::/0" is all of IPv6 and nothing of IPv4.
  [[nodiscard]] bool contains(const Address& address) const;
};

// "address" or "address/bits". No bits may be set behind the prefix: 10.0.0.1/8 would be more than was meant.
[[nodiscard]] std::optional<Network> parse_network(std::string_view text);

// The parts of host[:port] (RFC 3986 §3.2.2), views into the text. An IPv6 address keeps its brackets.
struct Authority {
  std::string_view host;  // not empty
  std::string_view port;  // digits, at most 65535; may be empty
};

[[nodiscard]] std::optional<Authority> parse_authority(std::string_view text);

}  // namespace bladepsgi::http
