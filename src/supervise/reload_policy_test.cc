#include "supervise/reload_policy.h"

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace bladepsgi::supervise {

std::ostream& operator<<(std::ostream& out, const ReloadActions& actions) {
  return out << (actions.load ? "load " : "") << (actions.prove ? "prove " : "")
             << (actions.judge ? "judge " : "") << (actions.accept ? "accept " : "")
             << (actions.roll_back ? "roll-back " : "") << (actions.report_done ? "done " : "")
             << (actions.report_failed ? "failed " : "")
             << (actions.report_incomplete ? "incomplete " : "");
}

namespace {

using Event = ReloadPolicy::Event;
using Phase = ReloadPolicy::Phase;

ReloadPolicy policy_in(Phase phase, bool has_canary) {
  ReloadPolicy policy(has_canary);
  if (phase != Phase::Idle) (void)policy.on(Event::Asked);
  if (phase != Phase::Idle && phase != Phase::Loading) (void)policy.on(Event::Loaded);
  if (phase == Phase::Judging || phase == Phase::RollingBack || phase == Phase::ChangingOver)
    (void)policy.on(Event::Proved);
  if (phase == Phase::RollingBack) (void)policy.on(Event::Failed);
  if (phase == Phase::ChangingOver && has_canary) (void)policy.on(Event::Judged);
  EXPECT_EQ(policy.phase(), phase);
  return policy;
}

// Every phase × every event.
TEST(ReloadPolicy, AnswersEveryEventInEveryPhase) {
  struct Row {
    ReloadActions actions;
    Phase next;
  };

  using Phases = std::vector<Phase>;
  const std::vector<Event> events = {
      Event::Asked,      Event::Loaded,      Event::Proved,     Event::Judged,     Event::Failed,
      Event::RolledBack, Event::ChangedOver, Event::Incomplete, Event::ZygoteLost, Event::Stopping};
  const ReloadActions failed{.roll_back = true, .report_failed = true};
  const ReloadActions ended{.report_failed = true};
  const auto expected = [&](Phase phase, Event event, bool has_canary) -> Row {
    if (event == Event::Asked && phase == Phase::Idle) return {{.load = true}, Phase::Loading};
    if (event == Event::Loaded && phase == Phase::Loading) return {{.prove = true}, Phase::Proving};
    if (event == Event::Proved && phase == Phase::Proving)
      return has_canary ? Row{{.judge = true}, Phase::Judging}
                        : Row{{.accept = true}, Phase::ChangingOver};
    if (event == Event::Judged && phase == Phase::Judging)
      return {{.accept = true}, Phase::ChangingOver};
    if (event == Event::ChangedOver && phase == Phase::ChangingOver)
      return {{.report_done = true}, Phase::Idle};
    if (event == Event::Failed && (phase == Phase::Loading || phase == Phase::Proving))
      return {failed, Phase::Idle};
    if (event == Event::Failed && phase == Phase::Judging)
      return {{.roll_back = true}, Phase::RollingBack};
    if (event == Event::RolledBack && phase == Phase::RollingBack) return {ended, Phase::Idle};
    if (event == Event::Incomplete && phase == Phase::ChangingOver)
      return {{.report_incomplete = true}, Phase::Idle};
    if (event == Event::ZygoteLost && (phase == Phase::Idle || phase == Phase::ChangingOver))
      return {{.load = true}, Phase::Loading};
    if (event == Event::Stopping && phase != Phase::Idle) return {ended, Phase::Idle};
    return {{}, phase};  // everything else means nothing
  };
  for (const bool has_canary : {false, true}) {
    Phases phases = {Phase::Idle, Phase::Loading, Phase::Proving, Phase::ChangingOver};
    if (has_canary) phases.insert(phases.end(), {Phase::Judging, Phase::RollingBack});
    for (const Phase phase : phases) {
      for (const Event event : events) {
        ReloadPolicy policy = policy_in(phase, has_canary);
        const Row row = expected(phase, event, has_canary);
        const std::string where = "phase " + std::to_string(static_cast<int>(phase)) + ", event " +
                                  std::to_string(static_cast<int>(event));
        EXPECT_EQ(policy.on(event), row.actions) << where;
        EXPECT_EQ(policy.phase(), row.next) << where;
      }
    }
  }
}

TEST(ReloadPolicy, WhoAsksMeanwhileGetsAnotherOne) {
  for (const Phase phase :
       {Phase::Loading, Phase::Proving, Phase::Judging, Phase::RollingBack, Phase::ChangingOver}) {
    ReloadPolicy policy = policy_in(phase, true);
    for (int i = 0; i < 3; ++i)
      EXPECT_EQ(policy.on(Event::Asked), ReloadActions{});
    EXPECT_TRUE(policy.is_asked_again());
    ReloadActions expected{.load = true};
    if (phase == Phase::ChangingOver) {
      expected.report_done = true;
      EXPECT_EQ(policy.on(Event::ChangedOver), expected);
    } else {
      if (phase == Phase::Judging) (void)policy.on(Event::Failed);
      const bool was_served = policy.phase() == Phase::RollingBack;
      expected.report_failed = true;
      expected.roll_back = !was_served;
      EXPECT_EQ(policy.on(was_served ? Event::RolledBack : Event::Failed), expected)
          << "the next one may be better";
    }
    EXPECT_EQ(policy.phase(), Phase::Loading);
    EXPECT_FALSE(policy.is_asked_again()) << "one, however many have asked";
  }
  ReloadPolicy policy = policy_in(Phase::Proving, false);
  (void)policy.on(Event::Asked);
  (void)policy.on(Event::Stopping);
  EXPECT_FALSE(policy.is_asked_again());
}

TEST(ReloadPolicy, AZygoteThatIsLostMeanwhileFollowsARollback) {
  ReloadPolicy policy = policy_in(Phase::RollingBack, true);
  EXPECT_EQ(policy.on(Event::ZygoteLost), ReloadActions{});
  const ReloadActions expected{.load = true, .report_failed = true};
  EXPECT_EQ(policy.on(Event::RolledBack), expected);
}

TEST(NextSeats, ChangesOverInSteps) {
  using Newcomer = Seat::Newcomer;
  using Seats = std::vector<std::uint32_t>;
  constexpr Seat kOld{.is_taken = true};
  constexpr Seat kStarting{.is_taken = true, .newcomer = Newcomer::Starting};
  constexpr Seat kDone{.is_taken = false, .newcomer = Newcomer::Ready};
  constexpr Seat kDraining{.is_taken = true, .newcomer = Newcomer::Ready};
  constexpr Seat kEmpty{};
  constexpr Seat kFilling{.is_taken = false, .newcomer = Newcomer::Starting};

  struct Row {
    std::vector<Seat> seats;
    std::uint32_t step;
    Seats next;
  };

  const std::vector<Row> rows = {
      {{}, 1, {}},
      {{kOld, kOld, kOld}, 1, {0}},
      {{kOld, kOld, kOld}, 0, {0}},
      {{kOld, kOld, kOld}, 2, {0, 1}},
      {{kOld, kOld, kOld}, 9, {0, 1, 2}},
      {{kStarting, kOld, kOld}, 1, {}},
      {{kStarting, kOld, kOld}, 2, {1}},
      {{kDone, kOld, kOld}, 1, {1}},
      {{kDraining, kOld, kOld}, 1, {1}},
      {{kDone, kDone, kDone}, 1, {}},
      {{kOld, kEmpty, kEmpty}, 1, {0, 1, 2}},
      {{kStarting, kEmpty, kOld}, 1, {1}},
      {{kFilling, kOld, kOld}, 1, {1}},
  };
  for (const Row& row : rows)
    EXPECT_EQ(next_seats(row.seats, row.step), row.next) << "row " << (&row - rows.data());
}

}  // namespace
}  // namespace bladepsgi::supervise
