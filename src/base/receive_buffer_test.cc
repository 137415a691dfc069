#include "base/receive_buffer.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <string>

#include <gtest/gtest.h>

namespace bladepsgi {
namespace {

void receive_into(ReceiveBuffer& buffer, std::string_view text) {
  const WritableBytes space = buffer.space();
  ASSERT_LE(text.size(), space.size());
  std::memcpy(space.data(), text.data(), text.size());
  buffer.received(text.size());
}

TEST(ReceiveBuffer, KeepsTheOrderAndWipesWhatIsTaken) {
  constexpr std::size_t kCapacity = 64;
  std::mt19937 random(20261122);
  const auto below = [&random](std::size_t limit) {
    return std::uniform_int_distribution<std::size_t>(0, limit)(random);
  };
  for (int run = 0; run < 200; ++run) {
    ReceiveBuffer buffer(kCapacity);
    std::string expected;
    char next = 'a';
    std::byte* const storage = buffer.space().data();
    std::memset(storage, 0, kCapacity);  // it is not initialised
    for (int step = 0; step < 200; ++step) {
      switch (below(4)) {
        case 0:
        case 1: {
          const WritableBytes space = buffer.space();
          const std::size_t size = below(space.size());
          for (std::size_t i = 0; i < size; ++i) {
            space[i] = static_cast<std::byte>(next);
            expected += next;
            next = next == 'z' ? 'a' : static_cast<char>(next + 1);
          }
          buffer.received(size);
          break;
        }
        case 2: {
          const std::size_t size = below(expected.size());
          buffer.consume(size);
          expected.erase(0, size);
          break;
        }
        case 3:
          if (below(9) == 0) {
            buffer.clear();
            expected.clear();
          }
          break;
        default:
          buffer.wipe();
          EXPECT_EQ(std::count_if(storage, storage + kCapacity,
                                  [](std::byte b) { return b >= std::byte{'a'}; }),
                    expected.size());
      }
      ASSERT_EQ(as_text(buffer.unread()), expected);
    }
  }
}

TEST(ReceiveBuffer, WhatIsPinnedStays) {
  constexpr std::size_t kCapacity = 64;
  ReceiveBuffer buffer(kCapacity);
  const auto receive = [&buffer](std::string_view text) {
    receive_into(buffer, text);
  };
  receive("pinned and more");
  std::byte* const storage = buffer.space().data() - 15;
  const auto pinned = [storage] {
    return as_text(Bytes(storage, 6));
  };
  buffer.consume(6);
  ASSERT_TRUE(buffer.try_pin());
  for (int i = 0; i < 50; ++i) {
    receive("twelve bytes");
    EXPECT_EQ(as_text(buffer.unread()).substr(buffer.size() - 12), "twelve bytes");
    buffer.consume(i % 3 == 0 ? buffer.size() : 10);
    if (buffer.size() > 30) buffer.consume(20);
    if (i % 5 == 0) buffer.wipe();
    ASSERT_EQ(pinned(), "pinned");
  }
  buffer.clear();
  EXPECT_EQ(buffer.space().size(), kCapacity - 6);
  buffer.release();
  ASSERT_EQ(pinned(), "pinned");
  buffer.unpin();
  buffer.wipe();
  EXPECT_TRUE(std::all_of(storage, storage + 40, [](std::byte b) { return b == std::byte{}; }));
  EXPECT_EQ(buffer.space().size(), kCapacity);
  receive(std::string(20, 'x'));
  buffer.consume(17);
  EXPECT_FALSE(buffer.try_pin()) << "more than a quarter";
}

TEST(ReceiveBuffer, HasRoomForItsCapacity) {
  ReceiveBuffer buffer(16);
  EXPECT_EQ(buffer.space().size(), 16U);
  buffer.received(16);
  EXPECT_TRUE(buffer.space().empty());
  buffer.consume(15);
  EXPECT_EQ(buffer.space().size(), 15U) << "the last byte has moved to the front";
  buffer.consume(1);
  EXPECT_EQ(buffer.space().size(), 16U);
  buffer.release();
  EXPECT_EQ(buffer.space().size(), 16U);
}

TEST(ReceiveBuffer, WhatIsHeldCanBeReadAgain) {
  constexpr std::size_t kCapacity = 64;
  ReceiveBuffer buffer(kCapacity);
  const auto receive = [&buffer](std::string_view text) {
    receive_into(buffer, text);
  };
  receive("gone, ");
  buffer.consume(6);
  buffer.hold();
  receive("held");
  buffer.consume(2);
  receive(" and more");
  EXPECT_EQ(as_text(buffer.held()), "held and more");
  EXPECT_EQ(as_text(buffer.unread()), "ld and more");
  buffer.wipe();
  EXPECT_EQ(as_text(buffer.held()), "held and more");
  receive(std::string(40, 'x'));
  buffer.consume(51);
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.space().size(), kCapacity - 53) << "more is held than is worth moving";
  EXPECT_EQ(buffer.held().size(), 53U);
  buffer.let_go();
  EXPECT_EQ(buffer.space().size(), kCapacity);
}

TEST(ReceiveBuffer, WhatIsHeldMovesWithTheRestUnlessSomethingIsPinned) {
  ReceiveBuffer buffer(64);
  static_cast<void>(buffer.space());
  buffer.received(50);
  buffer.consume(40);
  buffer.hold();
  buffer.consume(10);
  EXPECT_EQ(buffer.space().size(), 54U);
  EXPECT_EQ(buffer.held().size(), 10U);
  buffer.clear();
  buffer.hold();
  static_cast<void>(buffer.space());
  buffer.hold();
  buffer.received(10);
  buffer.consume(10);
  ASSERT_TRUE(buffer.try_pin());
  buffer.received(44);
  buffer.consume(44);
  EXPECT_EQ(buffer.space().size(), 10U);
  EXPECT_EQ(buffer.held().size(), 54U);
  buffer.let_go();
  EXPECT_EQ(buffer.space().size(), 54U);
}

}  // namespace
}  // namespace bladepsgi
