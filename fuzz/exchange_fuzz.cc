// Requests through our Exchange, FastCGI and HTTP, over a real socket: whatever a peer sends and however the application behaves,
// what goes back is sound, and the connection comes to an end. The first byte chooses protocol and limits, the second the application.
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "check.h"
#include "fcgi/record.h"
#include "worker/fcgi_exchange.h"
#include "worker/http_exchange.h"

namespace {

using bladepsgi::as_bytes;
using bladepsgi::Bytes;
using bladepsgi::Parameter;
namespace os = bladepsgi::os;
namespace runtime = bladepsgi::runtime;
namespace worker = bladepsgi::worker;
using Progress = worker::ProtocolExchange::Progress;
using Patience = worker::ProtocolExchange::Patience;

constexpr int kMostRequests = 1000;

worker::ExchangeOptions options_for(std::uint8_t choice) {
  worker::ExchangeOptions options;
  options.head_timeout = options.body_timeout = options.send_timeout = options.close_timeout =
      std::chrono::milliseconds(0);
  if ((choice & 2) != 0) options.max_body = 100;
  if ((choice & 4) != 0) options.input_memory = 16;
  options.input = (choice & 8) != 0 ? worker::InputMode::Stream : worker::InputMode::Auto;
  if ((choice & 16) != 0) options.drain_bytes = 50;
  if ((choice & 32) != 0) options.environment.path_info = bladepsgi::cgi::PathInfoMode::Plack;
  if ((choice & 64) != 0) options.environment.mount = "/app";
  return options;
}

void check_parameters(const worker::ProtocolExchange& exchange) {
  bool has_method = false;
  for (const Parameter& parameter : exchange.parameters()) {
    FUZZ_CHECK(!parameter.name.starts_with("psgi.") && !parameter.name.starts_with("psgix."));
    FUZZ_CHECK(parameter.name != "HTTP_PROXY" && parameter.name != "HTTP_TRANSFER_ENCODING");
    has_method |= parameter.name == "REQUEST_METHOD";
  }
  FUZZ_CHECK(has_method);
}

std::string text_of_parameters(const worker::ProtocolExchange& exchange) {
  std::string text;
  for (const Parameter& parameter : exchange.parameters())
    text.append(parameter.name).append(1, '=').append(parameter.value).append(1, '\n');
  return text;
}

void behave(worker::ProtocolExchange& exchange, std::uint8_t choice) {
  check_parameters(exchange);
  const std::string parameters = text_of_parameters(exchange);
  std::uint64_t taken = 0;
  if ((choice & 1) != 0) {
    std::array<std::byte, 37> piece{};
    for (;;) {
      const runtime::BodyRead got = exchange.read_body(piece);
      FUZZ_CHECK(got.size <= piece.size() && (got.size == 0 || got.error == 0));
      if (got.size == 0) break;
      taken += got.size;
    }
    const runtime::BodyInfo body = exchange.body();
    if (body.buffered) FUZZ_CHECK(taken == *body.length);
    if (body.buffered && taken > 3) FUZZ_CHECK(exchange.seek_body(taken - 3));
  }
  FUZZ_CHECK(text_of_parameters(exchange) == parameters);  // whatever has been read meanwhile
  if ((choice & 2) != 0) exchange.write_error(as_bytes("a line\n"));
  if ((choice & 4) != 0 && exchange.knows_informational()) {
    const std::array<runtime::Header, 1> hint = {runtime::Header{"Link", "</a>"}};
    exchange.inform(103, hint);
  }
  if ((choice & 8) != 0) {
    exchange.abort();
    return;
  }
  const std::array<runtime::Header, 2> headers = {runtime::Header{"Content-Type", "text/plain"},
                                                  runtime::Header{"Content-Length", "12"}};
  exchange.start_response((choice & 16) != 0 ? 304 : 200,
                          std::span(headers).first((choice & 32) != 0 ? 2 : 1));
  exchange.write(as_bytes("hello "));
  if ((choice & 64) != 0) exchange.flush();
  exchange.write(as_bytes("world\n"));
  exchange.finish();
  if ((choice & 128) != 0) exchange.release_connection();
}

// Whole records; of each request nothing behind the end of its output but END_REQUEST.
void check_records(Bytes rest) {
  namespace fcgi = bladepsgi::fcgi;
  std::set<std::uint16_t> ended;
  while (!rest.empty()) {
    const auto decoded = fcgi::decode_record(rest);
    FUZZ_CHECK(decoded && decoded->consumed > 0);
    rest = rest.subspan(decoded->consumed);
    const fcgi::Header& header = decoded->record->header;
    const bool is_end = header.is(fcgi::RecordType::EndRequest);
    if (is_end) {
      ended.erase(header.request_id);
      continue;
    }
    FUZZ_CHECK(header.request_id == 0 || header.is(fcgi::RecordType::Stdout) ||
               header.is(fcgi::RecordType::Stderr));
    FUZZ_CHECK(ended.count(header.request_id) == 0);
    if (header.is(fcgi::RecordType::Stdout) && header.content_length == 0)
      ended.insert(header.request_id);
  }
}

std::string all_of(int fd) {
  std::string all;
  std::array<char, 65536> piece;  // NOLINT(*-init): filled by recv
  for (;;) {
    const ssize_t size = ::recv(fd, piece.data(), piece.size(), MSG_DONTWAIT);
    if (size <= 0) return all;
    all.append(piece.data(), static_cast<std::size_t>(size));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kMostInput = 100'000;  // less than a socket takes without a reader
  if (size < 2 || size > kMostInput) return 0;
  const std::uint8_t choice = data[0];
  const bool is_http = (choice & 1) != 0;
  std::array<int, 2> fds{};
  FUZZ_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()) == 0);
  const os::Fd peer(fds[1]);
  FUZZ_CHECK(::send(peer.get(), data + 2, size - 2, 0) == static_cast<ssize_t>(size - 2));
  ::shutdown(peer.get(), SHUT_WR);

  worker::HttpOptions http_options;
  http_options.exchange = options_for(choice);
  worker::FcgiOptions fcgi_options;
  fcgi_options.exchange = options_for(choice);
  worker::HttpExchange http(http_options);
  worker::FcgiExchange fcgi(fcgi_options);
  worker::ProtocolExchange& exchange =
      is_http ? static_cast<worker::ProtocolExchange&>(http) : fcgi;
  if (is_http) {
    http.attach_from(os::Fd(fds[0]), os::Transport::Unix, {});
  } else {
    fcgi.attach(os::Fd(fds[0]), os::Transport::Unix);
  }
  std::string back;
  bool was_broken = false;
  for (int request = 0; exchange.is_attached(); ++request) {
    if (request == kMostRequests) exchange.keep_no_longer();
    FUZZ_CHECK(request <= 2 * kMostRequests);
    Progress progress = exchange.take_request(Patience::Wait);
    if (progress == Progress::Ready) progress = exchange.prepare();
    if (progress == Progress::Ready) {
      behave(exchange, data[1]);
      was_broken |= (data[1] & 8) != 0;
    }
    FUZZ_CHECK(progress != Progress::Idle);
    if (progress == Progress::Gone) FUZZ_CHECK(!exchange.is_attached());
    back += all_of(peer.get());
  }
  back += all_of(peer.get());
  if (is_http) {
    FUZZ_CHECK(back.empty() || back.starts_with("HTTP/1."));
  } else if (!was_broken) {
    check_records(as_bytes(back));
  }
  return 0;
}
