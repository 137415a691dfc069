#include "supervise/scaling_policy.h"

#include <chrono>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace bladepsgi::supervise {

std::ostream& operator<<(std::ostream& out, const ScalingActions& actions) {
  out << "start " << actions.start << ", retire {";
  for (const std::uint32_t number : actions.retire)
    out << ' ' << number;
  out << " }, look at ";
  if (actions.look_at) {
    out << std::chrono::duration_cast<std::chrono::milliseconds>(
               actions.look_at->time_since_epoch())
               .count();
  } else {
    out << "no time";
  }
  return out << (actions.watch ? ", watch" : "")
             << (actions.report_exhausted ? ", report exhausted" : "");
}

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Time kStart = Time(seconds(1000));

Time at(milliseconds time) {
  return kStart + time;
}

// Idle for so long each; the first is the oldest and has number 0.
std::vector<IdleWorker> idle_for(const std::vector<milliseconds>& times, Time now) {
  std::vector<IdleWorker> workers;
  for (std::uint32_t i = 0; i < times.size(); ++i)
    workers.push_back({.number = i, .started = kStart - seconds(100 - i), .since = now - times[i]});
  return workers;
}

Crew crew_of(std::uint32_t idle, std::uint32_t busy, std::uint32_t starting = 0) {
  return {.busy = busy,
          .starting = starting,
          .failing = 0,
          .idle = idle_for(std::vector<milliseconds>(idle, milliseconds(0)), kStart)};
}

ScalingPolicy policy_of(const ScalingOptions& options, milliseconds start_time = milliseconds(4)) {
  ScalingPolicy policy(options);
  policy.took(start_time);
  return policy;
}

constexpr ScalingOptions kFromZero{.least = 0, .most = 8};

// What is done at the first look, for who is there and who waits.
TEST(ScalingPolicy, StartsWhoIsNeeded) {
  struct Row {
    std::string name;
    ScalingOptions options;
    Crew crew;
    Demand demand;
    std::uint32_t start;
    bool watch;
    std::optional<milliseconds> look_in;
  };

  const Demand nobody;
  const Demand knocked{.has_knocked = true};
  const Demand somebody{.has_knocked = true, .is_waiting = true};
  const auto waiting = [](std::uint32_t count, std::optional<Duration> each) {
    return Demand{.has_knocked = true, .is_waiting = true, .waiting = count, .service_time = each};
  };
  const ScalingOptions some{.least = 2, .most = 8};
  const ScalingOptions spare{.least = 2, .most = 8, .least_spare = 2};
  const auto soon = milliseconds(4);    // a start
  const auto after = milliseconds(10);  // a knock
  const std::vector<Row> rows = {
      {"nobody there, nobody waits", kFromZero, crew_of(0, 0), nobody, 0, true, {}},
      {"the first request", kFromZero, crew_of(0, 0), somebody, 1, false, soon},
      {"one is on its way", kFromZero, crew_of(0, 0, 1), somebody, 1, false, soon},
      {"the least are missing", some, crew_of(0, 0), nobody, 2, true, {}},
      {"one of the least is missing", some, crew_of(1, 0), nobody, 1, true, {}},
      {"the least are on their way", some, crew_of(0, 0, 2), nobody, 0, true, {}},
      {"idle ones, nobody waits", some, crew_of(2, 0), nobody, 0, true, {}},
      {"all busy, nobody waits", some, crew_of(0, 2), nobody, 0, true, {}},
      {"somebody was taken at once", some, crew_of(1, 1), knocked, 0, false, after},
      {"one is idle and about to take who waits", some, crew_of(1, 1), somebody, 0, false, after},
      {"all busy, and somebody waits", some, crew_of(0, 2), somebody, 1, false, soon},
      {"as many as there may be", some, crew_of(0, 8), somebody, 0, false, soon},
      {"as many as there may be, one knocked", some, crew_of(1, 7), knocked, 0, false, seconds(1)},
      {"ten wait for long requests", kFromZero, crew_of(0, 2), waiting(10, seconds(1)), 6, false,
       soon},
      {"three wait for long requests", kFromZero, crew_of(0, 2), waiting(3, seconds(1)), 3, false,
       soon},
      {"two of three are on their way", kFromZero, crew_of(0, 2, 2), waiting(3, seconds(1)), 1,
       false, soon},
      {"those on their way are enough", kFromZero, crew_of(0, 2, 3), waiting(3, seconds(1)), 0,
       false, soon},
      {"short ones will be served sooner", kFromZero, crew_of(0, 1), waiting(4, milliseconds(1)), 0,
       false, soon},
      {"short ones, but many", kFromZero, crew_of(0, 1), waiting(12, milliseconds(1)), 2, false,
       soon},
      {"how many is not known, they are short",
       kFromZero,
       crew_of(0, 1),
       {.has_knocked = true, .is_waiting = true, .service_time = milliseconds(1)},
       0,
       false,
       soon},
      {"how many is not known, they are long",
       kFromZero,
       crew_of(0, 1),
       {.has_knocked = true, .is_waiting = true, .service_time = milliseconds(5)},
       1,
       false,
       soon},
      {"fewer idle than shall be", spare, crew_of(1, 1), nobody, 1, true, milliseconds(100)},
      {"none idle", spare, crew_of(0, 7), nobody, 1, true, milliseconds(100)},
      {"they are on their way", spare, crew_of(1, 1, 1), nobody, 0, true, milliseconds(100)},
      {"enough idle", spare, crew_of(2, 1), nobody, 0, true, milliseconds(100)},
      {"all idle", spare, crew_of(3, 0), nobody, 0, true, seconds(1)},
      {"no room for spare ones", spare, crew_of(0, 8), nobody, 0, true, {}},
  };
  for (const Row& row : rows) {
    ScalingOptions options = row.options;
    options.idle_timeout = std::chrono::hours(1);
    ScalingActions expected{.start = row.start, .watch = row.watch};
    if (row.look_in) expected.look_at = kStart + *row.look_in;
    ScalingActions actions = policy_of(options).look(row.crew, row.demand, false, kStart);
    EXPECT_EQ(actions, expected) << row.name;
  }
}

TEST(ScalingPolicy, DoublesWhileSomebodyWaits) {
  ScalingPolicy policy = policy_of({.least = 0, .most = 100});
  const Demand somebody{.is_waiting = true};
  EXPECT_EQ(policy.look(crew_of(0, 0), somebody, true, at(milliseconds(0))).start, 1U);
  // Before it can be there.
  EXPECT_EQ(policy.look(crew_of(0, 0, 1), somebody, true, at(milliseconds(1))).start, 0U);
  EXPECT_EQ(policy.look(crew_of(0, 1), somebody, true, at(milliseconds(4))).start, 2U);
  EXPECT_EQ(policy.look(crew_of(0, 1, 2), somebody, true, at(milliseconds(8))).start, 0U);
  // They take longer than others have taken.
  EXPECT_EQ(policy.look(crew_of(0, 1, 2), somebody, true, at(milliseconds(12))).start, 4U);
  EXPECT_EQ(policy.look(crew_of(0, 7), somebody, true, at(milliseconds(16))).start, 8U);
  // Nobody waits any more: from the beginning.
  EXPECT_EQ(policy.look(crew_of(0, 15), {}, true, at(milliseconds(20))).start, 0U);
  EXPECT_EQ(policy.look(crew_of(0, 15), somebody, true, at(milliseconds(24))).start, 1U);
}

TEST(ScalingPolicy, BelievesNoEstimateForLong) {
  ScalingPolicy policy = policy_of(kFromZero);
  const Demand somebody{.is_waiting = true, .service_time = milliseconds(1)};
  EXPECT_EQ(policy.look(crew_of(0, 1), somebody, true, at(milliseconds(0))).start, 0U);
  EXPECT_EQ(policy.look(crew_of(0, 1), somebody, true, at(milliseconds(3))).start, 0U);
  EXPECT_EQ(policy.look(crew_of(0, 1), somebody, true, at(milliseconds(4))).start, 1U);
}

TEST(ScalingPolicy, RemembersHowLongRequestsTook) {
  ScalingPolicy policy = policy_of(kFromZero);
  EXPECT_EQ(policy.look(crew_of(0, 1), {.service_time = milliseconds(1)}, true, kStart).start, 0U);
  const Demand ten{.is_waiting = true, .waiting = 10};
  EXPECT_EQ(policy.look(crew_of(0, 0), ten, true, at(seconds(1))).start, 3U)
      << "each serves four of them while another one would start";
}

TEST(ScalingPolicy, DoubtsIdleWorkersThatTakeNobody) {
  ScalingPolicy policy = policy_of(kFromZero);
  const Demand somebody{.is_waiting = true};
  EXPECT_EQ(policy.look(crew_of(2, 0), somebody, true, at(milliseconds(0))).start, 0U);
  EXPECT_EQ(policy.look(crew_of(2, 0), somebody, true, at(milliseconds(40))).start, 0U);
  EXPECT_EQ(policy.look(crew_of(2, 0), somebody, true, at(milliseconds(50))).start, 1U);
}

TEST(ScalingPolicy, StartsNoMoreWhileTheyFail) {
  ScalingPolicy policy = policy_of(kFromZero);
  Crew crew = crew_of(0, 0);
  crew.failing = 1;
  const ScalingActions actions = policy.look(crew, {.is_waiting = true}, true, kStart);
  EXPECT_EQ(actions.start, 0U);
}

TEST(ScalingPolicy, MeasuresHowLongAStartTakes) {
  ScalingPolicy policy(kFromZero);
  policy.took(milliseconds(100));
  EXPECT_EQ(policy.start_time(), milliseconds(100));
  policy.took(milliseconds(20));
  EXPECT_EQ(policy.start_time(), milliseconds(80));
  policy.took(milliseconds(0));
  EXPECT_EQ(policy.start_time(), std::chrono::microseconds(60'250));
}

TEST(ScalingPolicy, RetiresTheYoungestOfThoseThatHaveBeenIdleForLong) {
  struct Row {
    std::string name;
    ScalingOptions options;
    std::vector<milliseconds> idle_for;
    std::uint32_t busy;
    std::vector<std::uint32_t> retire;
    std::optional<milliseconds> look_in;
  };

  const auto s = [](int count) {
    return milliseconds(seconds(count));
  };
  const ScalingOptions two{.least = 2, .most = 8};
  const ScalingOptions spare{.least = 1, .most = 8, .least_spare = 2};
  const std::vector<Row> rows = {
      {"none for long enough", kFromZero, {s(9), s(3)}, 0, {}, s(1)},
      {"all of them", kFromZero, {s(10), s(11)}, 0, {1, 0}, {}},
      {"the older one, who has nothing to do", kFromZero, {s(12), s(3)}, 0, {0}, s(7)},
      {"the youngest of those that became idle together",
       {.least = 1, .most = 8},
       {s(10), milliseconds(9'999)},
       0,
       {1},
       {}},
      {"the least stay", two, {s(20), s(20)}, 0, {}, {}},
      {"the youngest go", two, {s(20), s(20), s(20), s(20)}, 0, {3, 2}, {}},
      {"busy ones are of the least", two, {s(20), s(20)}, 2, {1, 0}, {}},
      {"the least stay, busy or not", two, {s(20), s(1)}, 1, {0}, {}},
      {"spare ones stay", spare, {s(20), s(20), s(20)}, 3, {2}, s(1)},
      {"not more than the spare ones", spare, {s(20), s(20)}, 3, {}, milliseconds(100)},
  };
  for (const Row& row : rows) {
    const Crew crew{.busy = row.busy, .idle = idle_for(row.idle_for, kStart)};
    const ScalingActions actions = policy_of(row.options).look(crew, {}, true, kStart);
    EXPECT_EQ(actions.retire, row.retire) << row.name;
    EXPECT_EQ(actions.start, 0U) << row.name;
    if (row.options.least_spare == 0) {
      EXPECT_EQ(actions.look_at, row.look_in ? std::optional(kStart + *row.look_in) : std::nullopt)
          << row.name;
    }
    EXPECT_TRUE(policy_of(row.options).look(crew, {}, false, kStart).retire.empty()) << row.name;
    EXPECT_TRUE(
        policy_of(row.options).look(crew, {.is_waiting = true}, true, kStart).retire.empty())
        << row.name;
  }
}

TEST(ScalingPolicy, LooksAgainWhenWhoIsBusyNowCouldHaveBeenIdleForLong) {
  const auto look = [](const ScalingOptions& options) {
    return policy_of(options).look(crew_of(0, 3), {}, true, kStart).look_at;
  };
  EXPECT_EQ(look({.least = 1, .most = 8}), kStart + seconds(10));
  EXPECT_EQ(look({.least = 1, .most = 8, .most_spare = 2}), kStart + seconds(1));
  EXPECT_EQ(look({.least = 3, .most = 8}), std::nullopt);
}

TEST(ScalingPolicy, RetiresOneASecondOfThoseThatAreTooMany) {
  ScalingPolicy policy = policy_of({.least = 1, .most = 8, .most_spare = 2});
  const auto crew = [](std::size_t count, Time now) {
    return Crew{.idle = idle_for(std::vector<milliseconds>(count, milliseconds(5)), now)};
  };
  const auto look = [&](std::size_t count, milliseconds when) {
    return policy.look(crew(count, at(when)), {}, true, at(when));
  };
  EXPECT_EQ(look(5, milliseconds(0)),
            (ScalingActions{.look_at = at(milliseconds(1000)), .watch = true}));
  EXPECT_TRUE(look(5, milliseconds(500)).retire.empty());
  EXPECT_EQ(look(5, milliseconds(1000)).retire, std::vector<std::uint32_t>{4});
  EXPECT_TRUE(look(4, milliseconds(1100)).retire.empty());
  EXPECT_EQ(look(4, milliseconds(2000)).retire, std::vector<std::uint32_t>{3});
  EXPECT_TRUE(look(2, milliseconds(3000)).retire.empty());
  // Not for long.
  EXPECT_TRUE(look(3, milliseconds(4000)).retire.empty());
  EXPECT_TRUE(look(2, milliseconds(4500)).retire.empty());
  EXPECT_TRUE(look(3, milliseconds(5100)).retire.empty());
}

TEST(ScalingPolicy, SaysThatTheMostAreTooFew) {
  ScalingPolicy policy = policy_of({.least = 1, .most = 2});
  const Demand somebody{.is_waiting = true};
  const Crew all = crew_of(0, 2);
  EXPECT_FALSE(policy.look(all, somebody, true, at(milliseconds(0))).report_exhausted);
  EXPECT_EQ(policy.times_exhausted(), 0U);
  EXPECT_TRUE(policy.look(all, somebody, true, at(milliseconds(4))).report_exhausted);
  EXPECT_EQ(policy.times_exhausted(), 1U);
  EXPECT_FALSE(policy.look(all, somebody, true, at(seconds(100))).report_exhausted)
      << "it goes on, which is not new";
  EXPECT_EQ(policy.times_exhausted(), 1U);
  static_cast<void>(policy.look(all, {}, true, at(seconds(101))));
  static_cast<void>(policy.look(all, somebody, true, at(seconds(102))));
  EXPECT_TRUE(policy.look(all, somebody, true, at(seconds(103))).report_exhausted);
  EXPECT_EQ(policy.times_exhausted(), 2U);
  static_cast<void>(policy.look(all, {}, true, at(seconds(104))));
  static_cast<void>(policy.look(all, somebody, true, at(seconds(105))));
  EXPECT_FALSE(policy.look(all, somebody, true, at(seconds(106))).report_exhausted)
      << "counted, but said a moment ago";
  EXPECT_EQ(policy.times_exhausted(), 3U);
}

// Whatever is there and whatever happens, the bounds hold.
TEST(ScalingPolicy, StaysBetweenLeastAndMost) {
  for (std::uint32_t idle = 0; idle < 5; ++idle) {
    for (std::uint32_t busy = 0; busy < 5; ++busy) {
      for (std::uint32_t starting = 0; starting < 3; ++starting) {
        for (std::uint32_t waiting = 0; waiting < 30; waiting += 7) {
          for (const std::uint32_t least_spare : {0U, 3U}) {
            ScalingPolicy policy = policy_of(
                {.least = 2, .most = 6, .least_spare = least_spare, .idle_timeout = seconds(1)});
            Crew crew{.busy = busy,
                      .starting = starting,
                      .idle = idle_for(std::vector<milliseconds>(idle, seconds(9)), kStart)};
            const std::uint32_t size = crew.size();
            Demand demand{.is_waiting = waiting > 0};
            if (waiting > 1) demand.waiting = waiting;
            if (waiting > 7) demand.service_time = milliseconds(2);
            const ScalingActions actions = policy.look(crew, demand, true, kStart);
            const auto after =
                size + actions.start - static_cast<std::uint32_t>(actions.retire.size());
            EXPECT_GE(after, 2U);
            if (actions.start > 0) {
              EXPECT_LE(after, 6U);
              EXPECT_TRUE(actions.retire.empty());
            }
            if (!actions.retire.empty()) {
              EXPECT_GE(idle - actions.retire.size(), least_spare);
            }
            EXPECT_TRUE(actions.watch || actions.look_at) << "or nothing ever happens again";
            if (after > 2 + least_spare && actions.start == 0 && starting == 0) {
              EXPECT_TRUE(actions.look_at) << "somebody will have to go";
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace bladepsgi::supervise
