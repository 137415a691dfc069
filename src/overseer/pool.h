// Pool: one application: its listeners, its shared memory, its zygotes and everything they made.
//
// Keeps the wanted processes running: monitoring, one zygote, a worker for each number, the auxiliary processes that the
// loader asked for. What dies is logged and replaced; when the zygote dies, a new generation is loaded beside the running
// workers, which leave one by one as their successors become ready.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "os/event_loop.h"
#include "os/lifeline.h"
#include "os/process.h"
#include "os/socket.h"
#include "overseer/listeners.h"
#include "overseer/log_sink.h"
#include "overseer/options.h"
#include "overseer/report.h"
#include "shm/lobby_board.h"
#include "shm/mapping.h"
#include "shm/objects.h"
#include "shm/scoreboard.h"
#include "supervise/reload_policy.h"
#include "supervise/restart_policy.h"
#include "supervise/stop_policy.h"
#include "zygote/control.h"

namespace bladepsgi::overseer {

class Pool {
 public:
  struct Environment {
    os::EventLoop* loop = nullptr;
    LogSink* log = nullptr;
    os::ProcessTitle* title = nullptr;
    const os::Lifeline* lifeline = nullptr;  // what may change its user is tied to it
    std::size_t descriptor_limit = 0;        // the soft limit that applications get back
    bool stop_on_crash = false;
    std::function<void()> on_ready;                 // everything asked for runs, for the first time
    std::function<void(int exit_code)> on_failure;  // the server cannot go on
  };

  Pool(const PoolOptions& options, std::string title_prefix, Environment environment);
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool();

  // Creates sockets and shared memory and starts the first processes. Error: nothing was left behind.
  Result<void> start();

  struct ReloadOutcome {
    bool is_done = false;
    std::string text;  // what has become of it, for people; why it failed
  };

  // Loads the application anew, beside the running generation, and lets the workers change over when it is good. `why` is for the log.
  // `on_outcome` is called once, when all have changed over or nothing has come of it; it may be empty.
  void reload(std::string_view why, std::function<void(const ReloadOutcome&)> on_outcome = {});

  // True when the pid was one of ours.
  bool on_reaped(os::Ended ended);

  [[nodiscard]] supervise::Living living() const;
  void stop_accepting_restarts();  // nothing is made or replaced any more
  void drain_workers();
  void signal_auxiliaries(int number);
  void end_lobby();  // when it has sent what it has
  [[nodiscard]] std::uint64_t responses_in_lobby() const;
  void kill_others();
  void kill_everything();
  void remove_sockets();
  void close_sockets();           // who connects is refused from now on; nobody accepts any more
  [[nodiscard]] PoolView view();  // good until anything happens
  [[nodiscard]] std::string describe_auxiliaries() const;  // "'mailer' (pid 812)"
  [[nodiscard]] std::string describe_living()
      const;  // "3 workers still serving, oldest GET /report 12 s"

 private:
  enum class Kind : std::uint8_t { Lobby, Monitoring, Probe, Zygote, Worker, Auxiliary };

  // One process from its request until it was reaped.
  struct Process {
    Kind kind{};
    std::string role;  // as in log lines
    os::Child child;   // not alive: the zygote has not said yet which pid
    std::optional<shm::SlotIndex> slot;
    std::uint32_t number = 0;  // of a worker; index of an auxiliary process
    std::uint32_t generation = 0;
    bool is_ready = false;
    bool is_leaving = false;   // told to leave, or replaced: its end is expected
    bool is_rejected = false;  // killed with the generation that it belongs to
    bool wants_replacement = false;
    bool is_being_replaced = false;  // by one that has been asked for
    bool is_overdue = false;         // its request has outlived every limit, and it was killed
    os::Monotonic started{};
    LogSink::SourceId source = 0;
    os::Fd wake;  // of a worker: a byte into it makes it look whether it was told to leave
    // Without preloading: what it has asked for while it loads, and until when it must have loaded.
    std::vector<std::string> auxiliary_names;
    os::EventLoop::TimerId load_deadline;
    bool is_given_up = false;              // it had its time to load
    os::EventLoop::TimerId kill_deadline;  // told to leave, and until when that is waited for
    os::Fd probation;                      // of one that was rejected: it serves nobody to its end
  };

  using ProcessList = std::list<Process>;
  using Handle = ProcessList::iterator;

  // Something that is kept running.
  struct Position {
    supervise::RestartPolicy policy;
    os::EventLoop::TimerId restart;
    std::string name;          // of an auxiliary process
    bool was_started = false;  // for once, whatever has become of it
  };

  struct ZygoteLink {
    os::Fd control;
    std::uint32_t generation = 0;
    bool is_loaded = false;
    std::string failure;  // why it was given up
    // Of what the loader asked for; without preloading the first worker's run of it counts.
    std::optional<std::vector<std::string>> auxiliary_names;
    os::EventLoop::TimerId load_deadline;
  };

  // Both ends, so that what is under way outlives who sends and who receives.
  struct Channel {
    os::Fd lobby;
    os::Fd workers;
  };

  void warn_about_machine();
  Result<void> check_admission();
  void make_channels();
  Result<void> start_lobby();
  Result<void> start_monitoring();
  Result<void> start_beside(Process process,
                            std::vector<int> keep,
                            const std::function<int(os::LogChannel)>& run);
  Result<void> start_zygote();
  Result<ZygoteLink> make_zygote(std::string title);
  [[nodiscard]] ZygoteLink* find_link(std::uint32_t generation);
  void follow(const supervise::ReloadActions& actions, std::string_view reason);
  void load_candidate();
  void on_candidate_loaded(Process& zygote, std::chrono::milliseconds took);
  void prove_candidate();
  void on_candidate_ready(Handle worker);
  Result<void> start_probe();
  void on_probe_ended(bool is_good, std::string reason);
  void on_candidate_failed(std::string reason);
  void accept_candidate();
  void reject_candidate();
  void report_reload(bool is_done, std::string text);
  void seat(Handle process);
  void on_control(std::uint32_t generation);
  void on_auxiliary_requested(const zygote::ReceivedMessage& message);
  void on_loaded(shm::SlotIndex slot, std::chrono::milliseconds took);
  void on_zygote_loaded(std::chrono::milliseconds took);
  void on_worker_loaded(Process& worker, std::chrono::milliseconds took);
  void note_start();
  void warn_if_nobody_serves();
  void kill_overdue();
  void recycle();
  void request_missing_workers();
  void make_auxiliaries();
  void on_forked(const zygote::Message& message);
  void on_load_failure(std::string_view reason);
  void request_worker(std::uint32_t number);
  void request_auxiliary(std::uint32_t index);
  void request_child(Kind kind, std::string role, std::uint32_t number);
  Result<void> try_request_child(ZygoteLink& from,
                                 Kind kind,
                                 std::string role,
                                 std::uint32_t number,
                                 int probation = -1);
  void tell_to_leave(Process& process);
  void forget_unclaimed();
  void on_ready(Handle process);
  void announce_if_complete();
  void announce_changeover();
  void publish();
  void process_ended(Handle handle, int status);
  void schedule(Position& position, Kind kind, std::uint32_t number, supervise::Duration delay);
  void restart(Kind kind, std::uint32_t number);
  Position& position_of(const Process& process);

  [[nodiscard]] bool is_preloading() const { return options_.zygote.preload; }

  [[nodiscard]] bool has_monitoring() const {
    return statistics_ != nullptr || !health_.listening().empty();
  }

  os::EventLoop::TimerId limit_loading(std::string who, std::function<void()> kill);
  // With must_serve: one of a younger generation that is ready.
  [[nodiscard]] bool has_successor(const Process& process, bool must_serve = false) const;
  void give_back(const Process& process);
  void forget(ZygoteLink& link);
  void fail_start(int exit_code);
  void try_or_retry(Kind kind, const Result<void>& result);
  [[nodiscard]] std::optional<Handle> find_pid(pid_t pid);
  [[nodiscard]] std::optional<Handle> find_slot(shm::SlotIndex slot);
  [[nodiscard]] std::uint32_t oldest_generation() const;

  [[nodiscard]] double chance() { return std::uniform_real_distribution<double>(0, 1)(random_); }

  PoolOptions options_;
  std::string title_prefix_;
  Environment environment_;
  std::mt19937 random_{std::random_device{}()};

  ListenerSet listeners_;
  // Without any of these there is no monitoring process.
  std::unique_ptr<os::UnixListener> statistics_;
  ListenerSet health_;
  std::optional<shm::Mapping> mapping_;
  std::optional<shm::Scoreboard> board_;
  std::optional<shm::Objects> objects_;
  std::optional<shm::LobbyBoard> lobby_board_;
  Channel parking_;  // to the lobby
  Channel ready_;    // to the workers

  ProcessList processes_;
  std::map<pid_t, int> unclaimed_;  // ended before the zygote said whose they are
  ZygoteLink zygote_;
  std::uint32_t next_generation_ = 1;

  // The generation that shall take the place of the running one, until it does.
  std::optional<ZygoteLink> candidate_;
  os::Fd probation_;  // to its first worker, which serves nobody else while this is open
  supervise::ReloadPolicy reload_;
  std::vector<std::function<void(const ReloadOutcome&)>> reload_waits_;       // for this one
  std::vector<std::function<void(const ReloadOutcome&)>> next_reload_waits_;  // for the next
  bool reloads_when_ready_ = false;
  os::EventLoop::TimerId overdue_look_;

  Position lobby_position_;
  Position monitoring_position_;
  Position zygote_position_;
  std::vector<Position> worker_positions_;
  std::vector<Position> auxiliary_positions_;

  std::chrono::milliseconds load_time_{};  // the longest, where each worker loads
  bool was_ready_ = false;
  bool changes_over_ = false;   // to the workers of a new generation
  bool nobody_serves_ = false;  // and that was said
  bool is_stopping_ = false;
  bool was_killed_ = false;  // what ends from now on has no choice
};

}  // namespace bladepsgi::overseer
