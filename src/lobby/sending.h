// Sending: the rest of a finished response on its way to a peer that takes it slowly. Nothing here waits.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "handoff/outgoing.h"
#include "handoff/transfer.h"
#include "http/response.h"
#include "os/fd.h"

namespace bladepsgi::lobby {

class Sending {
 public:
  // Of a message of kind UnsentResponse or UnsentFile: its bytes, memory and file are taken, the connection is not.
  explicit Sending(handoff::Incoming& incoming);
  Sending(const Sending&) = delete;
  Sending& operator=(const Sending&) = delete;
  ~Sending() = default;

  enum class Outcome : std::uint8_t {
    Done,
    Full,        // the peer takes no more now
    More,        // as much as was allowed was sent
    PeerGone,    // the connection is broken
    BrokenFile,  // it cannot be read, or is shorter than it was: what was promised cannot be sent
  };

  // Sends at most `limit` bytes. *sent: how many that were.
  [[nodiscard]] Outcome send(int socket, std::size_t limit, std::size_t* sent);

  // About what is left, for somebody else who goes on with it: all of `message` but its protocol and its bytes, which `bytes` gets. Error: they
  // cannot be read.
  [[nodiscard]] Result<void> describe(handoff::Message& message,
                                      std::vector<std::byte>& bytes) const;

  // -1: none is left to be sent of.
  [[nodiscard]] int file() const { return file_.get(); }

  // When all is sent, the connection waits for its next request.
  [[nodiscard]] bool keeps() const { return keeps_; }

  // That the rest occupies; a file's are not counted.
  [[nodiscard]] std::uint64_t memory_used() const { return bytes_; }

  [[nodiscard]] std::size_t descriptors() const {
    return (memory_.is_open() ? 1U : 0U) + (file_.is_open() ? 1U : 0U);
  }

 private:
  // The protocol's own, for what a worker's engine would have framed.
  class Records final : public handoff::Framing {
   public:
    Records(handoff::Protocol protocol, std::uint16_t stream_id, bool is_chunked)
        : protocol_(protocol), stream_id_(stream_id), is_chunked_(is_chunked) {}

    [[nodiscard]] std::uint16_t stream_id() const { return stream_id_; }

    [[nodiscard]] bool is_chunked() const { return is_chunked_; }

    [[nodiscard]] std::size_t largest_piece() const override;
    [[nodiscard]] Bytes piece_begin(std::size_t size) override;
    [[nodiscard]] Bytes piece_end() override;

   private:
    handoff::Protocol protocol_;
    std::uint16_t stream_id_;
    bool is_chunked_;
    std::array<std::byte, handoff::kMaxFrame> record_{};
    std::array<char, http::kChunkHeaderSize> chunk_{};
  };

  [[nodiscard]] ssize_t send_file(int socket, int file, std::uint64_t offset, std::size_t size);

  Records records_;
  handoff::Outgoing outgoing_;
  bool keeps_;
  std::uint64_t bytes_;
  std::vector<std::byte> inline_bytes_;
  os::Fd memory_;  // instead of them
  os::Fd file_;
  bool has_read_error_ = false;  // of what is sent, not of the peer
};

}  // namespace bladepsgi::lobby
