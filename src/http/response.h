// ResponseHead: what goes in front of the body of a response, and how the end of that body will be seen (RFC 9112 §6).
//
//   start(out, status);  add(out, name, value) …;  finish(out, context) → Framing
//
// What an application says about the connection is not its business, and what it says about the length is believed only where
// it can be: those fields are held back and decided in finish(). Nothing is sent and no clock is read here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "http/field.h"

namespace bladepsgi::http {

struct Framing {
  enum class Kind : std::uint8_t {
    None,    // no body is sent, whatever the application produces
    Length,  // exactly `length` bytes
    Chunked,  // each piece behind encode_chunk_header() and in front of kChunkEnd; kLastChunk at the end
    UntilClose,  // as it is; closing the connection is its end
  };

  Kind kind = Kind::None;
  std::uint64_t length = 0;
  bool keeps_connection = false;  // and that was said
};

struct ResponseContext {
  int version_minor = 1;  // of the request
  bool is_head_request = false;
  bool keeps_connection = true;                    // as far as peer and server would like to
  std::string_view date = {};                      // of format_date(); empty: none
  std::optional<std::uint64_t> known_length = {};  // the whole body is at hand
};

class ResponseHead {
 public:
  // Without a reason: the standard one.
  void start(std::string& out, int status, std::string_view reason = {});

  // A field that would break the head apart (no token for a name, CR, LF or NUL in the value) is left out.
  void add(std::string& out, std::string_view name, std::string_view value);

  // Once all fields are added: the length that finish() will believe, if the response has a body.
  [[nodiscard]] std::optional<std::uint64_t> announced_length() const;

  [[nodiscard]] Framing finish(std::string& out, const ResponseContext& context);

 private:
  // To another protocol: what follows the head belongs to that one, both ways (RFC 9110 §7.8).
  [[nodiscard]] bool is_switching() const { return status_ == 101; }

  [[nodiscard]] Framing decide(const ResponseContext& context) const;

  int status_ = 200;
  int lengths_ = 0;
  std::optional<std::uint64_t> length_;  // as the application says
  bool is_chunked_ = false;              // by the application itself
  bool closes_ = false;
  bool has_date_ = false;
};

// All at once; appends to `out`.
[[nodiscard]] Framing append_response_head(std::string& out,
                                           int status,
                                           std::span<const Field> fields,
                                           const ResponseContext& context);

// A whole 1xx response, for HTTP/1.1 only. Fields as in ResponseHead::add, none of them about connection or length.
void append_informational(std::string& out, int status, std::span<const Field> fields);

inline constexpr std::size_t kChunkHeaderSize = 18;
inline constexpr std::string_view kChunkEnd = "\r\n";
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

// What goes in front of a chunk of `size` bytes; a view into `into`. Not for 0: that would be the end of the body.
[[nodiscard]] std::string_view encode_chunk_header(std::span<char, kChunkHeaderSize> into,
                                                   std::uint64_t size);

inline constexpr std::size_t kDateSize = 29;

// "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 §5.6.7); a view into `into`. Years outside 0 … 9999 are the nearest end of that.
[[nodiscard]] std::string_view format_date(std::span<char, kDateSize> into,
                                           std::int64_t unix_seconds);

}  // namespace bladepsgi::http
