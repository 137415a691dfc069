#include "worker/http_exchange.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "base/status.h"
#include "base/text.h"
#include "os/address.h"
#include "os/clock.h"

namespace bladepsgi::worker {

namespace {

// Of a file; each is a chunk where chunks are sent.
constexpr std::size_t kLargestPiece = std::size_t{1024} * 1024;
// IOV_MAX is 1024; some of it is for what stands around the pieces.
constexpr std::size_t kMostVectors = 1000;

}  // namespace

HttpExchange::HttpExchange(const HttpOptions& options)
    : ProtocolExchange(options.exchange, connection_),
      options_(options),
      connection_(options.limits) {
  cuts_body_ = true;
  const CannedResponse& response = canned_response(504);
  timed_out_head_.append("HTTP/1.1 504 ")
      .append(reason_phrase(504))
      .append("\r\nContent-Type: ")
      .append(response.content_type);
  timed_out_head_.append("\r\nContent-Length: ").append(std::to_string(response.body.size()));
  timed_out_head_.append("\r\nConnection: close\r\n\r\n");
}

void HttpExchange::attach_from(os::Fd socket,
                               os::Transport transport,
                               const sockaddr_storage& peer,
                               Arrival arrival) {
  sockaddr_storage local{};
  socklen_t size = sizeof local;
  ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&local), &size);
  peer_ = {};
  os::NumericAddress remote = os::numeric_address(peer);
  os::NumericAddress server = os::numeric_address(local);
  remote_address_ = std::move(remote.host);
  server_address_ = std::move(server.host);
  peer_.remote_address = remote_address_;
  peer_.remote_port = remote.port;
  peer_.server_address = server_address_;
  peer_.server_port = server.port;
  peer_.is_unix = transport == os::Transport::Unix;
  seen_peer_ = peer_;
  attach(std::move(socket), transport, std::move(arrival));
}

std::span<const Parameter> HttpExchange::sent_parameters() {
  const http::Request& request = connection_.request();
  seen_peer_ = http::apply_forwarding(options_.trusted, options_.forwarding, peer_, request.fields);
  return parameters_.build(request, seen_peer_);
}

// --- the response

std::string_view HttpExchange::date() {
  const auto since_epoch = os::wall_clock_now().time_since_epoch();
  const std::int64_t now = std::chrono::duration_cast<std::chrono::seconds>(since_epoch).count();
  if (now != date_second_) {
    date_second_ = now;
    date_text_ = http::format_date(date_, now);
  }
  return date_text_;
}

std::optional<std::uint64_t> HttpExchange::write_head(int status,
                                                      std::span<const runtime::Header> headers) {
  if (status == 101) {
    // Its bytes go both ways until somebody has had enough.
    wants_body_ = connection_.request().version_minor > 0;
    leave_input_alone();
  }
  response_head_.start(head_, status);
  for (const runtime::Header& header : headers)
    response_head_.add(head_, header.name, header.value);
  return response_head_.announced_length();
}

void HttpExchange::seal_head(bool is_last) {
  const http::Request& request = connection_.request();
  http::ResponseContext context;
  context.version_minor = request.version_minor;
  context.is_head_request = is_head_request();
  context.keeps_connection = connection_.keeps_connection() && !will_close() && !do_others_wait();
  context.date = date();
  if (is_last && wants_body_) context.known_length = queued_bytes();
  framing_ = response_head_.finish(head_, context);
  is_sealed_ = true;
  if (!is_last && ends_by_closing() && wants_body_) guard_end();
  if (!framing_.keeps_connection) {
    close_after_response();
    connection_.close_after_request();
  }
}

bool HttpExchange::send_queue(bool is_last, bool has_more) {
  vectors_.clear();
  const auto add = [this](Bytes bytes) {
    if (!bytes.empty()) vectors_.push_back(as_vector(bytes));
  };
  add(take_pending());
  if (!head_.empty()) {
    if (!is_sealed_) seal_head(is_last);
    committed_ = true;
    add(as_bytes(head_));
  }
  const bool is_chunked = is_sealed_ && framing_.kind == http::Framing::Kind::Chunked;
  if (const std::size_t size = queued_bytes(); size > 0) {
    if (is_chunked) add(as_bytes(http::encode_chunk_header(chunk_header_, size)));
    for (const Bytes piece : queue_)
      add(piece);
    if (is_chunked) add(as_bytes(http::kChunkEnd));
  }
  if (is_last && is_chunked && wants_body_) add(as_bytes(http::kLastChunk));
  for (std::span<iovec> left = vectors_; !left.empty() && !lost_;) {
    const std::span<iovec> now = left.first(std::min(left.size(), kMostVectors));
    left = left.subspan(now.size());
    transmit(now, has_more || !left.empty());
  }
  head_.clear();
  queue_.clear();
  return !lost_;
}

// A response that has begun breaks off by itself: it is short of its length or its last chunk, or ends in an error (guard_end).
std::size_t HttpExchange::write_timed_out(std::span<std::byte> into,
                                          bool has_begun) const noexcept {
  const std::string_view body = is_head_request() ? std::string_view() : canned_response(504).body;
  if (has_begun || timed_out_head_.size() + body.size() > into.size()) return 0;
  const Bytes head = as_bytes(timed_out_head_);
  const auto end = std::copy(head.begin(), head.end(), into.begin());
  std::copy_n(as_bytes(body).begin(), body.size(), end);
  return head.size() + body.size();
}

std::size_t HttpExchange::largest_piece() const {
  return kLargestPiece;
}

Bytes HttpExchange::piece_begin(std::size_t size) {
  if (framing_.kind != http::Framing::Kind::Chunked) return {};
  return as_bytes(http::encode_chunk_header(chunk_header_, size));
}

Bytes HttpExchange::piece_end() const {
  if (framing_.kind != http::Framing::Kind::Chunked) return {};
  return as_bytes(http::kChunkEnd);
}

bool HttpExchange::ends_by_closing() const {
  return is_sealed_ && framing_.kind == http::Framing::Kind::UntilClose;
}

bool HttpExchange::inform(int status, std::span<const runtime::Header> headers) noexcept {
  if (!is_usable() || is_started() || !knows_informational()) return false;
  std::vector<http::Field> fields;
  fields.reserve(headers.size());
  for (const runtime::Header& header : headers)
    fields.push_back({.name = header.name, .value = header.value});
  std::string text;
  http::append_informational(text, status, fields);
  if (!send_pending()) return false;
  iovec vector = as_vector(as_bytes(text));
  return transmit({&vector, 1}, false);
}

void HttpExchange::write_error(Bytes bytes) noexcept {
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, bytes.data(), bytes.size());
}

}  // namespace bladepsgi::worker
