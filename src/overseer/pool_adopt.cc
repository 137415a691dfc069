// Pool, the part that hands everything on to another program and takes it over from one (upgrade.h), and the one that only tries.
#include <fmt/format.h>
#include <sys/epoll.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "os/system_error.h"
#include "overseer/pool.h"

namespace bladepsgi::overseer {

namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// For processes that were told to end to do so.
constexpr std::chrono::seconds kGrace{30};

std::int64_t as_number(os::Monotonic time) {
  return std::chrono::duration_cast<nanoseconds>(time.time_since_epoch()).count();
}

os::Monotonic as_time(std::int64_t number) {
  return os::Monotonic(std::chrono::duration_cast<os::Monotonic::duration>(nanoseconds(number)));
}

}  // namespace

Result<void> Pool::rehearse(std::function<void(const Outcome&)> on_outcome) {
  is_rehearsal_ = true;
  rehearsal_ = std::move(on_outcome);
  if (auto made = make_memory(); !made) return made;
  listeners_.open_nowhere(options_.listen);
  follow(reload_.on(supervise::ReloadPolicy::Event::Asked), {});
  return {};
}

bool Pool::is_calm() const {
  if (!was_ready_ || is_stopping_ || candidate_ || !recyclings_.empty() ||
      reload_.phase() != supervise::ReloadPolicy::Phase::Idle) {
    return false;
  }
  // Whose pid nobody knows but a zygote that will not be asked again.
  return std::none_of(processes_.begin(), processes_.end(), [](const Process& process) {
    const bool still_loads = process.load_deadline.sequence != 0;
    return !process.child.is_alive() || process.kind == Kind::Probe || process.is_newcomer ||
           still_loads;
  });
}

PoolState Pool::describe() const {
  PoolState state;
  state.listeners = listeners_.describe_all();
  state.health = health_.describe_all();
  if (statistics_) state.statistics = statistics_->record();
  state.memory.number = mapping_->descriptor();
  const auto describe_channel = [](const Channel& channel) {
    return ChannelState{.lobby = {channel.lobby.get()}, .workers = {channel.workers.get()}};
  };
  state.parking = describe_channel(parking_);
  state.ready = describe_channel(ready_);
  state.passing = describe_channel(passing_);
  state.generation = zygote_.generation;
  state.next_generation = next_generation_;
  if (zygote_.is_loaded) state.zygote.number = zygote_.control.get();
  state.least_workers = scaling_.options().least;
  state.most_workers = scaling_.options().most;
  for (std::uint32_t number = 0; number < worker_positions_.size(); ++number) {
    if (worker_positions_[number].is_wanted) state.wanted.push_back(number);
  }
  state.scaling_to = scaling_to_;
  state.load_time = load_time_.count();
  state.nobody_serves = nobody_serves_;
  for (const Position& position : auxiliary_positions_)
    state.auxiliaries.push_back({.name = position.name, .was_started = position.was_started});
  for (const Process& process : processes_)
    state.processes.push_back(describe(process));
  return state;
}

ProcessState Pool::describe(const Process& process) const {
  ProcessState state;
  switch (process.kind) {
    case Kind::Lobby:
      state.kind = ProcessState::Kind::Lobby;
      break;
    case Kind::Monitoring:
      state.kind = ProcessState::Kind::Monitoring;
      break;
    case Kind::Probe:  // not while it is calm
    case Kind::Zygote:
      state.kind = ProcessState::Kind::Zygote;
      break;
    case Kind::Worker:
      state.kind = ProcessState::Kind::Worker;
      break;
    case Kind::Auxiliary:
      state.kind = ProcessState::Kind::Auxiliary;
      break;
  }
  state.role = process.role;
  state.pid = process.child.pid();
  state.slot = process.slot;
  state.number = process.number;
  state.generation = process.generation;
  state.is_ready = process.is_ready;
  state.is_leaving = process.is_leaving;
  state.is_rejected = process.is_rejected;
  state.wants_replacement = process.wants_replacement;
  state.is_being_replaced = process.is_being_replaced;
  state.is_overdue = process.is_overdue;
  state.is_given_up = process.is_given_up;
  state.started = as_number(process.started);
  state.wake.number = process.wake.get();
  if (auto source = environment_.log->describe(process.source)) state.source = std::move(*source);
  return state;
}

Result<void> Pool::adopt(const PoolState& state, bool knows_zygote) {
  if (auto restored = listeners_.restore(state.listeners); !restored) return restored;
  if (auto restored = health_.restore(state.health); !restored) return restored;
  if (state.statistics) statistics_ = os::UnixListener::restore(*state.statistics);
  auto mapping = shm::Mapping::adopt(os::Fd(state.memory.number));
  if (!mapping) return fail(mapping.error());
  mapping_ = std::move(*mapping);
  board_.emplace(*mapping_);
  objects_.emplace(*mapping_);
  lobby_board_.emplace(*mapping_);
  options_.max_workers = board_->numbers();
  const std::uint32_t most = std::clamp(state.most_workers, 1U, board_->numbers());
  scaling_.set_range(std::min(state.least_workers, most), most);
  scaling_to_ = state.scaling_to;
  worker_positions_.clear();
  worker_positions_.resize(board_->numbers());
  for (const std::uint32_t number : state.wanted) {
    if (number < worker_positions_.size()) worker_positions_[number].is_wanted = true;
  }
  const auto restore_channel = [](Channel& channel, const ChannelState& from) {
    channel.lobby = os::Fd(from.lobby.number);
    channel.workers = os::Fd(from.workers.number);
  };
  for (const ProcessState& process : state.processes) {
    const bool is_number_wrong =
        process.kind == ProcessState::Kind::Worker && process.number >= board_->numbers();
    if (process.pid <= 0 || is_number_wrong || (process.slot && *process.slot >= board_->slots()))
      return fail(Remedy::GiveUp, "the state record has a process that cannot be");
  }
  restore_channel(parking_, state.parking);
  restore_channel(ready_, state.ready);
  restore_channel(passing_, state.passing);
  if (!parking_.lobby.is_open()) options_.lobby.reset();

  zygote_.generation = state.generation;
  next_generation_ = state.next_generation;
  load_time_ = milliseconds(state.load_time);
  nobody_serves_ = state.nobody_serves;
  was_ready_ = true;
  zygote_.auxiliary_names.emplace();
  for (const AuxiliaryState& auxiliary : state.auxiliaries) {
    zygote_.auxiliary_names->push_back(auxiliary.name);
    Position& position = auxiliary_positions_.emplace_back();
    position.name = auxiliary.name;
    position.was_started = auxiliary.was_started;
  }
  os::Fd control(state.zygote.number);
  if (control.is_open() && knows_zygote) {
    zygote_.control = std::move(control);
    zygote_.is_loaded = true;
    environment_.loop->add(
        zygote_.control.get(), EPOLLIN,
        [this, generation = zygote_.generation](std::uint32_t) { on_control(generation); });
  }
  for (const ProcessState& process : state.processes)
    adopt_process(process);
  show_wanted();

  const auto is_missing = [this](Kind kind) {
    return std::none_of(processes_.begin(), processes_.end(), [kind](const Process& process) {
      return process.kind == kind && !process.is_leaving;
    });
  };
  if (options_.lobby && is_missing(Kind::Lobby)) restart(Kind::Lobby, 0);
  if (has_monitoring() && is_missing(Kind::Monitoring)) restart(Kind::Monitoring, 0);
  if (options_.zygote.worker.time_limit.limit != milliseconds::zero()) kill_overdue();
  // What was about to be started again, and what only waited for its time.
  if (zygote_.is_loaded) {
    request_missing_workers();
    request_missing_auxiliaries();
  }
  recycle();
  scale();
  announce_scaled();
  return {};
}

void Pool::request_missing_auxiliaries() {
  std::vector<bool> is_there(auxiliary_positions_.size());
  for (const Process& process : processes_) {
    if (process.kind != Kind::Auxiliary) continue;
    if (process.is_leaving) return;  // all of them begin when the old ones have gone
    if (process.number < is_there.size()) is_there[process.number] = true;
  }
  for (std::uint32_t index = 0; index < is_there.size(); ++index) {
    if (!is_there[index]) request_auxiliary(index);
  }
}

void Pool::adopt_process(const ProcessState& state) {
  Process process;
  switch (state.kind) {
    case ProcessState::Kind::Lobby:
      process.kind = Kind::Lobby;
      break;
    case ProcessState::Kind::Monitoring:
      process.kind = Kind::Monitoring;
      break;
    case ProcessState::Kind::Zygote:
      process.kind = Kind::Zygote;
      break;
    case ProcessState::Kind::Worker:
      process.kind = Kind::Worker;
      break;
    case ProcessState::Kind::Auxiliary:
      process.kind = Kind::Auxiliary;
      break;
  }
  process.role = state.role;
  process.child = os::Child(state.pid);
  process.slot = state.slot;
  process.number = state.number;
  process.generation = state.generation;
  process.is_ready = state.is_ready;
  process.has_opened = state.is_ready;
  process.is_leaving = state.is_leaving;
  process.is_rejected = state.is_rejected;
  process.wants_replacement = state.wants_replacement;
  process.is_being_replaced = state.is_being_replaced;
  process.is_overdue = state.is_overdue;
  process.is_given_up = state.is_given_up;
  process.started = as_time(state.started);
  process.wake = os::Fd(state.wake.number);
  const bool is_made_by_zygote = process.kind == Kind::Worker || process.kind == Kind::Auxiliary;
  if (is_made_by_zygote && process.slot) {
    process.source = environment_.log->adopt(
        state.source,
        [this, slot = *process.slot, generation = process.generation](pid_t pid) {
          on_child_ready(slot, generation, pid);
        },
        [this, slot = *process.slot] { on_child_closed(slot); },
        [this, slot = *process.slot] { on_child_wish(slot); });
  } else {
    process.source = environment_.log->adopt(state.source);
  }
  // Its socket is closed, which is what a zygote ends for; one that loads does not look there.
  const bool has_link = zygote_.is_loaded && process.generation == zygote_.generation;
  if (process.kind == Kind::Zygote && !has_link) {
    if (!process.is_ready) process.child.signal(SIGKILL);
    process.is_leaving = true;
  }
  // A lobby has all the time that its guests take.
  if (process.is_leaving && process.kind != Kind::Worker && process.kind != Kind::Lobby &&
      process.slot) {
    process.kill_deadline =
        environment_.loop->call_at(os::monotonic_now() + kGrace, [this, slot = *process.slot] {
          if (const auto late = find_slot(slot)) (*late)->child.signal(SIGKILL);
        });
  }
  processes_.push_back(std::move(process));
}

}  // namespace bladepsgi::overseer
