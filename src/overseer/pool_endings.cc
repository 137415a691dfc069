// Pool, the part that knows when a process shall end or has ended, and what follows from that.
#include <fmt/format.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "base/text.h"
#include "config/exit_codes.h"
#include "handoff/transfer.h"
#include "os/system_error.h"
#include "overseer/pool.h"
#include "overseer/wording.h"
#include "supervise/ending.h"

namespace bladepsgi::overseer {

namespace {

using std::chrono::milliseconds;

std::string describe_wish(shm::Wish wish) {
  switch (wish) {
    case shm::Wish::Requests:
      return "has served its share of requests (--max-requests)";
    case shm::Wish::Lifetime:
      return "has lived for its time (--max-lifetime)";
    case shm::Wish::Memory:
      return "has taken more memory than it may (--max-memory)";
    case shm::Wish::None:
      break;
  }
  return "wants to be replaced";
}

}  // namespace

bool Pool::on_reaped(os::Ended ended) {
  if (const auto process = find_pid(ended.pid)) {
    process_ended(*process, ended.status);
    recycle();
    scale();
    announce_scaled();
    look_at_renewal();
    return true;
  }
  unclaimed_[ended.pid] = ended.status;
  forget_unclaimed();
  return unclaimed_.contains(ended.pid);
}

void Pool::give_back(const Process& process) {
  for (const shm::GivenBack& back : objects_->give_back(*process.slot)) {
    environment_.log->log(
        Severity::Warning,
        fmt::format(
            "semaphore '{}': {} held by {} (pid {}) when it ended {} put back",
            printable(back.name), plural(back.permits, "permit"),
            process.kind == Kind::Worker ? fmt::format("worker {}", process.number) : process.role,
            process.child.pid(), back.permits == 1 ? "was" : "were"));
  }
}

// Everything that follows from the end of a process. A process that was never made ends here too, with status 0 and no pid.
void Pool::process_ended(Handle handle, int status) {
  // What a zygote and its children said before its end still counts.
  if (handle->kind == Kind::Zygote) on_control(handle->generation);
  const pid_t pid = handle->child.pid();
  const std::string last_error = environment_.log->finish(handle->source);
  environment_.loop->cancel(handle->load_deadline);
  environment_.loop->cancel(handle->kill_deadline);
  const os::Monotonic now = os::monotonic_now();
  std::optional<shm::SlotSnapshot> last;
  if (handle->slot) {
    if (pid != 0) give_back(*handle);
    if (pid != 0) lobby_board_->slow_bodies().give_back(*handle->slot, true);
    last = board_->retire(*handle->slot);
  }
  handle->child.mark_reaped();
  if (last) note_end_in_trial(*handle, *last, last_error);
  const Process process = std::move(*handle);
  processes_.erase(handle);
  board_->set_generations(zygote_.generation, oldest_generation());
  forget_unclaimed();
  // The other one, if there is one, knows of nothing but that somebody has to be told of what this one has sent. It looks when the queue is full as well.
  if (process.kind == Kind::Lobby && passing_.workers.is_open())
    static_cast<void>(handoff::send_nudge(passing_.workers.get()));

  // A worker says in its slot that it leaves of its own accord (harakiri, exit in the application).
  const bool is_auxiliary = process.kind == Kind::Auxiliary;
  const bool still_loads = !is_preloading() && !process.is_ready;
  const bool has_timed_out = process.is_overdue || (last && last->has_timed_out);
  const supervise::Ending ending{
      .was_clean = os::is_clean_exit(status),
      .was_terminated = WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM,
      .said_goodbye = last && last->state == shm::State::Gone,
      .was_told = process.is_leaving,
      .is_stopping = is_stopping_,
      .was_killed = was_killed_ || has_timed_out,
      .goes_its_own_way = is_auxiliary,
      .may_die_of_sigterm = is_auxiliary || still_loads,
  };
  const bool has_left = supervise::has_left_by_itself(ending);
  const bool is_expected = supervise::is_expected(ending);
  const std::string who =
      process.kind == Kind::Worker ? fmt::format("worker {}", process.number) : process.role;
  // Loading is not living: what has not become ready has died early, however long that took.
  supervise::Life life{.started = process.is_ready ? process.started : now, .died = now};
  life.served = has_timed_out || (last && last->requests > 0);

  if (process.kind == Kind::Zygote) {
    const bool was_loaded = process.is_ready;
    if (ZygoteLink* link = find_link(process.generation)) forget(*link);
    for (const Process& child : processes_) {
      if (!child.child.is_alive())
        environment_.log->start_reading(child.source, 0);  // it says its pid itself, if it exists
    }
    if (!is_stopping_ && !was_loaded && !was_ready_ && !listeners_.is_published() &&
        process.generation == zygote_.generation) {
      on_load_failure(os::describe_status(status));
      return;
    }
    life.served = was_loaded;
  }

  // The one that shows whether the application loads.
  if (process.kind == Kind::Worker && still_loads && pid != 0 && !is_stopping_ &&
      !listeners_.is_published() && zygote_.is_loaded && process.generation == zygote_.generation) {
    on_load_failure(os::describe_status(status));
    return;
  }

  std::string report;
  if (pid == 0) {
    report = fmt::format("{} could not be made", who);
  } else if (still_loads && WIFEXITED(status) &&
             (process.generation != zygote_.generation || !zygote_.is_loaded)) {
    report = fmt::format("{} (pid {}) has loaded in vain: its zygote died meanwhile", who, pid);
  } else if (still_loads && WIFEXITED(status) &&
             WEXITSTATUS(status) == to_int(config::ExitCode::ApplicationNotLoaded)) {
    report = fmt::format("{} (pid {}) could not load the application", who, pid);
  } else if (has_timed_out) {
    report = fmt::format("{} (pid {}) {}{}, over --request-timeout and --request-timeout-grace",
                         who, pid, process.is_overdue ? "had to be killed" : "has ended itself",
                         describe_request(*last, now));
  } else {
    report = fmt::format("{} (pid {}) died unexpectedly: {}{}", who, pid,
                         os::describe_status(status), last ? describe_request(*last, now) : "");
  }
  note_end_of_recycled(process, last_error.empty() ? report : last_error);
  if (process.is_rejected) {
    if (is_stopping_) environment_.on_end_at_stop();
    return;
  }
  if (process.kind == Kind::Probe) {
    on_probe_ended(os::is_clean_exit(status), last_error.empty() ? report : last_error);
    return;
  }
  if (is_stopping_) {
    // Who cannot even begin would not begin the next time.
    const bool has_begun =
        process.is_ready || (last && (last->requests > 0 || last->state == shm::State::Gone));
    if (process.serves_rest && !has_begun) is_rest_given_up_ = true;
    // Not every end is seen as one: of a short life the zygote tells when it is over already.
    environment_.on_end_at_stop();
    if (process.kind == Kind::Lobby && !has_equal(process)) lobby_board_->set_there(false);
    if ((!is_expected || has_timed_out) && pid != 0 && process.kind != Kind::Zygote)
      environment_.log->log(Severity::Error, report);
    return;
  }
  if (candidate_ && process.generation == candidate_->generation &&
      (process.kind == Kind::Worker || process.kind == Kind::Zygote)) {
    // It may have left before it was seen to serve.
    const bool has_served = process.is_canary || (trial_ && last && last->requests > 0);
    if (has_served && (has_left || has_timed_out)) {
      trial_->seated.insert(process.number);
      environment_.log->log(has_left ? Severity::Log : Severity::Error,
                            (has_left ? fmt::format("{} (pid {}) has left", who, pid) : report) +
                                "; a new one is started at once");
      continue_trial();
      return;
    }
    if (process.kind == Kind::Worker && has_left && is_being_probed())
      return;  // of its own accord, after its request: whether that was good is known soon
    on_candidate_failed(!candidate_->failure.empty() ? candidate_->failure
                        : !last_error.empty()        ? last_error
                                                     : report);
    return;
  }
  if (process.is_leaving && process.kind == Kind::Auxiliary) {
    // All of the old generation gone: the new one's turn.
    const bool others = std::any_of(processes_.begin(), processes_.end(), [](const Process& other) {
      return other.kind == Kind::Auxiliary;
    });
    if (!others) {
      for (std::uint32_t index = 0; index < auxiliary_positions_.size(); ++index)
        request_auxiliary(index);
    }
    return;
  }
  if (process.is_newcomer) {
    const bool is_beside = has_equal(process);
    if (is_beside) environment_.log->log(Severity::Error, report + "; the one of before serves on");
    end_renewal({.text = fmt::format("{} is still that of before: {}", process.role,
                                     last_error.empty() ? report : last_error)});
    if (is_beside) return;
  }
  if (process.is_leaving || process.is_canary || has_successor(process)) {
    if (!is_expected)
      environment_.log->log(Severity::Error, report + "; its successor is there already");
    announce_rollback();
    announce_changeover();
    return;
  }
  if (!is_expected && environment_.stop_on_crash) {
    environment_.log->log(Severity::Error, report + "; everything is stopped (--on-crash=stop)");
    environment_.on_failure(to_int(config::ExitCode::Failure));
    return;
  }
  Position& position = position_of(process);
  if (is_auxiliary) {
    position.was_started = true;
    announce_if_complete();
  }
  const supervise::Duration delay =
      has_left ? supervise::Duration::zero() : position.policy.delay_after(life, chance());
  // Another one is made when somebody waits for it, which may be now.
  const bool is_dispensable =
      process.kind == Kind::Worker && delay == supervise::Duration::zero() && can_do_without_one();
  // While nobody waits in it, workers do; for a moment what they send waits in the queue.
  if (process.kind == Kind::Lobby && delay != supervise::Duration::zero())
    lobby_board_->set_there(false);
  if (process.kind == Kind::Zygote && candidate_) {
    environment_.log->log(Severity::Error,
                          report + "; the one that is being loaded takes its place");
    return;
  }
  const bool needs_zygote = process.kind == Kind::Worker || is_auxiliary;
  const bool has_zygote = zygote_.is_loaded || !needs_zygote;
  const std::string next = is_dispensable ? "a new one is started when it is needed"
                           : !has_zygote  ? "a new one is started when the zygote is there again"
                           : delay == supervise::Duration::zero()
                               ? std::string("a new one is started at once")
                               : fmt::format("a new one is started in {}", seconds_text(delay));
  if (has_left) {
    environment_.log->log(Severity::Log, fmt::format("{} (pid {}) has left; {}", who, pid, next));
  } else {
    environment_.log->log(Severity::Error, fmt::format("{}; {}", report, next));
  }
  if (is_dispensable) {
    dismiss(process.number);
    return;
  }
  if (process.kind == Kind::Worker && !process.is_ready)
    report_scaled(false, report + ", and is tried again", 0);
  const bool is_soon = has_zygote && delay == supervise::Duration::zero();
  if (process.kind == Kind::Worker && !is_soon) warn_if_nobody_serves();
  schedule(position, process.kind, process.number, delay);
  if (process.kind == Kind::Worker)
    give_up_changeover(process, last_error.empty() ? report : last_error);
  if (process.kind == Kind::Worker && !is_soon) {
    give_up_canary_without_successor(process.number);
    announce_rollback();
  }
}

void Pool::warn_if_nobody_serves() {
  const bool is_served =
      std::any_of(processes_.begin(), processes_.end(), [](const Process& process) {
        return process.kind == Kind::Worker && process.is_ready && !process.is_leaving;
      });
  if (is_served || !listeners_.is_published() || std::exchange(nobody_serves_, true)) return;
  environment_.log->log(Severity::Warning,
                        "no worker is left: requests wait in the listen queue until there is one");
}

void Pool::on_load_failure(std::string_view reason) {
  environment_.log->log(
      Severity::Fatal,
      fmt::format("cannot start: {} did not load ({})",
                  !options_.zygote.load.application_code.empty() ? "the application of -e"
                  : options_.zygote.load.loader.empty()
                      ? "application '" + printable(options_.zygote.load.application_path) + "'"
                      : "loader '" + printable(options_.zygote.load.loader) + "'",
                  reason));
  fail_start(to_int(config::ExitCode::ApplicationNotLoaded));
}

void Pool::fail_start(int exit_code) {
  remove_sockets();
  environment_.on_failure(exit_code);
}

void Pool::schedule(Position& position,
                    Kind kind,
                    std::uint32_t number,
                    supervise::Duration delay) {
  environment_.loop->cancel(position.restart);
  if (delay == supervise::Duration::zero()) {
    restart(kind, number);
    return;
  }
  position.restart = environment_.loop->call_at(os::monotonic_now() + delay,
                                                [this, kind, number] { restart(kind, number); });
}

void Pool::restart(Kind kind, std::uint32_t number) {
  if (is_stopping_) return;
  switch (kind) {
    case Kind::Lobby:
      try_or_retry(kind, os::attempt([this] { return start_lobby(); }));
      break;
    case Kind::Monitoring:
      try_or_retry(kind, os::attempt([this] { return start_monitoring(); }));
      break;
    case Kind::Probe:
      break;
    case Kind::Zygote:
      try_or_retry(kind, os::attempt([this] { return start_zygote(); }));
      break;
    case Kind::Worker: {
      if (!worker_positions_[number].is_wanted) break;
      // One that is tried is not enough where nobody else serves.
      const bool is_served =
          std::any_of(processes_.begin(), processes_.end(), [](const Process& process) {
            return process.kind == Kind::Worker && process.is_ready && !process.is_leaving &&
                   !process.is_canary;
          });
      const bool is_there = std::any_of(
          processes_.begin(), processes_.end(), [this, number, is_served](const Process& process) {
            return process.kind == Kind::Worker && process.number == number &&
                   !process.is_leaving && !process.is_being_replaced &&
                   (process.generation == zygote_.generation || (process.is_canary && is_served));
          });
      if (!is_there) request_worker(number);
      break;
    }
    case Kind::Auxiliary:
      // Which ones there are a new generation without preloading says only when its first worker has loaded.
      if (zygote_.auxiliary_names && number < auxiliary_positions_.size())
        request_auxiliary(number);
      break;
  }
}

void Pool::try_or_retry(Kind kind, const Result<void>& result) {
  if (result) return;
  environment_.log->log(Severity::Error, result.error().message + "; trying again in 1 s");
  if (kind == Kind::Lobby) lobby_board_->set_there(false);
  schedule(kind == Kind::Lobby        ? lobby_position_
           : kind == Kind::Monitoring ? monitoring_position_
                                      : zygote_position_,
           kind, 0, std::chrono::seconds(1));
}

// Workers that have served their time, a few at once: each serves until its replacement is ready, which then has it leave. While a
// new generation takes over, all of them are replaced anyway.
void Pool::recycle() {
  if (is_stopping_ || candidate_ || changes_over_ || !zygote_.is_loaded) return;
  std::uint32_t under_way = 0;
  for (const Process& process : processes_)
    under_way += process.is_being_replaced && !process.is_leaving ? 1 : 0;
  const std::uint32_t most =
      supervise::share_of(std::max(wanted_workers(), 1U), options_.recycle_share);
  std::vector<std::uint32_t> numbers;
  for (Process& process : processes_) {
    if (under_way + numbers.size() >= most) break;
    if (!process.wants_replacement || process.is_being_replaced || process.is_leaving ||
        has_successor(process)) {
      continue;
    }
    process.is_being_replaced = true;
    numbers.push_back(process.number);
    const auto slot = board_->snapshot(*process.slot);
    environment_.log->log(
        Severity::Log,
        fmt::format("worker {} (pid {}) {}; it serves until its replacement is ready",
                    process.number, process.child.pid(),
                    process.is_unwanted ? "is to be replaced"
                                        : describe_wish(slot ? slot->wish : shm::Wish::None)));
  }
  for (const std::uint32_t number : numbers)
    request_worker(number);
}

void Pool::recycle_workers(std::string_view why,
                           std::optional<std::uint32_t> number,
                           Waiter waiter) {
  Recycling asked{.left = {}, .all = 0, .waiter = std::move(waiter)};
  for (Process& process : processes_) {
    if (process.kind != Kind::Worker || !process.is_ready || process.is_leaving ||
        (number && process.number != *number)) {
      continue;
    }
    process.wants_replacement = process.is_unwanted = true;
    asked.left.insert(process.source);
  }
  if (is_stopping_) {
    asked.waiter.on_outcome({.text = "the server stops"});
    return;
  }
  if (!zygote_failure_.empty()) {
    asked.waiter.on_outcome({.text = describe_missing_zygote()});
    return;
  }
  if (asked.left.empty()) {
    asked.waiter.on_outcome({.text = number
                                         ? fmt::format("there is no worker {} that serves", *number)
                                         : std::string("there is no worker that serves")});
    return;
  }
  asked.all = asked.left.size();
  environment_.log->log(
      Severity::Log,
      fmt::format("asked {} to replace {}{}", why,
                  number ? fmt::format("worker {}", *number) : std::string("all workers"),
                  candidate_ || changes_over_ ? ": that follows what is under way" : ""));
  recyclings_.push_back(std::move(asked));
  recycle();
}

std::string Pool::describe_missing_zygote() const {
  return fmt::format("there is no zygote that could make a worker, and it is tried again: {}",
                     zygote_failure_);
}

// `reason`: why it has ended, if it was a replacement that could not start.
void Pool::note_end_of_recycled(const Process& process, const std::string& reason) {
  if (process.kind != Kind::Worker) return;
  for (auto next = recyclings_.begin(); next != recyclings_.end();) {
    const auto asked = next++;
    const bool is_waited_for =
        !process.is_ready && !process.is_leaving &&
        std::any_of(processes_.begin(), processes_.end(), [&](const Process& other) {
          return other.is_being_replaced && other.number == process.number &&
                 asked->left.contains(other.source);
        });
    Outcome outcome;
    if (is_waited_for) {
      outcome.text = fmt::format("worker {} serves on, its replacement could not start: {}",
                                 process.number, reason);
    } else {
      if (asked->left.erase(process.source) == 0) continue;
      outcome.text = fmt::format("{} of {} replaced", asked->all - asked->left.size(),
                                 plural(static_cast<std::uint32_t>(asked->all), "worker"));
      if (!asked->left.empty()) {
        if (asked->waiter.on_progress) asked->waiter.on_progress(outcome.text);
        continue;
      }
      outcome.is_done = true;
    }
    const Waiter waiter = std::move(asked->waiter);
    recyclings_.erase(asked);
    waiter.on_outcome(outcome);
  }
}

void Pool::end_recycling(const std::string& reason) {
  for (const Recycling& asked : std::exchange(recyclings_, {}))
    asked.waiter.on_outcome({.text = reason});
}

// A worker ends itself when its request is over every limit. One that cannot (its signals are blocked, or it hangs in the kernel)
// leaves that to us. No request can be overdue before the first of their deadlines, or before one that begins now could be.
void Pool::kill_overdue() {
  const worker::TimeLimitOptions& limits = options_.zygote.worker.time_limit;
  const os::Monotonic now = os::monotonic_now();
  os::Monotonic next = now + limits.limit + limits.grace + worker::kOverseerPatience;
  for (Process& process : processes_) {
    if (process.kind != Kind::Worker || !process.slot || process.is_overdue) continue;
    const auto slot = board_->snapshot(*process.slot);
    if (!slot || slot->call_deadline == os::Monotonic{}) continue;
    if (now < slot->call_deadline) {
      next = std::min(next, slot->call_deadline);
      continue;
    }
    process.is_overdue = true;
    process.child.signal(SIGKILL);
  }
  overdue_look_ = environment_.loop->call_at(next, [this] { kill_overdue(); });
}

}  // namespace bladepsgi::overseer
