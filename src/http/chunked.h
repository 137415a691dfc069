// ChunkDecoder: the framing of a chunked body (RFC 9112 §7.1), from bytes that arrive in any pieces.
//
// It takes what is between the data; the data itself stays where it is:
//
//   take(bytes) until Data;  then data_left() bytes of the body, consume() as they are read;  take again …  until End
//
// Extensions are stepped over, trailers are checked like fields of a head and forgotten. Nothing is stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "http/limits.h"

namespace bladepsgi::http {

class ChunkDecoder {
 public:
  explicit ChunkDecoder(const Limits& limits)
      : extension_bytes_(limits.chunk_extension_bytes), trailer_bytes_(limits.trailer_bytes) {}

  enum class Progress : std::uint8_t { NeedMore, Data, End, Malformed };

  struct Taken {
    std::size_t consumed = 0;
    Progress progress = Progress::NeedMore;
  };

  // Precondition: data_left() == 0. After End nothing is consumed any more.
  [[nodiscard]] Taken take(std::string_view input);

  [[nodiscard]] std::uint64_t data_left() const { return data_left_; }

  void consume(std::uint64_t size) { data_left_ -= size; }

  // After Malformed; for the log, lives for ever.
  [[nodiscard]] std::string_view error() const { return error_; }

  // For the next body.
  void clear();

 private:
  enum class State : std::uint8_t {
    Size,
    Extension,
    Quoted,   // inside a quoted string of an extension
    Escaped,  // behind a backslash there
    SizeEnd,  // LF must follow
    DataCr,
    DataLf,
    TrailerBegin,
    TrailerName,
    TrailerValue,
    TrailerEnd,  // LF must follow
    FinalLf,
    End,
    Malformed,
  };

  State step(char c);
  State step_size(char c);
  State step_extension(char c);
  State step_trailer(char c);
  State malformed(std::string_view why);
  bool count_extension();
  bool count_trailer();

  std::uint64_t extension_bytes_;
  std::uint64_t trailer_bytes_;

  State state_ = State::Size;
  int digits_ = 0;
  std::uint64_t size_ = 0;
  std::uint64_t data_left_ = 0;
  std::uint64_t extensions_ = 0;  // bytes so far
  std::uint64_t trailers_ = 0;
  std::string_view error_;
};

}  // namespace bladepsgi::http
