#include "worker/fcgi_exchange.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string>

#include "base/status.h"
#include "base/text.h"

namespace bladepsgi::worker {

namespace {

// One sendmsg. Each record needs a vector for its header and one for each piece it covers.
constexpr std::size_t kBatchVectors = 192;
constexpr std::size_t kBatchRecords = 34;  // nearly 2 MiB
// nginx takes the end of a connection it does not keep for the end of a response without Content-Length. A record of a version that
// does not exist is an error for every web server.
constexpr std::array<std::byte, fcgi::kHeaderSize> kBrokenRecord{};

// The ends of STDERR and STDOUT, then END_REQUEST.
constexpr std::size_t kTailSize = 2 * fcgi::kHeaderSize + fcgi::kEndRequestSize;

void append_status(std::string& text, int status) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, status).ptr;
  text.append(digits, end);
}

}  // namespace

FcgiExchange::FcgiExchange(const FcgiOptions& options)
    : ProtocolExchange(options.exchange, connection_), connection_(options.limits, options.values) {
  const CannedResponse& response = canned_response(504);
  timed_out_head_.append("Status: 504 ")
      .append(reason_phrase(504))
      .append("\r\nContent-Type: ")
      .append(response.content_type);
  timed_out_head_.append("\r\nContent-Length: ");
  append_status(timed_out_head_, static_cast<int>(response.body.size()));
  timed_out_head_.append("\r\n\r\n");
}

std::span<const Parameter> FcgiExchange::sent_parameters() {
  return connection_.request().parameters;
}

void FcgiExchange::on_body_length(std::optional<std::uint64_t> length) {
  if (connection_.request().role != fcgi::Role::Authorizer) connection_.set_body_length(length);
}

std::optional<std::uint64_t> FcgiExchange::write_head(int status,
                                                      std::span<const runtime::Header> headers) {
  const auto write_status = [&] {
    head_ += "Status: ";
    append_status(head_, status);
    head_ += ' ';
    head_ += reason_phrase(status);
    head_ += "\r\n";
  };
  // To HAProxy a Location means 302, whatever Status has said before it; nobody minds a Status behind it.
  const bool has_location = std::any_of(
      headers.begin(), headers.end(),
      [](const runtime::Header& header) { return equals_ignoring_case(header.name, "Location"); });
  head_.clear();
  if (!has_location) write_status();
  for (const runtime::Header& header : headers) {
    head_ += header.name;
    head_ += ": ";
    head_ += header.value;
    head_ += "\r\n";
  }
  if (has_location) write_status();
  head_ += "\r\n";
  const auto length =
      std::find_if(headers.begin(), headers.end(), [](const runtime::Header& header) {
        return equals_ignoring_case(header.name, "Content-Length");
      });
  return length == headers.end() ? std::nullopt : parse_decimal(length->value);
}

Bytes FcgiExchange::piece_begin(std::size_t size) {
  fcgi::encode_header(record_header_, fcgi::RecordType::Stdout, connection_.request().id, size);
  return record_header_;
}

// The vectors of one sendmsg: pending replies, records with their headers, and at last the end of the response.
struct FcgiExchange::Batch {
  std::array<iovec, kBatchVectors> vectors;
  std::size_t count = 0;
  std::array<std::array<std::byte, fcgi::kHeaderSize>, kBatchRecords> headers;
  std::size_t records = 0;
  std::array<std::byte, kTailSize> tail;

  void add(Bytes bytes) { vectors[count++] = as_vector(bytes); }

  // For another record and at least one piece of it, and the tail behind.
  [[nodiscard]] bool has_room() const {
    return records < headers.size() && count + 3 < vectors.size();
  }
};

bool FcgiExchange::send_queue(bool is_last, bool has_more) {
  const std::uint16_t id = connection_.request().id;
  std::size_t piece = 0;   // of the queue
  std::size_t offset = 0;  // in it
  Bytes head = as_bytes(head_);
  bool is_done = false;
  while (!is_done) {
    Batch batch;
    if (const Bytes pending = take_pending(); !pending.empty()) batch.add(pending);
    while (batch.has_room() && (!head.empty() || piece < queue_.size())) {
      const std::size_t header_at = batch.count++;
      std::size_t content = 0;
      const auto take = [&](Bytes from) {
        const std::size_t size = std::min(from.size(), fcgi::kMaxContentSent - content);
        batch.add(from.first(size));
        content += size;
        return size;
      };
      if (!head.empty()) head = head.subspan(take(head));
      while (piece < queue_.size() && content < fcgi::kMaxContentSent &&
             batch.count + 1 < batch.vectors.size()) {
        offset += take(queue_[piece].subspan(offset));
        if (offset == queue_[piece].size()) {
          ++piece;
          offset = 0;
        }
      }
      auto& header = batch.headers[batch.records++];
      fcgi::encode_header(header, fcgi::RecordType::Stdout, id, content);
      batch.vectors[header_at] = as_vector(Bytes(header));
    }
    is_done = head.empty() && piece == queue_.size();
    if (is_done && is_last) {
      std::size_t size = 0;
      const auto end_stream = [&](fcgi::RecordType type) {
        fcgi::encode_header(std::span(batch.tail).subspan(size).first<fcgi::kHeaderSize>(), type,
                            id, 0);
        size += fcgi::kHeaderSize;
      };
      if (stderr_used_) end_stream(fcgi::RecordType::Stderr);
      end_stream(fcgi::RecordType::Stdout);
      const auto end = fcgi::encode_end_request(id, 0, fcgi::ProtocolStatus::RequestComplete);
      std::copy(end.begin(), end.end(), batch.tail.begin() + static_cast<std::ptrdiff_t>(size));
      batch.add(Bytes(batch.tail).first(size + end.size()));
    }
    if (batch.count == 0) break;
    if (batch.records > 0) committed_ = true;
    if (!transmit(std::span(batch.vectors).first(batch.count), has_more || !is_done)) break;
  }
  head_.clear();
  queue_.clear();
  return !lost_;
}

void FcgiExchange::write_error(Bytes bytes) noexcept {
  while (!bytes.empty() && is_usable() && send_pending()) {
    const Bytes content = bytes.first(std::min(bytes.size(), fcgi::kMaxContentSent));
    bytes = bytes.subspan(content.size());
    std::array<std::byte, fcgi::kHeaderSize> header{};
    fcgi::encode_header(header, fcgi::RecordType::Stderr, connection_.request().id, content.size());
    std::array<iovec, 2> vectors = {as_vector(Bytes(header)), as_vector(content)};
    stderr_used_ = true;
    if (!transmit(vectors, false)) return;
  }
}

std::size_t FcgiExchange::write_timed_out(std::span<std::byte> into,
                                          bool has_begun) const noexcept {
  std::size_t size = 0;
  const auto add = [&](Bytes bytes) {
    std::copy(bytes.begin(), bytes.end(), into.begin() + static_cast<std::ptrdiff_t>(size));
    size += bytes.size();
  };
  if (has_begun) {
    add(kBrokenRecord);
    return size;
  }
  const std::uint16_t id = connection_.request().id;
  const auto add_header = [&](fcgi::RecordType type, std::size_t content) {
    fcgi::encode_header(into.subspan(size).first<fcgi::kHeaderSize>(), type, id, content);
    size += fcgi::kHeaderSize;
  };
  const std::string_view body = is_head_request() ? std::string_view() : canned_response(504).body;
  const std::size_t content = timed_out_head_.size() + body.size();
  if (content + kTailSize + fcgi::kHeaderSize > into.size()) return 0;
  add_header(fcgi::RecordType::Stdout, content);
  add(as_bytes(timed_out_head_));
  add(as_bytes(body));
  if (stderr_used_) add_header(fcgi::RecordType::Stderr, 0);
  add_header(fcgi::RecordType::Stdout, 0);
  add(fcgi::encode_end_request(id, 0, fcgi::ProtocolStatus::RequestComplete));
  return size;
}

bool FcgiExchange::send_broken_end() {
  std::array<iovec, 1> what{as_vector(Bytes(kBrokenRecord))};
  return transmit(what, false);
}

}  // namespace bladepsgi::worker
