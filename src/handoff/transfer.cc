#include "handoff/transfer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <optional>
#include <utility>

#include "base/wipe.h"
#include "os/system_error.h"

namespace bladepsgi::handoff {
namespace {

constexpr std::array<std::byte, 1> kNudgePacket{};

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

// Room for more descriptors than any message has, so that too many of them are seen as such.
union Control {
  cmsghdr aligned;
  std::array<std::byte, CMSG_SPACE(kMostDescriptors * sizeof(int))> bytes;
};

// 0, or what failed. Sealed memory with these bytes, read from its start.
int make_memory(Bytes bytes, os::Fd& memory) {
  memory = os::Fd(::memfd_create("bladepsgi-handoff", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory.is_open()) return errno;
  std::size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t count = ::write(memory.get(), bytes.data() + written, bytes.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    written += static_cast<std::size_t>(count);
  }
  return ::fcntl(memory.get(), F_ADD_SEALS, kSeals) == 0 ? 0 : errno;
}

// Sealed memory neither changes nor shrinks under its reader.
bool is_sealed_memory_of(const os::Fd& memory, std::uint64_t size) {
  constexpr int kNeeded = F_SEAL_SHRINK | F_SEAL_WRITE;
  const int seals = ::fcntl(memory.get(), F_GET_SEALS);

  struct stat status {};

  return seals >= 0 && (seals & kNeeded) == kNeeded && ::fstat(memory.get(), &status) == 0 &&
         static_cast<std::uint64_t>(status.st_size) >= size;
}

bool is_socket(const os::Fd& fd) {
  struct stat status {};

  return ::fstat(fd.get(), &status) == 0 && S_ISSOCK(status.st_mode);
}

bool is_regular_file(const os::Fd& fd) {
  struct stat status {};

  return ::fstat(fd.get(), &status) == 0 && S_ISREG(status.st_mode);
}

std::vector<os::Fd> take_descriptors(msghdr& header) {
  std::vector<os::Fd> fds;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
  return fds;
}

Incoming without_message(ReceiveOutcome outcome, std::string_view reason = {}) {
  Incoming incoming;
  incoming.outcome = outcome;
  incoming.reason = reason;
  return incoming;
}

}  // namespace

SendOutcome send_outcome(int error) {
  switch (error) {
    case 0:
      return SendOutcome::Sent;
    case EAGAIN:
      return SendOutcome::QueueFull;
    case ETOOMANYREFS:
      return SendOutcome::TooManyInFlight;
    case EMSGSIZE:
      return SendOutcome::TooLarge;
    case EMFILE:
    case ENFILE:
      return SendOutcome::NoDescriptors;
    case ENOMEM:
    case ENOBUFS:
    case ENOSPC:
    case EFBIG:  // RLIMIT_FSIZE is for memory, too
    case EDQUOT:
      return SendOutcome::NoMemory;
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
    case ECONNREFUSED:
      return SendOutcome::PeerGone;
    default:
      throw os::SystemError(error, "hand a connection over");
  }
}

std::string_view describe(SendOutcome outcome) {
  switch (outcome) {
    case SendOutcome::Sent:
      return "it was sent";
    case SendOutcome::QueueFull:
      return "the queue is full";
    case SendOutcome::TooManyInFlight:
      return "too many descriptors are under way";
    case SendOutcome::TooLarge:
      return "the message is too large";
    case SendOutcome::NoDescriptors:
      return "too many open files";
    case SendOutcome::NoMemory:
      return "out of memory";
    case SendOutcome::PeerGone:
      return "the other side has gone";
  }
  return "it could not be sent";
}

SendOutcome send_packet(int channel, Bytes packet, std::span<const int> descriptors) {
  if (descriptors.size() > kMostDescriptors)
    os::broken_invariant(__FILE__, __LINE__, "too many descriptors for one packet");
  iovec piece{};
  piece.iov_base = const_cast<std::byte*>(packet.data());  // the kernel only reads it
  piece.iov_len = packet.size();
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  Control control{};
  if (!descriptors.empty()) {
    header.msg_control = &control;
    header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(part), descriptors.data(), descriptors.size_bytes());
  }
  for (;;) {
    if (::sendmsg(channel, &header, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return SendOutcome::Sent;
    if (errno != EINTR) return send_outcome(errno);
  }
}

SendOutcome send(int channel, Message message, int connection, int file) {
  std::array<int, 3> descriptors{connection};
  std::size_t count = 1;
  os::Fd memory;
  if (message.bytes.size() > UINT32_MAX) return SendOutcome::TooLarge;
  if (message.bytes.size() > kInlineLimit) {
    if (const int error = make_memory(message.bytes, memory); error != 0)
      return send_outcome(error);
    message.external_bytes = static_cast<std::uint32_t>(message.bytes.size());
    message.bytes = {};
    descriptors[count++] = memory.get();
  }
  if (message.kind == Kind::UnsentFile) descriptors[count++] = file;
  EncodedMessage encoded;
  const Bytes packet = encode(message, encoded);
  const SendOutcome outcome = send_packet(channel, packet, std::span(descriptors).first(count));
  wipe(encoded.data(), packet.size());
  return outcome;
}

SendOutcome send_nudge(int channel) {
  return send_packet(channel, kNudgePacket, {});
}

Incoming receive(int channel, ReceiveBuffer& buffer) {
  iovec piece{};
  piece.iov_base = buffer.data();
  piece.iov_len = buffer.size();
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  Control control{};
  header.msg_control = &control;
  header.msg_controllen = sizeof control;
  ssize_t size = -1;
  do {
    size = ::recvmsg(channel, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size < 0) {
    switch (errno) {
      case EAGAIN:
        return without_message(ReceiveOutcome::Empty);
      case ECONNRESET:
      case ENOTCONN:
        return without_message(ReceiveOutcome::Closed);
      case ENOMEM:
      case ENOBUFS:
        return without_message(ReceiveOutcome::NoMemory);
      default:
        throw os::SystemError(errno, "receive a connection");
    }
  }

  std::vector<os::Fd> fds = take_descriptors(header);
  if ((header.msg_flags & MSG_CTRUNC) != 0) {
    // Our room is for more than anybody sends. So either it was more than that, or the limit of descriptors cut it.
    if (fds.size() < kMostDescriptors) return without_message(ReceiveOutcome::NoDescriptors);
    return without_message(ReceiveOutcome::Malformed, "it has too many descriptors");
  }
  // An empty packet is indistinguishable from the end; nobody of ours sends one.
  if (size == 0) return without_message(ReceiveOutcome::Closed);
  if ((header.msg_flags & MSG_TRUNC) != 0)
    return without_message(ReceiveOutcome::Malformed, "it is longer than any message");
  if (size == std::ssize(kNudgePacket) && buffer[0] == kNudgePacket[0] && fds.empty())
    return without_message(ReceiveOutcome::Malformed, kNudge);
  const auto decoded = decode(Bytes(buffer).first(static_cast<std::size_t>(size)));
  if (!decoded) return without_message(ReceiveOutcome::Malformed, describe(decoded.error()));

  Incoming incoming;
  incoming.message = decoded.value();
  if (fds.size() != incoming.message.descriptors()) {
    return without_message(ReceiveOutcome::Malformed,
                           "it does not have the descriptors that belong to it");
  }
  std::size_t next = 0;
  incoming.connection = std::move(fds[next++]);
  if (incoming.message.external_bytes != 0) incoming.memory = std::move(fds[next++]);
  if (incoming.message.kind == Kind::UnsentFile) incoming.file = std::move(fds[next++]);
  if (!is_socket(incoming.connection))
    return without_message(ReceiveOutcome::Malformed, "its connection is not a socket");
  if (incoming.memory.is_open() &&
      !is_sealed_memory_of(incoming.memory, incoming.message.external_bytes)) {
    return without_message(ReceiveOutcome::Malformed,
                           "its memory is not sealed or not as long as it says");
  }
  if (incoming.file.is_open() && !is_regular_file(incoming.file))
    return without_message(ReceiveOutcome::Malformed, "its file is not a regular file");
  incoming.outcome = ReceiveOutcome::Received;
  return incoming;
}

Result<std::vector<std::byte>> read_memory(const os::Fd& memory,
                                           std::uint64_t offset,
                                           std::size_t size) {
  std::vector<std::byte> bytes(size);
  std::size_t done = 0;
  while (done < size) {
    const ssize_t count =
        ::pread(memory.get(), bytes.data() + done, size - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      return fail(os::system_failure(errno, "read the bytes of a connection handed over"));
    if (count == 0) {
      return fail(Remedy::Refuse,
                  "cannot read the bytes of a connection handed over: there are fewer");
    }
    done += static_cast<std::size_t>(count);
  }
  return bytes;
}

}  // namespace bladepsgi::handoff
