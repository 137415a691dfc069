#include "http/address.h"

#include <algorithm>
#include <cstddef>

#include "base/text.h"
#include "http/syntax.h"

namespace bladepsgi::http {

namespace {

constexpr std::size_t kV4At = 12;  // in the sixteen bytes
constexpr unsigned kV4Prefix = 96;

bool parse_v4(std::string_view text, std::uint8_t* into) {
  for (int part = 0; part < 4; ++part) {
    const std::size_t dot = text.find('.');
    if ((dot == std::string_view::npos) != (part == 3)) return false;
    const std::string_view digits = text.substr(0, dot);
    if (digits.size() > 3 || (digits.size() > 1 && digits[0] == '0')) return false;
    const auto value = parse_decimal(digits);
    if (!value || *value > 255) return false;
    *into++ = static_cast<std::uint8_t>(*value);
    if (part < 3) text.remove_prefix(dot + 1);
  }
  return true;
}

// Groups between single colons into consecutive bytes; the last may be an IPv4 address. The number of bytes, or nothing.
std::optional<std::size_t> parse_groups(std::string_view text, std::uint8_t* into) {
  if (text.empty()) return 0;
  std::size_t size = 0;
  for (;;) {
    const std::size_t colon = text.find(':');
    const std::string_view group = text.substr(0, colon);
    if (group.find('.') != std::string_view::npos) {
      if (colon != std::string_view::npos || size > kV4At) return std::nullopt;
      if (!parse_v4(group, into + size)) return std::nullopt;
      return size + 4;
    }
    if (group.empty() || group.size() > 4 || size > 14) return std::nullopt;
    unsigned value = 0;
    for (const char c : group) {
      const int digit = hex_digit(c);
      if (digit < 0) return std::nullopt;
      value = value * 16 + static_cast<unsigned>(digit);
    }
    into[size] = static_cast<std::uint8_t>(value >> 8);
    into[size + 1] = static_cast<std::uint8_t>(value & 0xff);
    size += 2;
    if (colon == std::string_view::npos) return size;
    text.remove_prefix(colon + 1);
  }
}

std::optional<Address> parse_v6(std::string_view text) {
  Address address;
  const std::size_t gap = text.find("::");
  if (gap == std::string_view::npos) {
    const auto size = parse_groups(text, address.bytes.data());
    if (size != address.bytes.size()) return std::nullopt;
    return address;
  }
  const std::string_view left = text.substr(0, gap);
  if (left.find('.') != std::string_view::npos) return std::nullopt;
  std::array<std::uint8_t, 16> tail{};
  const auto front = parse_groups(left, address.bytes.data());
  const auto back = parse_groups(text.substr(gap + 2), tail.data());
  // "::" stands for at least one group.
  if (!front || !back || *front + *back > address.bytes.size() - 2) return std::nullopt;
  std::copy_n(tail.begin(), *back, address.bytes.end() - static_cast<std::ptrdiff_t>(*back));
  return address;
}

// As RFC 3986 §2.3 and §2.2 list them.
bool is_name_char(char c) {
  return is_letter(c) || is_digit(c) ||
         std::string_view("-._~!$&'()*+,;=").find(c) != std::string_view::npos;
}

bool is_registered_name(std::string_view text) {
  if (text.empty()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      if (i + 2 >= text.size() || hex_digit(text[i + 1]) < 0 || hex_digit(text[i + 2]) < 0) {
        return false;
      }
      i += 2;
    } else if (!is_name_char(text[i])) {
      return false;
    }
  }
  return true;
}

}  // namespace

bool Address::is_v4() const {
  return std::all_of(bytes.begin(), bytes.begin() + 10, [](std::uint8_t b) { return b == 0; }) &&
         bytes[10] == 0xff && bytes[11] == 0xff;
}

std::optional<Address> parse_address(std::string_view text) {
  if (text.find(':') != std::string_view::npos) return parse_v6(text);
  Address address;
  address.bytes[10] = address.bytes[11] = 0xff;
  if (!parse_v4(text, address.bytes.data() + kV4At)) return std::nullopt;
  return address;
}

bool Network::contains(const Address& address) const {
  if (address.is_v4() != (base.is_v4() && prefix >= kV4Prefix)) return false;
  const unsigned whole = prefix / 8;
  if (!std::equal(base.bytes.begin(), base.bytes.begin() + whole, address.bytes.begin())) {
    return false;
  }
  const unsigned bits = prefix % 8;
  return bits == 0 || (base.bytes[whole] ^ address.bytes[whole]) >> (8 - bits) == 0;
}

std::optional<Network> parse_network(std::string_view text) {
  const std::size_t slash = text.find('/');
  const std::string_view address_text = text.substr(0, slash);
  const auto address = parse_address(address_text);
  if (!address) return std::nullopt;
  Network network{*address, 128};
  if (slash == std::string_view::npos) return network;
  const std::string_view digits = text.substr(slash + 1);
  const auto bits = parse_decimal(digits);
  const bool is_dotted = address_text.find(':') == std::string_view::npos;
  if (!bits || digits.size() > 3 || *bits > (is_dotted ? 32 : 128)) return std::nullopt;
  network.prefix = static_cast<unsigned>(*bits) + (is_dotted ? kV4Prefix : 0);
  for (unsigned bit = network.prefix; bit < 128; ++bit) {
    if ((address->bytes[bit / 8] & (0x80U >> (bit % 8))) != 0) return std::nullopt;
  }
  return network;
}

std::optional<Authority> parse_authority(std::string_view text) {
  std::size_t host_end = 0;
  if (text.starts_with('[')) {
    const std::size_t bracket = text.find(']');
    if (bracket == std::string_view::npos) return std::nullopt;
    const std::string_view inside = text.substr(1, bracket - 1);
    if (inside.find(':') == std::string_view::npos || !parse_address(inside)) return std::nullopt;
    host_end = bracket + 1;
  } else {
    host_end = std::min(text.find(':'), text.size());
    if (!is_registered_name(text.substr(0, host_end))) return std::nullopt;
  }
  Authority authority{text.substr(0, host_end), {}};
  if (host_end == text.size()) return authority;
  if (text[host_end] != ':') return std::nullopt;
  authority.port = text.substr(host_end + 1);
  if (authority.port.empty()) return authority;
  const auto port = parse_decimal(authority.port);
  if (!port || *port > 65535 || authority.port.size() > 5) return std::nullopt;
  return authority;
}

}  // namespace bladepsgi::http
