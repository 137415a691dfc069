// Pool, the part that makes processes and follows them until they are ready.
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <tuple>
#include <utility>

#include "base/text.h"
#include "config/exit_codes.h"
#include "lobby/lobby.h"
#include "monitoring/monitoring.h"
#include "os/privileges.h"
#include "os/system_error.h"
#include "overseer/pool.h"
#include "overseer/wording.h"

namespace bladepsgi::overseer {

namespace {

using std::chrono::milliseconds;

// For an auxiliary process of an old generation to follow SIGTERM.
constexpr std::chrono::seconds kAuxiliaryGrace{30};

}  // namespace

Result<void> Pool::start_lobby() {
  const auto slot = board_->claim(shm::Role::Lobby, 0, std::nullopt);
  if (!slot) return fail(Remedy::Retry, "no room on the scoreboard for the lobby");
  const pid_t overseer = ::getpid();
  Process process;
  process.kind = Kind::Lobby;
  process.role = "lobby";
  process.slot = *slot;
  const auto run = [&](os::LogChannel log) {
    // It reads what strangers send.
    if (const auto& identity = options_.zygote.identity) {
      if (auto dropped = os::drop_privileges(*identity); !dropped) {
        log.text(Severity::Error, dropped.error().message);
        return to_int(config::ExitCode::Failure);
      }
      os::die_with_parent(overseer);  // the kernel forgot it at the change
    }
    const lobby::Inheritance inheritance{.parking = parking_.lobby.get(),
                                         .ready = ready_.lobby.get(),
                                         .predecessor = passing_.lobby.get(),
                                         .successor = passing_.workers.get(),
                                         .mapping = &*mapping_,
                                         .slot = *slot,
                                         .log = log,
                                         .parent = overseer,
                                         .options = *options_.lobby};
    return lobby::run(inheritance);
  };
  auto started = os::attempt([&] {
    return start_beside(
        std::move(process),
        {parking_.lobby.get(), ready_.lobby.get(), passing_.lobby.get(), passing_.workers.get()},
        run);
  });
  if (!started) {
    board_->retire(*slot);
    return started;
  }
  lobby_board_->set_there(true);
  return {};
}

Result<void> Pool::start_monitoring() {
  const pid_t overseer = ::getpid();
  std::vector<int> sockets;
  if (statistics_) sockets.push_back(statistics_->fd());
  for (const worker::Listening& listening : health_.listening())
    sockets.push_back(listening.fd);
  Process process;
  process.kind = Kind::Monitoring;
  process.role = "monitoring";
  return start_beside(std::move(process), sockets, [&](os::LogChannel log) {
    monitoring::Inheritance inheritance;
    if (statistics_) inheritance.statistics = os::Fd(statistics_->fd());
    for (const worker::Listening& listening : health_.listening())
      inheritance.health.emplace_back(listening.fd);
    inheritance.mapping = &*mapping_;
    inheritance.log = log;
    inheritance.parent = overseer;
    return monitoring::run(std::move(inheritance));
  });
}

// A process of ours that runs nothing of the application: of our descriptors it keeps these, the shared memory and its log.
Result<void> Pool::start_beside(Process process,
                                std::vector<int> keep,
                                const std::function<int(os::LogChannel)>& run) {
  auto opened =
      environment_.log->open(process.role, [this](pid_t ready) { on_newcomer_ready(ready); });
  const pid_t overseer = ::getpid();
  const auto pid = os::fork_role(os::Parent::Caller, [&] {
    os::die_with_parent(overseer);
    environment_.title->set(title_prefix_ + ": " + process.role);
    if (opened.ends.output.is_open()) ::dup2(opened.ends.output.get(), STDOUT_FILENO);
    if (opened.ends.error.is_open()) ::dup2(opened.ends.error.get(), STDERR_FILENO);
    const int channel = opened.ends.channel.get();
    keep.insert(keep.end(), {mapping_->descriptor(), channel});
    os::close_all_except(keep);
    return run(os::LogChannel(channel));
  });
  if (!pid) {
    environment_.log->finish(opened.source);
    return fail(pid.error());
  }
  if (process.slot) board_->set_pid(*process.slot, *pid);
  process.child = os::Child(*pid);
  process.is_ready = true;
  process.started = os::monotonic_now();
  process.source = opened.source;
  environment_.log->start_reading(opened.source, *pid);
  processes_.push_back(std::move(process));
  return {};
}

Result<void> Pool::start_zygote() {
  // One that is being tried takes this place if it is good.
  if (candidate_) return {};
  forget(zygote_);
  if (was_ready_) {
    follow(reload_.on(supervise::ReloadPolicy::Event::ZygoteLost), {});
    return {};
  }
  auto made = make_zygote(title_prefix_ + ": zygote");
  if (!made) return fail(made.error());
  zygote_ = std::move(*made);
  return {};
}

Result<Pool::ZygoteLink> Pool::make_zygote(std::string title) {
  const std::uint32_t generation = next_generation_;
  auto [ours, theirs] = os::make_message_pair();
  auto opened = environment_.log->open("zygote", {});
  const auto slot = board_->claim(shm::Role::Zygote, generation, std::nullopt);
  if (!slot) {
    environment_.log->finish(opened.source);
    return fail(Remedy::Retry, "no room on the scoreboard for a zygote");
  }
  const pid_t overseer = ::getpid();
  const auto pid = os::fork_role(os::Parent::Caller, [&, &theirs = theirs] {
    zygote::Inheritance inheritance;
    inheritance.overseer = overseer;
    inheritance.lifeline = environment_.lifeline->descriptor();
    inheritance.control = theirs.get();
    inheritance.output = opened.ends.output.get();
    inheritance.error = opened.ends.error.get();
    inheritance.log_channel = opened.ends.channel.get();
    inheritance.listeners = listeners_.listening();
    inheritance.parking = parking_.workers.get();
    inheritance.ready = ready_.workers.get();
    inheritance.mapping = &*mapping_;
    inheritance.slot = *slot;
    inheritance.generation = generation;
    inheritance.title = environment_.title;
    inheritance.options = options_.zygote;
    inheritance.process_title = title;
    inheritance.options.descriptor_limit = environment_.descriptor_limit;
    return zygote::run(inheritance);
  });
  if (!pid) {
    environment_.log->finish(opened.source);
    board_->retire(*slot);
    return fail(pid.error());
  }
  ++next_generation_;
  board_->set_pid(*slot, *pid);
  environment_.log->start_reading(opened.source, *pid);

  Process process;
  process.kind = Kind::Zygote;
  process.role = "zygote";
  process.child = os::Child(*pid);
  process.slot = *slot;
  process.generation = generation;
  process.started = os::monotonic_now();
  process.source = opened.source;
  processes_.push_back(std::move(process));

  ZygoteLink link;
  link.control = std::move(ours);
  link.generation = generation;
  os::set_non_blocking(link.control.get());
  environment_.loop->add(link.control.get(), EPOLLIN,
                         [this, generation](std::uint32_t) { on_control(generation); });
  link.load_deadline = limit_loading("", [this, generation, pid = *pid] {
    if (ZygoteLink* late = find_link(generation)) {
      late->load_deadline = {};
      late->failure = fmt::format("the application has not loaded within {} (--load-timeout)",
                                  seconds_text(options_.load_timeout));
    }
    if (auto late = find_pid(pid)) (*late)->child.signal(SIGKILL);
  });
  return link;
}

os::EventLoop::TimerId Pool::limit_loading(std::string who, std::function<void()> kill) {
  return environment_.loop->call_at(
      os::monotonic_now() + options_.load_timeout,
      [this, who = std::move(who), kill = std::move(kill)] {
        environment_.log->log(
            Severity::Error,
            fmt::format(
                "the application has not loaded {}within {} (--load-timeout); it is given up", who,
                seconds_text(options_.load_timeout)));
        kill();
      });
}

void Pool::forget(ZygoteLink& link) {
  environment_.loop->cancel(link.load_deadline);
  if (link.control.is_open()) environment_.loop->remove(link.control.get());
  link.control.reset();
  link.is_loaded = false;
  if (board_) show_wanted();
}

Pool::ZygoteLink* Pool::find_link(std::uint32_t generation) {
  if (zygote_.generation == generation) return &zygote_;
  return candidate_ && candidate_->generation == generation ? &*candidate_ : nullptr;
}

void Pool::on_control(std::uint32_t generation) {
  for (;;) {
    ZygoteLink* link = find_link(generation);
    if (link == nullptr || !link->control.is_open()) return;
    bool is_closed = false;
    auto received = zygote::receive(link->control.get(), is_closed);
    if (!received || is_closed) {
      forget(*link);  // its end is reported when it is reaped
      return;
    }
    if (!*received) return;
    const zygote::ReceivedMessage& message = **received;
    switch (message.message.kind) {
      case zygote::MessageKind::AuxiliaryRequested:
        on_auxiliary_requested(message);
        break;
      case zygote::MessageKind::Loaded:
        on_loaded(message.message.slot, milliseconds(message.message.value));
        break;
      case zygote::MessageKind::Forked:
        on_forked(message.message);
        break;
      case zygote::MessageKind::ForkFailed: {
        if (const auto process = find_slot(message.message.slot);
            process && !(*process)->child.is_alive()) {
          process_ended(*process, 0);
        }
        break;
      }
      case zygote::MessageKind::ForkWorker:
      case zygote::MessageKind::ForkAuxiliary:
      case zygote::MessageKind::Rename:
        break;  // ours to send
    }
  }
}

void Pool::on_auxiliary_requested(const zygote::ReceivedMessage& message) {
  const auto asking = find_slot(message.message.slot);
  if (asking) (*asking)->auxiliary_names.push_back(message.text);
}

void Pool::on_loaded(shm::SlotIndex slot, milliseconds took) {
  const auto loaded = find_slot(slot);
  if (!loaded) return;
  if ((*loaded)->kind == Kind::Zygote) {
    if (candidate_ && (*loaded)->generation == candidate_->generation) {
      on_candidate_loaded(**loaded, took);
    } else {
      on_zygote_loaded(took);
    }
    return;
  }
  if ((*loaded)->kind == Kind::Worker) on_worker_loaded(**loaded, took);
  if ((*loaded)->kind == Kind::Auxiliary) environment_.loop->cancel((*loaded)->load_deadline);
}

void Pool::on_zygote_loaded(milliseconds took) {
  environment_.loop->cancel(zygote_.load_deadline);
  zygote_.is_loaded = true;
  show_wanted();
  zygote_position_.policy.served();
  load_time_ = took;
  board_->set_generations(zygote_.generation, std::min(oldest_generation(), zygote_.generation));
  if (is_preloading()) note_start();
  for (Process& process : processes_) {
    if (process.kind == Kind::Zygote && process.generation == zygote_.generation) {
      process.is_ready = true;
      if (is_preloading()) zygote_.auxiliary_names = std::move(process.auxiliary_names);
    }
  }
  if (is_stopping_) return;
  if (!is_preloading() && !listeners_.is_published()) {
    // One shows whether the application loads at all: a broken one is reported once, not by each worker.
    want(0);
    request_worker(0);
    return;
  }
  request_missing_workers();
  if (is_preloading()) make_auxiliaries();
  if (wanted_workers() == 0) {
    // Nobody will be ready; the first who asks has somebody made.
    publish();
    announce_if_complete();
    announce_changeover();
  }
  scale();
  recycle();
}

void Pool::on_worker_loaded(Process& worker, milliseconds took) {
  environment_.loop->cancel(worker.load_deadline);
  note_start();
  if (candidate_ && worker.generation == candidate_->generation)
    candidate_->auxiliary_names = std::move(worker.auxiliary_names);
  if (worker.generation != zygote_.generation) return;
  load_time_ = std::max(load_time_, took);
  if (!zygote_.auxiliary_names) {
    zygote_.auxiliary_names = std::move(worker.auxiliary_names);
    if (!is_stopping_) make_auxiliaries();
  } else if (*zygote_.auxiliary_names != worker.auxiliary_names) {
    environment_.log->log(
        Severity::Warning,
        fmt::format("the loader asked for other auxiliary processes in worker {} (pid {}) than in "
                    "the first one; what it asked for now has no effect",
                    worker.number, worker.child.pid()));
  }
}

// In the current generation: of an older one each waits for its successor.
void Pool::request_missing_workers() {
  std::vector<std::uint32_t> numbers;
  std::vector<std::size_t> places(worker_positions_.size());
  for (std::uint32_t number = 0; number < worker_positions_.size(); ++number) {
    places[number] = numbers.size();
    if (worker_positions_[number].is_wanted) numbers.push_back(number);
  }
  std::vector<supervise::Seat> seats(numbers.size());
  for (const Process& process : processes_) {
    if (process.kind != Kind::Worker || process.is_leaving ||
        !worker_positions_[process.number].is_wanted)
      continue;
    supervise::Seat& seat = seats[places[process.number]];
    if (process.generation != zygote_.generation) {
      seat.is_taken = seat.is_taken || process.is_ready;
    } else if (seat.newcomer != supervise::Seat::Newcomer::Ready) {
      seat.newcomer =
          process.is_ready ? supervise::Seat::Newcomer::Ready : supervise::Seat::Newcomer::Starting;
    }
  }
  for (const std::uint32_t place : supervise::next_seats(seats, options_.reload_step)) {
    environment_.loop->cancel(worker_positions_[numbers[place]].restart);
    restart(Kind::Worker, numbers[place]);
  }
}

// Exchanges the auxiliary processes for those that the current generation's loader asked for.
void Pool::make_auxiliaries() {
  for (Position& position : auxiliary_positions_)
    environment_.loop->cancel(position.restart);
  auxiliary_positions_.clear();
  for (const std::string& name : *zygote_.auxiliary_names)
    auxiliary_positions_.emplace_back().name = name;
  // Those of the old generation make room first: two of a kind would do everything twice.
  bool waits = false;
  for (Process& process : processes_) {
    if (process.kind != Kind::Auxiliary) continue;
    waits = true;
    process.is_leaving = true;
    process.child.signal(SIGTERM);
    environment_.loop->cancel(process.kill_deadline);
    // Cancelled at its end, so that nobody who has its slot later is meant.
    process.kill_deadline = environment_.loop->call_at(os::monotonic_now() + kAuxiliaryGrace,
                                                       [this, slot = *process.slot] {
                                                         if (const auto late = find_slot(slot))
                                                           (*late)->child.signal(SIGKILL);
                                                       });
  }
  if (waits) return;
  for (std::uint32_t index = 0; index < auxiliary_positions_.size(); ++index)
    request_auxiliary(index);
}

void Pool::request_worker(std::uint32_t number) {
  request_child(Kind::Worker, "worker", number);
}

void Pool::request_auxiliary(std::uint32_t index) {
  request_child(Kind::Auxiliary, auxiliary_positions_[index].name, index);
}

void Pool::request_child(Kind kind, std::string role, std::uint32_t number) {
  if (is_stopping_ || !zygote_.is_loaded)
    return;  // a new zygote makes all of them when it has loaded
  const auto asked =
      os::attempt([&] { return try_request_child(zygote_, kind, std::move(role), number); });
  if (asked) return;
  Position& position =
      kind == Kind::Worker ? worker_positions_[number] : auxiliary_positions_[number];
  // A full queue to the zygote is nothing to report: it holds a few hundred of these messages.
  const bool is_busy = asked.error().message.empty();
  if (!is_busy)
    environment_.log->log(Severity::Error, asked.error().message + "; trying again in 1 s");
  schedule(position, kind, number, is_busy ? milliseconds(20) : milliseconds(1000));
}

Result<void> Pool::try_request_child(ZygoteLink& from,
                                     Kind kind,
                                     std::string role,
                                     std::uint32_t number,
                                     int probation) {
  const std::uint32_t generation = from.generation;
  const bool is_worker = kind == Kind::Worker;
  std::optional<os::Pipe> wake;
  if (is_worker) {
    wake = os::make_pipe();
    os::set_non_blocking(wake->read.get());
    os::set_non_blocking(wake->write.get());
  }
  const auto slot = board_->claim(is_worker ? shm::Role::Worker : shm::Role::Auxiliary, generation,
                                  is_worker ? std::optional(number) : std::nullopt);
  if (!slot)
    return fail(Remedy::Retry, fmt::format("no room on the scoreboard for {} {}", role, number));
  const shm::SlotIndex index = *slot;
  Process process;
  process.kind = kind;
  process.role = role;
  process.slot = index;
  process.number = number;
  process.generation = generation;
  process.started = os::monotonic_now();
  auto opened = os::attempt([&]() -> Result<LogSink::Opened> {
    return environment_.log->open(
        std::move(role),
        [this, index, generation](pid_t pid) { on_child_ready(index, generation, pid); },
        [this, index] { on_child_closed(index); }, [this, index] { on_child_wish(index); });
  });
  if (!opened) {
    board_->retire(index);
    return fail(opened.error());
  }
  process.source = opened->source;
  std::vector<int> fds;
  for (const os::Fd* end : {&opened->ends.output, &opened->ends.error, &opened->ends.channel}) {
    if (end->is_open()) fds.push_back(end->get());
  }
  if (wake) fds.insert(fds.end(), {wake->read.get(), wake->write.get()});
  if (probation >= 0) fds.push_back(probation);
  if (!is_preloading()) {
    process.load_deadline = limit_loading(
        is_worker ? fmt::format("in worker {} ", number) : fmt::format("in {} ", process.role),
        [this, index] {
          const auto late = find_slot(index);
          if (!late) return;
          (*late)->load_deadline = {};
          (*late)->is_given_up = true;
          (*late)->child.signal(SIGKILL);
        });
  }
  const zygote::Message message{
      .kind = is_worker ? zygote::MessageKind::ForkWorker : zygote::MessageKind::ForkAuxiliary,
      .slot = index,
      .number = number,
      .value = probation >= 0 ? 1 : 0};
  if (auto sent = zygote::send(from.control.get(), message, process.role, fds); !sent) {
    environment_.loop->cancel(process.load_deadline);
    environment_.log->finish(opened->source);
    board_->retire(index);
    return fail(sent.error().remedy,
                sent.error().remedy == Remedy::Retry ? std::string() : sent.error().message);
  }
  if (wake) process.wake = std::move(wake->write);
  processes_.push_back(std::move(process));
  return {};
}

// No signal: it would cut short a sleep or select of the request that the worker serves.
void Pool::tell_to_leave(Process& process) {
  process.is_leaving = true;
  board_->tell_to_leave(*process.slot);
  const char byte = 'L';
  [[maybe_unused]] const ssize_t written =
      ::write(process.wake.get(), &byte, 1);  // full: it is awake
  // One that still loads looks nowhere.
  if (!is_preloading() && !process.is_ready) process.child.signal(SIGTERM);
}

void Pool::on_forked(const zygote::Message& message) {
  const auto found = find_slot(message.slot);
  if (!found || (*found)->child.is_alive() || message.pid <= 0) return;
  Process& process = **found;
  process.child = os::Child(message.pid);
  board_->set_pid(message.slot, message.pid);
  environment_.log->start_reading(process.source, message.pid);
  if (const auto ended = unclaimed_.find(message.pid); ended != unclaimed_.end()) {
    const int status = ended->second;
    unclaimed_.erase(ended);
    process_ended(*found, status);
    return;
  }
  if (process.is_given_up || was_killed_) process.child.signal(SIGKILL);
  // Asked to leave before it had a pid; a worker that does not load has its own way to learn of that.
  if (process.is_leaving && !process.serves_rest &&
      (process.kind == Kind::Auxiliary || !is_preloading()))
    process.child.signal(SIGTERM);
  forget_unclaimed();
}

// Who ended before its zygote could say whose it was is known by now, or was somebody that an application left behind.
void Pool::forget_unclaimed() {
  const bool awaits_pid =
      std::any_of(processes_.begin(), processes_.end(),
                  [](const Process& process) { return !process.child.is_alive(); });
  if (!awaits_pid) unclaimed_.clear();
}

void Pool::on_child_ready(shm::SlotIndex slot, std::uint32_t generation, pid_t pid) {
  on_control(generation);  // what it said there it said before
  const auto found = find_slot(slot);
  if (!found) return;
  if (!(*found)->child.is_alive())
    on_forked({.slot = slot, .pid = pid});  // its zygote died before it could say
  const auto ready = find_slot(slot);
  if (ready && (*ready)->child.pid() == pid) on_ready(*ready);
}

void Pool::on_child_closed(shm::SlotIndex slot) {
  const auto found = find_slot(slot);
  if (found && !(*found)->child.is_alive()) process_ended(*found, 0);  // was never made
}

void Pool::on_child_wish(shm::SlotIndex slot) {
  const auto found = find_slot(slot);
  if (!found || (*found)->kind != Kind::Worker) return;
  (*found)->wants_replacement = true;
  recycle();
}

void Pool::on_ready(Handle process) {
  if (process->is_ready) {
    process->has_opened = true;
    if (is_on_trial(*process)) continue_trial();
    return;
  }
  process->is_ready = true;
  if (process->kind == Kind::Worker) scaling_.took(os::monotonic_now() - process->started);
  process->has_opened = !probation_.is_open();
  environment_.loop->cancel(process->load_deadline);
  if (candidate_ && process->generation == candidate_->generation) {
    if (process->kind == Kind::Worker) on_candidate_ready(process);
    return;
  }
  seat(process);
}

}  // namespace bladepsgi::overseer
