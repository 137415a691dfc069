// Outgoing: what is still to be sent of a finished response, piece after piece, whoever sends it. Pure.
//
// A message of kind UnsentResponse or UnsentFile describes the rest: bytes, a file's range, bytes. The file goes out in records or chunks
// of the protocol, whose beginnings and ends are made here, by a Framing, as their turn comes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "handoff/message.h"

namespace bladepsgi::handoff {

// What a protocol puts around the pieces of a file. All views are valid until the next call.
class Framing {
 public:
  Framing() = default;
  Framing(const Framing&) = delete;
  Framing& operator=(const Framing&) = delete;
  virtual ~Framing() = default;

  [[nodiscard]] virtual std::size_t largest_piece() const = 0;
  [[nodiscard]] virtual Bytes piece_begin(std::size_t size) = 0;
  [[nodiscard]] virtual Bytes piece_end() = 0;
};

// What a Framing returns at most.
inline constexpr std::size_t kMaxFrame = 32;

class Outgoing {
 public:
  enum class Source : std::uint8_t {
    Nothing,  // all is sent
    Bytes,    // of the message: `size` of them from `offset`
    File,     // `size` bytes from `offset`
    Frame,    // `frame`
  };

  struct Next {
    Source source = Source::Nothing;
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    Bytes frame{};
    bool has_more = false;  // something follows directly
  };

  // Of a message that decode accepts. `framing` outlives this.
  Outgoing(const Message& message, Framing& framing);

  // What to send now: the same until some of it was sent.
  [[nodiscard]] Next next();
  // So many bytes of what next() has said.
  void sent(std::uint64_t size);

  // What is left, for somebody else who goes on with it: of a message whose bytes are `frame`, and then `size` of this message's from `offset`.
  struct Rest {
    Bytes frame;  // valid until the next call
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    std::uint64_t bytes_before_file = 0;  // the frame included
    std::uint64_t file_offset = 0;
    std::uint64_t file_length = 0;  // 0: there is none any more
    std::uint64_t file_piece = 0;
  };

  [[nodiscard]] Rest rest() const;

 private:
  void set_frame(Bytes frame);

  Framing& framing_;
  std::uint64_t bytes_sent_ = 0;
  std::uint64_t before_file_;
  std::uint64_t bytes_;
  std::uint64_t file_offset_;
  std::uint64_t file_left_;
  std::uint64_t piece_left_;
  bool is_in_piece_;
  std::array<std::byte, kMaxFrame> frame_{};
  std::size_t frame_at_ = 0;
  std::size_t frame_size_ = 0;
};

}  // namespace bladepsgi::handoff
