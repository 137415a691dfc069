#include "base/receive_buffer.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <string>

#include <gtest/gtest.h>

namespace bladepsgi {
namespace {

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

}  // namespace
}  // namespace bladepsgi
