#include "overseer/pool.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <tuple>
#include <utility>

#include "base/text.h"
#include "config/exit_codes.h"
#include "lobby/lobby.h"
#include "monitoring/monitoring.h"
#include "os/privileges.h"
#include "os/system_error.h"
#include "supervise/ending.h"

namespace bladepsgi::overseer {

namespace {

using std::chrono::milliseconds;

// For an auxiliary process of an old generation to follow SIGTERM.
constexpr std::chrono::seconds kAuxiliaryGrace{30};

constexpr std::uint32_t kRecyclingShare = 4;  // one in so many workers is replaced at once

std::string seconds_text(os::Monotonic::duration duration) {
  return fmt::format("{:.1f} s", std::chrono::duration<double>(duration).count());
}

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

std::string plural(std::uint32_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

// Setting processes up takes descriptors and memory; being without them for a while is no reason to end.
template <class Action>
auto attempt(const Action& action) -> decltype(action()) {
  try {
    return action();
  } catch (const os::SystemError& shortage) {
    return fail(Remedy::Retry, shortage.what());
  }
}

// What a dead worker was doing; empty when it was idle.
std::string describe_request(const shm::SlotSnapshot& slot, os::Monotonic now) {
  if (slot.state != shm::State::Busy && slot.state != shm::State::Cleanup) return {};
  if (!slot.request_known) return " while it served a request";
  return fmt::format(" while it {} {} {}{} (request id {}), for {}",
                     slot.state == shm::State::Busy ? "served" : "ran cleanup handlers of",
                     printable(slot.method), printable(slot.uri), slot.uri_is_cut ? "…" : "",
                     printable(slot.request_id), seconds_text(now - slot.request_started));
}

}  // namespace

Pool::Pool(const PoolOptions& options, std::string title_prefix, Environment environment)
    : options_(options),
      title_prefix_(std::move(title_prefix)),
      environment_(std::move(environment)) {
  worker_positions_.resize(options_.workers);
}

Pool::~Pool() {
  forget(zygote_);
  if (candidate_) forget(*candidate_);
  // Only what could not even be killed is left (a process stuck in the kernel); its parent-death signal waits for it.
  for (Process& process : processes_)
    static_cast<void>(process.child.hand_on());
}

Result<void> Pool::start() {
  warn_about_machine();
  if (auto opened = listeners_.open(options_.listen, options_.backlog, options_.access); !opened)
    return opened;
  if (auto checked = check_admission(); !checked) return checked;
  if (!options_.statistics_path.empty()) {
    auto statistics =
        os::UnixListener::create(options_.statistics_path, options_.backlog, options_.access);
    if (!statistics) return fail(statistics.error());
    statistics_ = std::move(*statistics);
  }
  if (auto opened = health_.open(options_.health, options_.backlog, options_.access); !opened)
    return opened;
  auto mapping = attempt([this]() -> Result<shm::Mapping> {
    return shm::Mapping::create(
        {.numbers = options_.workers, .object_bytes = options_.shared_memory});
  });
  if (!mapping) return fail(Remedy::GiveUp, mapping.error().message + "; see --shared-memory");
  mapping_ = std::move(*mapping);
  board_.emplace(*mapping_);
  objects_.emplace(*mapping_);
  lobby_board_.emplace(*mapping_);
  lobby_board_->prepare(options_.slow_bodies);
  // Small and long-lived ones first: what is forked later has more memory to share and less to leave behind.
  if (options_.lobby) {
    make_channels();
    if (auto started = start_lobby(); !started) return started;
  }
  if (has_monitoring()) {
    if (auto started = start_monitoring(); !started) return started;
  }
  if (options_.zygote.worker.time_limit.limit != milliseconds::zero()) kill_overdue();
  return start_zygote();
}

// Workers that have served their time, a few at once: each serves until its replacement is ready, which then has it leave. While a
// new generation takes over, all of them are replaced anyway.
void Pool::recycle() {
  if (is_stopping_ || candidate_ || changes_over_ || !zygote_.is_loaded) return;
  std::uint32_t under_way = 0;
  for (const Process& process : processes_)
    under_way += process.is_being_replaced ? 1 : 0;
  const std::uint32_t most = std::max(options_.workers / kRecyclingShare, 1U);
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
                    describe_wish(slot ? slot->wish : shm::Wish::None)));
  }
  for (const std::uint32_t number : numbers)
    request_worker(number);
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

void Pool::warn_about_machine() {
  if (const int limit = os::backlog_limit(); limit > 0 && limit < options_.backlog) {
    environment_.log->log(
        Severity::Warning,
        fmt::format(
            "the backlog of {} is cut to {} by the kernel's net.core.somaxconn: raise that with "
            "sysctl, or lower --backlog",
            options_.backlog, limit));
  }
  const auto& identity = options_.zygote.identity;
  if (os::is_root() && (!identity || identity->user == 0)) {
    environment_.log->log(Severity::Warning,
                          "running as root without --user: the application runs as root too; give "
                          "it a user of its own");
  }
}

// A wall with no door in it is rarely what was meant.
Result<void> Pool::check_admission() {
  const worker::Options& options = options_.zygote.worker;
  for (std::size_t i = 0; i < listeners_.listening().size(); ++i) {
    const worker::Listening& listener = listeners_.listening()[i];
    if (listener.is_of_web_server && listener.transport == os::Transport::Unix &&
        !options.web_servers.admits_anybody(os::Transport::Unix)) {
      return fail(Remedy::Refuse,
                  "environment variable FCGI_WEB_SERVER_ADDRS: it is a list of addresses, but the "
                  "socket that was passed is a UNIX socket, on which nobody has one; unset it, or "
                  "pass a TCP socket");
    }
    std::string_view rule;
    if (!options.admission.admits_anybody(listener.transport)) rule = "--allow";
    if (listener.is_of_web_server && !options.web_servers.admits_anybody(listener.transport))
      rule = "environment variable FCGI_WEB_SERVER_ADDRS";
    if (rule.empty()) continue;
    environment_.log->log(
        Severity::Warning,
        fmt::format("everybody who connects to {} will be refused: {} names nobody for {} sockets",
                    listeners_.describe(i), rule,
                    listener.transport == os::Transport::Unix ? "UNIX" : "TCP"));
  }
  return {};
}

void Pool::make_channels() {
  for (Channel* channel : {&parking_, &ready_}) {
    std::tie(channel->lobby, channel->workers) = os::make_message_pair();
    os::set_non_blocking(channel->lobby.get());
    os::set_non_blocking(channel->workers.get());
  }
}

Result<void> Pool::start_lobby() {
  const auto slot = board_->claim(shm::Role::Lobby, 0, std::nullopt);
  if (!slot) return fail(Remedy::Retry, "no room on the scoreboard for the lobby");
  const pid_t overseer = ::getpid();
  Process process;
  process.kind = Kind::Lobby;
  process.role = "lobby";
  process.slot = *slot;
  auto started = start_beside(
      std::move(process), {parking_.lobby.get(), ready_.lobby.get()}, [&](os::LogChannel log) {
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
                                             .mapping = &*mapping_,
                                             .slot = *slot,
                                             .log = log,
                                             .parent = overseer,
                                             .options = *options_.lobby};
        return lobby::run(inheritance);
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
    inheritance.workers = options_.workers;
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
  auto opened = environment_.log->open(process.role, {});
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
  if (was_ready_) {
    changes_over_ = true;
    environment_.log->log(
        Severity::Log,
        is_preloading() ? fmt::format("the application was loaded again in {}; workers change over",
                                      seconds_text(took))
                        : "there is a new zygote; workers change over");
  }
  if (is_stopping_) return;
  if (!is_preloading() && !listeners_.is_published()) {
    // One shows whether the application loads at all: a broken one is reported once, not by each worker.
    request_worker(0);
    return;
  }
  request_missing_workers();
  if (is_preloading()) make_auxiliaries();
}

// On the statistics socket: when the application was loaded for the first time.
void Pool::note_start() {
  if (board_->start_time() == 0) board_->set_start_time(os::wall_clock_now());
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
  std::vector<supervise::Seat> seats(options_.workers);
  for (const Process& process : processes_) {
    if (process.kind != Kind::Worker || process.is_leaving || process.number >= seats.size())
      continue;
    supervise::Seat& seat = seats[process.number];
    if (process.generation != zygote_.generation) {
      seat.is_taken = seat.is_taken || process.is_ready;
    } else if (seat.newcomer != supervise::Seat::Newcomer::Ready) {
      seat.newcomer =
          process.is_ready ? supervise::Seat::Newcomer::Ready : supervise::Seat::Newcomer::Starting;
    }
  }
  for (const std::uint32_t number : supervise::next_seats(seats, options_.reload_step)) {
    environment_.loop->cancel(worker_positions_[number].restart);
    restart(Kind::Worker, number);
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
      attempt([&] { return try_request_child(zygote_, kind, std::move(role), number); });
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
  auto opened = attempt([&]() -> Result<LogSink::Opened> {
    return environment_.log->open(
        std::move(role),
        [this, index, generation](pid_t pid) {
          on_control(generation);  // what it said there it said before
          const auto found = find_slot(index);
          if (!found) return;
          if (!(*found)->child.is_alive())
            on_forked({.slot = index, .pid = pid});  // its zygote died before it could say
          const auto ready = find_slot(index);
          if (ready && (*ready)->child.pid() == pid) on_ready(*ready);
        },
        [this, index] {
          const auto found = find_slot(index);
          if (found && !(*found)->child.is_alive()) process_ended(*found, 0);  // was never made
        },
        [this, index] {
          const auto found = find_slot(index);
          if (!found || (*found)->kind != Kind::Worker) return;
          (*found)->wants_replacement = true;
          recycle();
        });
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
  if (process.is_given_up) process.child.signal(SIGKILL);
  // Asked to leave before it had a pid; a worker that does not load has its own way to learn of that.
  if (process.is_leaving && (process.kind == Kind::Auxiliary || !is_preloading()))
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

void Pool::on_ready(Handle process) {
  if (process->is_ready) return;
  process->is_ready = true;
  environment_.loop->cancel(process->load_deadline);
  if (candidate_ && process->generation == candidate_->generation) {
    if (process->kind == Kind::Worker) on_candidate_ready(process);
    return;
  }
  seat(process);
}

// It is one of those that serve, from now on.
void Pool::seat(Handle process) {
  if (process->kind == Kind::Auxiliary) position_of(*process).was_started = true;
  if (process->kind == Kind::Worker) {
    if (has_successor(*process, true)) {
      tell_to_leave(*process);  // it took so long that the next generation was quicker
      return;
    }
    board_->assign_number(*process->slot);
    if (std::exchange(nobody_serves_, false)) {
      environment_.log->log(
          Severity::Log,
          fmt::format("worker {} (pid {}) serves: requests that have waited are answered again",
                      process->number, process->child.pid()));
    }
    // The predecessor, of an older generation or one that wanted this, leaves now that this one serves.
    for (Process& other : processes_) {
      if (other.kind != Kind::Worker || &other == &*process || other.number != process->number)
        continue;
      if (other.is_leaving) continue;
      if (other.generation < process->generation || other.is_being_replaced) tell_to_leave(other);
    }
    const bool was_published = listeners_.is_published();
    publish();
    if ((!is_preloading() && !was_published) || changes_over_) request_missing_workers();
  }
  announce_if_complete();
  announce_changeover();
}

// The end of what "workers change over" began: who asks from now on is answered by the new code. An old worker may still have a request, but
// none waits for one.
void Pool::announce_changeover() {
  if (!changes_over_ || is_stopping_) return;
  std::uint32_t workers = 0;
  for (const Process& process : processes_) {
    if (process.kind != Kind::Worker) continue;
    if (process.generation != zygote_.generation) {
      const auto slot = board_->snapshot(*process.slot);
      const bool is_busy =
          slot && (slot->state == shm::State::Busy || slot->state == shm::State::Cleanup);
      if (!is_busy) return;
    } else if (process.is_ready) {
      ++workers;
    }
  }
  if (workers < options_.workers) return;
  changes_over_ = false;
  environment_.log->log(
      Severity::Log,
      fmt::format("{} changed over", options_.workers == 1
                                         ? std::string("the worker has")
                                         : fmt::format("all {} workers have", options_.workers)));
  follow(reload_.on(supervise::ReloadPolicy::Event::ChangedOver), {});
}

void Pool::publish() {
  if (is_stopping_ || listeners_.is_published()) return;
  auto published = listeners_.publish();
  if (published && statistics_) published = statistics_->publish();
  if (published) published = health_.publish();
  if (!published) {
    environment_.log->log(Severity::Fatal, published.error().message);
    fail_start(to_int(config::ExitCode::Failure));
  }
}

void Pool::announce_if_complete() {
  if (was_ready_ || is_stopping_ || !zygote_.auxiliary_names) return;
  std::uint32_t workers = 0;
  for (const Process& process : processes_) {
    if (!process.is_ready) continue;
    if (process.kind == Kind::Worker) ++workers;
  }
  // One that dies again and again has been started all the same.
  const bool all_started =
      std::all_of(auxiliary_positions_.begin(), auxiliary_positions_.end(),
                  [](const Position& position) { return position.was_started; });
  if (workers < options_.workers || !all_started) return;
  const std::string_view how =
      is_preloading() ? "application loaded in" : "each of which loaded the application, in up to";
  was_ready_ = true;
  environment_.log->log(
      Severity::Log,
      fmt::format("ready: {}, {} {}; listening on {}", plural(options_.workers, "worker"), how,
                  seconds_text(load_time_), listeners_.describe()));
  environment_.on_ready();
  if (std::exchange(reloads_when_ready_, false)) reload("when it was not ready yet");
}

bool Pool::on_reaped(os::Ended ended) {
  if (const auto process = find_pid(ended.pid)) {
    process_ended(*process, ended.status);
    recycle();
    return true;
  }
  unclaimed_[ended.pid] = ended.status;
  forget_unclaimed();
  return unclaimed_.contains(ended.pid);
}

Pool::Position& Pool::position_of(const Process& process) {
  switch (process.kind) {
    case Kind::Lobby:
      return lobby_position_;
    case Kind::Monitoring:
      return monitoring_position_;
    case Kind::Probe:  // has none: it is not kept running
    case Kind::Zygote:
      return zygote_position_;
    case Kind::Worker:
      return worker_positions_[process.number];
    case Kind::Auxiliary:
      break;
  }
  if (process.number >= auxiliary_positions_.size())
    auxiliary_positions_.resize(process.number + 1);
  return auxiliary_positions_[process.number];
}

bool Pool::has_successor(const Process& process, bool must_serve) const {
  return std::any_of(processes_.begin(), processes_.end(), [&](const Process& other) {
    if (&other == &process || other.kind != process.kind || other.number != process.number ||
        other.is_leaving || other.is_being_replaced) {
      return false;
    }
    if (candidate_ && other.generation == candidate_->generation) return false;
    return must_serve ? other.is_ready && other.generation > process.generation
                      : other.generation >= process.generation;
  });
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
  const Process process = std::move(*handle);
  processes_.erase(handle);
  board_->set_generations(zygote_.generation, oldest_generation());
  forget_unclaimed();

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
  if (process.is_rejected) return;
  if (process.kind == Kind::Probe) {
    on_probe_ended(os::is_clean_exit(status), last_error.empty() ? report : last_error);
    return;
  }
  if (is_stopping_) {
    if ((!is_expected || has_timed_out) && pid != 0 && process.kind != Kind::Zygote)
      environment_.log->log(Severity::Error, report);
    return;
  }
  if (candidate_ && process.generation == candidate_->generation &&
      (process.kind == Kind::Worker || process.kind == Kind::Zygote)) {
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
  if (process.is_leaving || has_successor(process)) {
    if (!is_expected)
      environment_.log->log(Severity::Error, report + "; its successor is there already");
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
  const std::string next = !has_zygote ? "a new one is started when the zygote is there again"
                           : delay == supervise::Duration::zero()
                               ? std::string("a new one is started at once")
                               : fmt::format("a new one is started in {}", seconds_text(delay));
  if (has_left) {
    environment_.log->log(Severity::Log, fmt::format("{} (pid {}) has left; {}", who, pid, next));
  } else {
    environment_.log->log(Severity::Error, fmt::format("{}; {}", report, next));
  }
  const bool is_soon = has_zygote && delay == supervise::Duration::zero();
  if (process.kind == Kind::Worker && !is_soon) warn_if_nobody_serves();
  schedule(position, process.kind, process.number, delay);
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
      try_or_retry(kind, attempt([this] { return start_lobby(); }));
      break;
    case Kind::Monitoring:
      try_or_retry(kind, attempt([this] { return start_monitoring(); }));
      break;
    case Kind::Probe:
      break;
    case Kind::Zygote:
      try_or_retry(kind, attempt([this] { return start_zygote(); }));
      break;
    case Kind::Worker: {
      const bool is_there =
          std::any_of(processes_.begin(), processes_.end(), [this, number](const Process& process) {
            return process.kind == Kind::Worker && process.number == number &&
                   !process.is_leaving && !process.is_being_replaced &&
                   process.generation == zygote_.generation;
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

std::optional<Pool::Handle> Pool::find_pid(pid_t pid) {
  const auto found =
      std::find_if(processes_.begin(), processes_.end(),
                   [pid](const Process& process) { return process.child.pid() == pid; });
  if (pid <= 0 || found == processes_.end()) return std::nullopt;
  return found;
}

std::optional<Pool::Handle> Pool::find_slot(shm::SlotIndex slot) {
  const auto found = std::find_if(processes_.begin(), processes_.end(),
                                  [slot](const Process& process) { return process.slot == slot; });
  if (found == processes_.end()) return std::nullopt;
  return found;
}

std::uint32_t Pool::oldest_generation() const {
  std::uint32_t oldest = zygote_.generation;
  for (const Process& process : processes_) {
    if (process.kind != Kind::Lobby && process.kind != Kind::Monitoring &&
        process.kind != Kind::Probe)
      oldest = std::min(oldest, process.generation);
  }
  return oldest;
}

supervise::Living Pool::living() const {
  supervise::Living living;
  for (const Process& process : processes_) {
    if (process.kind == Kind::Worker) {
      ++living.workers;
    } else if (process.kind == Kind::Auxiliary) {
      ++living.auxiliaries;
    } else if (process.kind == Kind::Lobby) {
      ++living.lobbies;
    } else {
      ++living.others;
    }
  }
  return living;
}

void Pool::stop_accepting_restarts() {
  is_stopping_ = true;
  reloads_when_ready_ = false;
  follow(reload_.on(supervise::ReloadPolicy::Event::Stopping), "the server stops");
  environment_.loop->cancel(zygote_.load_deadline);
  if (candidate_) environment_.loop->cancel(candidate_->load_deadline);
  if (lobby_board_) lobby_board_->set_stopping();
  for (const Process& process : processes_) {
    if (process.kind == Kind::Lobby) process.child.signal(SIGTERM);
  }
  for (Position* position : {&lobby_position_, &monitoring_position_, &zygote_position_})
    environment_.loop->cancel(position->restart);
  for (Position& position : worker_positions_)
    environment_.loop->cancel(position.restart);
  for (Position& position : auxiliary_positions_)
    environment_.loop->cancel(position.restart);
}

void Pool::drain_workers() {
  for (Process& process : processes_) {
    if (process.kind != Kind::Worker || process.is_leaving) continue;
    tell_to_leave(process);
  }
}

void Pool::signal_auxiliaries(int number) {
  for (Process& process : processes_) {
    if (process.kind != Kind::Auxiliary) continue;
    process.is_leaving = true;
    process.child.signal(number);
  }
}

void Pool::end_lobby() {
  for (const Process& process : processes_) {
    if (process.kind == Kind::Lobby) process.child.signal(SIGUSR1);
  }
}

std::uint64_t Pool::responses_in_lobby() const {
  return lobby_board_ ? lobby_board_->held(shm::Holding::Sending) : 0;
}

void Pool::kill_others() {
  was_killed_ = true;
  for (const Process& process : processes_) {
    if (process.kind != Kind::Worker && process.kind != Kind::Auxiliary)
      process.child.signal(SIGKILL);
  }
}

void Pool::kill_everything() {
  was_killed_ = true;
  for (const Process& process : processes_)
    process.child.signal(SIGKILL);
}

PoolView Pool::view() {
  PoolView view;
  view.application = !options_.zygote.load.application_path.empty()
                         ? options_.zygote.load.application_path
                         : std::string("-e");
  view.loader = options_.zygote.load.loader;
  for (std::size_t i = 0; i < listeners_.listening().size(); ++i)
    view.listeners.push_back(listeners_.describe(i));
  view.workers = options_.workers;
  view.slow_bodies = options_.slow_bodies;
  view.was_ready = was_ready_;
  view.is_stopping = is_stopping_;
  view.board = board_ ? &*board_ : nullptr;
  view.objects = objects_ ? &*objects_ : nullptr;
  view.lobby = lobby_board_ ? &*lobby_board_ : nullptr;
  for (const Process& process : processes_) {
    ProcessView& one = view.processes.emplace_back();
    one.kind = process.kind == Kind::Worker      ? ProcessView::Kind::Worker
               : process.kind == Kind::Auxiliary ? ProcessView::Kind::Auxiliary
                                                 : ProcessView::Kind::Other;
    one.role = process.role;
    one.pid = process.child.pid();
    one.slot = process.slot;
    one.number = process.number;
    one.generation = process.generation;
    one.is_ready = process.is_ready;
    one.is_leaving = process.is_leaving || process.is_rejected;
    one.started = process.started;
  }
  return view;
}

std::string Pool::describe_auxiliaries() const {
  std::string text;
  for (const Process& process : processes_) {
    if (process.kind != Kind::Auxiliary) continue;
    text += fmt::format("{}'{}' (pid {})", text.empty() ? "" : ", ", printable(process.role),
                        process.child.pid());
  }
  return text;
}

void Pool::close_sockets() {
  remove_sockets();
  // Others hold them too, but nobody will accept any more.
  listeners_.refuse();
}

void Pool::remove_sockets() {
  listeners_.remove();
  health_.remove();
  if (statistics_) statistics_->remove();
}

std::string Pool::describe_living() const {
  const supervise::Living count = living();
  std::string text = plural(count.workers, "worker");
  const shm::SlotSnapshot* oldest = nullptr;
  std::vector<shm::SlotSnapshot> snapshots;
  for (const Process& process : processes_) {
    if (process.kind != Kind::Worker || !process.slot) continue;
    if (auto snapshot = board_->snapshot(*process.slot);
        snapshot && snapshot->state == shm::State::Busy) {
      snapshots.push_back(std::move(*snapshot));
    }
  }
  for (const shm::SlotSnapshot& snapshot : snapshots) {
    if (snapshot.request_known &&
        (oldest == nullptr || snapshot.request_started < oldest->request_started)) {
      oldest = &snapshot;
    }
  }
  if (oldest != nullptr) {
    text += fmt::format(", {} still serving, oldest {} {} {}", snapshots.size(),
                        printable(oldest->method), printable(oldest->uri),
                        seconds_text(os::monotonic_now() - oldest->request_started));
  }
  return text;
}

}  // namespace bladepsgi::overseer
