#include "supervise/stop_policy.h"

#include <chrono>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace bladepsgi::supervise {

std::ostream& operator<<(std::ostream& out, const StopActions& actions) {
  out << (actions.drain_workers ? "drain-workers " : "")
      << (actions.end_lobbies ? "end-lobbies " : "")
      << (actions.terminate_auxiliaries ? "terminate-auxiliaries " : "")
      << (actions.kill_auxiliaries ? "kill-auxiliaries " : "")
      << (actions.kill_others ? "kill-others " : "")
      << (actions.kill_everything ? "kill-everything " : "");
  if (actions.finish) out << "finish " << *actions.finish;
  return out;
}

namespace {

using std::chrono::seconds;
using Phase = StopPolicy::Phase;

constexpr Time kStart{std::chrono::hours(1)};
constexpr Living kAll{.workers = 2, .auxiliaries = 1, .others = 2};
constexpr Living kNoWorkers{.workers = 0, .auxiliaries = 1, .others = 2};
constexpr Living kOthers{.workers = 0, .auxiliaries = 0, .others = 2};
constexpr Living kNobody{};

const StopActions kNothing;
const StopActions kDrain{.drain_workers = true};
const StopActions kTerminate{.terminate_auxiliaries = true};
const StopActions kKillAuxiliaries{.kill_auxiliaries = true};
const StopActions kKillOthers{.kill_others = true};
const StopActions kKillAll{.kill_everything = true};
const StopActions kFinishWell{.finish = 0};
const StopActions kFinishBadly{.finish = 1};

// A policy led into a phase.
StopPolicy policy_in(Phase phase) {
  StopPolicy policy;
  if (phase == Phase::Running) return policy;
  if (phase == Phase::Killing || phase == Phase::Finished) {
    (void)policy.request(StopRequest::Fast, kAll, kStart);
    if (phase == Phase::Finished) (void)policy.advance(kNobody, kStart);
  } else {
    (void)policy.request(StopRequest::Smart, kAll, kStart);
    if (phase != Phase::Draining) (void)policy.advance(kNoWorkers, kStart);
    if (phase == Phase::KillingAuxiliaries) (void)policy.advance(kNoWorkers, kStart + seconds(30));
    if (phase == Phase::EndingOthers) (void)policy.advance(kOthers, kStart);
  }
  EXPECT_EQ(policy.phase(), phase);
  return policy;
}

TEST(StopPolicy, SmartStopGoesStepByStep) {
  StopPolicy policy;
  EXPECT_FALSE(policy.is_stopping());
  EXPECT_EQ(policy.advance(kNobody, kStart), kNothing);
  EXPECT_EQ(policy.request(StopRequest::Smart, kAll, kStart), kDrain);
  EXPECT_TRUE(policy.is_stopping());
  EXPECT_EQ(policy.deadline(), std::nullopt);
  EXPECT_EQ(policy.advance({.workers = 1, .auxiliaries = 1, .others = 2}, kStart + seconds(3600)),
            kNothing);
  const Time later = kStart + seconds(7200);
  EXPECT_EQ(policy.advance(kNoWorkers, later), kTerminate);
  EXPECT_EQ(policy.deadline(), later + seconds(30));
  EXPECT_EQ(policy.advance(kNoWorkers, later + seconds(29)), kNothing);
  EXPECT_EQ(policy.advance(kOthers, later + seconds(29)), kKillOthers);
  EXPECT_EQ(policy.advance({.others = 1}, later + seconds(29)), kNothing);
  EXPECT_EQ(policy.advance(kNobody, later + seconds(29)), kFinishWell);
  EXPECT_EQ(policy.deadline(), std::nullopt);
}

TEST(StopPolicy, AuxiliariesThatStayAreKilledAfterTheirGrace) {
  StopPolicy policy = policy_in(Phase::EndingAuxiliaries);
  EXPECT_EQ(policy.advance(kNoWorkers, kStart + seconds(30)), kKillAuxiliaries);
  EXPECT_EQ(policy.deadline(), kStart + seconds(35));
  EXPECT_EQ(policy.advance(kNoWorkers, kStart + seconds(31)), kNothing);
  EXPECT_EQ(policy.advance(kOthers, kStart + seconds(31)), kKillOthers);
  EXPECT_EQ(policy.advance(kNobody, kStart + seconds(31)), kFinishWell);
}

TEST(StopPolicy, WhatDoesNotEvenDieIsLeftBehind) {
  StopPolicy policy = policy_in(Phase::KillingAuxiliaries);
  EXPECT_EQ(policy.advance(kNoWorkers, kStart + seconds(35)), kKillOthers);
  EXPECT_EQ(policy.advance({.auxiliaries = 1}, kStart + seconds(39)), kNothing);
  EXPECT_EQ(policy.advance({.auxiliaries = 1}, kStart + seconds(40)), kFinishWell);

  policy = policy_in(Phase::Killing);
  EXPECT_EQ(policy.deadline(), kStart + seconds(5));
  EXPECT_EQ(policy.advance({.workers = 1}, kStart + seconds(4)), kNothing);
  EXPECT_EQ(policy.advance({.workers = 1}, kStart + seconds(5)), kFinishWell);
}

TEST(StopPolicy, WhatTheLobbySendsIsWaitedFor) {
  constexpr Living kWorkersGone{.auxiliaries = 1, .lobbies = 1, .others = 2};
  constexpr Living kLobby{.lobbies = 1, .others = 2};
  const StopActions end_both{.end_lobbies = true, .terminate_auxiliaries = true};
  const auto draining = [&] {
    StopPolicy policy;
    EXPECT_EQ(
        policy.request(StopRequest::Smart, {.workers = 1, .auxiliaries = 1, .lobbies = 1}, kStart),
        kDrain);
    EXPECT_EQ(policy.advance(kWorkersGone, kStart), end_both);
    return policy;
  };

  StopPolicy policy = draining();
  EXPECT_EQ(policy.advance(kLobby, kStart), kNothing);
  EXPECT_EQ(policy.deadline(), std::nullopt) << "however long that takes";
  EXPECT_EQ(policy.advance(kLobby, kStart + seconds(3600)), kNothing);
  EXPECT_EQ(policy.advance(kOthers, kStart + seconds(3600)), kKillOthers);

  policy = draining();  // the lobby is the first to end
  EXPECT_EQ(policy.advance(kNoWorkers, kStart + seconds(1)), kNothing);
  EXPECT_EQ(policy.advance(kOthers, kStart + seconds(1)), kKillOthers);

  policy = draining();  // auxiliary processes have to be killed meanwhile
  EXPECT_EQ(policy.advance(kWorkersGone, kStart + seconds(30)), kKillAuxiliaries);
  EXPECT_EQ(policy.advance(kWorkersGone, kStart + seconds(35)), kNothing);
  EXPECT_EQ(policy.advance(kLobby, kStart + seconds(36)), kNothing);
  EXPECT_EQ(policy.advance(kOthers, kStart + seconds(37)), kKillOthers);

  policy = draining();
  EXPECT_EQ(policy.request(StopRequest::Smart, kLobby, kStart), kKillAll);
}

TEST(StopPolicy, SmartStopSkipsWhoIsNotThere) {
  const auto first = [](const Living& living) {
    StopPolicy policy;
    return policy.request(StopRequest::Smart, living, kStart);
  };
  EXPECT_EQ(first(kNoWorkers), kTerminate);
  EXPECT_EQ(first(kOthers), kKillOthers);
  EXPECT_EQ(first(kNobody), kFinishWell);
}

// Every phase × every request, with all processes of that phase alive.
TEST(StopPolicy, AnswersEveryRequestInEveryPhase) {
  struct Row {
    Phase phase;
    StopRequest request;
    StopActions actions;
    Phase next;
    StopActions at_the_end;  // once nobody lives
  };

  const std::vector<Row> rows = {
      {Phase::Running, StopRequest::Smart, kDrain, Phase::Draining, kFinishWell},
      {Phase::Running, StopRequest::Fast, kKillAll, Phase::Killing, kFinishWell},
      {Phase::Running, StopRequest::Immediate, kKillAll, Phase::Killing, kFinishBadly},
      {Phase::Running, StopRequest::Failure, kKillAll, Phase::Killing, kFinishBadly},
      {Phase::Draining, StopRequest::Smart, kKillAll, Phase::Killing, kFinishWell},
      {Phase::Draining, StopRequest::Fast, kKillAll, Phase::Killing, kFinishWell},
      {Phase::Draining, StopRequest::Immediate, kKillAll, Phase::Killing, kFinishBadly},
      {Phase::Draining, StopRequest::Failure, kKillAll, Phase::Killing, kFinishBadly},
      {Phase::EndingAuxiliaries, StopRequest::Smart, kKillAll, Phase::Killing, kFinishWell},
      {Phase::EndingAuxiliaries, StopRequest::Fast, kKillAll, Phase::Killing, kFinishWell},
      {Phase::EndingAuxiliaries, StopRequest::Immediate, kKillAll, Phase::Killing, kFinishBadly},
      {Phase::EndingAuxiliaries, StopRequest::Failure, kKillAll, Phase::Killing, kFinishBadly},
      {Phase::KillingAuxiliaries, StopRequest::Smart, kKillAll, Phase::Killing, kFinishWell},
      {Phase::KillingAuxiliaries, StopRequest::Fast, kKillAll, Phase::Killing, kFinishWell},
      {Phase::KillingAuxiliaries, StopRequest::Immediate, kKillAll, Phase::Killing, kFinishBadly},
      {Phase::KillingAuxiliaries, StopRequest::Failure, kKillAll, Phase::Killing, kFinishBadly},
      {Phase::EndingOthers, StopRequest::Smart, kKillAll, Phase::Killing, kFinishWell},
      {Phase::EndingOthers, StopRequest::Fast, kKillAll, Phase::Killing, kFinishWell},
      {Phase::EndingOthers, StopRequest::Immediate, kKillAll, Phase::Killing, kFinishBadly},
      {Phase::EndingOthers, StopRequest::Failure, kKillAll, Phase::Killing, kFinishBadly},
      {Phase::Killing, StopRequest::Smart, kNothing, Phase::Killing, kFinishWell},
      {Phase::Killing, StopRequest::Fast, kNothing, Phase::Killing, kFinishWell},
      {Phase::Killing, StopRequest::Immediate, kNothing, Phase::Killing, kFinishBadly},
      {Phase::Killing, StopRequest::Failure, kNothing, Phase::Killing, kFinishBadly},
      {Phase::Finished, StopRequest::Smart, kNothing, Phase::Finished, kNothing},
      {Phase::Finished, StopRequest::Fast, kNothing, Phase::Finished, kNothing},
      {Phase::Finished, StopRequest::Immediate, kNothing, Phase::Finished, kNothing},
      {Phase::Finished, StopRequest::Failure, kNothing, Phase::Finished, kNothing},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE("phase " + std::to_string(static_cast<int>(row.phase)) + ", request " +
                 std::to_string(static_cast<int>(row.request)));
    StopPolicy policy = policy_in(row.phase);
    Living living = kAll;
    if (row.phase == Phase::EndingAuxiliaries || row.phase == Phase::KillingAuxiliaries)
      living = kNoWorkers;
    if (row.phase == Phase::EndingOthers) living = kOthers;
    const Time now = kStart + seconds(1);
    EXPECT_EQ(policy.request(row.request, living, now), row.actions);
    EXPECT_EQ(policy.phase(), row.next);
    EXPECT_EQ(policy.advance(kNobody, now), row.at_the_end);
  }
}

TEST(StopPolicy, KillingNobodyIsFinishedAtOnce) {
  StopPolicy policy;
  EXPECT_EQ(policy.request(StopRequest::Fast, kNobody, kStart), kFinishWell);
  EXPECT_EQ(policy.advance(kNobody, kStart), kNothing);
  StopPolicy other;
  EXPECT_EQ(other.request(StopRequest::Failure, kNobody, kStart), kFinishBadly);
}

TEST(StopPolicy, SecondKillDoesNotMoveTheDeadline) {
  StopPolicy policy = policy_in(Phase::Killing);
  (void)policy.request(StopRequest::Immediate, kAll, kStart + seconds(3));
  EXPECT_EQ(policy.deadline(), kStart + seconds(5));
}

TEST(StopPolicy, ExitCodeOfAFailureIsNotForgottenByALaterFastStop) {
  StopPolicy policy;
  EXPECT_EQ(policy.request(StopRequest::Failure, kAll, kStart), kKillAll);
  EXPECT_EQ(policy.request(StopRequest::Fast, kAll, kStart), kNothing);
  EXPECT_EQ(policy.advance(kNobody, kStart), kFinishBadly);
}

}  // namespace
}  // namespace bladepsgi::supervise
