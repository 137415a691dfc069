#include "http/connection.h"

#include <algorithm>
#include <cstring>

namespace bladepsgi::http {

namespace {

constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

}  // namespace

Connection::Connection(const Limits& limits)
    : limits_(limits), input_(limits.receive_buffer), head_(limits), chunks_(limits) {}

void Connection::reset() {
  input_.clear();
  input_.wipe();
  phase_ = Phase::Idle;
  error_ = {};
  peer_closed_ = false;
  head_.clear();
  chunks_.clear();
  length_left_ = drained_ = 0;
  body_ended_ = end_told_ = is_malformed_ = body_begun_ = body_wanted_ = closes_ = false;
  continues_ = false;
  output_sent_ = 0;
}

void Connection::release_memory() {
  if (!input_.empty()) return;
  input_.release();
  if (phase_ == Phase::Idle && !head_.is_started()) head_.release_memory();
}

WritableBytes Connection::receive_space() {
  return input_.space();
}

void Connection::received(std::size_t size) {
  input_.received(size);
}

Event Connection::drop(std::string_view error) {
  error_ = error;
  if (phase_ == Phase::Active) {
    is_malformed_ = true;
  } else {
    phase_ = Phase::Dropped;
  }
  return Event::Dropped;
}

Event Connection::need_more() {
  if (!peer_closed_) return Event::NeedMore;
  if (phase_ != Phase::Active) phase_ = Phase::Closing;
  return Event::Close;
}

Event Connection::next() {
  for (;;) {
    switch (phase_) {
      case Phase::Idle:
        return take_head();
      case Phase::Active:
        return next_of_body();
      case Phase::Draining:
        if (const auto event = drain()) return *event;
        continue;
      case Phase::Closing:
        return Event::Close;
      case Phase::Dropped:
        return Event::Dropped;
    }
  }
}

Event Connection::take_head() {
  if (keeps_unserved_ && !head_.is_started() && !input_.is_holding()) input_.hold();
  const HeadParser::Taken taken = head_.take(as_text(input_.unread()));
  input_.consume(taken.consumed);
  switch (taken.progress) {
    case HeadParser::Progress::NeedMore:
      return need_more();
    case HeadParser::Progress::Refused:
      phase_ = Phase::Closing;
      return Event::Refused;
    case HeadParser::Progress::Complete:
      break;
  }
  phase_ = Phase::Active;
  chunks_.clear();
  length_left_ = request().content_length.value_or(0);
  drained_ = 0;
  body_ended_ = !request().has_body();
  end_told_ = is_malformed_ = body_begun_ = body_wanted_ = closes_ = false;
  continues_ = false;
  output_sent_ = 0;
  return Event::Request;
}

std::uint64_t Connection::data_left() const {
  return request().is_chunked ? chunks_.data_left() : length_left_;
}

void Connection::data_taken(std::uint64_t size) {
  body_begun_ = true;
  if (request().is_chunked) {
    chunks_.consume(size);
  } else {
    length_left_ -= size;
    body_ended_ = length_left_ == 0;
  }
}

std::optional<Event> Connection::take_framing() {
  if (body_ended_ || data_left() > 0) return std::nullopt;
  if (input_.empty()) return need_more();
  const ChunkDecoder::Taken taken = chunks_.take(as_text(input_.unread()));
  input_.consume(taken.consumed);
  body_begun_ = true;
  if (phase_ == Phase::Draining && !count_drained(taken.consumed)) return Event::Dropped;
  switch (taken.progress) {
    case ChunkDecoder::Progress::NeedMore:
      return need_more();
    case ChunkDecoder::Progress::Malformed:
      return drop(chunks_.error());
    case ChunkDecoder::Progress::End:
      body_ended_ = true;
      break;
    case ChunkDecoder::Progress::Data:
      break;
  }
  return std::nullopt;
}

Event Connection::next_of_body() {
  if (is_malformed_) return Event::Dropped;
  if (const auto event = take_framing()) return *event;
  if (!body_ended_) return !input_.empty() ? Event::Body : need_more();
  if (end_told_) return need_more();
  end_told_ = true;
  return Event::BodyEnd;
}

bool Connection::count_drained(std::uint64_t size) {
  drained_ += size;
  if (drained_ <= limits_.drain_bytes) return true;
  drop("too much of a body that nobody reads");
  return false;
}

std::optional<Event> Connection::drain() {
  if (const auto event = take_framing()) return event;
  if (!body_ended_) {
    const std::uint64_t size = std::min<std::uint64_t>(input_.size(), data_left());
    if (size == 0) return need_more();
    input_.consume(static_cast<std::size_t>(size));
    data_taken(size);
    if (!count_drained(size)) return Event::Dropped;
    return std::nullopt;
  }
  input_.wipe();
  head_.clear();
  phase_ = Phase::Idle;
  return std::nullopt;
}

void Connection::want_body() {
  if (phase_ != Phase::Active) return;
  if (awaits_word() && !body_begun_ && input_.empty()) continues_ = true;
  body_wanted_ = true;
}

bool Connection::awaits_word() const {
  return request().expects_continue && !body_wanted_ && !body_ended_;
}

Bytes Connection::body() const {
  if (phase_ != Phase::Active || is_malformed_) return {};
  return input_.unread().first(
      static_cast<std::size_t>(std::min<std::uint64_t>(input_.size(), data_left())));
}

void Connection::consume_body(std::size_t size) {
  input_.consume(size);
  data_taken(size);
}

std::size_t Connection::body_bypass() const {
  if (phase_ != Phase::Active || is_malformed_ || !input_.empty()) return 0;
  return static_cast<std::size_t>(data_left());
}

void Connection::body_bypassed(std::size_t size) {
  data_taken(size);
}

bool Connection::is_body_complete() const {
  return phase_ == Phase::Active && body_ended_;
}

bool Connection::is_body_short() const {
  return phase_ == Phase::Active && peer_closed_ && !body_ended_ && input_.empty();
}

bool Connection::must_close() const {
  if (phase_ == Phase::Closing || phase_ == Phase::Dropped) return true;
  if (phase_ != Phase::Active) return false;
  if (closes_ || is_malformed_ || !request().keeps_connection || awaits_word()) return true;
  return !body_ended_ && (data_left() > limits_.drain_bytes || is_body_short());
}

void Connection::request_ended() {
  if (phase_ != Phase::Active) return;
  continues_ = false;
  input_.let_go();
  if (must_close()) {
    phase_ = Phase::Closing;
    return;
  }
  phase_ = Phase::Draining;
  input_.wipe();
  if (!body_ended_) return;
  head_.clear();
  phase_ = Phase::Idle;
}

std::optional<Unserved> Connection::unserved() const {
  if (phase_ != Phase::Idle && phase_ != Phase::Active) return std::nullopt;
  // What was said of a wish for the body cannot be said again.
  if (phase_ == Phase::Active && body_wanted_) return std::nullopt;
  if (input_.is_holding()) return Unserved{input_.held(), 0};
  if (phase_ == Phase::Active || head_.is_started()) return std::nullopt;
  return Unserved{input_.unread(), 0};
}

BodyAhead Connection::body_ahead() const {
  BodyAhead ahead;
  if (phase_ != Phase::Active || body_ended_ || is_malformed_ || peer_closed_) {
    ahead.is_whole = true;
    return ahead;
  }
  std::string_view here = as_text(input_.unread());
  ahead.needs_answer = awaits_word() && here.empty();
  if (!request().is_chunked) {
    ahead.bytes = std::min<std::uint64_t>(here.size(), length_left_);
    ahead.is_whole = ahead.bytes == length_left_;
    return ahead;
  }
  ChunkDecoder chunks = chunks_;
  for (;;) {
    const std::uint64_t data = std::min<std::uint64_t>(here.size(), chunks.data_left());
    ahead.bytes += data;
    chunks.consume(data);
    here.remove_prefix(static_cast<std::size_t>(data));
    if (here.empty()) return ahead;
    const ChunkDecoder::Taken taken = chunks.take(here);
    here.remove_prefix(taken.consumed);
    ahead.is_whole = taken.progress == ChunkDecoder::Progress::End ||
                     taken.progress == ChunkDecoder::Progress::Malformed;
    if (taken.progress != ChunkDecoder::Progress::Data) return ahead;
  }
}

Bytes Connection::pending_output() const {
  return continues_ ? as_bytes(kContinue).subspan(output_sent_) : Bytes{};
}

bool Connection::is_idle() const {
  return phase_ == Phase::Idle && !head_.is_started() && input_.empty();
}

bool Connection::is_head_started() const {
  return phase_ == Phase::Idle && (head_.is_started() || !input_.empty());
}

bool Connection::is_input_finished() const {
  return phase_ == Phase::Active && body_ended_ && input_.empty();
}

}  // namespace bladepsgi::http
