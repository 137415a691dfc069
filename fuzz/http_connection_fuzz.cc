// The connection: how a stream is cut changes nothing, whether body bytes go past the buffer changes nothing, what is accepted
// keeps its promises, and every byte of a body is accounted for. Whatever is accepted also goes through forwarding and
// parameters. The first byte chooses how to cut, the second the limits.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/text.h"
#include "check.h"
#include "http/address.h"
#include "http/connection.h"
#include "http/parameters.h"
#include "http/syntax.h"
#include "http/testing.h"
#include "http/trust.h"

namespace {

namespace http = bladepsgi::http;
using http::testing::Player;

http::Limits limits_for(std::uint8_t choice) {
  http::Limits limits;
  limits.receive_buffer = (choice & 1) != 0 ? 1024 : 65536;
  if ((choice & 2) != 0) limits.head_bytes = 128;
  if ((choice & 4) != 0) limits.field_count = 3;
  if ((choice & 8) != 0) limits.drain_bytes = 20;
  if ((choice & 16) != 0) limits.target_bytes = 16;
  if ((choice & 32) != 0) limits.chunk_extension_bytes = limits.trailer_bytes = 8;
  return limits;
}

bool is_clean(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return c != '\t' && http::is_control(c); });
}

void check_request(const http::Request& request) {
  FUZZ_CHECK(http::is_token(request.method) && request.method.size() <= 64);
  FUZZ_CHECK(http::find_control(request.target) == request.target.size());
  FUZZ_CHECK(request.uri == "*" || request.uri.starts_with('/'));
  FUZZ_CHECK(request.host.empty() || http::parse_authority(request.host));
  FUZZ_CHECK(!request.is_chunked || (!request.content_length && request.version_minor == 1));
  int hosts = 0;
  for (const http::Field& field : request.fields) {
    FUZZ_CHECK(http::is_token(field.name) && is_clean(field.value));
    FUZZ_CHECK(http::trim(field.value) == field.value);
    if (!bladepsgi::equals_ignoring_case(field.name, "Host")) continue;
    ++hosts;
    FUZZ_CHECK(field.value == request.host);
  }
  FUZZ_CHECK(hosts == 1 || (hosts == 0 && request.version_minor == 0));
}

void check_parameters(const http::Request& request) {
  static const http::TrustedProxies kTrusted =
      http::TrustedProxies::parse("10.0.0.0/8,::1,unix").value();
  const http::Peer peer{.remote_address = "10.0.0.1", .remote_port = 5};
  const http::Peer client =
      http::apply_forwarding(kTrusted, http::ForwardingFields::Both, peer, request.fields);
  FUZZ_CHECK(http::parse_address(client.remote_address));
  FUZZ_CHECK(client.forwarded_host.empty() || http::parse_authority(client.forwarded_host));
  http::Parameters parameters;
  for (const bladepsgi::Parameter& p : parameters.build(request, client)) {
    FUZZ_CHECK(std::all_of(p.name.begin(), p.name.end(), [](char c) {
      return (c >= 'A' && c <= 'Z') || http::is_digit(c) || c == '_';
    }));
    FUZZ_CHECK(p.name != "HTTP_PROXY" && p.name != "HTTP_TRANSFER_ENCODING");
    FUZZ_CHECK(p.name != "HTTP_CONTENT_LENGTH" && p.name != "HTTP_CONTENT_TYPE");
  }
}

// Plays the stream once more, with an eye on what the log of a Player does not show.
void examine(std::string_view stream, const http::Limits& limits) {
  http::Connection connection(limits);
  std::uint64_t taken = 0;
  bool is_fed = false;
  for (;;) {
    const http::Event event = connection.next();
    if (event == http::Event::NeedMore) {
      if (is_fed) connection.peer_closed();
      const bladepsgi::WritableBytes space = connection.receive_space();
      const std::size_t size = std::min(space.size(), stream.size());
      FUZZ_CHECK(!space.empty());
      std::copy_n(bladepsgi::as_bytes(stream).begin(), size, space.begin());
      connection.received(size);
      stream.remove_prefix(size);
      is_fed = stream.empty();
      continue;
    }
    if (event == http::Event::Request) {
      taken = 0;
      check_request(connection.request());
      check_parameters(connection.request());
    } else if (event == http::Event::Body) {
      const std::size_t here = connection.body().size();
      FUZZ_CHECK(here > 0);
      connection.consume_body((here + 1) / 2);
      taken += (here + 1) / 2;
    } else if (event == http::Event::BodyEnd) {
      const http::Request& request = connection.request();
      FUZZ_CHECK(connection.is_body_complete());
      FUZZ_CHECK(request.is_chunked || taken == request.content_length.value_or(0));
      const bool closes = !request.keeps_connection;
      FUZZ_CHECK(connection.must_close() == closes);
      connection.request_ended();
      FUZZ_CHECK(!closes || connection.next() == http::Event::Close);
      if (closes) return;
    } else {
      FUZZ_CHECK(connection.must_close() || event == http::Event::Close);
      return;
    }
  }
}

void compare(std::string_view stream, const http::Limits& limits, bool is_lazy, std::size_t step) {
  Player whole(limits, is_lazy);
  whole.feed(stream);
  whole.close();
  FUZZ_CHECK(whole.is_over());

  Player cut(limits, is_lazy);
  for (std::size_t at = 0; at < stream.size();) {
    const std::size_t piece = std::min(stream.size() - at, step % 17 + 1);
    cut.feed(stream.substr(at, piece));
    at += piece;
    step = step * 31 + 7;
  }
  cut.close();
  FUZZ_CHECK(cut.log() == whole.log());

  Player direct(limits, is_lazy);
  direct.feed_bypassing(stream);
  direct.close();
  FUZZ_CHECK(direct.log() == whole.log());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const http::Limits limits = limits_for(data[1]);
  const std::string_view stream(reinterpret_cast<const char*>(data) + 2, size - 2);
  compare(stream, limits, false, data[0]);
  compare(stream, limits, true, data[0]);
  examine(stream, limits);
  return 0;
}
