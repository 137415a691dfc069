#include "overseer/pool.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <utility>

#include "base/text.h"
#include "config/exit_codes.h"
#include "os/privileges.h"
#include "os/system_error.h"
#include "overseer/wording.h"

namespace bladepsgi::overseer {

namespace {

using std::chrono::milliseconds;

// Of TCP sockets whose door is closed: for handshakes that are under way, and how often it is looked whether nobody waits in them any more.
constexpr milliseconds kHandshake{100};
constexpr milliseconds kDoorsLook{10};
// Where the door cannot be closed tightly, one comes in for each that goes: then, the last but one is the last.
constexpr std::chrono::seconds kEmptying{5};

std::uint64_t requests_in_lobby(const shm::LobbyBoard& board) {
  std::uint64_t count = 0;
  for (const shm::Holding holding :
       {shm::Holding::Head, shm::Holding::Body, shm::Holding::SlowBody, shm::Holding::Ready})
    count += board.held(holding);
  return count;
}

}  // namespace

Pool::Pool(const PoolOptions& options, std::string title_prefix, Environment environment)
    : options_(options),
      title_prefix_(std::move(title_prefix)),
      environment_(std::move(environment)),
      reload_(options.canary != 0),
      scaling_(options_.scaling) {
  open_positions();
}

Pool::~Pool() {
  environment_.loop->cancel(doors_look_);
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
  if (auto made = make_memory(); !made) return made;
  show_wanted();
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

Result<void> Pool::make_memory() {
  auto mapping = os::attempt([this]() -> Result<shm::Mapping> {
    return shm::Mapping::create(
        {.numbers = options_.max_workers, .object_bytes = options_.shared_memory});
  });
  if (!mapping) return fail(Remedy::GiveUp, mapping.error().message + "; see --shared-memory");
  mapping_ = std::move(*mapping);
  board_.emplace(*mapping_);
  objects_.emplace(*mapping_);
  lobby_board_.emplace(*mapping_);
  lobby_board_->prepare(options_.slow_bodies);
  return {};
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
  for (Channel* channel : {&parking_, &ready_, &passing_}) {
    std::tie(channel->lobby, channel->workers) = os::make_message_pair();
    os::set_non_blocking(channel->lobby.get());
    os::set_non_blocking(channel->workers.get());
  }
}

// On the statistics socket: when the application was loaded for the first time.
void Pool::note_start() {
  if (board_->start_time() == 0) board_->set_start_time(os::wall_clock_now());
}

// It is one of those that serve, from now on.
void Pool::seat(Handle process) {
  if (process->kind == Kind::Auxiliary) position_of(*process).was_started = true;
  if (process->kind == Kind::Worker) {
    if (has_successor(*process, true)) {
      tell_to_leave(*process);  // it took so long that the next generation was quicker
      return;
    }
    if (process->is_leaving) return;  // was told to before it was ready
    want(process->number);            // one that has shown that a new generation is good
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
  announce_rollback();
  announce_changeover();
  recycle();
  scale();
  announce_scaled();
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
    } else if (process.is_ready && !process.is_leaving) {
      ++workers;
    }
  }
  const std::uint32_t wanted = wanted_workers();
  if (workers < wanted) return;
  changes_over_ = false;
  environment_.log->log(
      Severity::Log,
      fmt::format("{} changed over", wanted == 1 ? std::string("the worker has")
                                                 : fmt::format("all {} workers have", wanted)));
  follow(reload_.on(supervise::ReloadPolicy::Event::ChangedOver), {});
  recycle();
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
  const std::uint32_t wanted = wanted_workers();
  if (workers < wanted || !all_started) return;
  const std::string_view how =
      is_preloading() ? "application loaded in" : "each of which loaded the application, in up to";
  const std::string more =
      is_dynamic() ? fmt::format(" of up to {}", scaling_.options().most) : std::string();
  was_ready_ = true;
  environment_.log->log(Severity::Log,
                        fmt::format("ready: {}{}, {} {}; listening on {}", plural(wanted, "worker"),
                                    more, how, seconds_text(load_time_), listeners_.describe()));
  environment_.on_ready();
  if (std::exchange(reloads_when_ready_, false)) reload("when it was not ready yet");
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
  living.has_unserved = listeners_.is_published() && zygote_.is_loaded && !is_rest_given_up_ &&
                        lobby_board_ && !lobby_board_->is_all_served();
  return living;
}

void Pool::announce_end() {
  is_going_ = true;
  if (board_) board_->set_going();
}

void Pool::close_doors() {
  doors_closed_ = os::monotonic_now();
  listeners_.close_doors();
  if (statistics_) statistics_->remove();
  environment_.loop->cancel(doors_look_);
  doors_look_ =
      environment_.loop->call_at(doors_closed_ + kHandshake, [this] { refuse_where_empty(); });
}

void Pool::refuse_where_empty() {
  const os::Monotonic now = os::monotonic_now();
  doors_look_ = {};
  if (listeners_.refuse_where_empty(now - doors_closed_ >= kEmptying)) return;
  doors_look_ = environment_.loop->call_at(now + kDoorsLook, [this] { refuse_where_empty(); });
}

void Pool::stop_accepting_restarts() {
  is_stopping_ = true;
  reloads_when_ready_ = false;
  end_trial();
  end_recycling("the server stops");
  end_renewal({.text = "the server stops"});
  environment_.loop->cancel(rollback_look_);
  follow(reload_.on(supervise::ReloadPolicy::Event::Stopping), "the server stops");
  environment_.loop->cancel(zygote_.load_deadline);
  if (candidate_) environment_.loop->cancel(candidate_->load_deadline);
  if (lobby_board_) lobby_board_->set_stopping();
  if (board_) show_wanted();
  leave_doors();
  environment_.loop->cancel(scaling_look_);
  report_scaled(false, "the server stops", 0);
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

bool Pool::start_last_worker() {
  const auto asked =
      os::attempt([this] { return try_request_child(zygote_, Kind::Worker, "worker", 0); });
  if (!asked) {
    is_rest_given_up_ = true;
    environment_.log->log(
        Severity::Error,
        fmt::format("stopping: no worker for those who wait in the listen queue{}{}",
                    asked.error().message.empty() ? "" : ": ", asked.error().message));
    return false;
  }
  Process& process = processes_.back();
  process.serves_rest = process.is_leaving = true;
  board_->tell_to_leave(*process.slot);
  return true;
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
  view.wanted_workers = wanted_workers();
  view.least_workers = scaling_.options().least;
  view.most_workers = scaling_.options().most;
  view.max_workers = options_.max_workers;
  view.times_exhausted = scaling_.times_exhausted();
  view.slow_bodies = options_.slow_bodies;
  view.was_ready = was_ready_;
  view.is_going = is_going_;
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
  view.reload.phase = phase_name();
  if (trial_) view.reload.progress = describe_trial();
  view.reload.last = last_reload_;
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
  environment_.loop->cancel(doors_look_);
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
  if (const std::uint64_t parts = lobby_board_ ? requests_in_lobby(*lobby_board_) : 0; parts > 0)
    text +=
        fmt::format("; {} come in part", parts == 1 ? std::string("a request that has")
                                                    : fmt::format("{} requests that have", parts));
  return text;
}

void Pool::name_late() const {
  const os::Monotonic now = os::monotonic_now();
  for (const Process& process : processes_) {
    if (process.kind == Kind::Auxiliary) {
      environment_.log->log(Severity::Warning,
                            fmt::format("stopping: auxiliary process '{}' (pid {}) is still there",
                                        printable(process.role), process.child.pid()));
    }
    if (process.kind != Kind::Worker || !process.slot) continue;
    const auto slot = board_->snapshot(*process.slot);
    const std::string request = slot ? describe_request(*slot, now) : std::string();
    environment_.log->log(
        Severity::Warning,
        fmt::format("stopping: worker {} (pid {}) {}", process.number, process.child.pid(),
                    request.empty() ? std::string("is still there") : "is killed" + request));
  }
  if (!lobby_board_) return;
  if (const std::uint64_t parts = requests_in_lobby(*lobby_board_); parts > 0) {
    environment_.log->log(
        Severity::Warning,
        fmt::format("stopping: requests that have come in part and are cut off: {}", parts));
  }
  if (const std::uint64_t unsent = responses_in_lobby(); unsent > 0) {
    environment_.log->log(
        Severity::Warning,
        fmt::format("stopping: responses that clients have not taken and that are cut off: {}",
                    unsent));
  }
}

}  // namespace bladepsgi::overseer
