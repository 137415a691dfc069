#include "worker/recycling.h"

#include <cstring>
#include <memory>

#include <gtest/gtest.h>

namespace bladepsgi::worker {
namespace {

using shm::Wish;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

const os::Monotonic kStart{hours(1)};

TEST(Recycling, WantsNothingWithoutLimits) {
  Recycling recycling({}, kStart, 1, [] {
    ADD_FAILURE() << "nobody asked for that";
    return std::nullopt;
  });
  for (int i = 0; i < 1000; ++i)
    EXPECT_EQ(recycling.request_ended(kStart + hours(i)), Wish::None);
  EXPECT_EQ(recycling.deadline(), std::nullopt);
}

TEST(Recycling, CountsRequests) {
  for (const auto& [chance, expected] : {std::pair{0.0, 100}, {0.5, 90}, {1.0, 80}}) {
    Recycling recycling({.requests = 100}, kStart, chance);
    int served = 1;
    while (recycling.request_ended(kStart) == Wish::None && served < 1000)
      ++served;
    EXPECT_EQ(served, expected) << chance;
    EXPECT_EQ(recycling.request_ended(kStart), Wish::None) << "it says so once";
  }
  Recycling one({.requests = 1}, kStart, 1);
  EXPECT_EQ(one.request_ended(kStart), Wish::Requests);
}

TEST(Recycling, HasALifetime) {
  Recycling recycling({.lifetime = seconds(100)}, kStart, 0.5);
  ASSERT_TRUE(recycling.deadline());
  EXPECT_EQ(*recycling.deadline(), kStart + seconds(90));
  EXPECT_EQ(recycling.time_passed(kStart + seconds(90) - milliseconds(1)), Wish::None);
  EXPECT_EQ(recycling.request_ended(kStart + seconds(89)), Wish::None);
  EXPECT_EQ(recycling.time_passed(kStart + seconds(90)), Wish::Lifetime);
  EXPECT_EQ(recycling.time_passed(kStart + seconds(91)), Wish::None);
  EXPECT_EQ(recycling.deadline(), std::nullopt);
}

TEST(Recycling, LooksAtItsMemoryNowAndThen) {
  std::uint64_t memory = 1000;
  int looks = 0;
  Recycling recycling({.memory = 1000}, kStart, 1, [&] {
    ++looks;
    return memory;
  });
  for (int i = 0; i < 50; ++i)
    EXPECT_EQ(recycling.request_ended(kStart + milliseconds(100 * i)), Wish::None);
  EXPECT_EQ(looks, 5);
  memory = 1001;
  EXPECT_EQ(recycling.request_ended(kStart + seconds(10)), Wish::Memory);
  Recycling blind({.memory = 1}, kStart, 1, [] { return std::nullopt; });
  EXPECT_EQ(blind.request_ended(kStart), Wish::None);
}

TEST(PrivateMemory, GrowsWithWhatIsWritten) {
  constexpr std::size_t kSize = std::size_t{64} * 1024 * 1024;
  const auto before = private_memory();
  if (!before) GTEST_SKIP() << "the kernel does not tell";
  const auto memory = std::make_unique<char[]>(kSize);
  std::memset(memory.get(), 1, kSize);
  const auto after = private_memory();
  ASSERT_TRUE(after);
  EXPECT_GE(*after, *before + kSize * 9 / 10);
}

}  // namespace
}  // namespace bladepsgi::worker
