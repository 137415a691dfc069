#include "supervise/scaling_policy.h"

#include <algorithm>
#include <cmath>

namespace bladepsgi::supervise {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kShortestStart = milliseconds(1);
constexpr Duration kLongestStart = seconds(30);

// Somebody has knocked, and there is a worker for him: who knocks next is not looked after before this.
constexpr Duration kAfterKnock = milliseconds(10);
// The same where no more workers may be started, and how often it is looked then whether anybody still waits.
constexpr Duration kWhenFull = seconds(1);
// Nobody else is started until those that fail have been tried again.
constexpr Duration kWhenFailing = milliseconds(100);
// Who has been waiting for so long is not about to be taken, whatever the workers seem to do.
constexpr Duration kDoubt = milliseconds(50);
// A request on a connection that its worker holds makes no noise: so often it is looked whether enough are idle.
constexpr Duration kSpareLook = milliseconds(100);
constexpr Duration kQuietSpareLook = seconds(1);
// Between two that are retired because too many are idle.
constexpr Duration kTrim = seconds(1);
constexpr Duration kBetweenReports = std::chrono::minutes(1);

constexpr std::uint32_t kLargestStep = 1024;

void look_by(ScalingActions& actions, Time when) {
  actions.look_at = actions.look_at ? std::min(*actions.look_at, when) : when;
}

}  // namespace

void ScalingPolicy::set_range(std::uint32_t least, std::uint32_t most) {
  options_.least = least;
  options_.most = most;
}

void ScalingPolicy::took(Duration start_time) {
  start_time = std::clamp(start_time, kShortestStart, kLongestStart);
  start_time_ = is_measured_ ? (3 * start_time_ + start_time) / 4 : start_time;
  is_measured_ = true;
}

ScalingActions ScalingPolicy::look(const Crew& crew,
                                   const Demand& demand,
                                   bool may_retire,
                                   Time now) {
  ScalingActions actions;
  if (demand.service_time) service_time_ = demand.service_time;
  const std::uint32_t size = crew.size();
  const std::uint32_t room = options_.most > size ? options_.most - size : 0;
  if (size < options_.least) actions.start = options_.least - size;

  if (!demand.is_waiting) {
    waits_since_.reset();
    step_ = 1;
    is_exhausted_ = false;
    // Who comes now is heard of at once, unless that was just now.
    actions.watch = !demand.has_knocked;
    if (demand.has_knocked) look_by(actions, now + (room > 0 ? kAfterKnock : kWhenFull));
  } else {
    if (!waits_since_) waits_since_ = now;
    const Duration waited = now - *waits_since_;
    if (!crew.idle.empty() && waited < kDoubt) {
      look_by(actions, now + kAfterKnock);
    } else if (room == 0) {
      if (crew.starting == 0 && waited >= start_time_) note_exhausted(now, actions);
      look_by(actions, now + (waited >= start_time_ ? kWhenFull : start_time_ - waited));
    } else {
      const std::uint32_t wanted = starts_for_waiting(crew, demand, waited, now);
      actions.start = std::max(actions.start, std::min(wanted, room));
      if (wanted > 0) step_ = std::min(2 * step_, kLargestStep);
      look_by(actions, now + (crew.failing > 0 ? kWhenFailing : start_time_of(crew)));
    }
  }

  if (options_.least_spare > 0 && room > 0) {
    const std::uint32_t spare =
        size - crew.busy;  // those on their way are idle when they are there
    if (spare < options_.least_spare)
      actions.start = std::max(actions.start, std::min(options_.least_spare - spare, room));
    look_by(actions, now + (crew.busy > 0 ? kSpareLook : kQuietSpareLook));
  }

  if (actions.start > 0) {
    last_start_ = now;
  } else if (may_retire && !demand.is_waiting && crew.starting == 0) {
    choose_retired(crew, now, actions);
  }
  return actions;
}

// A start takes at least as long as one has been taking until now.
Duration ScalingPolicy::start_time_of(const Crew& crew) const {
  return std::max(start_time_, crew.starting_for);
}

std::uint32_t ScalingPolicy::starts_for_waiting(const Crew& crew,
                                                const Demand& demand,
                                                Duration waited,
                                                Time now) const {
  if (crew.failing > 0) return 0;  // more of them would fail as well
  if (demand.waiting && crew.starting >= *demand.waiting) return 0;
  const Duration start_time = start_time_of(crew);
  // Requests that one worker serves in the time in which another one starts.
  const double each = service_time_
                          ? std::chrono::duration<double>(start_time) /
                                std::max(std::chrono::duration<double>(*service_time_),
                                         std::chrono::duration<double>(milliseconds(1)) / 1000)
                          : 0;
  const bool is_believed = service_time_ && waited < start_time;
  std::uint32_t expected = 0;
  if (demand.waiting && service_time_) {
    const double served = crew.busy * each + crew.starting * std::max(each, 1.0);
    const double left = std::max(*demand.waiting - served, 0.0);
    expected = static_cast<std::uint32_t>(std::ceil(left / std::max(each, 1.0)));
    if (is_believed) return expected;
  }
  if (crew.busy > 0 && is_believed && each >= 1) return 0;
  if (crew.starting > 0 && now - last_start_ < 2 * start_time) return expected;
  const std::uint32_t step =
      demand.waiting ? std::min(step_, std::max(*demand.waiting, 1U)) : step_;
  return std::max(expected, step);
}

void ScalingPolicy::note_exhausted(Time now, ScalingActions& actions) {
  if (is_exhausted_) return;
  is_exhausted_ = true;
  ++times_exhausted_;
  if (last_report_ && now - *last_report_ < kBetweenReports) return;
  last_report_ = now;
  actions.report_exhausted = true;
}

void ScalingPolicy::choose_retired(const Crew& crew, Time now, ScalingActions& actions) {
  const std::uint32_t size = crew.size();
  const auto idle_count = static_cast<std::uint32_t>(crew.idle.size());
  const std::uint32_t dispensable =
      std::min(size > options_.least ? size - options_.least : 0,
               idle_count > options_.least_spare ? idle_count - options_.least_spare : 0);
  std::vector<IdleWorker> youngest_first = crew.idle;
  std::stable_sort(
      youngest_first.begin(), youngest_first.end(),
      [](const IdleWorker& left, const IdleWorker& right) { return left.started > right.started; });
  // Those that became idle nearly together are retired together, or the youngest of them would stay for being a millisecond late.
  const Duration nearly = options_.idle_timeout - options_.idle_timeout / 10;
  std::optional<Time> next;
  for (const IdleWorker& worker : youngest_first) {
    const Time end = worker.since + options_.idle_timeout;
    next = next ? std::min(*next, end) : end;
  }
  if (next && *next <= now) {
    next.reset();
    for (const IdleWorker& worker : youngest_first) {
      if (now - worker.since < nearly) {
        const Time end = worker.since + options_.idle_timeout;
        next = next ? std::min(*next, end) : end;
      } else if (actions.retire.size() < dispensable) {
        actions.retire.push_back(worker.number);
      }
    }
  }
  const bool are_too_many =
      options_.most_spare > 0 && idle_count - actions.retire.size() > options_.most_spare;
  if (!are_too_many || actions.retire.size() >= dispensable) {
    next_trim_.reset();
  } else if (!next_trim_) {
    next_trim_ = now + kTrim;
  } else if (*next_trim_ <= now) {
    next_trim_ = now + kTrim;
    const auto is_retired = [&actions](const IdleWorker& worker) {
      return std::find(actions.retire.begin(), actions.retire.end(), worker.number) !=
             actions.retire.end();
    };
    const auto another = std::find_if_not(youngest_first.begin(), youngest_first.end(), is_retired);
    if (another != youngest_first.end()) actions.retire.push_back(another->number);
  }
  if (next_trim_) look_by(actions, *next_trim_);
  if (next && actions.retire.size() < dispensable) look_by(actions, *next);
  // Who has finished a request says nothing.
  if (crew.busy > 0 && size - actions.retire.size() > options_.least) {
    look_by(actions, now + std::max(options_.idle_timeout, kAfterKnock));
    if (options_.most_spare > 0) look_by(actions, now + kTrim);
  }
}

}  // namespace bladepsgi::supervise
