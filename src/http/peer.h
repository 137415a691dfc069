// Peer: who is at the other end of a connection, and what the front ends in between say about whom they speak for.
#pragma once

#include <cstdint>
#include <string_view>

namespace bladepsgi::http {

// Views into storage of whoever fills it in. Addresses are numeric and without brackets.
struct Peer {
  std::string_view remote_address = {};  // empty: there is none to show (a Unix socket)
  std::uint16_t remote_port = 0;         // 0: unknown
  std::string_view server_address = {};
  std::uint16_t server_port = 0;
  bool is_unix = false;
  bool is_https = false;
  // Only from a trusted front end (http/trust.h): what the client asked for, instead of what the front end asked us for.
  std::string_view forwarded_host = {};  // host[:port]; empty: as in the request
  std::uint16_t forwarded_port = 0;      // 0: as the host says
};

}  // namespace bladepsgi::http
