// Records: the framing of FastCGI 1.0 §3.3, bytes in, records out, and the few records that an application sends.
//
// Content and padding may each be any length on every type of record, so whoever reads must always step over both.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace bladepsgi::fcgi {

inline constexpr std::size_t kHeaderSize = 8;
inline constexpr std::uint8_t kVersion1 = 1;
inline constexpr std::uint16_t kManagementId = 0;

// Content of one record that we send at most. HAProxy and php-fpm miscounted content + padding near 65535; a web server must
// hold a whole record before it can use it. Whole pages: a file goes out without a copy.
inline constexpr std::size_t kMaxContentSent = std::size_t{60} * 1024;

enum class RecordType : std::uint8_t {
  BeginRequest = 1,
  AbortRequest = 2,
  EndRequest = 3,
  Params = 4,
  Stdin = 5,
  Stdout = 6,
  Stderr = 7,
  Data = 8,
  GetValues = 9,
  GetValuesResult = 10,
  UnknownType = 11,
};

enum class Role : std::uint16_t { Responder = 1, Authorizer = 2, Filter = 3 };

enum class ProtocolStatus : std::uint8_t {
  RequestComplete = 0,
  CannotMultiplex = 1,
  Overloaded = 2,
  UnknownRole = 3,
};

inline constexpr std::uint8_t kKeepConnectionFlag = 1;

// Why a connection cannot go on. There is nobody to tell but the log: the peer's framing or state is not ours any more.
enum class ProtocolError : std::uint8_t {
  None,
  UnsupportedVersion,
  ApplicationRecordWithoutId,  // BEGIN_REQUEST … DATA with request id 0
  BadBeginRequest,             // content is not 8 bytes
  RequestIdInUse,              // BEGIN_REQUEST for the active id, before its input was complete
  UnexpectedRecord,            // a type that nothing legal sends for an active request
  ParametersAfterEnd,          // PARAMS behind the empty PARAMS record
  StdinBeforeParametersEnd,
  StdinAfterEnd,
  MalformedParameters,  // a length points beyond the end of the stream
  MalformedGetValues,
  ParametersFarTooLarge,  // beyond kDropFactor times the limit
  TooMuchIgnoredInput,    // records that nobody will use, beyond Limits::drain_bytes
  TooManyRepliesUnread,   // the peer asks and asks and does not read our answers
};

// A few words for the log.
[[nodiscard]] std::string_view describe(ProtocolError error);

struct Header {
  std::uint8_t version = kVersion1;
  std::uint8_t type = 0;  // a number, because a peer may send any
  std::uint16_t request_id = 0;
  std::uint16_t content_length = 0;
  std::uint8_t padding_length = 0;

  [[nodiscard]] static Header parse(std::span<const std::byte, kHeaderSize> bytes);

  [[nodiscard]] bool is(RecordType which) const { return type == static_cast<std::uint8_t>(which); }
};

struct Record {
  Header header;
  Bytes content;
};

struct Decoded {
  std::size_t consumed = 0;  // 0: more input is needed
  std::optional<Record> record;
};

// The next whole record, its content a view into `input`; nothing consumed = need more. Connection does not use it, for it takes
// content as it arrives; a reader of whole records (tests, a client) does.
[[nodiscard]] Result<Decoded, ProtocolError> decode_record(Bytes input);

void encode_header(std::span<std::byte, kHeaderSize> into,
                   RecordType type,
                   std::uint16_t request_id,
                   std::size_t content_length,
                   std::size_t padding_length = 0);

inline constexpr std::size_t kEndRequestSize = kHeaderSize + 8;

// A whole END_REQUEST record.
[[nodiscard]] std::array<std::byte, kEndRequestSize> encode_end_request(
    std::uint16_t request_id,
    std::uint32_t application_status,
    ProtocolStatus status);

}  // namespace bladepsgi::fcgi
