#include "supervise/canary.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bladepsgi::supervise {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using Verdict = Judgement::Verdict;

Tally tally(std::uint64_t requests, std::uint64_t failed, milliseconds each = milliseconds(10)) {
  return {.requests = requests,
          .failed = failed,
          .took = each * static_cast<milliseconds::rep>(requests)};
}

constexpr CanaryOptions kOptions{.requests = 100, .time = seconds(30), .slowness = 4};

TEST(Canary, IsJudgedByItsFailures) {
  struct Row {
    const char* what;
    Tally canaries;
    Tally others;
    Tally before;
    bool is_over;
    Verdict verdict;
  };

  const Tally none{};
  const std::vector<Row> rows = {
      {"nothing yet", none, none, none, false, Verdict::NotYet},
      {"a few", tally(99, 0), tally(300, 0), none, false, Verdict::NotYet},
      {"enough", tally(100, 0), tally(300, 0), none, false, Verdict::Good},
      {"enough, with nobody to compare with", tally(100, 0), none, none, false, Verdict::Good},
      {"time over", tally(3, 0), tally(300, 0), none, true, Verdict::Good},
      {"time over with nothing", none, tally(300, 0), none, true, Verdict::Good},
      {"time over with nothing at all", none, none, none, true, Verdict::Good},
      // Few failures prove nothing, unless there is nothing else.
      {"two failed", tally(2, 2), tally(300, 0), none, false, Verdict::NotYet},
      {"two failed of enough", tally(100, 2), tally(300, 0), none, false, Verdict::Good},
      {"one of two at the end", tally(2, 1), tally(300, 0), none, true, Verdict::Good},
      {"the only one at the end", tally(1, 1), tally(300, 0), none, true, Verdict::Bad},
      {"the only one, as with the others", tally(1, 1), tally(2, 1), none, true, Verdict::Good},
      // Without failures of the others three are too many.
      {"all of three", tally(3, 3), tally(300, 0), none, false, Verdict::Bad},
      {"all of three, with nobody to compare with", tally(3, 3), none, none, false, Verdict::Bad},
      {"three of many", tally(99, 3), tally(300, 0), none, false, Verdict::Bad},
      {"three of enough", tally(100, 3), tally(300, 0), none, false, Verdict::Bad},
      // With them twice as many and three more.
      {"1 % is usual", tally(100, 4), tally(1000, 10), none, false, Verdict::Good},
      {"1 % is usual, 5 fail", tally(100, 5), tally(1000, 10), none, false, Verdict::Bad},
      {"10 % is usual", tally(100, 22), tally(1000, 100), none, false, Verdict::Good},
      {"10 % is usual, 23 fail", tally(100, 23), tally(1000, 100), none, false, Verdict::Bad},
      {"10 % is usual, all of the first fail", tally(3, 3), tally(30, 3), none, false,
       Verdict::NotYet},
      {"10 % is usual, all of the first 4 fail", tally(4, 4), tally(30, 3), none, false,
       Verdict::Bad},
      {"all fail everywhere", tally(100, 100), tally(300, 300), none, false, Verdict::Good},
      {"all fail everywhere, at the end", tally(5, 5), tally(30, 30), none, true, Verdict::Good},
      // While the others serve little, what they did before counts.
      {"usual before", tally(100, 15), tally(2, 0), tally(1000, 100), false, Verdict::Good},
      {"not usual before", tally(100, 15), tally(2, 0), tally(1000, 1), false, Verdict::Bad},
      {"usual before but not now", tally(100, 15), tally(500, 0), tally(1000, 100), false,
       Verdict::Bad},
      {"not usual before but now", tally(100, 15), tally(50, 5), tally(1000, 0), false,
       Verdict::Good},
  };
  for (const Row& row : rows) {
    const Judgement judgement =
        judge(kOptions, {.canaries = row.canaries,
                         .longest_running = {},
                         .others = row.others,
                         .others_before = row.before,
                         .elapsed = row.is_over ? seconds(30) : seconds(1)});
    EXPECT_EQ(judgement.verdict, row.verdict) << row.what << ": " << judgement.reason;
    EXPECT_EQ(judgement.reason.empty(), row.verdict == Verdict::NotYet) << row.what;
  }
}

TEST(Canary, IsJudgedByTheTimeItTakes) {
  struct Row {
    Tally canaries;
    Tally others;
    Tally before;
    Verdict verdict;
  };

  const Tally none{};
  const std::vector<Row> rows = {
      {tally(19, 0, seconds(9)), tally(50, 0), none, Verdict::NotYet},
      {tally(20, 0, seconds(9)), tally(50, 0), none, Verdict::Bad},
      {tally(20, 0, milliseconds(261)), tally(50, 0), none, Verdict::Bad},
      {tally(20, 0, milliseconds(259)), tally(50, 0), none, Verdict::NotYet},  // hardly matters
      {tally(20, 0, milliseconds(900)), tally(50, 0, milliseconds(300)), none, Verdict::NotYet},
      {tally(20, 0, milliseconds(1200)), tally(50, 0, milliseconds(300)), none, Verdict::Bad},
      {tally(50, 0, seconds(9)), none, none, Verdict::NotYet},
      {tally(50, 0, seconds(9)), tally(19, 0), none, Verdict::NotYet},
      {tally(50, 0, seconds(9)), tally(1, 0), tally(19, 0), Verdict::Bad},
      {tally(50, 0, seconds(9)), tally(1, 0), tally(30, 0, seconds(8)), Verdict::NotYet},
      {tally(50, 0, seconds(9)), tally(20, 0, seconds(8)), tally(5000, 0), Verdict::NotYet},
  };
  for (const Row& row : rows) {
    const Trial trial{.canaries = row.canaries,
                      .longest_running = {},
                      .others = row.others,
                      .others_before = row.before,
                      .elapsed = seconds(1)};
    EXPECT_EQ(judge(kOptions, trial).verdict, row.verdict) << "row " << (&row - rows.data());
    CanaryOptions patient = kOptions;
    patient.slowness = 0;
    EXPECT_EQ(judge(patient, trial).verdict, Verdict::NotYet) << "row " << (&row - rows.data());
  }
}

TEST(Canary, WhoAnswersNothingIsBad) {
  Trial trial;
  trial.longest_running = seconds(20);
  trial.others = tally(5, 0);
  trial.elapsed = seconds(29);
  EXPECT_EQ(judge(kOptions, trial).verdict, Verdict::NotYet);
  trial.elapsed = seconds(30);
  EXPECT_EQ(judge(kOptions, trial).verdict, Verdict::Bad);
  trial.longest_running = seconds(14);
  EXPECT_EQ(judge(kOptions, trial).verdict, Verdict::Good) << "has not had it for long";
  trial.longest_running = seconds(20);
  trial.others = {};
  EXPECT_EQ(judge(kOptions, trial).verdict, Verdict::Good) << "nobody has answered";
  trial.others = tally(5, 0);
  trial.canaries = tally(1, 0);
  EXPECT_EQ(judge(kOptions, trial).verdict, Verdict::Good) << "has answered another one";
}

TEST(Canary, SaysWhy) {
  const auto reason = [](const Tally& canaries, const Tally& others, const Tally& before = {}) {
    return judge(kOptions, {.canaries = canaries,
                            .longest_running = {},
                            .others = others,
                            .others_before = before,
                            .elapsed = seconds(30)})
        .reason;
  };
  EXPECT_THAT(reason(tally(7, 3), tally(20, 0)),
              HasSubstr("too many requests fail: of the new workers' 7 requests, 3 failed; of the "
                        "old ones' 20 requests, none failed"));
  EXPECT_THAT(reason(tally(7, 5), tally(1, 0), tally(1000, 1)),
              HasSubstr("1 request, none failed, and before that of 1000 requests, 1 failed"));
  EXPECT_THAT(
      reason(tally(20, 0, milliseconds(1250)), tally(20, 0)),
      HasSubstr("requests take too long: 1.2 s on the average, with the old workers 10 ms"));
  EXPECT_THAT(reason({}, {}), HasSubstr("no request has come"));
}

TEST(Canary, ShareOfWorkers) {
  EXPECT_EQ(share_of(8, 25), 2U);
  EXPECT_EQ(share_of(8, 24), 1U);
  EXPECT_EQ(share_of(8, 1), 1U);
  EXPECT_EQ(share_of(1, 50), 1U);
  EXPECT_EQ(share_of(3, 100), 3U);
  EXPECT_EQ(share_of(0, 50), 0U);
  EXPECT_EQ(share_of(65536, 100), 65536U);
}

}  // namespace
}  // namespace bladepsgi::supervise
