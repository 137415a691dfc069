// Pool: one application: its listeners, its shared memory, its zygotes and everything they made.
//
// Keeps the wanted processes running: monitoring, one zygote, a worker for each number that is wanted now, the auxiliary processes that the
// loader asked for. What dies is logged and replaced; when the zygote dies, a new generation is loaded beside the running
// workers, as at a reload: what lies on the disk by now may be a release that is no good.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
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
#include "overseer/state.h"
#include "shm/lobby_board.h"
#include "shm/mapping.h"
#include "shm/objects.h"
#include "shm/scoreboard.h"
#include "supervise/canary.h"
#include "supervise/reload_policy.h"
#include "supervise/restart_policy.h"
#include "supervise/scaling_policy.h"
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
    std::function<void()> on_end_at_stop;           // while it stops, a process has ended
  };

  Pool(const PoolOptions& options, std::string title_prefix, Environment environment);
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool();

  // Creates sockets and shared memory and starts the first processes. Error: nothing was left behind.
  Result<void> start();

  // Instead of start(), in the program that takes another one's place: goes on with what that has described. All descriptors are taken over. Without
  // knows_zygote the zygote is given up: workers that die are replaced when there is another one. Error: it cannot.
  Result<void> adopt(const PoolState& state, bool knows_zygote);
  // Nothing is under way that only this program could end: it may become another one.
  [[nodiscard]] bool is_calm() const;
  // For that.
  [[nodiscard]] PoolState describe() const;

  struct Outcome {
    bool is_done = false;
    std::string text;  // what has become of it, for people; why it failed
  };

  // Instead of start(): loads the application and has a worker answer --probe, as for a reload, without any socket and with shared memory of its own. What
  // is left then is to be killed.
  Result<void> rehearse(std::function<void(const Outcome&)> on_outcome);

  // Who waits for something. `on_outcome` is called once, `on_progress` as often as there is something to say; both may be empty.
  struct Waiter {
    std::function<void(const Outcome&)> on_outcome;
    std::function<void(const std::string&)> on_progress;
  };

  // Has others take the place of the lobby and monitoring, which are of the program before; what those hold is passed on, nobody is cut off. The outcome is
  // there when those have gone, or take long over it; or when the others are no good, and those serve on.
  void renew_beside(Waiter waiter);

  // Loads the application anew, beside the running generation, and lets the workers change over when it is good. `why` is for the log.
  // The outcome is there when all have changed over or nothing has come of it.
  void reload(std::string_view why, Waiter waiter = {});

  struct ScaleOutcome {
    bool is_done = false;
    std::string text;             // why not
    std::uint32_t workers = 0;    // asked for
    std::uint32_t finishing = 0;  // that have been told to leave and still have a request
  };

  // As many workers from now on; where they come and go with what is asked for, as the most. `why` is for the log. `on_outcome` is called once, when they
  // are there and those that are too many have left, or have but their requests to finish. Error: so many there cannot be.
  Result<void> scale_to(std::uint64_t workers,
                        std::string_view why,
                        std::function<void(const ScaleOutcome&)> on_outcome);
  // So many more, or fewer.
  void scale_by(int difference, std::string_view why);

  // Replaces this worker, or all there are, a share at once, each when its replacement is ready. The outcome is there when they have gone.
  void recycle_workers(std::string_view why, std::optional<std::uint32_t> number, Waiter waiter);

  // True when the pid was one of ours.
  bool on_reaped(os::Ended ended);

  [[nodiscard]] bool has_started() const { return was_ready_; }

  [[nodiscard]] supervise::Living living() const;
  void announce_end();  // to whoever asks for our health; we go on serving
  // Nobody new gets in. Who waits in the queues of our own sockets is served by the workers, before they leave.
  void close_doors();
  void stop_accepting_restarts();  // nothing is made or replaced any more
  void drain_workers();
  // One more, for those who are inside when none is left. False: it cannot be made.
  bool start_last_worker();
  void signal_auxiliaries(int number);
  void end_lobby();  // when it has sent what it has
  [[nodiscard]] std::uint64_t responses_in_lobby() const;
  void kill_others();
  void kill_everything();
  void remove_sockets();
  void close_sockets();           // who connects is refused from now on; nobody accepts any more
  void name_late() const;         // in the log: who is still served, and what is still sent
  [[nodiscard]] PoolView view();  // good until anything happens
  [[nodiscard]] std::string describe_auxiliaries() const;  // "'mailer' (pid 812)"
  [[nodiscard]] std::string describe_living()
      const;  // "3 workers, 2 still serving, oldest GET /report 12.0 s; 1 request that has come in part"

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
    bool is_newcomer = false;  // shall take the place of another, when it says that it is ready
    bool is_rejected = false;  // killed with the generation that it belongs to
    bool wants_replacement = false;
    bool is_unwanted = false;        // somebody has asked for its replacement
    bool is_being_replaced = false;  // by one that has been asked for
    bool serves_rest = false;        // made while the server stops, for those who are inside
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
    bool has_opened = false;               // of a worker: it serves everybody who comes
    bool is_canary = false;                // tried beside workers of an older generation
    supervise::Tally before{};             // of a worker, what it had done when the trial began
  };

  using ProcessList = std::list<Process>;
  using Handle = ProcessList::iterator;

  // Something that is kept running.
  struct Position {
    supervise::RestartPolicy policy;
    os::EventLoop::TimerId restart;
    std::string name;          // of an auxiliary process
    bool was_started = false;  // for once, whatever has become of it
    bool is_wanted = false;    // of a worker: there shall be one of this number now
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

  // While some workers of the candidate serve, and are judged.
  struct Trial {
    std::vector<std::uint32_t> numbers;  // of the workers that are exchanged for it
    std::set<std::uint32_t> seated;      // of those that have been
    supervise::Tally canaries;           // of those that have ended meanwhile
    supervise::Tally others;
    supervise::Tally others_before;
    os::Monotonic began{};  // when all of them were there; epoch: they are not yet
    os::Monotonic reported{};
    std::string last_error;  // that one of them has logged
    os::EventLoop::TimerId look;
  };

  // Somebody who has asked for the replacement of workers.
  struct Recycling {
    std::set<LogSink::SourceId> left;  // that are still there
    std::size_t all = 0;
    Waiter waiter;
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
  void on_newcomer_ready(pid_t pid);
  void look_at_renewal();
  void end_renewal(const Outcome& outcome);
  // Besides `process`, and not told to leave.
  [[nodiscard]] bool has_equal(const Process& process) const;
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
  void report_failed_reload(std::string_view reason);
  void report_reload(bool is_done, std::string text);
  void give_up_changeover(const Process& failed, const std::string& reason);
  [[nodiscard]] bool is_being_probed() const;
  [[nodiscard]] bool serves_without_candidate() const;
  Result<void> make_memory();
  void request_missing_auxiliaries();
  void adopt_process(const ProcessState& state);
  [[nodiscard]] ProcessState describe(const Process& process) const;
  void on_child_ready(shm::SlotIndex slot, std::uint32_t generation, pid_t pid);
  void on_child_closed(shm::SlotIndex slot);
  void on_child_wish(shm::SlotIndex slot);
  void begin_trial();
  void continue_trial();
  void seat_canary(Process& canary);
  void tell_to_step_back(Process& process);
  void note_end_in_trial(const Process& process,
                         const shm::SlotSnapshot& last,
                         const std::string& last_error);
  void look_at_trial();
  void judge_trial();
  std::vector<std::uint32_t> end_trial();
  void roll_back_trial(std::uint32_t generation, const std::vector<std::uint32_t>& numbers);
  void dismiss_unseated(std::uint32_t generation);
  void give_up_canary_without_successor(std::uint32_t number);
  void announce_rollback();
  [[nodiscard]] bool is_on_trial(const Process& process) const;
  // Of a generation that is not accepted, and does not serve.
  [[nodiscard]] bool is_behind_the_scenes(const Process& process) const;
  [[nodiscard]] supervise::Trial tally_trial() const;
  [[nodiscard]] std::string describe_trial() const;
  [[nodiscard]] std::string_view phase_name() const;
  void seat(Handle process);
  void on_control(std::uint32_t generation);
  void on_auxiliary_requested(const zygote::ReceivedMessage& message);
  void on_loaded(shm::SlotIndex slot, std::chrono::milliseconds took);
  void on_zygote_loaded(std::chrono::milliseconds took);
  void on_worker_loaded(Process& worker, std::chrono::milliseconds took);
  void note_start();
  void warn_if_nobody_serves();
  void refuse_where_empty();
  void kill_overdue();
  void recycle();
  void note_end_of_recycled(const Process& process, const std::string& reason);
  void end_recycling(const std::string& reason);
  [[nodiscard]] std::string describe_missing_zygote() const;
  void request_missing_workers();
  void open_positions();
  void want(std::uint32_t number);
  void want_more(std::uint32_t count);
  void dismiss(std::uint32_t number);
  [[nodiscard]] std::uint32_t wanted_workers() const;
  [[nodiscard]] bool can_do_without_one() const;
  void show_wanted();
  void on_knock();
  void scale(bool has_knocked = false);
  void watch_doors();
  void leave_doors();
  void look_at_doors(supervise::Demand& demand) const;
  [[nodiscard]] supervise::Crew look_at_crew(os::Monotonic now, supervise::Demand& demand) const;
  void announce_scaled();
  void report_scaled(bool is_done, std::string text, std::uint32_t finishing);
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

  // Workers come and go with what is asked for.
  [[nodiscard]] bool is_dynamic() const { return options_.scaling.least < options_.scaling.most; }

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
  Channel passing_;  // to the lobby from the one before it, which writes into `workers`
  Channel ready_;    // to the workers

  ProcessList processes_;
  std::map<pid_t, int> unclaimed_;  // ended before the zygote said whose they are
  ZygoteLink zygote_;
  std::uint32_t next_generation_ = 1;

  // The generation that shall take the place of the running one, until it does.
  std::optional<ZygoteLink> candidate_;
  os::Fd probation_;  // to its first worker, which serves nobody else while this is open
  supervise::ReloadPolicy reload_;
  std::vector<Waiter> reload_waits_;       // for this one
  std::vector<Waiter> next_reload_waits_;  // for the next
  std::optional<Trial> trial_;
  // While the workers that were tried are exchanged for others again.
  std::string rollback_reason_;
  os::Monotonic rollback_end_{};  // of the time that those who still have a request get
  os::EventLoop::TimerId rollback_look_;
  std::optional<ReloadView::Last> last_reload_;
  std::string zygote_failure_;  // the zygote has died, and why there is no other one yet
  bool reloads_when_ready_ = false;
  bool is_rehearsal_ = false;
  std::function<void(const Outcome&)> rehearsal_;  // until its outcome is known
  std::list<Recycling> recyclings_;
  os::EventLoop::TimerId overdue_look_;

  std::optional<Waiter> renewal_;
  os::EventLoop::TimerId renewal_limit_;

  supervise::ScalingPolicy scaling_;
  bool watches_doors_ = false;
  os::EventLoop::TimerId scaling_look_;
  // Until what was asked for is done; empty: it is.
  std::optional<std::uint32_t> scaling_to_;
  std::vector<std::function<void(const ScaleOutcome&)>> scale_waits_;
  os::EventLoop::TimerId scaled_look_;

  Position lobby_position_;
  Position monitoring_position_;
  Position zygote_position_;
  std::vector<Position> worker_positions_;  // as many as there may ever be
  std::vector<Position> auxiliary_positions_;

  std::chrono::milliseconds load_time_{};  // the longest, where each worker loads
  bool was_ready_ = false;
  bool changes_over_ = false;   // to the workers of a new generation
  bool nobody_serves_ = false;  // and that was said
  bool is_going_ = false;       // to stop, and that was said
  bool is_stopping_ = false;
  bool is_rest_given_up_ = false;  // nobody can be made who would serve it
  os::Monotonic doors_closed_{};
  os::EventLoop::TimerId doors_look_;
  bool was_killed_ = false;  // what ends from now on has no choice
};

}  // namespace bladepsgi::overseer
