#include "base/pace.h"

#include <gtest/gtest.h>

namespace bladepsgi {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Pace, IsJudgedOverTenSecondsOfWaiting) {
  Pace pace(100);
  for (int i = 0; i < 9; ++i)
    EXPECT_TRUE(pace.keeps_up(seconds(1), 10)) << i;
  EXPECT_FALSE(pace.keeps_up(seconds(1), 10));
}

TEST(Pace, ABurstMakesUpForWhatWasSlow) {
  Pace pace(100);
  for (int i = 0; i < 9; ++i)
    EXPECT_TRUE(pace.keeps_up(seconds(1), 0)) << i;
  EXPECT_TRUE(pace.keeps_up(seconds(1), 1000));
}

TEST(Pace, EachSpanStandsAlone) {
  Pace pace(100);
  EXPECT_TRUE(pace.keeps_up(seconds(10), 1000000));
  EXPECT_FALSE(pace.keeps_up(seconds(10), 999));
}

TEST(Pace, ASilenceCountsForNoMoreThanTheSpan) {
  Pace pace(100);
  EXPECT_TRUE(pace.keeps_up(seconds(59), 1448));
  EXPECT_FALSE(pace.keeps_up(seconds(59), 1));
}

TEST(Pace, QuickOnesAreNeverJudged) {
  Pace pace(1000000000);
  for (int i = 0; i < 1000; ++i)
    EXPECT_TRUE(pace.keeps_up(milliseconds(1), 1));
}

}  // namespace
}  // namespace bladepsgi
