#include "lobby/sending.h"

#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "fcgi/record.h"

namespace bladepsgi::lobby {

namespace {

using Source = handoff::Outgoing::Source;

constexpr std::size_t kLargestChunk = std::size_t{1024} * 1024;
constexpr std::size_t kCopySize = std::size_t{32} * 1024;

}  // namespace

std::size_t Sending::Records::largest_piece() const {
  return protocol_ == handoff::Protocol::FastCgi ? fcgi::kMaxContentSent : kLargestChunk;
}

Bytes Sending::Records::piece_begin(std::size_t size) {
  if (protocol_ == handoff::Protocol::FastCgi) {
    const auto header = std::span(record_).first<fcgi::kHeaderSize>();
    fcgi::encode_header(header, fcgi::RecordType::Stdout, stream_id_, size);
    return header;
  }
  return is_chunked_ ? as_bytes(http::encode_chunk_header(chunk_, size)) : Bytes();
}

Bytes Sending::Records::piece_end() {
  return is_chunked_ && protocol_ == handoff::Protocol::Http ? as_bytes(http::kChunkEnd) : Bytes();
}

Sending::Sending(handoff::Incoming& incoming)
    : records_(incoming.message.protocol,
               incoming.message.stream_id,
               (incoming.message.flags & handoff::kChunked) != 0),
      outgoing_(incoming.message, records_),
      keeps_((incoming.message.flags & handoff::kKeepAfterwards) != 0),
      bytes_(incoming.message.unsent_bytes),
      memory_(std::move(incoming.memory)),
      file_(std::move(incoming.file)) {
  if (!memory_.is_open()) {
    const Bytes bytes = incoming.message.bytes.first(incoming.message.unsent_bytes);
    inline_bytes_.assign(bytes.begin(), bytes.end());
  }
}

// As send(2). What cannot be read is not the peer's fault.
ssize_t Sending::send_file(int socket, int file, std::uint64_t offset, std::size_t size) {
  auto at = static_cast<off_t>(offset);
  ssize_t sent = ::sendfile(socket, file, &at, size);
  // Some file systems cannot do it.
  if (sent < 0 && (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)) {
    std::vector<std::byte> copy(std::min(size, kCopySize));
    sent = ::pread(file, copy.data(), copy.size(), static_cast<off_t>(offset));
    if (sent > 0) {
      return ::send(socket, copy.data(), static_cast<std::size_t>(sent),
                    MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    has_read_error_ = sent < 0;
  }
  if (sent == 0) {
    has_read_error_ = true;  // it has become shorter
    errno = EIO;
    return -1;
  }
  if (sent < 0 && (errno == EIO || errno == ESTALE || errno == ENOMEM)) has_read_error_ = true;
  return sent;
}

Sending::Outcome Sending::send(int socket, std::size_t limit, std::size_t* sent) {
  *sent = 0;
  while (*sent < limit) {
    const handoff::Outgoing::Next next = outgoing_.next();
    if (next.source == Source::Nothing) return Outcome::Done;
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(next.size, limit - *sent));
    ssize_t count = -1;
    if (next.source == Source::File) {
      count = send_file(socket, file_.get(), next.offset, size);
    } else if (next.source == Source::Bytes && memory_.is_open()) {
      count = send_file(socket, memory_.get(), next.offset, size);
    } else {
      const Bytes bytes =
          next.source == Source::Frame ? next.frame : Bytes(inline_bytes_).subspan(next.offset);
      count = ::send(socket, bytes.data(), std::min(size, bytes.size()),
                     MSG_DONTWAIT | MSG_NOSIGNAL | (next.has_more ? MSG_MORE : 0));
    }
    if (count < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return Outcome::Full;
      return has_read_error_ ? Outcome::BrokenFile : Outcome::PeerGone;
    }
    outgoing_.sent(static_cast<std::uint64_t>(count));
    *sent += static_cast<std::size_t>(count);
  }
  return outgoing_.next().source == Source::Nothing ? Outcome::Done : Outcome::More;
}

Result<void> Sending::describe(handoff::Message& message, std::vector<std::byte>& bytes) const {
  const handoff::Outgoing::Rest rest = outgoing_.rest();
  bytes.assign(rest.frame.begin(), rest.frame.end());
  if (memory_.is_open()) {
    auto read = handoff::read_memory(memory_, rest.offset, rest.size);
    if (!read) return fail(read.error());
    bytes.insert(bytes.end(), read->begin(), read->end());
  } else {
    const Bytes left = Bytes(inline_bytes_).subspan(rest.offset, rest.size);
    bytes.insert(bytes.end(), left.begin(), left.end());
  }
  const bool has_file = rest.file_length > 0;
  message.kind = has_file ? handoff::Kind::UnsentFile : handoff::Kind::UnsentResponse;
  message.flags =
      static_cast<std::uint16_t>((keeps_ ? handoff::kKeepAfterwards : 0) |
                                 (has_file && records_.is_chunked() ? handoff::kChunked : 0));
  message.stream_id = has_file ? records_.stream_id() : std::uint16_t{0};
  message.unsent_bytes = static_cast<std::uint32_t>(bytes.size());
  message.bytes_before_file = static_cast<std::uint32_t>(rest.bytes_before_file);
  message.file_offset = rest.file_offset;
  message.file_length = rest.file_length;
  message.file_piece = rest.file_piece;
  return {};
}

}  // namespace bladepsgi::lobby
