#include "config/address.h"

#include <limits>
#include <optional>

#include "base/text.h"
#include "config/options.h"

namespace bladepsgi::config {

namespace {

constexpr std::string_view kUnixPrefix = "unix:";
constexpr std::string_view kDescriptorPrefix = "fd:";

std::string wrong(std::string_view text, std::string_view what) {
  return "bad address '" + printable(text) + "': " + std::string(what);
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  const auto number = parse_decimal(text);
  if (!number || *number > std::numeric_limits<std::uint16_t>::max()) return std::nullopt;
  return static_cast<std::uint16_t>(*number);
}

Result<Address, std::string> unix_address(std::string_view text, std::string_view path) {
  if (path.empty()) return fail(wrong(text, "the path is empty"));
  if (path.find('\0') != std::string_view::npos)
    return fail(wrong(text, "a path cannot hold a NUL"));
  if (path.size() > kLongestSocketPath) {
    return fail(wrong(text, "it is " + std::to_string(path.size()) +
                                " bytes long; the path of a UNIX domain socket can have " +
                                std::to_string(kLongestSocketPath) + " at most"));
  }
  Address address;
  address.kind = Address::Kind::Unix;
  address.path = path;
  return address;
}

// "host" and "port" of "host:port", brackets still on; nothing when there is no colon before the end.
struct HostPort {
  std::string_view host;
  std::string_view port;
};

std::optional<HostPort> split(std::string_view text) {
  if (text.starts_with('[')) {
    const std::size_t end = text.find("]:");
    if (end == std::string_view::npos) return std::nullopt;
    return HostPort{text.substr(0, end + 1), text.substr(end + 2)};
  }
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  return HostPort{text.substr(0, colon), text.substr(colon + 1)};
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

}  // namespace

Result<Address, std::string> parse_address(std::string_view text) {
  if (text.empty()) return fail(std::string("the address is empty"));
  if (text.starts_with(kUnixPrefix)) return unix_address(text, text.substr(kUnixPrefix.size()));
  Address address;
  if (text.starts_with(kDescriptorPrefix)) {
    const auto number = parse_decimal(text.substr(kDescriptorPrefix.size()));
    if (!number || *number > 65535) return fail(wrong(text, "expected fd: and a number"));
    address.kind = Address::Kind::Descriptor;
    address.descriptor = static_cast<int>(*number);
    return address;
  }
  if (text.find('/') != std::string_view::npos) return unix_address(text, text);
  address.kind = Address::Kind::Tcp;
  if (is_number(text)) {
    const auto port = parse_port(text);
    if (!port) return fail(wrong(text, "a port is a number from 0 to 65535"));
    address.scope = Address::Scope::Loopback;
    address.port = *port;
    return address;
  }
  const auto parts = split(text);
  if (!parts) {
    if (text.find_first_of("[]") != std::string_view::npos)
      return fail(wrong(text, "expected [ADDRESS]:PORT"));
    return unix_address(text, text);
  }
  const auto port = parse_port(parts->port);
  if (!port) return fail(wrong(text, "a port is a number from 0 to 65535"));
  address.port = *port;
  std::string_view host = parts->host;
  if (host.empty()) {
    address.scope = Address::Scope::Loopback;
    return address;
  }
  if (host == "*") {
    address.scope = Address::Scope::Everywhere;
    return address;
  }
  if (host.starts_with('[')) {
    host = host.substr(1, host.size() - 2);
    if (host.find(':') == std::string_view::npos)
      return fail(wrong(text, "what stands in brackets is an IPv6 address"));
  } else if (host.find(':') != std::string_view::npos) {
    return fail(wrong(text, "an IPv6 address stands in brackets: [ADDRESS]:PORT"));
  }
  for (const char c : host) {
    if (c <= ' ' || c == '\x7f')
      return fail(wrong(text, "a host has no blanks and control characters"));
  }
  address.host = host;
  return address;
}

std::string to_text(const Address& address) {
  switch (address.kind) {
    case Address::Kind::Descriptor:
      return std::string(kDescriptorPrefix) + std::to_string(address.descriptor);
    case Address::Kind::Tcp: {
      const std::string port = ":" + std::to_string(address.port);
      if (address.scope == Address::Scope::Loopback) return port;
      if (address.scope == Address::Scope::Everywhere) return "*" + port;
      const bool is_v6 = address.host.find(':') != std::string::npos;
      return (is_v6 ? "[" + address.host + "]" : address.host) + port;
    }
    case Address::Kind::Unix:
      break;
  }
  const bool is_plain = address.path.find('/') != std::string::npos &&
                        !address.path.starts_with(kUnixPrefix) &&
                        !address.path.starts_with(kDescriptorPrefix);
  return is_plain ? address.path : std::string(kUnixPrefix) + address.path;
}

bool looks_like_tcp(std::string_view text) {
  if (text.find('/') != std::string_view::npos) return false;
  const auto parts = split(text);
  return is_number(text) || (parts && is_number(parts->port));
}

}  // namespace bladepsgi::config
