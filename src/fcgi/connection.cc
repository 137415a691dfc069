#include "fcgi/connection.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <string_view>

#include "base/wipe.h"
#include "fcgi/name_value.h"

namespace bladepsgi::fcgi {

namespace {

// Storage that one huge request has grown beyond this is given back after it.
constexpr std::size_t kKeptParameterBytes = 64 * 1024;
constexpr std::size_t kKeptParameterCount = 512;

constexpr std::size_t kBeginRequestBody = 8;

bool is_application_type(std::uint8_t type) {
  return type >= static_cast<std::uint8_t>(RecordType::BeginRequest) &&
         type <= static_cast<std::uint8_t>(RecordType::Data);
}

template <class T>
void give_back(std::vector<T>& storage, std::size_t keep) {
  storage.clear();
  if (storage.capacity() > keep) std::vector<T>().swap(storage);
}

void append(std::vector<std::byte>& into, Bytes bytes) {
  grow(into, bytes.size());
  into.insert(into.end(), bytes.begin(), bytes.end());
}

}  // namespace

Connection::Connection(const Limits& limits, const Values& values)
    : limits_(limits), values_(values), input_(limits.receive_buffer) {}

void Connection::reset() {
  input_.clear();
  phase_ = Phase::Idle;
  error_ = ProtocolError::None;
  peer_closed_ = false;
  content_left_ = padding_left_ = 0;
  aborted_ = false;
  stdin_open_ = data_open_ = trailing_stdin_ = false;
  ignored_ = 0;
  replies_ = 0;
  output_.clear();
  output_begin_ = 0;
  get_values_.clear();
  request_ = {};
  forget_parameters();
  input_.wipe();
}

void Connection::forget_parameters() {
  request_.parameters = {};
  give_back(parameters_, kKeptParameterCount);
  wipe(parameter_stream_);
  give_back(parameter_stream_, kKeptParameterBytes);
  parameters_in_place_ = {};
  input_.unpin();
}

void Connection::release_memory() {
  input_.release();
}

WritableBytes Connection::receive_space() {
  return input_.space();
}

void Connection::received(std::size_t size) {
  input_.received(size);
}

Event Connection::drop(ProtocolError error) {
  phase_ = Phase::Dropped;
  error_ = error;
  return Event::Dropped;
}

Event Connection::need_more() {
  if (!peer_closed_) return Event::NeedMore;
  if (phase_ != Phase::Active) phase_ = Phase::Closing;
  return Event::Close;
}

Event Connection::next() {
  for (;;) {
    if (phase_ == Phase::Dropped) return Event::Dropped;
    if (phase_ == Phase::Closing) return Event::Close;
    if (keeps_unserved_ && phase_ == Phase::Idle && is_between_records()) {
      input_.hold();
      replies_ = 0;
    }
    if (content_left_ > 0) {
      if (const auto event = take_content()) return *event;
      continue;
    }
    if (padding_left_ > 0) {
      const std::size_t skipped = std::min(input_.size(), padding_left_);
      input_.consume(skipped);
      padding_left_ -= skipped;
      if (padding_left_ > 0) return need_more();
    }
    if (input_.size() < kHeaderSize) return need_more();
    const Header header = Header::parse(input_.unread().first<kHeaderSize>());
    if (header.version != kVersion1) return drop(ProtocolError::UnsupportedVersion);
    if (const auto event = start_record(header)) return *event;
  }
}

std::optional<Event> Connection::take_content() {
  const std::size_t here = std::min(input_.size(), content_left_);
  if (here == 0) return need_more();
  if (sink_ == Sink::Body) {
    if (body_left_ > 0) return Event::Body;
    sink_ = Sink::Skip;
    if (!count_ignored(content_left_)) return Event::Dropped;
  }
  const Bytes content = input_.unread().first(here);
  input_.consume(here);
  content_left_ -= here;
  if (sink_ == Sink::Parameters && !too_large_) take_parameters(content);
  if (sink_ == Sink::GetValues) append(get_values_, content);
  if (content_left_ == 0 && sink_ == Sink::GetValues) return answer_get_values();
  return std::nullopt;
}

void Connection::take_parameters(Bytes content) {
  // Nearly always they are all in one record, and that is all here.
  const bool is_first = parameter_stream_.empty() && parameters_in_place_.empty();
  if (is_first && content_left_ == 0 && input_.try_pin()) {
    parameters_in_place_ = content;
    return;
  }
  append(parameter_stream_, parameters_in_place_);
  parameters_in_place_ = {};
  input_.unpin();
  append(parameter_stream_, content);
}

std::optional<Event> Connection::start_record(const Header& header) {
  if (header.request_id == kManagementId) return management_record(header);
  if (header.is(RecordType::BeginRequest)) return begin_request(header);
  const bool is_ours =
      (phase_ == Phase::Parameters || phase_ == Phase::Active) && header.request_id == request_.id;
  if (is_ours) return record_of_request(header);
  // The end of a body whose request has been answered already.
  if (is_rest_expected() && header.request_id == request_.id && header.content_length == 0) {
    if (header.type == static_cast<std::uint8_t>(RecordType::Stdin)) stdin_open_ = false;
    if (header.type == static_cast<std::uint8_t>(RecordType::Data)) data_open_ = false;
    input_.wipe();  // of what came after the request had ended
  }
  return ignore_record(header);
}

void Connection::enter_record(const Header& header, Sink sink) {
  input_.consume(kHeaderSize);
  sink_ = sink;
  content_left_ = header.content_length;
  padding_left_ = header.padding_length;
}

bool Connection::count_ignored(std::uint64_t size) {
  ignored_ += size;
  if (ignored_ <= limits_.drain_bytes) return true;
  drop(ProtocolError::TooMuchIgnoredInput);
  return false;
}

std::optional<Event> Connection::ignore_record(const Header& header) {
  enter_record(header, Sink::Skip);
  if (!count_ignored(kHeaderSize + content_left_ + padding_left_)) return Event::Dropped;
  return std::nullopt;
}

bool Connection::answer(Bytes record) {
  if (output_begin_ == output_.size()) {
    output_.clear();
    output_begin_ = 0;
  }
  if (output_.size() + record.size() > limits_.pending_output) {
    drop(ProtocolError::TooManyRepliesUnread);
    return false;
  }
  append(output_, record);
  replies_ += static_cast<std::uint32_t>(record.size());
  return true;
}

bool Connection::refuse(std::uint16_t id, ProtocolStatus status) {
  return answer(encode_end_request(id, 0, status));
}

std::optional<Event> Connection::management_record(const Header& header) {
  if (is_application_type(header.type)) return drop(ProtocolError::ApplicationRecordWithoutId);
  if (const auto event = ignore_record(header)) return event;
  if (header.is(RecordType::GetValues)) {
    get_values_.clear();
    sink_ = Sink::GetValues;
    return content_left_ == 0 ? answer_get_values() : std::nullopt;
  }
  std::array<std::byte, kHeaderSize + 8> reply{};
  encode_header(std::span(reply).first<kHeaderSize>(), RecordType::UnknownType, kManagementId, 8);
  reply[kHeaderSize] = static_cast<std::byte>(header.type);
  if (!answer(reply)) return Event::Dropped;
  return std::nullopt;
}

std::optional<Event> Connection::answer_get_values() {
  struct Known {
    std::string_view name;
    std::uint32_t value;
    bool asked = false;
  };

  std::array known = {Known{"FCGI_MAX_CONNS", values_.max_connections},
                      Known{"FCGI_MAX_REQS", values_.max_requests}, Known{"FCGI_MPXS_CONNS", 0}};
  NameValueReader reader(get_values_);
  std::vector<std::byte> reply(kHeaderSize);
  while (const auto pair = reader.next()) {
    const auto found = std::find_if(known.begin(), known.end(),
                                    [&](const Known& k) { return k.name == pair->name; });
    if (found == known.end() || found->asked) continue;  // a name asked for twice is told once
    found->asked = true;
    std::array<char, 12> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), found->value).ptr;
    append_name_value(
        reply, {found->name, {digits.data(), static_cast<std::size_t>(end - digits.data())}});
  }
  if (reader.is_malformed()) return drop(ProtocolError::MalformedGetValues);
  give_back(get_values_, 1024);
  encode_header(std::span(reply).first<kHeaderSize>(), RecordType::GetValuesResult, kManagementId,
                reply.size() - kHeaderSize);
  if (!answer(reply)) return Event::Dropped;
  return std::nullopt;
}

std::optional<Event> Connection::begin_request(const Header& header) {
  if (header.content_length != kBeginRequestBody) return drop(ProtocolError::BadBeginRequest);
  if (phase_ != Phase::Idle) {
    const bool may_follow = phase_ == Phase::Active && is_input_complete();
    // Stays in the buffer until the request before it has ended.
    if (may_follow && (request_.keep_connection || header.request_id == request_.id)) {
      return need_more();
    }
    if (header.request_id == request_.id) return drop(ProtocolError::RequestIdInUse);
    if (!refuse(header.request_id, ProtocolStatus::CannotMultiplex)) return Event::Dropped;
    return ignore_record(header);
  }
  if (input_.size() < kHeaderSize + kBeginRequestBody) return need_more();
  const std::byte* body = input_.unread().data() + kHeaderSize;
  const std::uint16_t role = load_u16(body);
  const bool keep_connection = (load_u8(body + 2) & kKeepConnectionFlag) != 0;
  if (role < static_cast<std::uint16_t>(Role::Responder) ||
      role > static_cast<std::uint16_t>(Role::Filter)) {
    if (!refuse(header.request_id, ProtocolStatus::UnknownRole)) return Event::Dropped;
    if (!keep_connection) phase_ = Phase::Closing;
    return ignore_record(header);
  }
  enter_record(header, Sink::Skip);
  request_ = {header.request_id, static_cast<Role>(role), keep_connection, {}};
  phase_ = Phase::Parameters;
  too_large_ = aborted_ = false;
  parameter_bytes_ = 0;
  return std::nullopt;
}

std::optional<Event> Connection::record_of_request(const Header& header) {
  const bool has_content = header.content_length > 0;
  switch (static_cast<RecordType>(header.type)) {
    case RecordType::AbortRequest:
      if (const auto event = ignore_record(header)) return event;
      if (phase_ == Phase::Parameters) {
        phase_ = request_.keep_connection ? Phase::Idle : Phase::Closing;
        forget_parameters();
        input_.wipe();
        if (!refuse(request_.id, ProtocolStatus::RequestComplete)) return Event::Dropped;
        return std::nullopt;
      }
      if (aborted_) return std::nullopt;
      aborted_ = true;
      stdin_open_ = data_open_ = false;  // a next request may come behind it
      return Event::Aborted;

    case RecordType::Params:
      if (phase_ != Phase::Parameters) return drop(ProtocolError::ParametersAfterEnd);
      enter_record(header, Sink::Parameters);
      if (!has_content) return end_parameters();
      parameter_bytes_ += content_left_;
      if (parameter_bytes_ > limits_.parameter_bytes) {
        too_large_ = true;
        forget_parameters();
      }
      if (parameter_bytes_ > kDropFactor * std::uint64_t{limits_.parameter_bytes}) {
        return drop(ProtocolError::ParametersFarTooLarge);
      }
      return std::nullopt;

    case RecordType::Stdin:
      if (phase_ != Phase::Active) return drop(ProtocolError::StdinBeforeParametersEnd);
      if (request_.role == Role::Authorizer) {
        if (!has_content) trailing_stdin_ = false;
        return ignore_record(header);
      }
      if (!stdin_open_) {
        if (has_content && !aborted_) return drop(ProtocolError::StdinAfterEnd);
        return ignore_record(header);
      }
      enter_record(header, Sink::Body);
      if (has_content) return std::nullopt;
      stdin_open_ = false;
      return Event::BodyEnd;

    case RecordType::Data:
      // A filter's file. A PSGI application has no place for it, so it is taken and forgotten.
      if (phase_ != Phase::Active || stdin_open_ || !data_open_) {
        return drop(ProtocolError::UnexpectedRecord);
      }
      if (!has_content) data_open_ = false;
      return ignore_record(header);

    default:
      return drop(ProtocolError::UnexpectedRecord);
  }
}

std::optional<Event> Connection::end_parameters() {
  parameters_.clear();
  NameValueReader reader(parameters_in_place_.empty() ? Bytes(parameter_stream_)
                                                      : parameters_in_place_);
  while (!too_large_) {
    const auto pair = reader.next();
    if (!pair) break;
    if (parameters_.size() == limits_.parameter_count) {
      too_large_ = true;
      parameters_.clear();
      break;
    }
    parameters_.push_back(*pair);
  }
  if (reader.is_malformed()) return drop(ProtocolError::MalformedParameters);
  phase_ = Phase::Active;
  request_.parameters = parameters_;
  stdin_open_ = request_.role != Role::Authorizer;
  trailing_stdin_ = request_.role == Role::Authorizer;
  data_open_ = request_.role == Role::Filter;
  body_left_ = kUnknownLength;
  ignored_ = 0;
  return too_large_ ? Event::Refused : Event::Request;
}

bool Connection::is_abort_ahead() const {
  if (phase_ != Phase::Active) return false;
  std::size_t at = content_left_ + padding_left_;
  const Bytes ahead = input_.unread();
  while (at + kHeaderSize <= ahead.size()) {
    const Header header = Header::parse(ahead.subspan(at).first<kHeaderSize>());
    if (header.version != kVersion1) return false;
    if (header.request_id == request_.id) {
      if (header.is(RecordType::AbortRequest)) return true;
      if (header.is(RecordType::BeginRequest)) return false;  // what follows is of the next one
    }
    at += kHeaderSize + header.content_length + header.padding_length;
  }
  return false;
}

void Connection::set_body_length(std::optional<std::uint64_t> length) {
  body_left_ = length.value_or(kUnknownLength);
}

Bytes Connection::body() const {
  if (phase_ != Phase::Active || sink_ != Sink::Body || content_left_ == 0) return {};
  const std::size_t here = std::min(input_.size(), content_left_);
  return input_.unread().first(
      static_cast<std::size_t>(std::min<std::uint64_t>(std::uint64_t{here}, body_left_)));
}

void Connection::consume_body(std::size_t size) {
  input_.consume(size);
  content_left_ -= size;
  if (body_left_ != kUnknownLength) body_left_ -= size;
}

std::size_t Connection::body_bypass() const {
  if (phase_ != Phase::Active || sink_ != Sink::Body || !input_.empty()) return 0;
  return static_cast<std::size_t>(
      std::min<std::uint64_t>(std::uint64_t{content_left_}, body_left_));
}

void Connection::body_bypassed(std::size_t size) {
  content_left_ -= size;
  if (body_left_ != kUnknownLength) body_left_ -= size;
}

bool Connection::is_body_complete() const {
  if (aborted_) return false;
  return body_left_ == kUnknownLength ? !stdin_open_ : body_left_ == 0;
}

bool Connection::is_body_short() const {
  return !aborted_ && !stdin_open_ && body_left_ != kUnknownLength && body_left_ > 0;
}

void Connection::request_ended() {
  if (phase_ != Phase::Active) return;
  phase_ = request_.keep_connection ? Phase::Idle : Phase::Closing;
  aborted_ = false;
  input_.let_go();
  forget_parameters();
  input_.wipe();
  ignored_ = 0;
  if (sink_ == Sink::Body) {
    sink_ = Sink::Skip;
    count_ignored(content_left_ + padding_left_);
  }
}

std::optional<Unserved> Connection::unserved() const {
  if (phase_ == Phase::Dropped || phase_ == Phase::Closing) return std::nullopt;
  if (phase_ == Phase::Idle && is_between_records()) return Unserved{input_.unread(), 0};
  if (!input_.is_holding()) return std::nullopt;
  return Unserved{input_.held(), replies_};
}

BodyAhead Connection::body_ahead() const {
  BodyAhead ahead;
  if (phase_ != Phase::Active || !stdin_open_ || peer_closed_ || is_body_complete()) {
    ahead.is_whole = true;
    return ahead;
  }
  const Bytes here = input_.unread();
  if (sink_ == Sink::Body) ahead.bytes = std::min(here.size(), content_left_);
  std::size_t at = content_left_ + padding_left_;
  for (; !ahead.is_whole && at + kHeaderSize <= here.size();) {
    const Header header = Header::parse(here.subspan(at).first<kHeaderSize>());
    at += kHeaderSize;
    const bool is_ours = header.version == kVersion1 && header.request_id == request_.id;
    if (is_ours && header.is(RecordType::Stdin) && header.content_length > 0) {
      ahead.bytes += std::min<std::size_t>(header.content_length, here.size() - at);
    } else if (is_ours || header.version != kVersion1) {
      ahead.is_whole = true;  // the end, an abort, or what breaks the protocol
    } else if (header.is(RecordType::BeginRequest)) {
      ahead.needs_answer = true;
    } else if (header.request_id == kManagementId) {
      // A question is answered when all of it is here. What is for somebody else is passed over.
      const std::size_t end = at + header.content_length;
      if (is_application_type(header.type)) {
        ahead.is_whole = true;
      } else if (!header.is(RecordType::GetValues) || end <= here.size()) {
        ahead.needs_answer = true;
      }
    }
    at += std::size_t{header.content_length} + header.padding_length;
  }
  if (ahead.bytes >= body_left_) {
    ahead.bytes = body_left_;
    ahead.is_whole = true;
  }
  return ahead;
}

Bytes Connection::pending_output() const {
  return Bytes(output_).subspan(output_begin_);
}

void Connection::output_sent(std::size_t size) {
  output_begin_ += size;
}

bool Connection::is_idle() const {
  return phase_ == Phase::Idle && content_left_ == 0 && padding_left_ == 0 && input_.empty();
}

bool Connection::is_head_started() const {
  return phase_ == Phase::Parameters || (phase_ == Phase::Idle && !input_.empty());
}

bool Connection::is_input_finished() const {
  return is_input_complete() && !trailing_stdin_ && content_left_ == 0 && padding_left_ == 0 &&
         input_.empty();
}

Refusal Connection::refusal() const {
  constexpr int kHeadTooLarge = 431;
  return {.status = kHeadTooLarge, .reason = "too many or too large parameters"};
}

std::string_view Connection::drop_reason() const {
  return error_ == ProtocolError::None ? std::string_view() : describe(error_);
}

}  // namespace bladepsgi::fcgi
