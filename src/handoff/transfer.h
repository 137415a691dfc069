// Transfer: connections and their messages over a SOCK_SEQPACKET socket between processes of ours.
//
// Nothing here waits: what the kernel cannot take or give now is an outcome that the caller decides about (keep a
// backlog, close an idle connection, go on serving it). Each outcome below has been seen; what has not is a SystemError.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "handoff/message.h"
#include "os/fd.h"

namespace bladepsgi::handoff {

enum class SendOutcome : std::uint8_t {
  Sent,
  QueueFull,  // EAGAIN: the receiver is behind
  TooManyInFlight,  // ETOOMANYREFS: this user has as many descriptors under way as the descriptor limit allows
  TooLarge,       // EMSGSIZE: more than the socket's buffer ever takes
  NoDescriptors,  // EMFILE, ENFILE: none left for the memory that long bytes need
  NoMemory,  // ENOMEM, ENOBUFS, ENOSPC; EFBIG, EDQUOT: over a limit for the memory that long bytes need
  PeerGone,  // EPIPE, ECONNRESET, ENOTCONN, ECONNREFUSED
};

// "the queue is full"
[[nodiscard]] std::string_view describe(SendOutcome outcome);

// Of something that may be there again soon.
[[nodiscard]] constexpr bool is_shortage(SendOutcome outcome) {
  return outcome == SendOutcome::TooManyInFlight || outcome == SendOutcome::NoDescriptors ||
         outcome == SendOutcome::NoMemory;
}

// Which outcome an errno value is. Throws os::SystemError for what should not happen.
[[nodiscard]] SendOutcome send_outcome(int error);

// Hands over `connection` and, for UnsentFile, `file`. message.bytes may be of any length up to 4 GiB: what is over kInlineLimit
// is copied into sealed memory (external_bytes is set here). The caller's descriptors stay its own: after Sent it closes them.
[[nodiscard]] SendOutcome send(int channel, Message message, int connection, int file = -1);

// One packet as it is, at most kMostDescriptors descriptors.
inline constexpr std::size_t kMostDescriptors = 8;
[[nodiscard]] SendOutcome send_packet(int channel, Bytes packet, std::span<const int> descriptors);

// A packet that says nothing: it wakes another one of those who watch the queue. Received, it is Malformed for the reason kNudge.
[[nodiscard]] SendOutcome send_nudge(int channel);
inline constexpr std::string_view kNudge = "it is a reminder";

enum class ReceiveOutcome : std::uint8_t {
  Received,
  Empty,          // nothing there now
  Closed,         // the other side has gone
  NoDescriptors,  // this process is at its limit: the message and a connection in it are lost
  NoMemory,       // the kernel had none; the message is still there
  Malformed,      // not what a sender of ours sends; `reason` says why. Its descriptors are closed.
};

struct Incoming {
  ReceiveOutcome outcome = ReceiveOutcome::Empty;
  std::string_view reason;  // Malformed: why; a literal

  // Received: the message, whose bytes lie in the buffer given to receive.
  Message message;
  os::Fd connection;
  os::Fd memory;  // open if message.external_bytes != 0: sealed, and at least that long
  os::Fd file;    // open if message.kind is UnsentFile
};

using ReceiveBuffer = EncodedMessage;

[[nodiscard]] Incoming receive(int channel, ReceiveBuffer& buffer);

// Reads `size` bytes from `offset` of a memory received. Error: it cannot be read, or is shorter.
[[nodiscard]] Result<std::vector<std::byte>> read_memory(const os::Fd& memory,
                                                         std::uint64_t offset,
                                                         std::size_t size);

}  // namespace bladepsgi::handoff
