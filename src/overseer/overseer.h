// Overseer: the process that was started. Owns the list of pools, the signals and the log; runs no application code and
// never maps a language runtime, so no application can take it down.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "os/event_loop.h"
#include "os/lifeline.h"
#include "os/pid_file.h"
#include "os/process.h"
#include "os/service_manager.h"
#include "os/signals.h"
#include "overseer/control_server.h"
#include "overseer/control_socket.h"
#include "overseer/log_sink.h"
#include "overseer/options.h"
#include "overseer/pool.h"
#include "overseer/state.h"
#include "overseer/upgrade.h"
#include "supervise/stop_policy.h"

namespace bladepsgi::overseer {

class Overseer {
 public:
  Overseer(Options options, os::ProcessTitle& title);

  // Until everything has ended; returns the exit code.
  int run();

 private:
  [[nodiscard]] bool has_access_log_file() const;
  Result<void> open_access_log();
  Result<std::string> reopen_logs(const std::string& why);
  Result<void> open_control();
  void add_commands();
  void on_reload_command(const Session& session);
  void on_scale_command(const json::Object& arguments, const Session& session);
  void on_recycle_command(const json::Object& arguments, const Session& session);
  void on_stop_command(const json::Object& arguments, const Session& session);
  void report_stop();
  void answer_stop(int exit_code);
  [[nodiscard]] ServerView view();
  [[nodiscard]] std::string describe_stop() const;
  Result<void> start();
  void prepare_pool(std::size_t descriptor_limit);
  void serve_control();
  void on_ready();
  void stay_alive();
  void reload(const std::string& why, Pool::Waiter waiter = {});
  // Upgrades (overseer_upgrade.cc).
  Result<void> start_check(const State& state);
  Result<void> take_over(const State& state);
  [[nodiscard]] State describe() const;
  void upgrade(std::string_view why, const Session* session);
  void on_check_outcome(const control::Outcome& outcome);
  void become_when_calm();
  void end_upgrade(config::ExitCode exit, std::string_view text);
  void renew_beside(const std::string& done);
  void on_signals();
  void on_stop_signal(const os::SignalFd::Caught& caught);
  void reap();
  void request_stop(supervise::StopRequest request);
  void follow_stop(const supervise::StopActions& actions, bool was_stopping);
  void log_progress();
  void stop_immediately();
  void advance_stop();
  void carry_out(const supervise::StopActions& actions);
  [[nodiscard]] supervise::Living living() const;

  Options options_;
  os::ProcessTitle& title_;
  os::SignalFd signals_;
  os::Lifeline lifeline_;
  os::EventLoop loop_;
  os::Fd access_log_;
  LogSink log_;
  os::ServiceManager service_manager_ = os::ServiceManager::from_environment();
  os::EventLoop::TimerId alive_timer_;
  std::uint32_t reloads_ = 0;  // asked for and not over
  os::WallClock started_ = os::wall_clock_now();
  os::Monotonic started_monotonic_ = os::monotonic_now();
  std::optional<ControlSocket> control_socket_;
  std::optional<ControlServer> control_;
  std::vector<Session> stop_sessions_;  // who waits for the end
  os::EventLoop::TimerId stop_report_;
  std::list<Pool> pools_;
  std::optional<os::PidFile> pid_file_;
  supervise::StopPolicy stop_;
  os::EventLoop::TimerId stop_timer_;
  os::EventLoop::TimerId stop_progress_;
  std::size_t descriptor_limit_ = 0;  // the soft limit that applications get back
  bool is_upgrading_ = false;
  std::unique_ptr<UpgradeCheck> upgrade_check_;
  std::string new_version_;                // of a program that is good
  std::vector<Session> upgrade_sessions_;  // who waits for its outcome
  os::EventLoop::TimerId upgrade_timer_;
  ProgramIdentity tried_program_;
  os::Monotonic upgrade_deadline_{};
  std::optional<int> failure_code_;  // overrides the stop policy's
  std::optional<int> exit_code_;
};

}  // namespace bladepsgi::overseer
