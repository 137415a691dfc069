// Control: the messages between overseer and a zygote, over a SOCK_SEQPACKET pair.
//
// Overseer asks for children, zygote answers; each message is one fixed struct, followed by text where its kind says so.
// Without preloading a child, as long as it loads, writes into the same socket what a zygote that loads would.
//
// Both ends run on one machine: no byte order. After a binary upgrade the overseer is another program than the zygote, and goes on with it only if
// that has the same kFormat. What comes from the zygote is still checked, because
// application code ran in that process.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "os/fd.h"

namespace bladepsgi::zygote {

inline constexpr std::uint32_t kFormat = 1;

enum class MessageKind : std::uint32_t {
  // overseer → zygote; descriptors of the child come with it: standard output and error (not with raw output), log channel,
  // for a worker both ends of its wake pipe, and one end of its probation socket if value is 1; text: its role
  ForkWorker = 1,
  ForkAuxiliary,
  // overseer → zygote; text: its process title
  Rename,

  // zygote → overseer; slot: of who says it, or whom it is about
  AuxiliaryRequested,  // while loading; text: name
  Loaded,              // without preloading the zygote says so at once
  Forked,              // pid of the child in slot
  ForkFailed,          // errno in value
};

struct Message {
  MessageKind kind{};
  std::uint32_t slot = 0;
  std::uint32_t number = 0;  // worker number, or index of the auxiliary process
  std::int32_t pid = 0;
  std::int64_t value = 0;  // Loaded: time it took in milliseconds; ForkFailed: errno
};

struct ReceivedMessage {
  Message message;
  std::string text;
  std::vector<os::Fd> fds;
};

// Bounds the text of a message.
inline constexpr std::size_t kMaxText = 1024;

Result<void> send(int socket,
                  const Message& message,
                  std::string_view text = {},
                  std::span<const int> fds = {});

// Empty: the other side has closed, or (non-blocking sockets) nothing is there; `is_closed` tells which.
Result<std::optional<ReceivedMessage>> receive(int socket, bool& is_closed);

}  // namespace bladepsgi::zygote
