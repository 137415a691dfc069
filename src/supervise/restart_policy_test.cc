#include "supervise/restart_policy.h"

#include <chrono>
#include <cstdint>

#include <gtest/gtest.h>

namespace bladepsgi::supervise {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Time kStart{std::chrono::hours(1)};

Life lived(Duration duration, bool served = false) {
  return {.started = kStart, .died = kStart + duration, .served = served};
}

TEST(RestartPolicy, ReplacesAtOnceWhatHadServedOrLivedLong) {
  RestartPolicy policy;
  EXPECT_EQ(policy.delay_after(lived(milliseconds(1), true), 0.5), Duration::zero());
  EXPECT_EQ(policy.delay_after(lived(seconds(10)), 0.5), Duration::zero());
  EXPECT_GT(policy.delay_after(lived(seconds(10) - Duration(1)), 0.5), Duration::zero());
}

TEST(RestartPolicy, DoublesTheDelayOfEarlyDeathsUpToALimit) {
  struct Row {
    std::int64_t shortest;
    std::int64_t longest;
  };

  RestartPolicy shortest;
  RestartPolicy longest;
  for (const Row& row : {Row{100, 200}, Row{200, 400}, Row{400, 800}, Row{800, 1600},
                         Row{1600, 3200}, Row{3200, 6400}, Row{6400, 12800}, Row{12800, 25600},
                         Row{15000, 30000}, Row{15000, 30000}}) {
    EXPECT_EQ(shortest.delay_after(lived(seconds(1)), 0.0), milliseconds(row.shortest));
    EXPECT_EQ(longest.delay_after(lived(seconds(1)), 1.0), milliseconds(row.longest));
  }
  for (int i = 0; i < 100000; ++i)
    (void)longest.delay_after(lived(seconds(1)), 1.0);
  EXPECT_EQ(longest.delay_after(lived(seconds(1)), 1.0), seconds(30));
  EXPECT_EQ(longest.early_deaths(), 100011U);
}

TEST(RestartPolicy, SpreadsRestartsByChance) {
  RestartPolicy policy;
  EXPECT_EQ(policy.delay_after(lived(seconds(1)), 0.25), milliseconds(125));
  EXPECT_EQ(policy.delay_after(lived(seconds(1)), -7.0), milliseconds(200));
  EXPECT_EQ(policy.delay_after(lived(seconds(1)), 7.0), milliseconds(800));
}

TEST(RestartPolicy, OnlyAServedRequestEndsALoop) {
  RestartPolicy policy;
  (void)policy.delay_after(lived(seconds(1)), 0.0);
  (void)policy.delay_after(lived(seconds(1)), 0.0);
  EXPECT_EQ(policy.delay_after(lived(seconds(60)), 0.0), Duration::zero());
  EXPECT_EQ(policy.delay_after(lived(seconds(1)), 0.0), milliseconds(400));
  policy.served();
  EXPECT_EQ(policy.early_deaths(), 0U);
  EXPECT_EQ(policy.delay_after(lived(seconds(1)), 0.0), milliseconds(100));
  EXPECT_EQ(policy.delay_after(lived(seconds(1), true), 0.0), Duration::zero());
  EXPECT_EQ(policy.delay_after(lived(seconds(1)), 0.0), milliseconds(100));
}

TEST(RestartPolicy, HoldsItsOwnLimits) {
  RestartPolicy policy(
      {.first_delay = seconds(4), .longest_delay = seconds(10), .settled_after = seconds(1)});
  EXPECT_EQ(policy.delay_after(lived(milliseconds(999)), 1.0), seconds(8));
  EXPECT_EQ(policy.delay_after(lived(milliseconds(999)), 1.0), seconds(10));
  EXPECT_EQ(policy.delay_after(lived(seconds(1)), 1.0), seconds(0));
}

}  // namespace
}  // namespace bladepsgi::supervise
