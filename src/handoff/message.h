// Message: what one process tells another about a connection that it hands over.
//
// Small and of one piece: a head of fixed size, then up to 4 KiB of bytes that belong to the connection. More bytes travel in
// a sealed memfd of their own descriptor; a file travels as descriptor, offset and length. The descriptors themselves
// go beside the message (transfer.h), in this order: the connection; the memory, if `external_bytes` is not 0; the
// file, if the kind is UnsentFile.
//
// Sender and receiver are both ours, but may be of two versions, and an application may have written into a descriptor
// it should not know: decode takes nothing on trust. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace bladepsgi::handoff {

enum class Protocol : std::uint8_t { FastCgi = 1, Http = 2 };

enum class Kind : std::uint8_t {
  Idle = 1,            // a connection between two requests, or before its first; no bytes
  PartialRequest = 2,  // bytes received; more has to come before a worker should have it
  ReadyRequest = 3,    // bytes received; enough for a worker
  UnsentResponse = 4,  // bytes to send, the rest of a finished response; behind them bytes received
  UnsentFile = 5,      // the same, with a file's range among the bytes to send
  Closing =
      6,  // our side has ended; what the peer still sends is to be read, so that it is not reset. No bytes
};

// Message::flags
inline constexpr std::uint16_t kKeepAfterwards = 1;  // when all is sent, wait for the next request
inline constexpr std::uint16_t kChunked = 2;         // HTTP: the file goes out in chunks
inline constexpr std::uint16_t kBodyComplete = 4;    // the bytes have the whole body of the request
inline constexpr std::uint16_t kKnownFlags = 7;

// Written into each message; what has another one is refused.
inline constexpr std::uint16_t kFormat = 3;

inline constexpr std::size_t kInlineLimit = 4096;
inline constexpr std::size_t kHeadSize = 72;
inline constexpr std::size_t kMaxEncodedSize = kHeadSize + kInlineLimit;

// Monotonic nanoseconds; 0: none. The clock is the same in every process of the machine.
using Deadline = std::uint64_t;

struct Message {
  Protocol protocol = Protocol::FastCgi;
  Kind kind = Kind::Idle;
  std::uint16_t flags = 0;
  std::uint16_t stream_id = 0;  // UnsentFile over FastCGI: the request id of its records

  // So many bytes of what the protocol's engine answers by itself to the bytes received have been sent.
  std::uint32_t replies = 0;

  // UnsentResponse, UnsentFile: so many of the bytes are to be sent; the others were received.
  std::uint32_t unsent_bytes = 0;

  // UnsentFile: the first bytes_before_file bytes are sent before the file, those to unsent_bytes after it. Of the file, file_piece
  // bytes belong to a record or chunk whose beginning was sent or is among the bytes; the rest still has to be put into such.
  std::uint32_t bytes_before_file = 0;
  std::uint64_t file_offset = 0;
  std::uint64_t file_length = 0;
  std::uint64_t file_piece = 0;

  // When the request's first byte came, or of an idle connection on which no request has come yet the connection; when the peer must
  // have made progress.
  Deadline started = 0;
  Deadline progress_deadline = 0;

  // Either these, or the number of bytes in the memory that comes beside the message.
  Bytes bytes{};
  std::uint32_t external_bytes = 0;

  [[nodiscard]] std::uint64_t total_bytes() const {
    return external_bytes != 0 ? external_bytes : bytes.size();
  }

  [[nodiscard]] std::size_t descriptors() const {
    return 1U + (external_bytes != 0 ? 1U : 0U) + (kind == Kind::UnsentFile ? 1U : 0U);
  }
};

enum class DecodeError : std::uint8_t {
  TooShort,
  NotOurs,  // the magic number
  UnknownVersion,
  UnknownProtocol,
  UnknownKind,
  UnknownFlags,
  WrongLength,  // the bytes are not as many as the head says, or in two places
  WrongRange,   // an offset or a length that leads outside
};

[[nodiscard]] std::string_view describe(DecodeError error);

// The message, its bytes a view into `input`.
[[nodiscard]] Result<Message, DecodeError> decode(Bytes input);

using EncodedMessage = std::array<std::byte, kMaxEncodedSize>;

// Returns the part of `into` that was written. The message must be one that decode accepts.
[[nodiscard]] Bytes encode(const Message& message, EncodedMessage& into);

}  // namespace bladepsgi::handoff
