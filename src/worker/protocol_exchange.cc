#include "worker/protocol_exchange.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <utility>

#include "base/text.h"
#include "base/wipe.h"
#include "handoff/outgoing.h"
#include "os/clock.h"
#include "os/file_system.h"
#include "os/system_error.h"

namespace bladepsgi::worker {

namespace {

// Beyond these, what is queued is sent although nobody asked. There is no such limit in bytes: they are in the application's
// memory all the same, and whoever sends in the middle of a response may not throw away what the peer sends meanwhile.
constexpr std::size_t kMaxQueuedPieces = 1024;

constexpr std::size_t kCopyBufferSize = std::size_t{32} * 1024;
// For the end of a body whose request has been answered; it is usually on its way.
constexpr std::chrono::milliseconds kRestPatience{1000};
constexpr std::size_t kKeptHeadSize = 64 * 1024;
constexpr std::size_t kMaxRequestIdSize = 128;

// While a file goes out, an abort is looked for after so many bytes.
constexpr std::uint64_t kBytesBetweenLooks = std::uint64_t{1024} * 1024;

// For room in the queue to who sends the rest of a response; it is emptied in less.
constexpr std::chrono::milliseconds kQueuePatience{250};

// Some file systems cannot do it.
bool is_no_sendfile(int error) {
  return error == EINVAL || error == ENOSYS || error == EOPNOTSUPP;
}

bool is_usable_request_id(std::string_view id) {
  return !id.empty() && id.size() <= kMaxRequestIdSize &&
         std::all_of(id.begin(), id.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

handoff::Deadline as_deadline(os::Monotonic time) {
  return static_cast<handoff::Deadline>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count());
}

template <class Number>
void append_number(std::string& text, Number number, int base = 10) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, number, base).ptr;
  text.append(digits, end);
}

}  // namespace

ProtocolExchange::ProtocolExchange(ExchangeOptions options, Engine& engine)
    : options_(std::move(options)),
      engine_(engine),
      environment_(options_.environment),
      stored_(options_.input_memory, options_.spool_directory),
      pace_(options_.min_body_rate) {
  append_number(id_prefix_, options_.request_id_seed, 16);
  id_prefix_.insert(0, 16 - id_prefix_.size(), '0');
  request_id_.reserve(kMaxRequestIdSize);
  queue_.reserve(64);
}

void ProtocolExchange::keep_unserved() {
  engine_.keep_unserved();
}

// --- the connection

void ProtocolExchange::attach(os::Fd socket, Transport transport, Arrival arrival) {
  engine_.reset();
  unread_event_.reset();
  is_last_request_ = false;
  replies_to_skip_ = arrival_replies_ = arrival.replies;
  request_started_ = arrival.started;
  is_overdue_ = arrival.is_overdue;
  is_arrival_ = !arrival.received.empty();
  forget_request();
  io_.attach(std::move(socket), transport, std::move(arrival.received));
}

std::optional<handoff::SendOutcome> ProtocolExchange::hand_over(int channel,
                                                                os::Monotonic idle_deadline,
                                                                bool is_fresh) {
  if (!io_.is_open() || engine_.has_peer_closed() || is_last_request_ || !send_pending())
    return std::nullopt;
  const auto unserved = engine_.unserved();
  if (!unserved) return std::nullopt;
  handoff::Message message;
  message.protocol = protocol();
  message.bytes = unserved->bytes;
  std::vector<std::byte> joined;
  if (const Bytes behind = io_.received_before(); !behind.empty()) {
    joined.assign(message.bytes.begin(), message.bytes.end());
    joined.insert(joined.end(), behind.begin(), behind.end());
    message.bytes = joined;
  }
  if (message.bytes.empty()) {
    message.kind = handoff::Kind::Idle;
    message.progress_deadline = as_deadline(idle_deadline);
    if (is_fresh) message.started = as_deadline(os::monotonic_now());
  } else {
    message.kind = handoff::Kind::PartialRequest;
    message.replies = unserved->replies;
    if (request_started_ == os::Monotonic{}) request_started_ = os::monotonic_now();
    message.started = as_deadline(request_started_);
  }
  const handoff::SendOutcome outcome = handoff::send(channel, message, io_.descriptor());
  wipe(joined);
  if (outcome == handoff::SendOutcome::Sent) {
    unread_event_.reset();
    close();
  }
  return outcome;
}

bool ProtocolExchange::is_as_it_came() const {
  const auto unserved = engine_.unserved();
  return is_arrival_ && unserved && unserved->replies == arrival_replies_;
}

void ProtocolExchange::close() {
  ended_ = true;
  io_.close();
  forget_client();
}

ProtocolExchange::Progress ProtocolExchange::gone(Trouble trouble, std::string_view text) {
  trouble_ = trouble;
  trouble_text_ = text;
  close();
  return Progress::Gone;
}

ProtocolExchange::Progress ProtocolExchange::drop() {
  return gone(Trouble::ProtocolError,
              std::string("dropped a connection: ").append(engine_.drop_reason()));
}

ProtocolExchange::Progress ProtocolExchange::refuse(Trouble trouble,
                                                    int status,
                                                    bool closes,
                                                    std::string_view text) {
  trouble_ = trouble;
  trouble_text_ = text;
  note_title();
  closes_ = closes_ || closes;
  if (options_.on_refusal) options_.on_refusal();
  answer(canned_response(status));
  return Progress::Answered;
}

ProtocolExchange::Received ProtocolExchange::receive(Deadline* deadline,
                                                     int wake_descriptor,
                                                     WritableBytes direct,
                                                     std::size_t* direct_size) {
  // Asked first: once there is space for them, bytes may move.
  const std::size_t past_buffer = std::min(direct.size(), engine_.body_bypass());
  std::array<iovec, 2> into = {as_writable_vector(direct.first(past_buffer)),
                               as_writable_vector(engine_.receive_space())};
  const auto vectors = past_buffer > 0 ? std::span(into) : std::span(into).last(1);
  last_wait_ = {};
  for (;;) {
    const auto result = io_.try_receive(vectors);
    if (!result) {
      if (deadline == nullptr) return Received::Nothing;
      is_presence_expected_ = false;  // who knows how long this takes
      if (deadline->patience <= std::chrono::milliseconds::zero()) return Received::TimedOut;
      const os::Monotonic since = os::monotonic_now();
      if (!deadline->at) deadline->at = since + deadline->patience;
      const ConnectionIo::Wait waited = io_.wait(POLLIN, *deadline->at, wake_descriptor);
      last_wait_ += os::monotonic_now() - since;
      switch (waited) {
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
      engine_.peer_closed();
      return Received::End;
    }
    const auto size = static_cast<std::size_t>(*result);
    const std::size_t directly = std::min(size, past_buffer);
    if (directly > 0) {
      engine_.body_bypassed(directly);
      *direct_size = directly;
    }
    if (size > directly) engine_.received(size - directly);
    return Received::Some;
  }
}

// --- the head

ProtocolExchange::Progress ProtocolExchange::take_request(
    Patience patience,
    std::optional<std::chrono::milliseconds> short_wait) {
  if (!io_.is_open()) return gone(Trouble::PeerClosed);
  if (!ended_) return Progress::Ready;  // it was found incomplete, and nobody has taken it
  trouble_ = Trouble::None;
  trouble_text_.clear();
  title_.clear();
  io_.reset_counters();
  Deadline deadline{options_.head_timeout, {}};
  if (is_overdue_) deadline.patience = std::chrono::milliseconds::zero();
  if (is_overdue_) short_wait.reset();
  Deadline brief{short_wait.value_or(std::chrono::milliseconds::zero()), {}};
  has_whole_body_ = true;
  for (;;) {
    const Event event = unread_event_ ? *std::exchange(unread_event_, {}) : engine_.next();
    switch (event) {
      case Event::NeedMore:
        break;
      case Event::Request: {
        const Progress begun = begin_request();
        return begun == Progress::Ready ? await_body_ahead(short_wait ? &brief : nullptr) : begun;
      }
      case Event::Refused: {
        forget_request();
        static_cast<void>(environment_.build({}));  // nothing of the request before shall be seen
        ended_ = false;
        is_head_request_ = refused_method() == "HEAD";
        take_request_id();
        const Refusal refusal = engine_.refusal();
        const bool is_too_large = refusal.status == 431 || refusal.status == 414;
        return refuse(is_too_large ? Trouble::HeadTooLarge : Trouble::BadRequest, refusal.status,
                      true, std::string("refused a request: ").append(refusal.reason));
      }
      case Event::Close:
        if (send_pending() && !engine_.has_peer_closed()) {
          end_connection(false);  // of a refused request there may be more on its way
        }
        return gone(Trouble::PeerClosed);
      case Event::Dropped:
        return drop();
      case Event::Body:
      case Event::BodyEnd:
      case Event::Aborted:
        os::broken_invariant(__FILE__, __LINE__, "event of a request while none is active");
    }
    if (!send_pending()) return gone(Trouble::PeerClosed);
    const bool has_begun = engine_.is_head_started();
    const bool may_wait = has_begun || patience == Patience::Wait;
    if (engine_.receive_space().empty()) {
      // Of what a request begins with there is more than we keep to give it away; what comes from somebody who has waited for it already
      // goes on.
      if (short_wait && io_.received_before().empty()) return Progress::Incomplete;
      engine_.forget_unserved();
    }
    Deadline* limit = short_wait ? &brief : &deadline;
    switch (receive(may_wait ? limit : nullptr, has_begun ? -1 : options_.wake_descriptor)) {
      case Received::Some:
      case Received::End:
      case Received::Interrupted:
        break;
      case Received::Nothing:
        return Progress::Idle;
      case Received::TimedOut:
        if (short_wait) return Progress::Incomplete;
        return gone(Trouble::HeadTimeout, has_begun || is_silence_odd()
                                              ? "dropped a connection: its request took too long"
                                              : "");
      case Received::Failed:
        return gone(Trouble::PeerClosed);
    }
  }
}

// Looks how much of the body is here, and waits for more of it only as long as is worth it. Nothing is consumed.
ProtocolExchange::Progress ProtocolExchange::await_body_ahead(Deadline* short_wait) {
  for (;;) {
    const BodyAhead ahead = engine_.body_ahead();
    has_whole_body_ = ahead.is_whole;
    if (ahead.is_whole || ahead.needs_answer || short_wait == nullptr ||
        ahead.bytes >= options_.body_ahead || engine_.receive_space().empty()) {
      return Progress::Ready;
    }
    if (!send_pending()) return gone(Trouble::Abandoned);
    switch (receive(short_wait, -1)) {
      case Received::TimedOut:
        return Progress::Incomplete;
      case Received::Failed:
        return gone(Trouble::Abandoned);
      case Received::Some:
      case Received::End:
      case Received::Nothing:
      case Received::Interrupted:
        break;
    }
  }
}

void ProtocolExchange::forget_request() {
  stored_.clear();
  is_stored_ = false;
  body_position_ = body_taken_ = 0;
  body_error_ = 0;
  status_ = 0;
  is_head_request_ = false;
  wants_body_ = true;
  announced_length_.reset();
  body_sent_ = room_used_ = 0;
  wrong_length_.reset();
  started_ = committed_ = aborted_ = lost_ = closes_ = discarding_ = is_input_foreign_ = false;
  is_overruled_ = false;
  ended_body_error_ = 0;
  is_finishing_ = is_given_up_ = must_send_rest_ = false;
  waited_before_ = {};
  rest_.reset();
  bytes_left_ = 0;
  pace_.start();
  ended_ = true;
  send_error_ = 0;
  head_.clear();
  if (head_.capacity() > kKeptHeadSize) head_.shrink_to_fit();
  queue_.clear();
  on_new_request();
}

ProtocolExchange::Progress ProtocolExchange::begin_request() {
  forget_request();
  ended_ = false;
  closes_ = is_last_request_;
  const auto built = environment_.build(sent_parameters());
  is_head_request_ = environment_.method() == "HEAD";
  take_request_id();
  if (!built) {
    return refuse(Trouble::BadRequest, 400, false,
                  std::string("refused a request: ").append(cgi::describe(built.error())));
  }
  const auto length = environment_.content_length();
  on_body_length(length);
  if (length && is_over_limit(*length)) {
    return refuse(Trouble::BodyTooLarge, 413, true, "refused a request: its body is too large");
  }
  return Progress::Ready;
}

// While the views into the request are good.
void ProtocolExchange::note_title() {
  title_.clear();
  if (environment_.method().empty()) return;
  constexpr std::size_t kMethodShown = 32;
  title_ = printable(environment_.method(), kMethodShown) + ' ' + printable(environment_.uri()) +
           " [" + request_id_ + "]";
}

void ProtocolExchange::take_request_id() {
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

Event ProtocolExchange::next_event() {
  const Event event = engine_.next();
  if (event == Event::Aborted) aborted_ = true;
  if (event == Event::Dropped && !answers_what_is_malformed()) lost_ = true;
  return event;
}

ProtocolExchange::Progress ProtocolExchange::prepare() {
  engine_.forget_unserved();
  const auto length = environment_.content_length();
  bool may_store = true;
  switch (options_.input) {
    case InputMode::Auto:
      may_store = !length || *length <= options_.input_memory;
      break;
    case InputMode::Stream:
      // Looks, but does not wait: a request without a body has nothing to stream.
      if (!engine_.is_body_complete()) may_store = next_event() == Event::BodyEnd;
      break;
    case InputMode::Spool:
      break;
  }
  if (may_store) {
    if (const int error = store_body(); error != 0) {
      stored_.clear();  // at once: others need the room
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
  if (body_error_ == ECONNABORTED && answers_what_is_malformed() && engine_.drop_reason().empty()) {
    if (!engine_.is_body_short()) return gone(Trouble::Abandoned);
    return refuse(Trouble::BadRequest, 400, true, "refused a request: its body is not complete");
  }
  if (engine_.has_buffered_input()) look_at_buffer();
  if (!engine_.drop_reason().empty()) {
    if (!answers_what_is_malformed()) return drop();
    return refuse(Trouble::BadRequest, 400, true,
                  std::string("refused a request: ").append(engine_.drop_reason()));
  }
  if (lost_) return gone(Trouble::Abandoned);
  if (aborted_) {
    finish();
    trouble_ = Trouble::Aborted;
    return Progress::Answered;
  }
  const bool has_just_come = is_presence_expected_ && body_taken_ == 0 && body_error_ == 0;
  if (!has_just_come && io_.is_peer_gone(options_.abandons_half_closed))
    return gone(Trouble::Abandoned);
  // Also management records that came with the request are answered before a perhaps long wait for the application.
  if (!send_pending()) return gone(Trouble::Abandoned);
  if (is_stored_ && !length && stored_.size() > 0) environment_.set_content_length(stored_.size());
  return Progress::Ready;
}

int ProtocolExchange::store_body() {
  while (!engine_.is_body_complete()) {
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
    if (engine_.body().empty() && next_event() == Event::BodyEnd) continue;
    if (options_.input == InputMode::Auto) return 0;
    if (!copy_buffer_) copy_buffer_ = std::make_unique_for_overwrite<std::byte[]>(kCopyBufferSize);
    is_copy_of_body_ = true;
    const runtime::BodyRead got = read_connection({copy_buffer_.get(), kCopyBufferSize});
    if (got.error == EINTR) continue;
    body_error_ = got.error;
    if (got.error != 0) return 0;
    if (const int error = stored_.append({copy_buffer_.get(), got.size}); error != 0) return error;
  }
  is_stored_ = true;
  return 0;
}

runtime::BodyRead ProtocolExchange::read_connection(WritableBytes into) {
  const auto took = [this](std::size_t size) -> runtime::BodyRead {
    body_taken_ += size;
    if (is_over_limit(body_taken_)) return {0, EFBIG};
    return {size, 0};
  };
  Deadline deadline{is_overdue_ ? std::chrono::milliseconds::zero() : options_.body_timeout, {}};
  for (;;) {
    if (aborted_ || lost_ || engine_.is_body_short() || !engine_.drop_reason().empty())
      return {0, ECONNABORTED};
    const Bytes here = engine_.body();
    if (!here.empty()) {
      const std::size_t size = std::min(here.size(), into.size());
      std::copy_n(here.begin(), size, into.begin());
      engine_.consume_body(size);
      return took(size);
    }
    if (engine_.is_body_complete()) return {};
    switch (next_event()) {
      case Event::Body:
      case Event::BodyEnd:
      case Event::Aborted:
      case Event::Dropped:
        continue;
      case Event::Close:
        return {0, ECONNABORTED};
      case Event::NeedMore:
        break;
      case Event::Request:
      case Event::Refused:
        os::broken_invariant(__FILE__, __LINE__, "a second request while one is active");
    }
    // Behind the head of the response it would be part of the body; the peer has been told nothing, so nothing will come.
    if (committed_ && engine_.awaits_word()) return {0, ECONNABORTED};
    engine_.want_body();
    if (!send_pending()) return {0, ECONNABORTED};
    std::size_t direct_size = 0;
    const std::uint64_t before = io_.bytes_received();
    const Received received = receive(&deadline, -1, into, &direct_size);
    if (!pace_.keeps_up(last_wait_, io_.bytes_received() - before)) return {0, ETIMEDOUT};
    switch (received) {
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

std::span<const runtime::Parameter> ProtocolExchange::parameters() const noexcept {
  return environment_.parameters();
}

runtime::BodyInfo ProtocolExchange::body() const noexcept {
  if (is_stored_) return {true, stored_.size(), stored_.memory()};
  return {false, environment_.content_length(), {}};
}

runtime::BodyRead ProtocolExchange::read_body(WritableBytes into) noexcept {
  if (ended_) return {};
  if (body_position_ < stored_.size()) {
    const runtime::BodyRead got = stored_.read(body_position_, into);
    body_position_ += got.size;
    return got;
  }
  if (is_stored_) return {};
  if (body_error_ != 0) return {0, body_error_};
  const runtime::BodyRead got = read_connection(into);
  if (got.error != EINTR) body_error_ = ended_body_error_ = got.error;
  if (ended_body_error_ != 0) note_title();
  return got;
}

bool ProtocolExchange::seek_body(std::uint64_t offset) noexcept {
  if (!is_stored_ || ended_ || offset > stored_.size()) return false;
  body_position_ = offset;
  return true;
}

void ProtocolExchange::look_at_buffer() {
  for (;;) {
    switch (next_event()) {
      case Event::BodyEnd:
      case Event::Aborted:
        continue;
      case Event::Body:
        if (engine_.is_abort_ahead()) aborted_ = true;
        return;
      default:
        return;
    }
  }
}

void ProtocolExchange::look_at_socket() {
  if (!is_input_foreign_ && !engine_.has_peer_closed() && !engine_.receive_space().empty()) {
    static_cast<void>(receive(nullptr, -1));  // that the peer has gone, sending will tell
  }
  look_at_buffer();
}

void ProtocolExchange::discard_body() {
  for (;;) {
    switch (engine_.next()) {
      case Event::Body:
        engine_.consume_body(engine_.body().size());
        continue;
      case Event::BodyEnd:
      case Event::Aborted:
        continue;
      case Event::Dropped:
        closes_ = true;  // what we are saying can still be said to its end
        return;
      default:
        return;
    }
  }
}

WritableBytes ProtocolExchange::input_space() noexcept {
  if (engine_.has_peer_closed() || is_input_foreign_) return {};
  if (discarding_) {
    discard_body();
    if (!engine_.drop_reason().empty()) return {};
  }
  return engine_.receive_space();
}

void ProtocolExchange::input_received(std::size_t size) noexcept {
  if (size == 0) {
    engine_.peer_closed();
  } else {
    engine_.received(size);
  }
}

// --- sending

bool ProtocolExchange::transmit(std::span<iovec> what, bool has_more) {
  if (!rest_) {
    is_sending_.store(true, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    send_error_ = io_.send(what, has_more ? MSG_MORE : 0, options_.send_timeout, *this);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    is_sending_.store(false, std::memory_order_relaxed);
    if (send_error_ == 0) return true;
    if (!begin_rest(send_error_)) return false;
  }
  for (const iovec& piece : what) {
    const auto* bytes = static_cast<const std::byte*>(piece.iov_base);
    rest_->bytes.insert(rest_->bytes.end(), bytes, bytes + piece.iov_len);
  }
  return true;
}

// --- the rest of a finished response

std::optional<std::chrono::nanoseconds> ProtocolExchange::on_stall(
    std::chrono::nanoseconds waited) noexcept {
  if (!options_.on_stall) return std::chrono::nanoseconds::max();
  const WhenStalled decision = options_.on_stall({.waited = waited,
                                                  .waited_in_all = waited_before_ + waited,
                                                  .may_hand_over = may_leave_rest(),
                                                  .memory = last_file_ >= 0 ? 0 : queued_bytes()});
  switch (decision.action) {
    case WhenStalled::Action::Wait:
      return decision.wait;
    case WhenStalled::Action::HandOver:
      return std::nullopt;
    case WhenStalled::Action::GiveUp:
      is_given_up_ = true;
      return std::nullopt;
  }
  return decision.wait;
}

void ProtocolExchange::stall_ended(std::chrono::nanoseconds waited) noexcept {
  waited_before_ += waited;
}

bool ProtocolExchange::may_leave_rest() {
  return is_finishing_ && !must_send_rest_ && !is_input_foreign_ && !aborted_ &&
         (last_file_ < 0 || has_own_file());
}

// The application closes its own before the response has ended.
bool ProtocolExchange::has_own_file() {
  if (!own_file_.is_open() && os::is_local_file(last_file_))
    own_file_ = os::Fd(::fcntl(last_file_, F_DUPFD_CLOEXEC, 3));
  return own_file_.is_open();
}

// After sending has ended with this error. False: it cannot go on.
bool ProtocolExchange::begin_rest(int error) {
  if (error == EAGAIN && !is_given_up_) {
    rest_.emplace();
    send_error_ = 0;
    return true;
  }
  send_error_ = error == EAGAIN ? ETIMEDOUT : error;
  lost_ = true;
  return false;
}

void ProtocolExchange::leave_file(std::uint64_t offset, std::uint64_t length, std::uint64_t piece) {
  rest_->before_file = rest_->bytes.size();
  rest_->file = std::move(own_file_);
  rest_->file_offset = offset;
  rest_->file_length = length;
  rest_->file_piece = piece;
}

class ProtocolExchange::Pieces final : public handoff::Framing {
 public:
  explicit Pieces(ProtocolExchange& exchange) : exchange_(exchange) {}

  [[nodiscard]] std::size_t largest_piece() const override { return exchange_.largest_piece(); }

  [[nodiscard]] Bytes piece_begin(std::size_t size) override { return exchange_.piece_begin(size); }

  [[nodiscard]] Bytes piece_end() override { return exchange_.piece_end(); }

 private:
  ProtocolExchange& exchange_;
};

// When the request has ended. Afterwards the connection is somebody else's, or everything was sent after all, or could not be.
void ProtocolExchange::leave_rest(bool keeps) {
  static_cast<void>(send_pending());  // behind it
  Rest rest = std::move(*rest_);
  rest_.reset();
  handoff::Message message;
  message.protocol = protocol();
  message.kind = rest.file.is_open() ? handoff::Kind::UnsentFile : handoff::Kind::UnsentResponse;
  describe_pieces(message);
  message.unsent_bytes = static_cast<std::uint32_t>(
      std::min<std::size_t>(rest.bytes.size(), std::numeric_limits<std::uint32_t>::max()));
  message.bytes_before_file =
      rest.file.is_open() ? static_cast<std::uint32_t>(rest.before_file) : 0;
  message.file_offset = rest.file_offset;
  message.file_length = rest.file_length;
  message.file_piece = rest.file_piece;
  const std::size_t unsent = rest.bytes.size();
  keeps = keeps && !engine_.has_peer_closed() && !is_last_request_;
  const auto unserved = engine_.unserved();
  if (keeps && !unserved) {
    // The rest of the request is on its way yet, and only we know how much to pass over.
    message.bytes = rest.bytes;
    send_rest(message, rest);
    return;
  }
  if (keeps) {
    message.flags |= handoff::kKeepAfterwards;
    message.replies = unserved->bytes.empty() ? 0 : unserved->replies;
    for (const Bytes received : {unserved->bytes, io_.received_before()})
      rest.bytes.insert(rest.bytes.end(), received.begin(), received.end());
  }
  message.bytes = rest.bytes;
  const os::Monotonic limit = os::monotonic_now() + kQueuePatience;
  for (int channel = -1; (channel = options_.lobby ? options_.lobby() : -1) >= 0;) {
    const auto outcome = handoff::send(channel, message, io_.descriptor(), rest.file.get());
    if (outcome == handoff::SendOutcome::Sent) {
      bytes_left_ = unsent + rest.file_length;
      wipe(rest.bytes.data() + unsent, rest.bytes.size() - unsent);
      io_.close();
      return;
    }
    const bool is_full = outcome == handoff::SendOutcome::QueueFull;
    if ((!is_full && outcome != handoff::SendOutcome::TooManyInFlight) ||
        os::monotonic_now() >= limit) {
      break;
    }
    // Of descriptors under way poll knows nothing. Not too often: each try fills memory anew.
    pollfd room{.fd = is_full ? channel : -1, .events = POLLOUT, .revents = 0};
    ::poll(&room, 1, 20);
  }
  wipe(rest.bytes.data() + unsent, rest.bytes.size() - unsent);
  send_rest(message, rest);
}

void ProtocolExchange::send_rest(const handoff::Message& message, const Rest& rest) {
  must_send_rest_ = true;
  Pieces pieces(*this);
  handoff::Outgoing outgoing(message, pieces);
  BrokenPipeGuard guard;
  for (;;) {
    const handoff::Outgoing::Next next = outgoing.next();
    if (next.source == handoff::Outgoing::Source::Nothing) return;
    if (next.source == handoff::Outgoing::Source::File) {
      auto at = static_cast<off_t>(next.offset);
      send_error_ =
          io_.send_file(rest.file.get(), &at, next.size, options_.send_timeout, *this, guard);
      if (send_error_ != 0 && is_no_sendfile(send_error_)) {
        const auto end = static_cast<off_t>(next.offset + next.size);
        send_error_ = 0;
        if (!copy_file(rest.file.get(), at, static_cast<std::size_t>(end - at))) return;
      }
    } else {
      const Bytes bytes = next.source == handoff::Outgoing::Source::Frame
                              ? next.frame
                              : Bytes(rest.bytes).subspan(next.offset, next.size);
      iovec vector = as_vector(bytes);
      send_error_ =
          io_.send({&vector, 1}, next.has_more ? MSG_MORE : 0, options_.send_timeout, *this);
    }
    if (send_error_ != 0) {
      if (send_error_ == EAGAIN) send_error_ = ETIMEDOUT;  // given up
      if (send_error_ == ENODATA) send_error_ = EIO;
      lost_ = true;
      return;
    }
    outgoing.sent(next.size);
  }
}

bool ProtocolExchange::send_pending() {
  // While it is on its way the engine may want to say more, so it is not sent from where it is collected.
  const Bytes pending = take_pending();
  if (pending.empty()) return true;
  iovec vector = as_vector(pending);
  return transmit({&vector, 1}, false);
}

Bytes ProtocolExchange::take_pending() {
  if (replies_to_skip_ > 0) {
    const std::size_t size =
        std::min<std::size_t>(replies_to_skip_, engine_.pending_output().size());
    engine_.output_sent(size);
    replies_to_skip_ -= static_cast<std::uint32_t>(size);
  }
  const Bytes pending = engine_.pending_output();
  pending_.assign(pending.begin(), pending.end());
  engine_.output_sent(pending.size());
  return pending_;
}

std::size_t ProtocolExchange::queued_bytes() const {
  std::size_t size = 0;
  for (const Bytes piece : queue_)
    size += piece.size();
  return size;
}

// --- the response

void ProtocolExchange::start_response(int status,
                                      std::span<const runtime::Header> headers) noexcept {
  if (started_ || ended_) return;
  // Of a body that was too long the application has seen a part, and few look for that.
  if (body_error_ == EFBIG && status < 400) {
    closes_ = true;
    body_error_ = 0;  // what follows is ours
    answer_page(canned_response(413));
    is_overruled_ = true;
    return;
  }
  started_ = true;
  status_ = status;
  wants_body_ = !is_head_request_ && status_allows_body(status);
  announced_length_ = write_head(status, headers);
}

void ProtocolExchange::discard_response() noexcept {
  if (committed_) return;
  started_ = is_overruled_ = false;
  status_ = 0;
  wants_body_ = true;
  announced_length_.reset();
  body_sent_ = room_used_ = 0;
  head_.clear();
  queue_.clear();
}

bool ProtocolExchange::write(Bytes bytes) noexcept {
  if (!is_usable() || !started_) return false;
  if (!wants_body_ || is_overruled_ || bytes.empty()) return true;
  body_sent_ += bytes.size();
  bytes = bytes.first(std::min<std::uint64_t>(bytes.size(), room_for_body()));
  room_used_ += bytes.size();
  if (bytes.empty()) return true;
  queue_.push_back(bytes);
  if (queue_.size() < kMaxQueuedPieces) return true;
  look_at_socket();
  return is_usable() && send_queue(false, false);
}

bool ProtocolExchange::flush() noexcept {
  if (!is_usable()) return false;
  look_at_socket();
  return is_usable() && send_queue(false, false);
}

std::int64_t ProtocolExchange::send_file(int fd,
                                         off_t offset,
                                         std::uint64_t length,
                                         bool is_last) noexcept {
  const auto peer_has_gone = [this]() -> std::int64_t {
    errno = send_error_ != 0 ? send_error_ : EPIPE;
    return -1;
  };
  if (!started_ || !is_usable()) return peer_has_gone();
  look_at_socket();
  if (!is_usable()) return peer_has_gone();
  if (!wants_body_ || is_overruled_) return static_cast<std::int64_t>(length);

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
  const std::uint64_t produced = length;
  length = std::min(length, room_for_body());

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
    room_used_ += static_cast<std::uint64_t>(size);
    const bool is_whole = static_cast<std::uint64_t>(size) == length;
    const auto taken = is_whole ? static_cast<std::int64_t>(produced) : size;
    body_sent_ += static_cast<std::uint64_t>(taken);
    is_finishing_ = is_last && is_whole;
    return send_queue(false, false) ? taken : peer_has_gone();
  }

  if (is_last) {
    is_finishing_ = true;
    last_file_ = fd;
  }
  if (!send_queue(false, true)) return peer_has_gone();
  BrokenPipeGuard guard;
  bool may_sendfile = true;
  const auto send_frame = [this](Bytes frame) {
    iovec vector = as_vector(frame);
    return frame.empty() || transmit({&vector, 1}, true);
  };
  std::uint64_t sent = 0;
  std::uint64_t next_look = kBytesBetweenLooks;
  const auto file_end = static_cast<std::uint64_t>(offset) + length;
  while (sent < length) {
    const auto content =
        static_cast<std::size_t>(std::min<std::uint64_t>(length - sent, largest_piece()));
    off_t at = offset + static_cast<off_t>(sent);
    const off_t end = at + static_cast<off_t>(content);
    const auto leave_from = [&](off_t from, off_t piece_end) {
      const auto first = static_cast<std::uint64_t>(from);
      leave_file(first, file_end - first, static_cast<std::uint64_t>(piece_end - from));
      sent = length;
    };
    if (rest_) {
      leave_from(at, at);
      break;
    }
    if (!send_frame(piece_begin(content))) return peer_has_gone();
    if (rest_) {
      leave_from(at, end);
      break;
    }
    if (may_sendfile) {
      send_error_ = io_.send_file(fd, &at, content, options_.send_timeout, *this, guard);
      // Then the record that was promised is filled by reading.
      may_sendfile = !is_no_sendfile(send_error_);
      if (send_error_ != 0 && may_sendfile) {
        if (send_error_ == ENODATA) send_error_ = EIO;  // it has shrunk since we looked
        if (!begin_rest(send_error_)) return peer_has_gone();
        leave_from(at, end);
        break;
      }
    }
    if (!may_sendfile && !copy_file(fd, at, static_cast<std::size_t>(end - at))) {
      return peer_has_gone();
    }
    if (!send_frame(piece_end())) return peer_has_gone();
    sent += content;
    if (sent >= next_look && !rest_) {
      next_look = sent + kBytesBetweenLooks;
      look_at_socket();
      if (!is_usable() || !send_pending()) return peer_has_gone();
    }
  }
  room_used_ += sent;
  body_sent_ += produced;
  last_file_ = -1;  // it may be closed from now on
  own_file_.reset();
  return static_cast<std::int64_t>(produced);
}

std::uint64_t ProtocolExchange::room_for_body() const {
  if (!cuts_body_ || !announced_length_) return std::numeric_limits<std::uint64_t>::max();
  return *announced_length_ - std::min(room_used_, *announced_length_);
}

bool ProtocolExchange::copy_file(int fd, off_t offset, std::size_t length) {
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

void ProtocolExchange::answer(const CannedResponse& response) {
  discard_response();
  answer_page(response);
  finish();
}

void ProtocolExchange::answer_page(const CannedResponse& response) {
  std::string length;
  append_number(length, response.body.size());
  const std::array<runtime::Header, 2> headers = {
      runtime::Header{"Content-Type", response.content_type},
      runtime::Header{"Content-Length", length}};
  start_response(response.status, headers);
  static_cast<void>(write(as_bytes(response.body)));
}

bool ProtocolExchange::answer_timed_out() noexcept {
  // A connection that was lent speaks for itself.
  if (ended_ || lost_ || aborted_ || is_input_foreign_ || is_sending_ || rest_ || !io_.is_open())
    return false;
  std::array<std::byte, 1024> text;
  const bool has_begun = committed_;
  const std::size_t size = write_timed_out(text, has_begun);
  if (size == 0) return false;
  const ssize_t sent = ::send(io_.descriptor(), text.data(), size, MSG_NOSIGNAL | MSG_DONTWAIT);
  // What is left of the body would make the kernel reset the connection, and that might destroy what was just said.
  ::shutdown(io_.descriptor(), SHUT_WR);
  constexpr int kMostReads = 256;
  for (int i = 0; i < kMostReads; ++i) {
    if (::recv(io_.descriptor(), text.data(), text.size(), MSG_DONTWAIT | MSG_TRUNC) <= 0) break;
  }
  return !has_begun && sent == static_cast<ssize_t>(size);
}

void ProtocolExchange::finish() noexcept {
  if (ended_) return;
  if (engine_.has_buffered_input()) look_at_buffer();
  discarding_ = true;
  if (aborted_) {
    // Nobody reads what is not sent yet, but the request must be ended all the same.
    head_.clear();
    queue_.clear();
  } else if (!started_ && !lost_) {
    answer(canned_response(500));
    return;
  } else if (!lost_ && wants_body_ && announced_length_ && *announced_length_ != body_sent_) {
    note_title();
    wrong_length_ = WrongLength{.announced = *announced_length_, .sent = body_sent_};
    // The peer would take what comes next for the rest of it.
    if (cuts_body_ && body_sent_ < *announced_length_) closes_ = true;
  }
  is_finishing_ = true;
  if (!lost_) send_queue(true, false);
  end_request();
}

void ProtocolExchange::end_request() {
  ended_ = true;
  const auto end_lost = [this] {
    if (committed_ && ends_by_closing()) {
      io_.reset_connection();
    } else {
      io_.close();
    }
    forget_client();
  };
  if (lost_) {
    end_lost();
    return;
  }
  discard_body();
  const bool is_input_finished = engine_.is_input_finished();
  const bool keeps = engine_.keeps_connection() && !closes_;
  engine_.request_ended();
  // What comes from now on is of the next request, and what is sent is not the end of anything.
  discarding_ = is_finishing_ = false;
  if (rest_) {
    leave_rest(keeps);
    if (lost_) {
      end_lost();
      return;
    }
    if (!io_.is_open()) {
      forget_client();
      return;
    }
  }
  if (!keeps) {
    end_connection(is_input_finished);
  } else if (do_others_wait()) {
    release_connection();  // now rather than later: the peer has not begun another request yet
  }
  forget_client();
}

void ProtocolExchange::forget_client() {
  last_file_ = -1;
  own_file_.reset();
  rest_.reset();
  request_started_ = {};
  is_overdue_ = false;
  stored_.clear();
  is_stored_ = false;
  environment_.forget();
  if (copy_buffer_ && is_copy_of_body_) wipe(copy_buffer_.get(), kCopyBufferSize);
  is_copy_of_body_ = false;
  if (!io_.is_open()) engine_.reset();  // else it has forgotten the request only
}

void ProtocolExchange::end_connection(bool is_input_finished) {
  if (ends_by_closing()) io_.set_abortive(false);
  // With input on its way, closing would reset the connection and could destroy the end of the response.
  // Who sends so slowly that somebody had to wait for it may be sending yet.
  is_input_finished = is_input_finished && !is_arrival_;
  if (is_input_finished || engine_.has_peer_closed()) {
    io_.close();
    return;
  }
  if (leave_closing_to_others()) return;
  engine_.discard_input();
  const WritableBytes scratch = engine_.receive_space();
  io_.close_after_reading(options_.drain_bytes, options_.close_timeout, scratch);
  wipe(scratch.data(), scratch.size());
}

bool ProtocolExchange::leave_closing_to_others() {
  const int channel = options_.lobby ? options_.lobby() : -1;
  if (channel < 0) return false;
  if (io_.end_output()) {
    handoff::Message message;
    message.protocol = protocol();
    message.kind = handoff::Kind::Closing;
    message.progress_deadline = as_deadline(os::monotonic_now() + options_.close_timeout);
    if (handoff::send(channel, message, io_.descriptor()) != handoff::SendOutcome::Sent)
      return false;
  }
  io_.close();
  return true;
}

void ProtocolExchange::abort() noexcept {
  if (ended_) return;
  ended_ = true;
  is_finishing_ = false;
  rest_.reset();
  queue_.clear();
  head_.clear();
  const bool is_input_finished = engine_.is_input_finished();
  if (committed_ && ends_by_closing()) {
    io_.reset_connection();
  } else if (committed_ && io_.is_open() && !lost_ && send_broken_end() && !lost_) {
    // Who is still sending would get an error for that, and might not look at what has come.
    end_connection(is_input_finished);
  } else {
    io_.close();
  }
  forget_client();
}

os::Fd ProtocolExchange::lend_connection() {
  if (ended_ || lost_ || !io_.is_open()) {
    errno = ENOTCONN;
    return os::Fd();
  }
  os::Fd copy = io_.duplicate_blocking(options_.send_timeout);
  if (copy.is_open()) {
    close_after_response();
    leave_input_alone();
  }
  return copy;
}

void ProtocolExchange::leave_raw_connection() noexcept {
  if (ended_) return;
  ended_ = true;
  status_ = 101;  // whatever was said: it was not we who said it
  io_.close();    // and not shut down: it goes on with whoever has the other descriptor
  forget_client();
}

void ProtocolExchange::await_rest() {
  Deadline deadline{kRestPatience, {}};
  while (engine_.is_rest_expected()) {
    if (const Event event = engine_.next(); event != Event::NeedMore) {
      unread_event_ = event;
      return;
    }
    if (!engine_.is_rest_expected()) return;
    switch (receive(&deadline, -1)) {
      case Received::Some:
      case Received::Interrupted:
        continue;
      default:
        return;
    }
  }
}

void ProtocolExchange::release_connection() noexcept {
  if (!ended_ || !io_.is_open()) return;
  if (options_.park && options_.park()) return;
  await_rest();
  if (unread_event_ || engine_.has_buffered_input() || engine_.is_head_started()) return;
  if (receive(nullptr, -1) == Received::Some) return;
  // Refuses what would come from now on before a byte of it is taken, and looks once more for what slipped in before: see
  // docs/decisions/0004.
  io_.refuse_input();
  if (receive(nullptr, -1) != Received::Some) io_.close();
}

}  // namespace bladepsgi::worker
