// ScalingPolicy: how many workers there shall be, from what they do and whether anybody waits.
//
// It is asked when somebody knocks, when a worker has come or gone, and when the time has come that it named; it answers with what is to be
// done now. Three reasons to start one:
//
//   - there are fewer than the least;
//   - a request waits and nobody is free for it. How many: as many as wait, less what those who are there and those who are on their way will have
//     served by the time that another one could, going by how long requests and starts have taken. Where that is not known, and when it was
//     wrong, one, then two, then four, each time when those before have had the time to start;
//   - fewer are idle than shall be.
//
// And two to retire one, always the youngest of those that qualify, never below the least: it has been idle for long, or more are idle than may be.
// Pure: time is an argument.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "supervise/restart_policy.h"

namespace bladepsgi::supervise {

struct ScalingOptions {
  std::uint32_t least = 1;
  std::uint32_t most = 1;
  std::uint32_t least_spare = 0;  // so many shall be idle
  std::uint32_t most_spare = 0;   // no more shall be idle for long; 0: any number
  Duration idle_timeout = std::chrono::seconds(10);
};

struct IdleWorker {
  std::uint32_t number = 0;
  Time started;
  Time since;  // without a request
};

// The workers that are there or on their way, without those that leave.
struct Crew {
  std::uint32_t busy = 0;
  std::uint32_t starting = 0;
  Duration starting_for{};    // the longest of those
  std::uint32_t failing = 0;  // died before they had done anything, and are tried again later
  std::vector<IdleWorker> idle;

  [[nodiscard]] std::uint32_t size() const {
    return busy + starting + failing + static_cast<std::uint32_t>(idle.size());
  }
};

struct Demand {
  bool has_knocked = false;                // somebody has come since nobody waited
  bool is_waiting = false;                 // somebody whom no worker has taken yet
  std::optional<std::uint32_t> waiting{};  // so many, where that is known
  // That a request takes, of those who are busy; empty: nobody is.
  std::optional<Duration> service_time{};
};

struct ScalingActions {
  std::uint32_t start = 0;
  std::vector<std::uint32_t> retire{};  // numbers
  std::optional<Time> look_at{};        // look again then
  bool watch = false;                   // and when somebody knocks
  bool report_exhausted = false;        // for the log: all are busy, and somebody waits

  bool operator==(const ScalingActions&) const = default;
};

class ScalingPolicy {
 public:
  explicit ScalingPolicy(const ScalingOptions& options) : options_(options) {}

  [[nodiscard]] const ScalingOptions& options() const { return options_; }

  void set_range(std::uint32_t least, std::uint32_t most);

  // A worker was ready so long after it was asked for.
  void took(Duration start_time);

  // With may_retire false (another generation takes over) nobody is.
  ScalingActions look(const Crew& crew, const Demand& demand, bool may_retire, Time now);

  // How often somebody has had to wait with as many workers as there may be.
  [[nodiscard]] std::uint64_t times_exhausted() const { return times_exhausted_; }

  [[nodiscard]] Duration start_time() const { return start_time_; }

 private:
  [[nodiscard]] Duration start_time_of(const Crew& crew) const;
  [[nodiscard]] std::uint32_t starts_for_waiting(const Crew& crew,
                                                 const Demand& demand,
                                                 Duration waited,
                                                 Time now) const;
  void choose_retired(const Crew& crew, Time now, ScalingActions& actions);
  void note_exhausted(Time now, ScalingActions& actions);

  ScalingOptions options_;
  Duration start_time_ = std::chrono::milliseconds(5);
  bool is_measured_ = false;
  std::optional<Duration> service_time_;  // the last that was seen
  std::optional<Time> waits_since_;
  std::uint32_t step_ = 1;  // to start next, where it is not known how many
  Time last_start_{};
  std::optional<Time> next_trim_;  // of those that are too many
  bool is_exhausted_ = false;
  std::uint64_t times_exhausted_ = 0;
  std::optional<Time> last_report_;
};

}  // namespace bladepsgi::supervise
