#include "supervise/reload_policy.h"

#include <cstdint>
#include <ostream>
#include <vector>

#include <gtest/gtest.h>

namespace bladepsgi::supervise {

std::ostream& operator<<(std::ostream& out, const ReloadActions& actions) {
  return out << (actions.load ? "load " : "") << (actions.prove ? "prove " : "")
             << (actions.accept ? "accept " : "") << (actions.roll_back ? "roll-back " : "")
             << (actions.report_done ? "done " : "") << (actions.report_failed ? "failed " : "");
}

namespace {

using Event = ReloadPolicy::Event;
using Phase = ReloadPolicy::Phase;

ReloadPolicy policy_in(Phase phase) {
  ReloadPolicy policy;
  if (phase != Phase::Idle) (void)policy.on(Event::Asked);
  if (phase == Phase::Proving || phase == Phase::ChangingOver) (void)policy.on(Event::Loaded);
  if (phase == Phase::ChangingOver) (void)policy.on(Event::Proved);
  EXPECT_EQ(policy.phase(), phase);
  return policy;
}

// Every phase × every event.
TEST(ReloadPolicy, AnswersEveryEventInEveryPhase) {
  struct Row {
    Phase phase;
    Event event;
    ReloadActions actions;
    Phase next;
  };

  const ReloadActions nothing;
  const ReloadActions failed{.roll_back = true, .report_failed = true};
  const std::vector<Row> rows = {
      {Phase::Idle, Event::Asked, {.load = true}, Phase::Loading},
      {Phase::Idle, Event::Loaded, nothing, Phase::Idle},
      {Phase::Idle, Event::Proved, nothing, Phase::Idle},
      {Phase::Idle, Event::Failed, nothing, Phase::Idle},
      {Phase::Idle, Event::ChangedOver, nothing, Phase::Idle},
      {Phase::Idle, Event::Stopping, nothing, Phase::Idle},
      {Phase::Loading, Event::Asked, nothing, Phase::Loading},
      {Phase::Loading, Event::Loaded, {.prove = true}, Phase::Proving},
      {Phase::Loading, Event::Proved, nothing, Phase::Loading},
      {Phase::Loading, Event::Failed, failed, Phase::Idle},
      {Phase::Loading, Event::ChangedOver, nothing, Phase::Loading},
      {Phase::Loading, Event::Stopping, {.report_failed = true}, Phase::Idle},
      {Phase::Proving, Event::Asked, nothing, Phase::Proving},
      {Phase::Proving, Event::Loaded, nothing, Phase::Proving},
      {Phase::Proving, Event::Proved, {.accept = true}, Phase::ChangingOver},
      {Phase::Proving, Event::Failed, failed, Phase::Idle},
      {Phase::Proving, Event::ChangedOver, nothing, Phase::Proving},
      {Phase::Proving, Event::Stopping, {.report_failed = true}, Phase::Idle},
      {Phase::ChangingOver, Event::Asked, nothing, Phase::ChangingOver},
      {Phase::ChangingOver, Event::Loaded, nothing, Phase::ChangingOver},
      {Phase::ChangingOver, Event::Proved, nothing, Phase::ChangingOver},
      {Phase::ChangingOver, Event::Failed, nothing, Phase::ChangingOver},
      {Phase::ChangingOver, Event::ChangedOver, {.report_done = true}, Phase::Idle},
      {Phase::ChangingOver, Event::Stopping, {.report_failed = true}, Phase::Idle},
  };
  for (const Row& row : rows) {
    ReloadPolicy policy = policy_in(row.phase);
    const auto where = static_cast<int>(&row - rows.data());
    EXPECT_EQ(policy.on(row.event), row.actions) << "row " << where;
    EXPECT_EQ(policy.phase(), row.next) << "row " << where;
  }
}

TEST(ReloadPolicy, WhoAsksMeanwhileGetsAnotherOne) {
  for (const Phase phase : {Phase::Loading, Phase::Proving, Phase::ChangingOver}) {
    ReloadPolicy policy = policy_in(phase);
    for (int i = 0; i < 3; ++i)
      EXPECT_EQ(policy.on(Event::Asked), ReloadActions{});
    EXPECT_TRUE(policy.is_asked_again());
    ReloadActions expected{.load = true};
    if (phase == Phase::ChangingOver) {
      expected.report_done = true;
      EXPECT_EQ(policy.on(Event::ChangedOver), expected);
    } else {
      expected.roll_back = expected.report_failed = true;
      EXPECT_EQ(policy.on(Event::Failed), expected) << "the next one may be better";
    }
    EXPECT_EQ(policy.phase(), Phase::Loading);
    EXPECT_FALSE(policy.is_asked_again()) << "one, however many have asked";
  }
  ReloadPolicy policy = policy_in(Phase::Proving);
  (void)policy.on(Event::Asked);
  (void)policy.on(Event::Stopping);
  EXPECT_FALSE(policy.is_asked_again());
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
