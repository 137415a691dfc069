#include "supervise/stop_policy.h"

#include <chrono>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace bladepsgi::supervise {

std::ostream& operator<<(std::ostream& out, const StopActions& actions) {
  out << (actions.announce ? "announce " : "") << (actions.drain_workers ? "drain-workers " : "")
      << (actions.start_worker ? "start-worker " : "") << (actions.name_late ? "name-late " : "")
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
const StopActions kAnnounce{.announce = true};
const StopActions kDrain{.drain_workers = true};
const StopActions kStartWorker{.start_worker = true};
const StopActions kKillLate{.name_late = true, .kill_everything = true};
const StopActions kTerminate{.terminate_auxiliaries = true};
const StopActions kKillAuxiliaries{.kill_auxiliaries = true};
const StopActions kKillOthers{.kill_others = true};
const StopActions kKillAll{.kill_everything = true};
const StopActions kFinishWell{.finish = 0};
const StopActions kFinishBadly{.finish = 1};

// A policy led into a phase.
StopPolicy policy_in(Phase phase, StopOptions options = {}) {
  if (phase == Phase::Delaying) options.drain_delay = seconds(10);
  StopPolicy policy(options);
  if (phase == Phase::Running) return policy;
  if (phase == Phase::Killing || phase == Phase::Finished) {
    (void)policy.request(StopRequest::Fast, kAll, kStart);
    if (phase == Phase::Finished) (void)policy.advance(kNobody, kStart);
  } else {
    (void)policy.request(StopRequest::Smart, kAll, kStart);
    if (phase != Phase::Draining && phase != Phase::Delaying)
      (void)policy.advance(kNoWorkers, kStart);
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

TEST(StopPolicy, ServesOnForADelay) {
  StopPolicy policy({.drain_delay = seconds(10), .timeout = seconds(20)});
  EXPECT_EQ(policy.request(StopRequest::Smart, kAll, kStart), kAnnounce);
  EXPECT_TRUE(policy.was_asked());
  EXPECT_FALSE(policy.is_stopping()) << "who dies is replaced yet";
  EXPECT_EQ(policy.deadline(), kStart + seconds(10));
  EXPECT_EQ(policy.advance(kNobody, kStart + seconds(9)), kNothing) << "whoever dies meanwhile";
  EXPECT_EQ(policy.advance(kAll, kStart + seconds(10)), kDrain);
  EXPECT_TRUE(policy.is_smart());
  EXPECT_EQ(policy.deadline(), kStart + seconds(30)) << "the delay does not count";
}

TEST(StopPolicy, ADelayWithNobodyLeftEndsAtItsEnd) {
  StopPolicy policy({.drain_delay = seconds(10)});
  EXPECT_EQ(policy.request(StopRequest::Smart, kNobody, kStart), kAnnounce);
  EXPECT_EQ(policy.advance(kNobody, kStart + seconds(10)), kFinishWell);
}

TEST(StopPolicy, WhoIsInsideGetsAWorker) {
  constexpr Living kWaits{.auxiliaries = 1, .others = 2, .has_unserved = true};
  StopPolicy policy = policy_in(Phase::Draining);
  EXPECT_EQ(policy.advance(kWaits, kStart), kStartWorker);
  EXPECT_EQ(policy.advance({.workers = 1, .auxiliaries = 1, .others = 2, .has_unserved = true},
                           kStart + seconds(1)),
            kNothing);
  EXPECT_EQ(policy.advance(kWaits, kStart + seconds(2)), kStartWorker) << "that one was not enough";
  EXPECT_EQ(policy.advance(kNoWorkers, kStart + seconds(3)), kTerminate);
  EXPECT_EQ(policy.advance(kWaits, kStart + seconds(4)), kNothing) << "too late";

  StopPolicy none;
  EXPECT_EQ(none.request(StopRequest::Smart, kWaits, kStart), kStartWorker);
  EXPECT_EQ(none.phase(), Phase::Draining);
}

// Every phase of a smart stop × its end.
TEST(StopPolicy, ASmartStopHasAnEnd) {
  const StopOptions limited{.timeout = seconds(100)};
  const Time end = kStart + seconds(100);
  {
    StopPolicy policy = policy_in(Phase::Draining, limited);
    EXPECT_EQ(policy.deadline(), end);
    EXPECT_EQ(policy.advance(kAll, end - seconds(1)), kNothing);
    EXPECT_EQ(policy.advance(kAll, end), kKillLate);
    EXPECT_EQ(policy.phase(), Phase::Killing);
    EXPECT_EQ(policy.deadline(), end + seconds(5));
    EXPECT_EQ(policy.advance(kNobody, end + seconds(1)), kFinishWell);
  }
  {
    StopPolicy policy = policy_in(Phase::EndingAuxiliaries, limited);
    EXPECT_EQ(policy.deadline(), kStart + seconds(30)) << "what comes first";
    EXPECT_EQ(policy.advance(kNoWorkers, kStart + seconds(30)), kKillAuxiliaries);
    constexpr Living kLobby{.lobbies = 1, .others = 2};
    EXPECT_EQ(policy.advance(kLobby, kStart + seconds(40)), kNothing);
    EXPECT_EQ(policy.deadline(), end) << "a response that nobody takes";
    EXPECT_EQ(policy.advance(kLobby, end), kKillLate);
  }
  {
    const StopOptions shorter{.timeout = seconds(10)};
    StopPolicy policy = policy_in(Phase::EndingAuxiliaries, shorter);
    EXPECT_EQ(policy.deadline(), kStart + seconds(10));
    EXPECT_EQ(policy.advance(kNoWorkers, kStart + seconds(10)), kKillLate);
  }
  {
    StopPolicy policy = policy_in(Phase::EndingOthers, limited);
    EXPECT_EQ(policy.deadline(), kStart + seconds(5)) << "all of them are being killed already";
    EXPECT_EQ(policy.advance(kOthers, kStart + seconds(5)), kFinishWell);
  }
  {
    StopPolicy policy = policy_in(Phase::Draining, limited);
    EXPECT_EQ(policy.advance(kNobody, end), kFinishWell) << "just in time";
  }
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
      {Phase::Delaying, StopRequest::Smart, kKillAll, Phase::Killing, kFinishWell},
      {Phase::Delaying, StopRequest::Fast, kKillAll, Phase::Killing, kFinishWell},
      {Phase::Delaying, StopRequest::Immediate, kKillAll, Phase::Killing, kFinishBadly},
      {Phase::Delaying, StopRequest::Failure, kKillAll, Phase::Killing, kFinishBadly},
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
