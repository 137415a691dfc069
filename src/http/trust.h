// TrustedProxies: whose word is taken for who the client is, and what it says.
//
// A front end says in fields for whom it speaks. Anybody can send such fields, so they count only from peers that the
// administrator has named, and only back to the first address that is not one of those. From anybody else they are ordinary
// fields without effect; for the application they always stay what was sent.
//
// A front end passes on what it does not know. Where it writes X-Forwarded-For but leaves Forwarded alone (nginx, HAProxy and
// most load balancers, unless told otherwise), a client could put its own Forwarded beside it and choose its address.
// So the kind that the front end writes is a setting; ForwardingFields::Both is for front ends that write or remove both. In
// the same way, a front end must set or remove X-Forwarded-Proto, -Host and -Port.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "http/address.h"
#include "http/field.h"
#include "http/peer.h"

namespace bladepsgi::http {

class TrustedProxies {
 public:
  TrustedProxies() = default;  // trusts nobody

  // Addresses, networks ("10.0.0.0/8"), "unix" for every peer on a Unix socket, "*" for everybody; between commas. The error
  // names the item that is none of these. An empty list trusts nobody.
  [[nodiscard]] static Result<TrustedProxies> parse(std::string_view list);

  // What is no address (an empty text) is not trusted, unless everybody is.
  [[nodiscard]] bool trusts(std::string_view address, bool is_unix) const;

 private:
  bool trusts_all_ = false;
  bool trusts_unix_ = false;
  std::vector<Network> networks_;
};

enum class ForwardingFields : std::uint8_t {
  XForwarded,  // X-Forwarded-For, -Proto, -Host, -Port
  Forwarded,   // RFC 7239
  Both,        // Forwarded, and where there is none, X-Forwarded-*
};

// The peer as the application is to see it: behind trusted front ends it is the nearest client that is not one (if all are, the
// farthest), with the scheme and host that client used. What is malformed counts as unknown and changes nothing. Views in the
// result are into `peer` and `fields`.
[[nodiscard]] Peer apply_forwarding(const TrustedProxies& trusted,
                                    ForwardingFields which,
                                    const Peer& peer,
                                    std::span<const Field> fields);

}  // namespace bladepsgi::http
