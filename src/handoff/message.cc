#include "handoff/message.h"

#include <algorithm>
#include <cstring>

#include "os/system_error.h"

namespace bladepsgi::handoff {
namespace {

constexpr std::uint32_t kMagic = 0x42504853;  // "BPHS"

// The head, big-endian like every format of ours that is not memory.
constexpr std::size_t kAtMagic = 0;
constexpr std::size_t kAtVersion = 4;
constexpr std::size_t kAtProtocol = 6;
constexpr std::size_t kAtKind = 7;
constexpr std::size_t kAtFlags = 8;
constexpr std::size_t kAtStreamId = 10;
constexpr std::size_t kAtInlineBytes = 12;
constexpr std::size_t kAtExternalBytes = 16;
constexpr std::size_t kAtUnsentBytes = 20;
constexpr std::size_t kAtBytesBeforeFile = 24;
constexpr std::size_t kAtReplies = 28;
constexpr std::size_t kAtFilePiece = 32;
constexpr std::size_t kAtFileOffset = 40;
constexpr std::size_t kAtFileLength = 48;
constexpr std::size_t kAtStarted = 56;
constexpr std::size_t kAtProgressDeadline = 64;
static_assert(kAtProgressDeadline + 8 == kHeadSize);

std::uint64_t load_u64(const std::byte* at) {
  return std::uint64_t{load_u32(at)} << 32 | load_u32(at + 4);
}

void store_u64(std::byte* at, std::uint64_t value) {
  store_u32(at, static_cast<std::uint32_t>(value >> 32));
  store_u32(at + 4, static_cast<std::uint32_t>(value));
}

// What must hold between the fields, whoever filled them in.
bool has_good_ranges(const Message& message) {
  const std::uint64_t total = message.total_bytes();
  const bool is_unsent = message.kind == Kind::UnsentResponse || message.kind == Kind::UnsentFile;
  const bool has_received =
      is_unsent ? message.unsent_bytes < total
                : message.kind == Kind::PartialRequest || message.kind == Kind::ReadyRequest;
  if (message.replies != 0 && !has_received) return false;
  if (message.unsent_bytes > (is_unsent ? total : 0)) return false;
  if (message.kind == Kind::UnsentFile) {
    return message.bytes_before_file <= message.unsent_bytes && message.file_length > 0 &&
           message.file_piece <= message.file_length && message.file_offset <= INT64_MAX &&
           message.file_length <= INT64_MAX - message.file_offset;
  }
  if (message.kind == Kind::UnsentResponse && message.unsent_bytes == 0) return false;
  return message.bytes_before_file == 0 && message.file_offset == 0 && message.file_length == 0 &&
         message.file_piece == 0;
}

bool has_good_length(const Message& message) {
  if (message.bytes.size() > kInlineLimit) return false;
  // Bytes are in one place; a memory of its own is only for what does not fit here.
  if (message.external_bytes != 0)
    return message.bytes.empty() && message.external_bytes > kInlineLimit;
  switch (message.kind) {
    case Kind::Idle:
    case Kind::Closing:
      return message.bytes.empty();
    case Kind::PartialRequest:
    case Kind::ReadyRequest:
    case Kind::UnsentResponse:
      return !message.bytes.empty();
    case Kind::UnsentFile:
      return true;
  }
  return false;
}

}  // namespace

std::string_view describe(DecodeError error) {
  switch (error) {
    case DecodeError::TooShort:
      return "the message is too short";
    case DecodeError::NotOurs:
      return "it is not a handover message";
    case DecodeError::UnknownVersion:
      return "its version is not known here";
    case DecodeError::UnknownProtocol:
      return "its protocol is not known here";
    case DecodeError::UnknownKind:
      return "its kind is not known here";
    case DecodeError::UnknownFlags:
      return "it has flags that are not known here";
    case DecodeError::WrongLength:
      return "its bytes are not where or as many as it says";
    case DecodeError::WrongRange:
      return "it has an offset or a length that leads outside of its bytes";
  }
  return "it is malformed";
}

Result<Message, DecodeError> decode(Bytes input) {
  if (input.size() < kHeadSize) return fail(DecodeError::TooShort);
  const std::byte* head = input.data();
  if (load_u32(head + kAtMagic) != kMagic) return fail(DecodeError::NotOurs);
  if (load_u16(head + kAtVersion) != kFormat) return fail(DecodeError::UnknownVersion);
  Message message;
  const std::uint8_t protocol = load_u8(head + kAtProtocol);
  if (protocol < 1 || protocol > 2) return fail(DecodeError::UnknownProtocol);
  message.protocol = static_cast<Protocol>(protocol);
  const std::uint8_t kind = load_u8(head + kAtKind);
  if (kind < 1 || kind > 6) return fail(DecodeError::UnknownKind);
  message.kind = static_cast<Kind>(kind);
  message.flags = load_u16(head + kAtFlags);
  if ((message.flags & ~kKnownFlags) != 0) return fail(DecodeError::UnknownFlags);
  message.stream_id = load_u16(head + kAtStreamId);
  message.external_bytes = load_u32(head + kAtExternalBytes);
  message.unsent_bytes = load_u32(head + kAtUnsentBytes);
  message.bytes_before_file = load_u32(head + kAtBytesBeforeFile);
  message.replies = load_u32(head + kAtReplies);
  message.file_piece = load_u64(head + kAtFilePiece);
  message.file_offset = load_u64(head + kAtFileOffset);
  message.file_length = load_u64(head + kAtFileLength);
  message.started = load_u64(head + kAtStarted);
  message.progress_deadline = load_u64(head + kAtProgressDeadline);
  message.bytes = input.subspan(kHeadSize);
  if (load_u32(head + kAtInlineBytes) != message.bytes.size() || !has_good_length(message))
    return fail(DecodeError::WrongLength);
  if (!has_good_ranges(message)) return fail(DecodeError::WrongRange);
  return message;
}

Bytes encode(const Message& message, EncodedMessage& into) {
  if (!has_good_length(message) || !has_good_ranges(message) ||
      (message.flags & ~kKnownFlags) != 0) {
    os::broken_invariant(__FILE__, __LINE__, "a handover message that nobody would accept");
  }
  std::byte* head = into.data();
  store_u32(head + kAtMagic, kMagic);
  store_u16(head + kAtVersion, kFormat);
  head[kAtProtocol] = static_cast<std::byte>(message.protocol);
  head[kAtKind] = static_cast<std::byte>(message.kind);
  store_u16(head + kAtFlags, message.flags);
  store_u16(head + kAtStreamId, message.stream_id);
  store_u32(head + kAtInlineBytes, static_cast<std::uint32_t>(message.bytes.size()));
  store_u32(head + kAtExternalBytes, message.external_bytes);
  store_u32(head + kAtUnsentBytes, message.unsent_bytes);
  store_u32(head + kAtBytesBeforeFile, message.bytes_before_file);
  store_u32(head + kAtReplies, message.replies);
  store_u64(head + kAtFilePiece, message.file_piece);
  store_u64(head + kAtFileOffset, message.file_offset);
  store_u64(head + kAtFileLength, message.file_length);
  store_u64(head + kAtStarted, message.started);
  store_u64(head + kAtProgressDeadline, message.progress_deadline);
  std::copy(message.bytes.begin(), message.bytes.end(), into.begin() + kHeadSize);
  return Bytes(into).first(kHeadSize + message.bytes.size());
}

}  // namespace bladepsgi::handoff
