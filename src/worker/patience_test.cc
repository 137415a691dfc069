#include "worker/patience.h"

#include <gtest/gtest.h>

namespace bladepsgi::worker {
namespace {

using std::chrono::milliseconds;

TEST(Patience, HasAMomentForEachThatIsWorthIt) {
  const Patience patience(milliseconds(2));
  EXPECT_EQ(patience.moment(), milliseconds(2));
  EXPECT_FALSE(patience.is_short());
}

TEST(Patience, LosesItWhenTooManyWereInVain) {
  Patience patience(milliseconds(2));
  os::Monotonic now{milliseconds(1000)};
  int moments = 0;
  while (patience.moment() > milliseconds::zero()) {
    now += milliseconds(2);
    patience.spent(milliseconds(2), now);
    ASSERT_LT(++moments, 100);
  }
  EXPECT_GE(moments, 10);
  EXPECT_LE(moments, 12);
  EXPECT_TRUE(patience.is_short());
}

TEST(Patience, ComesBackWithTimeButNeverBeyondWhatItWas) {
  Patience patience(milliseconds(2));
  os::Monotonic now{milliseconds(1000)};
  for (int i = 0; i < 20; ++i)
    patience.spent(milliseconds(2), now);
  EXPECT_EQ(patience.moment(), milliseconds::zero());
  patience.refill(now += milliseconds(100));
  EXPECT_EQ(patience.moment(), milliseconds::zero());
  patience.refill(now += milliseconds(1000));
  EXPECT_EQ(patience.moment(), milliseconds(2));
  EXPECT_FALSE(patience.is_short());
}

TEST(Patience, OfNothingIsNothing) {
  const Patience patience(milliseconds(0));
  EXPECT_EQ(patience.moment(), milliseconds::zero());
}

}  // namespace
}  // namespace bladepsgi::worker
