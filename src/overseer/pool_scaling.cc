// Pool, the part that decides how many workers there are: supervise::ScalingPolicy says it where they come and go, the operator otherwise.
//
// Workers tell nobody what they do but the scoreboard, and that is read only when there is a reason to: somebody knocks (a listener or the ready queue is
// readable; looked after while nobody is free, and now and then else), a worker has come or gone, or a time has come that the policy has named.
#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "os/backlog.h"
#include "os/system_error.h"
#include "overseer/pool.h"
#include "overseer/wording.h"

namespace bladepsgi::overseer {

namespace {

// While somebody waits for the outcome, and a worker that shall leave has a request.
constexpr std::chrono::milliseconds kScaledLook{50};

}  // namespace

void Pool::open_positions() {
  worker_positions_.resize(options_.max_workers);
  for (std::uint32_t number = 0; number < scaling_.options().least; ++number)
    worker_positions_[number].is_wanted = true;
}

std::uint32_t Pool::wanted_workers() const {
  return static_cast<std::uint32_t>(
      std::count_if(worker_positions_.begin(), worker_positions_.end(),
                    [](const Position& position) { return position.is_wanted; }));
}

bool Pool::can_do_without_one() const {
  return is_dynamic() && wanted_workers() > scaling_.options().least;
}

// For monitoring. A server that stops has nobody for who comes next, however many there were.
void Pool::show_wanted() {
  const bool is_able = zygote_.is_loaded && !is_stopping_;
  board_->set_workers(std::max(wanted_workers(), is_able ? 0U : 1U),
                      std::max(options_.workers, scaling_.options().most));
}

void Pool::want(std::uint32_t number) {
  if (std::exchange(worker_positions_[number].is_wanted, true)) return;
  show_wanted();
}

// The lowest numbers that nobody has.
void Pool::want_more(std::uint32_t count) {
  const std::uint32_t most = scaling_.options().most;
  for (std::uint32_t number = 0; number < most && count > 0; ++number) {
    if (worker_positions_[number].is_wanted) continue;
    want(number);
    restart(Kind::Worker, number);
    --count;
  }
}

// Whoever has this number finishes the request that it has, and leaves.
void Pool::dismiss(std::uint32_t number) {
  Position& position = worker_positions_[number];
  position.is_wanted = false;
  environment_.loop->cancel(position.restart);
  for (Process& process : processes_) {
    // One that is tried serves until it is known whether it is good.
    const bool is_of_candidate = candidate_ && process.generation == candidate_->generation;
    if (process.kind != Kind::Worker || process.number != number || process.is_leaving ||
        is_of_candidate)
      continue;
    tell_to_leave(process);
  }
  show_wanted();
}

void Pool::watch_doors() {
  if (std::exchange(watches_doors_, true)) return;
  const auto watched = os::attempt([this]() -> Result<void> {
    const auto watch = [this](int fd) {
      environment_.loop->add(fd, EPOLLIN, [this](std::uint32_t) { on_knock(); });
    };
    for (const worker::Listening& listening : listeners_.listening())
      watch(listening.fd);
    if (ready_.workers.is_open()) watch(ready_.workers.get());
    return {};
  });
  if (watched) return;
  leave_doors();
  environment_.log->log(Severity::Error,
                        fmt::format("cannot see whether requests wait: {}; trying again in 1 s",
                                    watched.error().message));
  environment_.loop->cancel(scaling_look_);
  scaling_look_ = environment_.loop->call_at(os::monotonic_now() + std::chrono::seconds(1),
                                             [this] { scale(true); });
}

void Pool::leave_doors() {
  if (!std::exchange(watches_doors_, false)) return;
  for (const worker::Listening& listening : listeners_.listening())
    environment_.loop->remove(listening.fd);
  if (ready_.workers.is_open()) environment_.loop->remove(ready_.workers.get());
}

void Pool::on_knock() {
  if (watches_doors_) scale(true);
}

void Pool::look_at_doors(supervise::Demand& demand) const {
  const auto is_readable = [](int fd) {
    pollfd door{.fd = fd, .events = POLLIN, .revents = 0};
    return ::poll(&door, 1, 0) > 0;
  };
  std::optional<std::uint32_t> waiting = 0;
  for (const worker::Listening& listening : listeners_.listening()) {
    if (!is_readable(listening.fd)) continue;
    demand.is_waiting = true;
    const auto count = os::waiting_connections(listening.fd);
    if (waiting && count) {
      waiting = *waiting + std::max(*count, 1U);
    } else {
      waiting.reset();
    }
  }
  // Of the ready queue nobody knows how many are in it.
  if (ready_.workers.is_open() && is_readable(ready_.workers.get())) {
    demand.is_waiting = true;
    waiting.reset();
  }
  if (demand.is_waiting) demand.waiting = waiting;
}

// Of a number whose worker is being replaced, the one that serves counts.
supervise::Crew Pool::look_at_crew(os::Monotonic now, supervise::Demand& demand) const {
  std::vector<const Process*> of_number(worker_positions_.size());
  for (const Process& process : processes_) {
    if (process.kind != Kind::Worker || process.is_leaving || is_behind_the_scenes(process))
      continue;
    const Process*& known = of_number[process.number];
    if (known == nullptr || process.is_ready) known = &process;
  }
  supervise::Crew crew;
  os::Monotonic::duration service_time{};
  for (std::uint32_t number = 0; number < worker_positions_.size(); ++number) {
    if (!worker_positions_[number].is_wanted) continue;
    const Process* process = of_number[number];
    if (process == nullptr) {
      ++crew.failing;
      continue;
    }
    const auto slot =
        process->is_ready && process->slot ? board_->snapshot(*process->slot) : std::nullopt;
    if (!slot) {
      ++crew.starting;
      crew.starting_for = std::max<supervise::Duration>(crew.starting_for, now - process->started);
    } else if (slot->state == shm::State::Idle) {
      const os::Monotonic since =
          slot->requests > 0
              ? slot->request_started +
                    std::chrono::duration_cast<os::Monotonic::duration>(slot->last_duration)
              : process->started;
      crew.idle.push_back({.number = number, .started = process->started, .since = since});
    } else {
      ++crew.busy;
      service_time += std::max<os::Monotonic::duration>(
          slot->requests > 0
              ? std::chrono::duration_cast<os::Monotonic::duration>(slot->last_duration)
              : os::Monotonic::duration::zero(),
          now - slot->request_started);
    }
  }
  if (crew.busy > 0) demand.service_time = service_time / crew.busy;
  return crew;
}

void Pool::scale(bool has_knocked) {
  environment_.loop->cancel(scaling_look_);
  leave_doors();
  // What a zygote that loads finds when it has loaded is looked at then.
  if (!is_dynamic() || is_stopping_ || !zygote_.is_loaded || !listeners_.is_published()) return;
  const os::Monotonic now = os::monotonic_now();
  supervise::Demand demand;
  demand.has_knocked = has_knocked;
  look_at_doors(demand);
  const supervise::Crew crew = look_at_crew(now, demand);
  const bool may_retire = !candidate_ && !changes_over_;
  const supervise::ScalingActions actions = scaling_.look(crew, demand, may_retire, now);
  for (const std::uint32_t number : actions.retire)
    dismiss(number);
  want_more(actions.start);
  if (actions.report_exhausted) {
    environment_.log->log(
        Severity::Warning,
        fmt::format("{} busy and requests wait; see --workers",
                    scaling_.options().most == 1
                        ? std::string("the only worker that there may be is")
                        : fmt::format("all {} workers are", scaling_.options().most)));
  }
  if (actions.look_at)
    scaling_look_ = environment_.loop->call_at(*actions.look_at, [this] { scale(); });
  if (actions.watch) watch_doors();
}

Result<void> Pool::scale_to(std::uint64_t workers,
                            std::string_view why,
                            std::function<void(const ScaleOutcome&)> on_outcome) {
  if (is_stopping_) return fail(Remedy::GiveUp, "the server stops");
  const std::uint32_t least = std::max(is_dynamic() ? options_.scaling.least : 1U, 1U);
  if (workers < least) {
    return fail(Remedy::Refuse,
                fmt::format("{} {} fewer than {}", workers, workers == 1 ? "is" : "are",
                            least == 1 ? std::string("1, the fewest that there can be")
                                       : fmt::format("--min-workers={}", least)));
  }
  if (workers > options_.max_workers) {
    return fail(Remedy::Refuse, fmt::format("{} are more than --max-workers={} allows", workers,
                                            options_.max_workers));
  }
  const auto most = static_cast<std::uint32_t>(workers);
  const std::uint32_t before = scaling_.options().most;
  report_scaled(false, fmt::format("other numbers are wanted now: {}", workers), 0);
  if (on_outcome) scale_waits_.push_back(std::move(on_outcome));
  scaling_to_ = most;
  environment_.log->log(Severity::Log,
                        fmt::format("{}: {}{} instead of {}", why, is_dynamic() ? "at most " : "",
                                    plural(most, "worker"), before));
  scaling_.set_range(is_dynamic() ? options_.scaling.least : most, most);
  for (std::uint32_t number = most; number < worker_positions_.size(); ++number) {
    if (worker_positions_[number].is_wanted) dismiss(number);
  }
  if (const std::uint32_t wanted = wanted_workers(); wanted < scaling_.options().least)
    want_more(scaling_.options().least - wanted);
  show_wanted();
  announce_if_complete();
  announce_changeover();
  scale();
  announce_scaled();
  if (scaling_to_ && !zygote_failure_.empty()) report_scaled(false, describe_missing_zygote(), 0);
  return {};
}

void Pool::scale_by(int difference, std::string_view why) {
  if (is_stopping_) {
    environment_.log->log(Severity::Log, fmt::format("{} changes nothing: the server stops", why));
    return;
  }
  const std::uint32_t before = scaling_.options().most;
  const std::int64_t wanted = std::int64_t{before} + difference;
  if (auto scaled =
          scale_to(static_cast<std::uint64_t>(std::max<std::int64_t>(wanted, 0)), why, {});
      !scaled) {
    environment_.log->log(Severity::Warning,
                          fmt::format("{} changes nothing: {}", why, scaled.error().message));
  }
}

// The end of what was asked for: who shall be there is, and whoever leaves has at most a request to finish.
void Pool::announce_scaled() {
  environment_.loop->cancel(scaled_look_);
  if (!scaling_to_ || is_stopping_) return;
  std::vector<bool> is_served(worker_positions_.size());
  std::uint32_t finishing = 0;
  bool is_leaving = false;
  for (const Process& process : processes_) {
    if (process.kind != Kind::Worker || process.is_rejected) continue;
    if (!process.is_leaving) {
      if (process.is_ready && !is_behind_the_scenes(process)) is_served[process.number] = true;
      continue;
    }
    const auto slot = board_->snapshot(*process.slot);
    const bool is_busy =
        slot && (slot->state == shm::State::Busy || slot->state == shm::State::Cleanup);
    if (is_busy) ++finishing;
    is_leaving = is_leaving || !is_busy;
  }
  const auto ready =
      static_cast<std::uint32_t>(std::count(is_served.begin(), is_served.end(), true));
  if (is_leaving || ready < scaling_.options().least) {
    scaled_look_ = environment_.loop->call_at(os::monotonic_now() + kScaledLook,
                                              [this] { announce_scaled(); });
    return;
  }
  std::string text = is_dynamic()
                         ? fmt::format("there {} at most {} now", *scaling_to_ == 1 ? "is" : "are",
                                       plural(*scaling_to_, "worker"))
                     : *scaling_to_ == 1 ? std::string("there is 1 worker now")
                                         : fmt::format("there are {} workers now", *scaling_to_);
  if (finishing > 0) {
    text += fmt::format("; {} more still {} {}", finishing, finishing == 1 ? "finishes" : "finish",
                        finishing == 1 ? "its request" : "their requests");
  }
  environment_.log->log(Severity::Log, text);
  report_scaled(true, text, finishing);
}

void Pool::report_scaled(bool is_done, std::string text, std::uint32_t finishing) {
  if (!scaling_to_) return;
  const ScaleOutcome outcome{
      .is_done = is_done, .text = std::move(text), .workers = *scaling_to_, .finishing = finishing};
  if (is_done || is_stopping_) scaling_to_.reset();
  for (const auto& wait : std::exchange(scale_waits_, {}))
    wait(outcome);
}

}  // namespace bladepsgi::overseer
