#include "http/trust.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>

#include "base/text.h"
#include "http/syntax.h"

namespace bladepsgi::http {

namespace {

struct Node {
  std::string_view address;
  std::uint16_t port = 0;
};

std::optional<std::uint16_t> parse_port(std::string_view text) {
  const auto port = parse_decimal(text);
  if (!port || *port == 0 || *port > 65535) return std::nullopt;
  return static_cast<std::uint16_t>(*port);
}

// "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80". A port that is none is left out.
std::optional<Node> parse_node(std::string_view text) {
  std::string_view address = text;
  std::string_view port;
  if (text.starts_with('[')) {
    const std::size_t bracket = text.find(']');
    if (bracket == std::string_view::npos) return std::nullopt;
    address = text.substr(1, bracket - 1);
    if (address.find(':') == std::string_view::npos) return std::nullopt;
    port = text.substr(bracket + 1);
    if (!port.empty() && port.front() != ':') return std::nullopt;
  } else if (text.find(':') == text.rfind(':')) {
    address = text.substr(0, text.find(':'));
    port = text.substr(address.size());
  }
  if (!parse_address(address)) return std::nullopt;
  if (!port.empty()) port.remove_prefix(1);
  return Node{address, parse_port(port).value_or(0)};
}

// What one front end says of whom it got the request from.
struct Hop {
  std::string_view node;
  std::string_view proto;
  std::string_view host;
  std::string_view port;
};

// Takes hops from the farthest to the nearest, and keeps the one that counts: the nearest that is not a trusted front end. That hop
// was described by a trusted one, so its scheme and host may be believed even where it does not name itself.
class Chain {
 public:
  explicit Chain(const TrustedProxies& trusted) : trusted_(trusted) {}

  void add(const Hop& hop) {
    // nginx writes "unix:" for a peer on a Unix socket: a front end, or not, but nothing to show.
    const bool is_unix = hop.node == "unix:";
    const std::optional<Node> node = is_unix ? std::nullopt : parse_node(hop.node);
    const bool is_trusted =
        node ? trusted_.trusts(node->address, false) : is_unix && trusted_.trusts({}, true);
    const bool is_first = count_++ == 0;
    if (!is_trusted || is_first) {
      chosen_ = hop;
      node_ = node;
      index_ = count_ - 1;
    } else if (!node_) {
      node_ = node;  // the farthest that is known
    }
  }

  [[nodiscard]] bool is_empty() const { return count_ == 0; }

  [[nodiscard]] std::size_t count() const { return count_; }

  [[nodiscard]] std::size_t index() const { return index_; }  // of the hop that counts

  [[nodiscard]] const Hop& chosen() const { return chosen_; }

  [[nodiscard]] const std::optional<Node>& node() const { return node_; }

 private:
  const TrustedProxies& trusted_;
  std::size_t count_ = 0;
  std::size_t index_ = 0;
  Hop chosen_;
  std::optional<Node> node_;
};

// One pair of RFC 7239 §4. False when it is malformed. A backslash is never needed in these values; with one, it is taken for that.
bool take_pair(std::string_view& rest, Hop& hop) {
  const std::size_t equals = rest.find('=');
  if (equals == std::string_view::npos) return false;
  const std::string_view name = rest.substr(0, equals);
  if (!is_token(name)) return false;
  rest.remove_prefix(equals + 1);
  std::string_view value;
  if (rest.starts_with('"')) {
    const std::size_t end = rest.find_first_of("\"\\", 1);
    if (end == std::string_view::npos || rest[end] == '\\') return false;
    value = rest.substr(1, end - 1);
    rest.remove_prefix(end + 1);
  } else {
    const auto* const end = std::find_if_not(rest.begin(), rest.end(), [](char c) {
      return is_token_char(c) || c == ':' || c == '[' || c == ']';  // often written without quotes
    });
    value = rest.substr(0, static_cast<std::size_t>(end - rest.begin()));
    if (value.empty()) return false;
    rest.remove_prefix(value.size());
  }
  if (equals_ignoring_case(name, "for")) hop.node = value;
  if (equals_ignoring_case(name, "proto")) hop.proto = value;
  if (equals_ignoring_case(name, "host")) hop.host = value;
  return true;
}

void skip_blanks(std::string_view& rest) {
  while (!rest.empty() && is_blank(rest.front()))
    rest.remove_prefix(1);
}

// Behind something malformed, what a quote means is not known any more: the rest of the field is one unknown hop.
void take_forwarded(std::string_view rest, Chain& chain) {
  for (;;) {
    skip_blanks(rest);
    Hop hop;
    while (!rest.empty() && rest.front() != ',') {
      if (!take_pair(rest, hop)) return chain.add({});
      skip_blanks(rest);
      if (!rest.starts_with(';')) break;
      rest.remove_prefix(1);
      skip_blanks(rest);
    }
    chain.add(hop);
    if (rest.empty()) return;
    if (rest.front() != ',') return chain.add({});
    rest.remove_prefix(1);
  }
}

// The entry for the hop that counts: where there is one for each hop the one at its place, else the nearest.
std::string_view entry_for(std::span<const Field> fields,
                           std::string_view name,
                           const Chain& chain) {
  std::size_t count = 0;
  std::string_view at_index;
  std::string_view last;
  for (const Field& field : fields) {
    if (!equals_ignoring_case(field.name, name)) continue;
    for_each_item(field.value, [&](std::string_view item) {
      if (count++ == chain.index()) at_index = item;
      last = item;
    });
  }
  return count == chain.count() ? at_index : last;
}

}  // namespace

Result<TrustedProxies> TrustedProxies::parse(std::string_view list) {
  TrustedProxies trusted;
  if (trim(list).empty()) return trusted;
  for (const std::string_view part : split(list, ',')) {
    const std::string_view item = trim(part);
    if (item == "*") {
      trusted.trusts_all_ = true;
    } else if (item == "unix") {
      trusted.trusts_unix_ = true;
    } else if (const auto network = parse_network(item)) {
      trusted.networks_.push_back(*network);
    } else {
      return fail(Remedy::Refuse, "'" + printable(item) +
                                      "' is not an IP address, a network (its bits behind the "
                                      "prefix all zero), \"unix\" or \"*\"");
    }
  }
  return trusted;
}

bool TrustedProxies::trusts(std::string_view address, bool is_unix) const {
  if (trusts_all_) return true;
  if (is_unix) return trusts_unix_;
  if (networks_.empty()) return false;
  const auto parsed = parse_address(address);
  return parsed && std::any_of(networks_.begin(), networks_.end(),
                               [&](const Network& network) { return network.contains(*parsed); });
}

Peer apply_forwarding(const TrustedProxies& trusted,
                      ForwardingFields which,
                      const Peer& peer,
                      std::span<const Field> fields) {
  Peer client = peer;
  if (!trusted.trusts(peer.remote_address, peer.is_unix)) return client;

  Chain chain(trusted);
  Hop said;
  if (which != ForwardingFields::XForwarded) {
    for (const Field& field : fields) {
      if (equals_ignoring_case(field.name, "Forwarded")) take_forwarded(field.value, chain);
    }
    said = chain.chosen();
  }
  if (which != ForwardingFields::Forwarded && chain.is_empty()) {
    for (const Field& field : fields) {
      if (!equals_ignoring_case(field.name, "X-Forwarded-For")) continue;
      for_each_item(field.value, [&](std::string_view item) { chain.add({item, {}, {}, {}}); });
    }
    said.proto = entry_for(fields, "X-Forwarded-Proto", chain);
    said.host = entry_for(fields, "X-Forwarded-Host", chain);
    said.port = entry_for(fields, "X-Forwarded-Port", chain);
  }

  if (chain.node()) {
    client.remote_address = chain.node()->address;
    client.remote_port = chain.node()->port;
  }
  if (equals_ignoring_case(said.proto, "https")) client.is_https = true;
  if (equals_ignoring_case(said.proto, "http")) client.is_https = false;
  if (parse_authority(said.host)) client.forwarded_host = said.host;
  client.forwarded_port = parse_port(said.port).value_or(0);
  return client;
}

}  // namespace bladepsgi::http
