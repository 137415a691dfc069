#include "http/chunked.h"

#include "http/syntax.h"

namespace bladepsgi::http {

namespace {

constexpr int kSizeDigits = 16;
constexpr std::uint64_t kLargestChunk = std::uint64_t{1} << 62;

constexpr bool is_text(char c) {
  return c == '\t' || !is_control(c);
}

}  // namespace

void ChunkDecoder::clear() {
  state_ = State::Size;
  digits_ = 0;
  size_ = data_left_ = extensions_ = trailers_ = 0;
  error_ = {};
}

ChunkDecoder::Taken ChunkDecoder::take(std::string_view input) {
  for (std::size_t at = 0; at < input.size() && state_ != State::End; ++at) {
    state_ = step(input[at]);
    if (state_ == State::Malformed) return {at, Progress::Malformed};
    if (data_left_ > 0) return {at + 1, Progress::Data};
    if (state_ == State::End) return {at + 1, Progress::End};
  }
  return {state_ == State::End ? 0 : input.size(),
          state_ == State::End ? Progress::End : Progress::NeedMore};
}

ChunkDecoder::State ChunkDecoder::malformed(std::string_view why) {
  error_ = why;
  return State::Malformed;
}

ChunkDecoder::State ChunkDecoder::step(char c) {
  switch (state_) {
    case State::Size:
      return step_size(c);
    case State::Extension:
    case State::Quoted:
    case State::Escaped:
      return step_extension(c);
    case State::SizeEnd:
      if (c != '\n') return malformed("CR without LF in a chunk header");
      if (size_ == 0) return State::TrailerBegin;
      data_left_ = size_;
      size_ = 0;
      digits_ = 0;
      return State::DataCr;
    case State::DataCr:
      if (c != '\r') return malformed("a chunk is longer than its size");
      return State::DataLf;
    case State::DataLf:
      if (c != '\n') return malformed("CR without LF behind a chunk");
      return State::Size;
    case State::TrailerBegin:
    case State::TrailerName:
    case State::TrailerValue:
    case State::TrailerEnd:
      return step_trailer(c);
    case State::FinalLf:
      if (c != '\n') return malformed("CR without LF behind the last chunk");
      return State::End;
    case State::End:
    case State::Malformed:
      break;
  }
  return state_;
}

ChunkDecoder::State ChunkDecoder::step_size(char c) {
  const int digit = hex_digit(c);
  if (digit >= 0) {
    if (++digits_ > kSizeDigits) return malformed("a chunk size has too many digits");
    size_ = size_ * 16 + static_cast<std::uint64_t>(digit);
    return State::Size;
  }
  if (digits_ == 0 || (c != '\r' && c != ';')) return malformed("a malformed chunk size");
  if (size_ > kLargestChunk) return malformed("an impossible chunk size");
  if (c == '\r') return State::SizeEnd;
  return count_extension() ? State::Extension : state_;
}

bool ChunkDecoder::count_extension() {
  if (++extensions_ <= extension_bytes_) return true;
  state_ = malformed("too many bytes of chunk extensions");
  return false;
}

ChunkDecoder::State ChunkDecoder::step_extension(char c) {
  if (c == '\r' && state_ == State::Extension) return State::SizeEnd;
  if (!count_extension()) return state_;
  if (state_ == State::Extension) {
    if (c == '"') return State::Quoted;
    if (is_token_char(c) || is_blank(c) || c == ';' || c == '=') return State::Extension;
    return malformed("a malformed chunk extension");
  }
  if (!is_text(c)) return malformed("a malformed chunk extension");
  if (state_ == State::Escaped) return State::Quoted;
  if (c == '"') return State::Extension;
  return c == '\\' ? State::Escaped : State::Quoted;
}

bool ChunkDecoder::count_trailer() {
  if (++trailers_ <= trailer_bytes_) return true;
  state_ = malformed("too many bytes of trailers");
  return false;
}

ChunkDecoder::State ChunkDecoder::step_trailer(char c) {
  if (state_ == State::TrailerBegin && c == '\r') return State::FinalLf;
  if (!count_trailer()) return state_;
  switch (state_) {
    case State::TrailerBegin:
      if (!is_token_char(c)) return malformed("a malformed trailer");
      return State::TrailerName;
    case State::TrailerName:
      if (c == ':') return State::TrailerValue;
      if (!is_token_char(c)) return malformed("a malformed trailer");
      return State::TrailerName;
    case State::TrailerValue:
      if (c == '\r') return State::TrailerEnd;
      if (!is_text(c)) return malformed("a malformed trailer");
      return State::TrailerValue;
    default:
      if (c != '\n') return malformed("CR without LF in a trailer");
      return State::TrailerBegin;
  }
}

}  // namespace bladepsgi::http
