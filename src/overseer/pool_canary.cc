// Pool, the part that tries a new generation with a share of the workers before it accepts it: supervise::judge says how they do.
//
// A worker that is tried takes the place of an old one, as in a changeover, but for the last old one: that stays whatever happens, so that the
// running generation serves all the time. Without preloading, or when its zygote is no more, all of them stay, as nobody could load their code any more. The old ones step behind the new ones, since the kernel gives a request to whoever has waited for
// the longest: with little to do, too, nearly all of them go to those that are tried.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "os/system_error.h"
#include "overseer/pool.h"
#include "overseer/wording.h"

namespace bladepsgi::overseer {

namespace {

using Event = supervise::ReloadPolicy::Event;
using Phase = supervise::ReloadPolicy::Phase;

constexpr std::chrono::milliseconds kBetweenLooks{100};
constexpr std::chrono::seconds kBetweenReports{1};
constexpr std::chrono::seconds kRollbackPatience{2};

supervise::Tally tally(const shm::SlotSnapshot& slot) {
  return {.requests = slot.requests,
          .failed = slot.failures,
          .took = std::chrono::duration_cast<supervise::Duration>(slot.took)};
}

supervise::Tally since(const supervise::Tally& before, const supervise::Tally& now) {
  return {.requests = now.requests - before.requests,
          .failed = now.failed - before.failed,
          .took = now.took - before.took};
}

bool is_serving(const shm::SlotSnapshot& slot) {
  return slot.state == shm::State::Busy;
}

}  // namespace

std::string_view Pool::phase_name() const {
  switch (reload_.phase()) {
    case Phase::Idle:
      break;
    case Phase::Loading:
      return "loading";
    case Phase::Proving:
      return "proving";
    case Phase::Judging:
      return "judging";
    case Phase::RollingBack:
      return "rolling back";
    case Phase::ChangingOver:
      return "changing over";
  }
  if (!zygote_failure_.empty()) return "without a zygote, waiting to load again";
  return changes_over_ ? "changing over" : "idle";
}

bool Pool::is_on_trial(const Process& process) const {
  return trial_ && candidate_ && process.kind == Kind::Worker &&
         process.generation == candidate_->generation && !process.is_leaving;
}

bool Pool::is_behind_the_scenes(const Process& process) const {
  return candidate_ && process.generation == candidate_->generation && !process.is_canary;
}

void Pool::begin_trial() {
  Trial& trial = trial_.emplace(Trial{});
  want(0);  // which the first one has
  const std::uint32_t workers = wanted_workers();
  const std::uint32_t share = supervise::share_of(workers, options_.canary);
  for (std::uint32_t number = 0; trial.numbers.size() < share; ++number) {
    if (!worker_positions_[number].is_wanted) continue;
    trial.numbers.push_back(number);
    environment_.loop->cancel(worker_positions_[number].restart);
  }
  for (Process& process : processes_) {
    if (process.kind != Kind::Worker || is_on_trial(process)) continue;
    if (const auto slot = board_->snapshot(*process.slot)) process.before = tally(*slot);
  }
  trial.reported = os::monotonic_now();
  environment_.log->log(
      Severity::Log,
      fmt::format("generation {} is tried: {} of {} {} exchanged, and judged by {} requests, or "
                  "after {}",
                  candidate_->generation, share, plural(workers, "worker"),
                  share == 1 ? "is" : "are", options_.judgement.requests,
                  seconds_text(options_.judgement.time)));
  probation_.reset();  // the first one opens its doors now
  continue_trial();
  look_at_trial();
}

// Seats whoever is there, and has the next ones made.
void Pool::continue_trial() {
  if (!trial_ || !candidate_) return;
  bool has_seated = false;
  for (Process& process : processes_) {
    if (!is_on_trial(process) || process.is_canary || !process.has_opened) continue;
    seat_canary(process);
    has_seated = true;
  }
  std::vector<supervise::Seat> seats(trial_->numbers.size(), {.is_taken = true});
  for (const Process& process : processes_) {
    const auto number = std::find(trial_->numbers.begin(), trial_->numbers.end(), process.number);
    if (!is_on_trial(process) || number == trial_->numbers.end()) continue;
    seats[static_cast<std::size_t>(number - trial_->numbers.begin())].newcomer =
        process.is_canary ? supervise::Seat::Newcomer::Ready : supervise::Seat::Newcomer::Starting;
  }
  for (const std::uint32_t index : supervise::next_seats(seats, options_.reload_step)) {
    const auto asked = os::attempt([&] {
      return try_request_child(*candidate_, Kind::Worker, "worker", trial_->numbers[index]);
    });
    if (!asked) {
      on_candidate_failed(asked.error().message.empty() ? "its zygote takes no requests"
                                                        : asked.error().message);
      return;
    }
  }
  // At one time or another: one that leaves after its request is followed by another one.
  const bool are_all_there = trial_->seated.size() == trial_->numbers.size();
  if (!has_seated || !are_all_there) return;
  if (trial_->began == os::Monotonic{}) trial_->began = os::monotonic_now();
  for (Process& process : processes_) {
    if (process.kind == Kind::Worker && !process.is_canary) tell_to_step_back(process);
  }
}

void Pool::seat_canary(Process& canary) {
  canary.is_canary = true;
  trial_->seated.insert(canary.number);
  if (const auto slot = board_->snapshot(*canary.slot)) canary.before = tally(*slot);
  board_->assign_number(*canary.slot);
  auto others = std::count_if(processes_.begin(), processes_.end(), [this](const Process& other) {
    return other.kind == Kind::Worker && other.is_ready && !other.is_leaving && !other.is_canary &&
           !is_on_trial(other);
  });
  for (Process& other : processes_) {
    if (other.kind != Kind::Worker || other.number != canary.number || other.is_leaving ||
        other.generation >= canary.generation) {
      continue;
    }
    const bool can_come_back = is_preloading() && zygote_.is_loaded;
    if (other.is_ready && (!can_come_back || others-- <= 1)) continue;
    tell_to_leave(other);
  }
}

void Pool::tell_to_step_back(Process& process) {
  board_->tell_to_step_back(*process.slot);
  const char byte = 'S';
  [[maybe_unused]] const ssize_t written = ::write(process.wake.get(), &byte, 1);
}

void Pool::note_end_in_trial(const Process& process,
                             const shm::SlotSnapshot& last,
                             const std::string& last_error) {
  if (!trial_ || process.kind != Kind::Worker) return;
  const bool is_of_it = candidate_ && process.generation == candidate_->generation;
  if (process.is_canary && !is_of_it) return;  // of one that was tried before
  supervise::Tally done = since(process.before, tally(last));
  if (is_serving(last)) {
    ++done.requests;
    ++done.failed;
    done.took += os::monotonic_now() - last.request_started;
  }
  (is_of_it ? trial_->canaries : trial_->others) += done;
  if (!is_of_it) trial_->others_before += process.before;
  if (is_of_it && !last_error.empty()) trial_->last_error = last_error;
}

supervise::Trial Pool::tally_trial() const {
  supervise::Trial so_far;
  so_far.canaries = trial_->canaries;
  so_far.others = trial_->others;
  so_far.others_before = trial_->others_before;
  const os::Monotonic now = os::monotonic_now();
  if (trial_->began != os::Monotonic{}) so_far.elapsed = now - trial_->began;
  for (const Process& process : processes_) {
    if (process.kind != Kind::Worker) continue;
    const auto slot = board_->snapshot(*process.slot);
    if (!slot) continue;
    if (!process.is_canary && !is_on_trial(process)) {
      so_far.others += since(process.before, tally(*slot));
      so_far.others_before += process.before;
    } else if (is_on_trial(process)) {
      so_far.canaries += since(process.before, tally(*slot));
      if (is_serving(*slot))
        so_far.longest_running = std::max(so_far.longest_running, now - slot->request_started);
    }
  }
  return so_far;
}

std::string Pool::describe_trial() const {
  const auto there = std::count_if(
      processes_.begin(), processes_.end(),
      [this](const Process& process) { return is_on_trial(process) && process.is_canary; });
  const supervise::Tally done = tally_trial().canaries;
  return fmt::format("{} of {} {} new: {} of {} requests, {} failed", there,
                     plural(wanted_workers(), "worker"), there == 1 ? "is" : "are",
                     std::min(done.requests, options_.judgement.requests),
                     options_.judgement.requests,
                     done.failed == 0 ? std::string("none") : std::to_string(done.failed));
}

void Pool::look_at_trial() {
  if (!trial_) return;
  const os::Monotonic now = os::monotonic_now();
  trial_->look = environment_.loop->call_at(now + kBetweenLooks, [this] {
    trial_->look = {};
    judge_trial();
    look_at_trial();
  });
  if (now - trial_->reported < kBetweenReports) return;
  trial_->reported = now;
  const std::string text = describe_trial();
  for (const Waiter& waiter : reload_waits_) {
    if (waiter.on_progress) waiter.on_progress(text);
  }
}

void Pool::judge_trial() {
  using Verdict = supervise::Judgement::Verdict;
  const supervise::Trial so_far = tally_trial();
  supervise::Judgement judgement = supervise::judge(options_.judgement, so_far);
  const bool are_all_there = trial_->began != os::Monotonic{};
  if (judgement.verdict == Verdict::Bad) {
    for (const Process& process : processes_) {
      if (!is_on_trial(process)) continue;
      if (const std::string error = environment_.log->last_error(process.source); !error.empty())
        trial_->last_error = error;
    }
    if (so_far.canaries.failed > 0 && !trial_->last_error.empty())
      judgement.reason += "; the last error was: " + trial_->last_error;
    on_candidate_failed(std::move(judgement.reason));
  } else if (judgement.verdict == Verdict::Good && are_all_there) {
    environment_.log->log(so_far.canaries.requests == 0 ? Severity::Warning : Severity::Log,
                          fmt::format("generation {} has passed its trial: {}",
                                      candidate_->generation, judgement.reason));
    follow(reload_.on(Event::Judged), {});
  }
}

// The numbers of the workers that were exchanged for it.
std::vector<std::uint32_t> Pool::end_trial() {
  if (!trial_) return {};
  environment_.loop->cancel(trial_->look);
  std::vector<std::uint32_t> numbers = std::move(trial_->numbers);
  trial_.reset();
  return numbers;
}

// Those that were tried serve on until there is somebody of the running generation in their place; behind the others meanwhile.
void Pool::roll_back_trial(std::uint32_t generation, const std::vector<std::uint32_t>& numbers) {
  const auto is_of_it = [generation](const Process& process) {
    return process.is_canary && process.generation == generation && !process.is_leaving;
  };
  for (Process& canary : processes_) {
    if (!is_of_it(canary)) continue;
    canary.is_being_replaced = true;
    tell_to_step_back(canary);
  }
  for (const std::uint32_t number : numbers) {
    const auto spared =
        std::find_if(processes_.begin(), processes_.end(), [number](const Process& other) {
          return other.kind == Kind::Worker && other.number == number && other.is_ready &&
                 !other.is_leaving && !other.is_canary;
        });
    if (spared == processes_.end()) {
      restart(Kind::Worker, number);
      give_up_canary_without_successor(number);
      continue;
    }
    board_->assign_number(*spared->slot);
    for (Process& canary : processes_) {
      if (is_of_it(canary) && canary.number == number) tell_to_leave(canary);
    }
  }
}

// Killed, they could take with them what they have just accepted: of any of these it is not known whether it serves already.
void Pool::dismiss_unseated(std::uint32_t generation) {
  for (Process& process : processes_) {
    if (process.kind != Kind::Worker || process.generation != generation || process.is_canary)
      continue;
    process.is_canary = true;
    tell_to_leave(process);
  }
}

// Bad ones do not wait for a successor that does not come.
void Pool::give_up_canary_without_successor(std::uint32_t number) {
  if (reload_.phase() != Phase::RollingBack) return;
  const auto is_there = [number](const Process& process, bool is_canary) {
    return process.kind == Kind::Worker && process.number == number && !process.is_leaving &&
           process.is_canary == is_canary;
  };
  const bool has_successor =
      std::any_of(processes_.begin(), processes_.end(),
                  [&](const Process& process) { return is_there(process, false); });
  if (has_successor) return;
  for (Process& process : processes_) {
    if (is_there(process, true)) tell_to_leave(process);
  }
}

// Done when those that were tried have gone; one that has a request is not waited for long.
void Pool::announce_rollback() {
  if (reload_.phase() != Phase::RollingBack) return;
  const auto is_tried = [](const Process& process) {
    return process.is_canary;
  };
  const auto takes_requests = [](const Process& process) {
    return process.is_canary && !process.is_leaving;
  };
  if (std::any_of(processes_.begin(), processes_.end(), takes_requests)) return;
  const os::Monotonic now = os::monotonic_now();
  if (rollback_end_ == os::Monotonic{}) rollback_end_ = now + kRollbackPatience;
  if (std::any_of(processes_.begin(), processes_.end(), is_tried) && now < rollback_end_) {
    if (rollback_look_.sequence == 0) {
      rollback_look_ = environment_.loop->call_at(rollback_end_, [this] {
        rollback_look_ = {};
        announce_rollback();
      });
    }
    return;
  }
  environment_.loop->cancel(rollback_look_);
  rollback_end_ = {};
  follow(reload_.on(Event::RolledBack), std::exchange(rollback_reason_, {}));
}

}  // namespace bladepsgi::overseer
