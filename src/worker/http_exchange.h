// HttpExchange: requests over HTTP/1.1 connections. What is common to all protocols is in protocol_exchange.h.
//
// The head of a response is not finished before its first bytes go out: a body that is all there by then gets a Content-Length, any
// other one is sent in chunks (HTTP/1.1) or ends with the connection (HTTP/1.0).
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "http/connection.h"
#include "http/parameters.h"
#include "http/peer.h"
#include "http/response.h"
#include "http/trust.h"
#include "runtime/exchange.h"
#include "worker/protocol_exchange.h"

namespace bladepsgi::worker {

struct HttpOptions {
  ExchangeOptions exchange;
  http::Limits limits;
  http::TrustedProxies trusted;
  http::ForwardingFields forwarding = http::ForwardingFields::XForwarded;
};

class HttpExchange final : public ProtocolExchange {
 public:
  explicit HttpExchange(const HttpOptions& options);

  // As attach; `peer` is what accept(2) said.
  void attach_from(os::Fd socket,
                   os::Transport transport,
                   const sockaddr_storage& peer,
                   Arrival arrival = {});

  // Of the request, for the access log; valid until the next take_request.
  [[nodiscard]] std::string_view remote_address() const { return seen_peer_.remote_address; }

  [[nodiscard]] const http::Request& request() const { return connection_.request(); }

  [[nodiscard]] std::uint64_t parameter_shape() const noexcept override {
    return 2 * own_shape() + 1;
  }

  // There is no stream for it: it goes to standard error.
  void write_error(Bytes bytes) noexcept override;

  [[nodiscard]] bool knows_informational() const noexcept override {
    return connection_.request().version_minor >= 1;
  }

  bool inform(int status, std::span<const runtime::Header> headers) noexcept override;

  [[nodiscard]] bool has_raw_connection() const noexcept override { return true; }

  int open_raw_connection() noexcept override { return lend_connection().release(); }

 private:
  [[nodiscard]] handoff::Protocol protocol() const override { return handoff::Protocol::Http; }

  [[nodiscard]] std::span<const Parameter> sent_parameters() override;

  void on_new_request() override {
    is_sealed_ = false;
    seen_peer_ = peer_;  // views into the head of the last request are not good any more
  }

  std::optional<std::uint64_t> write_head(int status,
                                          std::span<const runtime::Header> headers) override;
  bool send_queue(bool is_last, bool has_more) override;

  void describe_pieces(handoff::Message& message) const override {
    if (framing_.kind == http::Framing::Kind::Chunked) message.flags |= handoff::kChunked;
  }

  std::size_t write_timed_out(std::span<std::byte> into, bool has_begun) const noexcept override;

  [[nodiscard]] std::size_t largest_piece() const override;
  [[nodiscard]] Bytes piece_begin(std::size_t size) override;
  [[nodiscard]] Bytes piece_end() const override;
  [[nodiscard]] bool ends_by_closing() const override;

  // Browsers open connections that they may need.
  [[nodiscard]] bool is_silence_odd() const override { return false; }

  [[nodiscard]] std::string_view refused_method() const override {
    return connection_.request().method;
  }

  [[nodiscard]] bool answers_what_is_malformed() const override { return true; }

  // Decides how the end of the body will be seen, and completes head_.
  void seal_head(bool is_last);
  [[nodiscard]] std::string_view date();

  HttpOptions options_;
  http::Connection connection_;
  http::Parameters parameters_;
  http::ResponseHead response_head_;
  http::Framing framing_;
  bool is_sealed_ = false;

  // Of the connection, and of the request as trusted front ends say.
  std::string remote_address_;
  std::string server_address_;
  http::Peer peer_;
  http::Peer seen_peer_;

  std::array<char, http::kChunkHeaderSize> chunk_header_{};
  std::vector<iovec> vectors_;
  std::string timed_out_head_;
  std::int64_t date_second_ = -1;
  std::array<char, http::kDateSize> date_{};
  std::string_view date_text_;
};

}  // namespace bladepsgi::worker
