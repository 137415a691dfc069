#include "handoff/outgoing.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace bladepsgi::handoff {
namespace {

class Brackets final : public Framing {
 public:
  [[nodiscard]] std::size_t largest_piece() const override { return 4; }

  [[nodiscard]] Bytes piece_begin(std::size_t size) override {
    text_ = "<" + std::to_string(size) + ":";
    return as_bytes(text_);
  }

  [[nodiscard]] Bytes piece_end() override { return as_bytes(std::string_view(">")); }

 private:
  std::string text_;
};

constexpr std::string_view kBytes = "beforeafterreceived";
constexpr std::string_view kFile = "0123456789abcdef";

// All that goes out, sent in steps of `step` bytes at most.
std::string play(const Message& message, std::size_t step) {
  Brackets framing;
  Outgoing outgoing(message, framing);
  std::string all;
  for (;;) {
    const Outgoing::Next next = outgoing.next();
    const std::size_t size = std::min<std::size_t>(next.size, step);
    switch (next.source) {
      case Outgoing::Source::Nothing:
        EXPECT_FALSE(next.has_more);
        return all;
      case Outgoing::Source::Bytes:
        all += kBytes.substr(next.offset, size);
        break;
      case Outgoing::Source::File:
        all += kFile.substr(next.offset, size);
        break;
      case Outgoing::Source::Frame:
        all += as_text(next.frame).substr(0, size);
        break;
    }
    outgoing.sent(size);
  }
}

TEST(Outgoing, SendsAllInOrderHoweverItIsCut) {
  struct Row {
    const char* what;
    Message message;
    std::string_view sent;
  };

  const Row rows[] = {
      {"bytes alone", {.kind = Kind::UnsentResponse, .unsent_bytes = 11}, "beforeafter"},
      {"a file in whole pieces",
       {.kind = Kind::UnsentFile,
        .unsent_bytes = 11,
        .bytes_before_file = 6,
        .file_offset = 2,
        .file_length = 9},
       "before<4:2345><4:6789><1:a>after"},
      {"in a piece that has begun",
       {.kind = Kind::UnsentFile,
        .unsent_bytes = 11,
        .bytes_before_file = 6,
        .file_offset = 2,
        .file_length = 9,
        .file_piece = 3},
       "before234><4:5678><2:9a>after"},
      {"the last piece has begun",
       {.kind = Kind::UnsentFile, .file_offset = 0, .file_length = 16, .file_piece = 16},
       "0123456789abcdef>"},
      {"nothing before the file",
       {.kind = Kind::UnsentFile, .unsent_bytes = 6, .file_offset = 15, .file_length = 1},
       "<1:f>before"},
      {"nothing behind the file",
       {.kind = Kind::UnsentFile,
        .unsent_bytes = 6,
        .bytes_before_file = 6,
        .file_offset = 15,
        .file_length = 1},
       "before<1:f>"},
  };
  for (const Row& row : rows) {
    for (std::size_t step = 1; step < 20; ++step)
      EXPECT_EQ(play(row.message, step), row.sent) << row.what << ", " << step << " at a time";
  }
}

// Somebody else goes on after each byte.
std::string play_by_turns(const Message& message) {
  Message now = message;
  std::string bytes(kBytes);
  std::string all;
  for (;;) {
    Brackets framing;
    Outgoing outgoing(now, framing);
    const Outgoing::Next next = outgoing.next();
    if (next.source == Outgoing::Source::Nothing) return all;
    if (next.source == Outgoing::Source::Frame) all += as_text(next.frame).substr(0, 1);
    if (next.source == Outgoing::Source::Bytes) all += bytes[next.offset];
    if (next.source == Outgoing::Source::File) all += kFile[next.offset];
    outgoing.sent(1);
    const Outgoing::Rest rest = outgoing.rest();
    bytes = std::string(as_text(rest.frame)) + bytes.substr(rest.offset, rest.size);
    now = {.kind = rest.file_length > 0 ? Kind::UnsentFile : Kind::UnsentResponse,
           .unsent_bytes = static_cast<std::uint32_t>(bytes.size()),
           .bytes_before_file = static_cast<std::uint32_t>(rest.bytes_before_file),
           .file_offset = rest.file_offset,
           .file_length = rest.file_length,
           .file_piece = rest.file_piece};
  }
}

TEST(Outgoing, SomebodyElseCanGoOnAfterAnyByte) {
  EXPECT_EQ(play_by_turns({.kind = Kind::UnsentResponse, .unsent_bytes = 11}), "beforeafter");
  EXPECT_EQ(play_by_turns({.kind = Kind::UnsentFile,
                           .unsent_bytes = 11,
                           .bytes_before_file = 6,
                           .file_offset = 2,
                           .file_length = 9}),
            "before<4:2345><4:6789><1:a>after");
  EXPECT_EQ(play_by_turns({.kind = Kind::UnsentFile,
                           .unsent_bytes = 11,
                           .bytes_before_file = 6,
                           .file_offset = 2,
                           .file_length = 9,
                           .file_piece = 3}),
            "before234><4:5678><2:9a>after");
}

TEST(OutgoingDeathTest, MoreCannotBeSentThanThereIs) {
  Brackets framing;
  Outgoing outgoing({.kind = Kind::UnsentResponse, .unsent_bytes = 2}, framing);
  EXPECT_DEATH(outgoing.sent(3), "broken invariant");
}

}  // namespace
}  // namespace bladepsgi::handoff
