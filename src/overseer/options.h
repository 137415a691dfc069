// Options of the overseer: what the configuration asks for, looked up and checked against this machine.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "lobby/inheritance.h"
#include "os/socket.h"
#include "overseer/control_socket.h"
#include "overseer/listeners.h"
#include "overseer/upgrade.h"
#include "supervise/canary.h"
#include "supervise/restart_policy.h"
#include "supervise/scaling_policy.h"
#include "supervise/stop_policy.h"
#include "zygote/inheritance.h"

namespace bladepsgi::overseer {

// One application with its listeners and processes.
struct PoolOptions {
  std::vector<ListenOptions> listen;
  std::vector<ListenOptions> health;  // HTTP, answered by monitoring
  std::string statistics_path;        // empty: no statistics socket
  os::SocketAccess access;            // of all that have a path
  int backlog = 0;
  std::uint32_t workers = 1;          // as many as there may be, until somebody asks for others
  std::uint32_t max_workers = 1;      // as many as can be asked for
  supervise::ScalingOptions scaling;  // between its least and `workers`
  std::optional<lobby::Options>
      lobby;  // empty: there is none, and workers wait for their peers themselves
  std::uint32_t slow_bodies = 1;    // workers that may serve requests whose body is not here
  std::uint64_t shared_memory = 0;  // bytes of address space for semaphores and atomics
  std::chrono::milliseconds load_timeout{};
  std::uint32_t reload_step = 1;  // workers that change over at once
  std::string probe;              // what a new generation is asked for; empty: nothing
  std::chrono::milliseconds probe_timeout{};
  std::uint32_t recycle_share = 25;  // percent of the workers that are replaced at once
  std::uint32_t canary = 0;          // percent of the workers that are tried first; 0: none
  supervise::CanaryOptions judgement;
  zygote::Options zygote;
};

struct Options {
  std::string title_prefix;
  std::vector<std::string> notes;  // for the log, once
  std::string pid_file;            // empty: none
  std::function<void()> on_ready;  // may be empty
  bool raw_output = false;
  std::string access_log;  // path, "-" for standard output; empty: none
  supervise::StopOptions stop;
  supervise::CrashAction on_crash = supervise::CrashAction::Restart;
  ControlPlace control;
  PoolOptions pool;  // the list of pools has one entry
  // As they were found in the environment of the process.
  std::optional<std::string> web_server_addresses;
  // For an upgrade: how this program was started, and what for if not by somebody who wants a server.
  Invocation invocation;
  std::optional<UpgradeOrder> order;

  [[nodiscard]] bool serves_http() const;
};

// Processors that this process may run on, at least 2.
[[nodiscard]] std::uint32_t default_workers();

// Users and groups are looked up here. `runtime_module` is the path of the language runtime.
Result<Options> make_options(const config::Config& config, const std::string& runtime_module);

}  // namespace bladepsgi::overseer
