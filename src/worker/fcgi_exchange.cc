#include "worker/fcgi_exchange.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "base/text.h"
#include "fcgi/record.h"
#include "os/clock.h"
#include "os/system_error.h"

namespace bladepsgi::worker {

namespace {

// Beyond these, what is queued is sent although nobody asked. There is no such limit in bytes: they are in the application's
// memory all the same, and whoever sends in the middle of a response may not throw away what the peer sends meanwhile.
constexpr std::size_t kMaxQueuedPieces = 1024;

// One sendmsg. Each record needs a vector for its header and one for each piece it covers.
constexpr std::size_t kBatchVectors = 192;
constexpr std::size_t kBatchRecords = 34;  // a little over 1 MiB
// The ends of STDERR and STDOUT, then END_REQUEST.
constexpr std::size_t kTailSize = 2 * fcgi::kHeaderSize + fcgi::kEndRequestSize;

constexpr std::size_t kCopyBufferSize = fcgi::kMaxContentSent;
constexpr std::size_t kKeptHeadSize = 64 * 1024;
constexpr std::size_t kMaxRequestIdSize = 128;

// While a file goes out, an ABORT_REQUEST is looked for after so many records.
constexpr std::size_t kRecordsBetweenLooks = 32;

iovec as_vector(Bytes bytes) {
  // sendmsg only reads, but its type cannot say so.
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

iovec as_vector(WritableBytes bytes) {
  return {bytes.data(), bytes.size()};
}

bool is_usable_request_id(std::string_view id) {
  return !id.empty() && id.size() <= kMaxRequestIdSize &&
         std::all_of(id.begin(), id.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

template <class Number>
void append_number(std::string& text, Number number, int base = 10) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, number, base).ptr;
  text.append(digits, end);
}

}  // namespace

FcgiExchange::FcgiExchange(FcgiOptions options)
    : options_(std::move(options)),
      connection_(options_.limits, options_.values),
      environment_(options_.environment),
      stored_(options_.input_memory, options_.spool_directory) {
  append_number(id_prefix_, options_.request_id_seed, 16);
  id_prefix_.insert(0, 16 - id_prefix_.size(), '0');
  request_id_.reserve(kMaxRequestIdSize);
  queue_.reserve(64);
}

// --- the connection

void FcgiExchange::attach(os::Fd socket, Transport transport) {
  connection_.reset();
  forget_request();
  io_.attach(std::move(socket), transport);
}

void FcgiExchange::close() {
  ended_ = true;
  io_.close();
}

FcgiExchange::Progress FcgiExchange::gone(Trouble trouble, std::string_view text) {
  trouble_ = trouble;
  trouble_text_ = text;
  close();
  return Progress::Gone;
}

FcgiExchange::Progress FcgiExchange::drop() {
  return gone(Trouble::ProtocolError,
              std::string("dropped a connection: ").append(fcgi::describe(connection_.error())));
}

FcgiExchange::Progress FcgiExchange::refuse(Trouble trouble,
                                            int status,
                                            bool closes,
                                            std::string_view text) {
  trouble_ = trouble;
  trouble_text_ = text;
  closes_ = closes_ || closes;
  answer(canned_response(status));
  return Progress::Answered;
}

FcgiExchange::Received FcgiExchange::receive(Deadline* deadline,
                                             int wake_descriptor,
                                             WritableBytes direct,
                                             std::size_t* direct_size) {
  // Asked first: once there is space for them, bytes may move.
  const std::size_t past_buffer = std::min(direct.size(), connection_.body_bypass());
  std::array<iovec, 2> into = {as_vector(direct.first(past_buffer)),
                               as_vector(connection_.receive_space())};
  const auto vectors = past_buffer > 0 ? std::span(into) : std::span(into).last(1);
  for (;;) {
    const auto result = io_.try_receive(vectors);
    if (!result) {
      if (deadline == nullptr) return Received::Nothing;
      if (!deadline->at) deadline->at = os::monotonic_now() + deadline->patience;
      switch (io_.wait(POLLIN, *deadline->at, wake_descriptor)) {
        case ConnectionIo::Wait::Ready:
          continue;
        case ConnectionIo::Wait::Woken:
          return Received::Nothing;
        case ConnectionIo::Wait::Interrupted:
          return Received::Interrupted;
        case ConnectionIo::Wait::TimedOut:
          return Received::TimedOut;
        case ConnectionIo::Wait::Failed:
          return Received::Failed;
      }
    }
    if (*result < 0) return Received::Failed;
    if (*result == 0) {
      connection_.peer_closed();
      return Received::End;
    }
    const auto size = static_cast<std::size_t>(*result);
    const std::size_t directly = std::min(size, past_buffer);
    if (directly > 0) {
      connection_.body_bypassed(directly);
      *direct_size = directly;
    }
    if (size > directly) connection_.received(size - directly);
    return Received::Some;
  }
}

// --- the head

FcgiExchange::Progress FcgiExchange::take_request(Patience patience) {
  if (!io_.is_open()) return gone(Trouble::PeerClosed);
  trouble_ = Trouble::None;
  trouble_text_.clear();
  io_.reset_counters();
  Deadline deadline{options_.head_timeout, {}};
  for (;;) {
    switch (connection_.next()) {
      case fcgi::Event::NeedMore:
        break;
      case fcgi::Event::Request:
        return begin_request();
      case fcgi::Event::ParametersTooLarge:
        forget_request();
        static_cast<void>(environment_.build({}));  // nothing of the request before shall be seen
        ended_ = false;
        take_request_id();
        return refuse(Trouble::ParametersTooLarge, 431, true,
                      "refused a request: too many or too large parameters");
      case fcgi::Event::Close:
        if (send_pending() && !connection_.has_peer_closed()) {
          end_connection(false);  // of a refused request there may be more on its way
        }
        return gone(Trouble::PeerClosed);
      case fcgi::Event::Dropped:
        return drop();
      case fcgi::Event::Body:
      case fcgi::Event::BodyEnd:
      case fcgi::Event::Aborted:
        os::broken_invariant(__FILE__, __LINE__, "event of a request while none is active");
    }
    if (!send_pending()) return gone(Trouble::PeerClosed);
    const bool has_begun = connection_.is_head_started();
    const bool may_wait = has_begun || patience == Patience::Wait;
    switch (receive(may_wait ? &deadline : nullptr, has_begun ? -1 : options_.wake_descriptor)) {
      case Received::Some:
      case Received::End:
      case Received::Interrupted:
        break;
      case Received::Nothing:
        return Progress::Idle;
      case Received::TimedOut:
        return gone(Trouble::HeadTimeout, "dropped a connection: its request took too long");
      case Received::Failed:
        return gone(Trouble::PeerClosed);
    }
  }
}

void FcgiExchange::forget_request() {
  stored_.clear();
  is_stored_ = false;
  body_position_ = body_taken_ = 0;
  body_error_ = 0;
  status_ = 0;
  is_head_request_ = false;
  wants_body_ = true;
  announced_length_.reset();
  body_sent_ = 0;
  wrong_length_.reset();
  started_ = committed_ = aborted_ = lost_ = closes_ = stderr_used_ = discarding_ = false;
  ended_ = true;
  send_error_ = 0;
  head_.clear();
  if (head_.capacity() > kKeptHeadSize) head_.shrink_to_fit();
  queue_.clear();
}

FcgiExchange::Progress FcgiExchange::begin_request() {
  forget_request();
  ended_ = false;
  const auto built = environment_.build(connection_.request().parameters);
  is_head_request_ = environment_.method() == "HEAD";
  take_request_id();
  if (!built) {
    return refuse(Trouble::BadRequest, 400, false,
                  std::string("refused a request: ").append(cgi::describe(built.error())));
  }
  const auto length = environment_.content_length();
  if (connection_.request().role != fcgi::Role::Authorizer) connection_.set_body_length(length);
  if (length && is_over_limit(*length)) {
    return refuse(Trouble::BodyTooLarge, 413, true, "refused a request: its body is too large");
  }
  return Progress::Ready;
}

void FcgiExchange::take_request_id() {
  const std::string_view sent = environment_.request_id();
  ++requests_;
  if (is_usable_request_id(sent)) {
    request_id_ = sent;
    return;
  }
  request_id_ = id_prefix_;
  request_id_ += '-';
  append_number(request_id_, requests_, 16);
}

// --- the body

fcgi::Event FcgiExchange::next_event() {
  const fcgi::Event event = connection_.next();
  if (event == fcgi::Event::Aborted) aborted_ = true;
  if (event == fcgi::Event::Dropped) lost_ = true;
  return event;
}

FcgiExchange::Progress FcgiExchange::prepare() {
  const auto length = environment_.content_length();
  bool may_store = true;
  switch (options_.input) {
    case InputMode::Auto:
      may_store = !length || *length <= options_.input_memory;
      break;
    case InputMode::Stream:
      // Looks, but does not wait: a request without a body has nothing to stream.
      if (!connection_.is_body_complete()) may_store = next_event() == fcgi::Event::BodyEnd;
      break;
    case InputMode::Spool:
      break;
  }
  if (may_store) {
    if (const int error = store_body(); error != 0) {
      return refuse(Trouble::SpoolFailed, 507, true,
                    os::describe_failure(error, "store request body in", options_.spool_directory));
    }
  }
  if (body_error_ == ETIMEDOUT) {
    return refuse(Trouble::BodyTimeout, 408, true, "refused a request: its body took too long");
  }
  if (body_error_ == EFBIG) {
    return refuse(Trouble::BodyTooLarge, 413, true, "refused a request: its body is too large");
  }
  if (connection_.has_buffered_input()) look_at_buffer();
  if (connection_.error() != fcgi::ProtocolError::None) return drop();
  if (lost_) return gone(Trouble::Abandoned);
  if (aborted_) {
    finish();
    trouble_ = Trouble::Aborted;
    return Progress::Answered;
  }
  if (io_.is_peer_gone()) return gone(Trouble::Abandoned);
  // Also management records that came with the request are answered before a perhaps long wait for the application.
  if (!send_pending()) return gone(Trouble::Abandoned);
  if (is_stored_ && !length && stored_.size() > 0) environment_.set_content_length(stored_.size());
  return Progress::Ready;
}

int FcgiExchange::store_body() {
  while (!connection_.is_body_complete()) {
    const WritableBytes space = stored_.memory_space();
    if (!space.empty()) {
      const runtime::BodyRead got = read_connection(space);
      if (got.error == EINTR) continue;  // nothing of the application's runs yet
      body_error_ = got.error;
      if (got.error != 0) return 0;
      stored_.filled(got.size);
      continue;
    }
    // The memory is full. Is there more?
    if (connection_.body().empty() && next_event() == fcgi::Event::BodyEnd) continue;
    if (options_.input == InputMode::Auto) return 0;
    if (!copy_buffer_) copy_buffer_ = std::make_unique_for_overwrite<std::byte[]>(kCopyBufferSize);
    const runtime::BodyRead got = read_connection({copy_buffer_.get(), kCopyBufferSize});
    if (got.error == EINTR) continue;
    body_error_ = got.error;
    if (got.error != 0) return 0;
    if (const int error = stored_.append({copy_buffer_.get(), got.size}); error != 0) return error;
  }
  is_stored_ = true;
  return 0;
}

runtime::BodyRead FcgiExchange::read_connection(WritableBytes into) {
  const auto took = [this](std::size_t size) -> runtime::BodyRead {
    body_taken_ += size;
    if (is_over_limit(body_taken_)) return {0, EFBIG};
    return {size, 0};
  };
  Deadline deadline{options_.body_timeout, {}};
  for (;;) {
    if (aborted_ || lost_ || connection_.is_body_short()) return {0, ECONNABORTED};
    const Bytes here = connection_.body();
    if (!here.empty()) {
      const std::size_t size = std::min(here.size(), into.size());
      std::copy_n(here.begin(), size, into.begin());
      connection_.consume_body(size);
      return took(size);
    }
    if (connection_.is_body_complete()) return {};
    switch (next_event()) {
      case fcgi::Event::Body:
      case fcgi::Event::BodyEnd:
      case fcgi::Event::Aborted:
      case fcgi::Event::Dropped:
        continue;
      case fcgi::Event::Close:
        return {0, ECONNABORTED};
      case fcgi::Event::NeedMore:
        break;
      case fcgi::Event::Request:
      case fcgi::Event::ParametersTooLarge:
        os::broken_invariant(__FILE__, __LINE__, "a second request while one is active");
    }
    if (!send_pending()) return {0, ECONNABORTED};
    std::size_t direct_size = 0;
    switch (receive(&deadline, -1, into, &direct_size)) {
      case Received::Some:
        if (direct_size > 0) return took(direct_size);
        break;
      case Received::End:
      case Received::Nothing:
        break;
      case Received::Interrupted:
        return {0, EINTR};
      case Received::TimedOut:
        return {0, ETIMEDOUT};
      case Received::Failed:
        return {0, ECONNABORTED};
    }
  }
}

std::span<const runtime::Parameter> FcgiExchange::parameters() const noexcept {
  return environment_.parameters();
}

runtime::BodyInfo FcgiExchange::body() const noexcept {
  if (is_stored_) return {true, stored_.size(), stored_.memory()};
  return {false, environment_.content_length(), {}};
}

runtime::BodyRead FcgiExchange::read_body(WritableBytes into) noexcept {
  if (ended_) return {};
  if (body_position_ < stored_.size()) {
    const runtime::BodyRead got = stored_.read(body_position_, into);
    body_position_ += got.size;
    return got;
  }
  if (is_stored_) return {};
  if (body_error_ != 0) return {0, body_error_};
  const runtime::BodyRead got = read_connection(into);
  if (got.error != EINTR) body_error_ = got.error;
  return got;
}

bool FcgiExchange::seek_body(std::uint64_t offset) noexcept {
  if (!is_stored_ || ended_ || offset > stored_.size()) return false;
  body_position_ = offset;
  return true;
}

void FcgiExchange::look_at_buffer() {
  for (;;) {
    switch (next_event()) {
      case fcgi::Event::BodyEnd:
      case fcgi::Event::Aborted:
        continue;
      case fcgi::Event::Body:
        if (connection_.is_abort_ahead()) aborted_ = true;
        return;
      default:
        return;
    }
  }
}

void FcgiExchange::look_at_socket() {
  if (!connection_.has_peer_closed() && !connection_.receive_space().empty()) {
    static_cast<void>(receive(nullptr, -1));  // that the peer has gone, sending will tell
  }
  look_at_buffer();
}

void FcgiExchange::discard_body() {
  for (;;) {
    switch (connection_.next()) {
      case fcgi::Event::Body:
        connection_.consume_body(connection_.body().size());
        continue;
      case fcgi::Event::BodyEnd:
      case fcgi::Event::Aborted:
        continue;
      case fcgi::Event::Dropped:
        closes_ = true;  // what we are saying can still be said to its end
        return;
      default:
        return;
    }
  }
}

WritableBytes FcgiExchange::input_space() noexcept {
  if (connection_.has_peer_closed()) return {};
  if (discarding_) {
    discard_body();
    if (connection_.error() != fcgi::ProtocolError::None) return {};
  }
  return connection_.receive_space();
}

void FcgiExchange::input_received(std::size_t size) noexcept {
  if (size == 0) {
    connection_.peer_closed();
  } else {
    connection_.received(size);
  }
}

// --- sending

bool FcgiExchange::transmit(std::span<iovec> what, bool has_more) {
  send_error_ = io_.send(what, has_more ? MSG_MORE : 0, options_.send_timeout, *this);
  if (send_error_ != 0) lost_ = true;
  return send_error_ == 0;
}

bool FcgiExchange::send_pending() {
  // While it is on its way the engine may want to say more, so it is not sent from where it is collected.
  const Bytes pending = connection_.pending_output();
  if (pending.empty()) return true;
  pending_.assign(pending.begin(), pending.end());
  connection_.output_sent(pending.size());
  iovec vector = as_vector(Bytes(pending_));
  return transmit({&vector, 1}, false);
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
    const Bytes pending = connection_.pending_output();
    if (!pending.empty()) {
      pending_.assign(pending.begin(), pending.end());
      connection_.output_sent(pending.size());
      batch.add(pending_);
    }
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

// --- the response

void FcgiExchange::start_response(int status, std::span<const runtime::Header> headers) noexcept {
  if (started_ || ended_) return;
  started_ = true;
  status_ = status;
  wants_body_ = !is_head_request_ && status_allows_body(status);
  head_ = "Status: ";
  append_number(head_, status);
  head_ += ' ';
  head_ += reason_phrase(status);
  head_ += "\r\n";
  for (const runtime::Header& header : headers) {
    head_ += header.name;
    head_ += ": ";
    head_ += header.value;
    head_ += "\r\n";
    if (equals_ignoring_case(header.name, "Content-Length"))
      announced_length_ = parse_decimal(header.value);
  }
  head_ += "\r\n";
}

void FcgiExchange::discard_response() noexcept {
  if (committed_) return;
  started_ = false;
  status_ = 0;
  wants_body_ = true;
  announced_length_.reset();
  body_sent_ = 0;
  head_.clear();
  queue_.clear();
}

bool FcgiExchange::write(Bytes bytes) noexcept {
  if (!is_usable() || !started_) return false;
  if (!wants_body_ || bytes.empty()) return true;
  queue_.push_back(bytes);
  body_sent_ += bytes.size();
  if (queue_.size() < kMaxQueuedPieces) return true;
  look_at_socket();
  return is_usable() && send_queue(false);
}

bool FcgiExchange::flush() noexcept {
  if (!is_usable()) return false;
  look_at_socket();
  return is_usable() && send_queue(false);
}

std::int64_t FcgiExchange::send_file(int fd, off_t offset, std::uint64_t length) noexcept {
  const auto peer_has_gone = [this]() -> std::int64_t {
    errno = send_error_ != 0 ? send_error_ : EPIPE;
    return -1;
  };
  if (!started_ || !is_usable()) return peer_has_gone();
  look_at_socket();
  if (!is_usable()) return peer_has_gone();
  if (!wants_body_) return static_cast<std::int64_t>(length);

  struct stat status {};

  const int flags = ::fcntl(fd, F_GETFL);
  // A regular file of size 0 may be one whose size the kernel does not tell (/proc): that one must be read.
  if (flags < 0 || (flags & O_ACCMODE) == O_WRONLY || offset < 0 || ::fstat(fd, &status) != 0 ||
      !S_ISREG(status.st_mode) || status.st_size == 0) {
    errno = EINVAL;
    return -1;
  }
  if (offset >= status.st_size) return 0;
  length = std::min(length, static_cast<std::uint64_t>(status.st_size - offset));

  if (!copy_buffer_) copy_buffer_ = std::make_unique_for_overwrite<std::byte[]>(kCopyBufferSize);
  if (length <= kCopyBufferSize) {
    // One copy is cheaper than two more system calls, and only what was really read is promised to the peer.
    ssize_t size = 0;
    do {
      size = ::pread(fd, copy_buffer_.get(), length, offset);
    } while (size < 0 && errno == EINTR);
    if (size < 0) {
      errno = EINVAL;
      return -1;
    }
    if (size > 0) queue_.push_back({copy_buffer_.get(), static_cast<std::size_t>(size)});
    body_sent_ += static_cast<std::uint64_t>(size);
    return send_queue(false) ? size : peer_has_gone();
  }

  if (!send_queue(false, true)) return peer_has_gone();
  BrokenPipeGuard guard;
  bool may_sendfile = true;
  std::uint64_t sent = 0;
  for (std::size_t record = 1; sent < length; ++record) {
    const auto content =
        static_cast<std::size_t>(std::min<std::uint64_t>(length - sent, fcgi::kMaxContentSent));
    std::array<std::byte, fcgi::kHeaderSize> header{};
    fcgi::encode_header(header, fcgi::RecordType::Stdout, connection_.request().id, content);
    iovec vector = as_vector(Bytes(header));
    if (!transmit({&vector, 1}, true)) return peer_has_gone();
    off_t at = offset + static_cast<off_t>(sent);
    const off_t end = at + static_cast<off_t>(content);
    if (may_sendfile) {
      send_error_ = io_.send_file(fd, &at, content, options_.send_timeout, *this, guard);
      // Some file systems cannot do it; then the record that was promised is filled by reading.
      may_sendfile = send_error_ != EINVAL && send_error_ != ENOSYS && send_error_ != EOPNOTSUPP;
      if (send_error_ != 0 && may_sendfile) {
        if (send_error_ == ENODATA) send_error_ = EIO;  // it has shrunk since we looked
        lost_ = true;
        return peer_has_gone();
      }
    }
    if (!may_sendfile && !copy_file(fd, at, static_cast<std::size_t>(end - at))) {
      return peer_has_gone();
    }
    sent += content;
    if (record % kRecordsBetweenLooks == 0) {
      look_at_socket();
      if (!is_usable() || !send_pending()) return peer_has_gone();
    }
  }
  body_sent_ += sent;
  return static_cast<std::int64_t>(sent);
}

bool FcgiExchange::copy_file(int fd, off_t offset, std::size_t length) {
  while (length > 0) {
    const ssize_t size = ::pread(fd, copy_buffer_.get(), std::min(length, kCopyBufferSize), offset);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) {
      // The record cannot be completed, so nothing more can be said on this connection.
      send_error_ = EIO;
      lost_ = true;
      return false;
    }
    iovec vector = as_vector(Bytes(copy_buffer_.get(), static_cast<std::size_t>(size)));
    if (!transmit({&vector, 1}, false)) return false;
    offset += size;
    length -= static_cast<std::size_t>(size);
  }
  return true;
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

void FcgiExchange::answer(const CannedResponse& response) {
  std::string length;
  append_number(length, response.body.size());
  const std::array<runtime::Header, 2> headers = {
      runtime::Header{"Content-Type", response.content_type},
      runtime::Header{"Content-Length", length}};
  discard_response();
  start_response(response.status, headers);
  static_cast<void>(write(as_bytes(response.body)));
  finish();
}

void FcgiExchange::finish() noexcept {
  if (ended_) return;
  if (connection_.has_buffered_input()) look_at_buffer();
  discarding_ = true;
  if (aborted_) {
    // Nobody reads what is not sent yet, but the request must be ended all the same.
    head_.clear();
    queue_.clear();
  } else if (!started_ && !lost_) {
    answer(canned_response(500));
    return;
  } else if (!lost_ && wants_body_ && announced_length_ && *announced_length_ != body_sent_) {
    wrong_length_ = WrongLength{.announced = *announced_length_, .sent = body_sent_};
  }
  if (!lost_) send_queue(true);
  end_request();
}

void FcgiExchange::end_request() {
  ended_ = true;
  if (lost_) {
    io_.close();
    return;
  }
  discard_body();
  const bool is_input_finished = connection_.is_input_finished();
  const bool keeps = connection_.request().keep_connection && !closes_;
  connection_.request_ended();
  if (!keeps) end_connection(is_input_finished);
}

void FcgiExchange::end_connection(bool is_input_finished) {
  // With input on its way, closing would reset the connection and could destroy the end of the response.
  if (is_input_finished || connection_.has_peer_closed()) {
    io_.close();
    return;
  }
  connection_.discard_input();
  io_.close_after_reading(options_.limits.drain_bytes, options_.close_timeout,
                          connection_.receive_space());
}

void FcgiExchange::abort() noexcept {
  if (ended_) return;
  ended_ = true;
  queue_.clear();
  head_.clear();
  if (committed_ && !lost_ && io_.is_open()) {
    // nginx takes the end of a connection it does not keep for the end of a response without Content-Length. A record of a
    // version that does not exist is an error for every web server.
    static constexpr std::array<std::byte, fcgi::kHeaderSize> kBrokenRecord{};
    std::array<iovec, 1> what{as_vector(Bytes(kBrokenRecord))};
    transmit(what, false);
  }
  io_.close();
}

void FcgiExchange::release_connection() noexcept {
  if (!ended_ || !io_.is_open() || connection_.has_buffered_input()) return;
  if (receive(nullptr, -1) == Received::Some) return;
  // Refuses what would come from now on before a byte of it is taken, and looks once more for what slipped in before: see
  // docs/decisions/0004.
  io_.refuse_input();
  if (receive(nullptr, -1) != Received::Some) io_.close();
}

}  // namespace bladepsgi::worker
