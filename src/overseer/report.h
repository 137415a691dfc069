// Report: what goes on in the server, as JSON: for bladectl, and for whoever reads the same.
//
// Views are gathered by Overseer and Pool, and look at the shared memory while the report is made. Times in a report are seconds.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "json/value.h"
#include "os/clock.h"
#include "shm/lobby_board.h"
#include "shm/objects.h"
#include "shm/scoreboard.h"

namespace bladepsgi::overseer {

struct ProcessView {
  enum class Kind : std::uint8_t { Worker, Auxiliary, Other };

  Kind kind = Kind::Other;
  std::string role;
  pid_t pid = 0;  // 0: not known yet
  std::optional<shm::SlotIndex> slot;
  std::uint32_t number = 0;
  std::uint32_t generation = 0;
  bool is_ready = false;
  bool is_leaving = false;
  os::Monotonic started{};
};

struct ReloadView {
  // What has become of the last one that has come to its end.
  struct Last {
    bool is_done = false;
    std::string reason;  // in full; what it was, or why it has failed
    os::WallClock when{};
    std::uint32_t generation = 0;  // that served afterwards
  };

  std::string phase;     // "idle"
  std::string progress;  // of a trial; empty: none is under way
  std::optional<Last> last;
};

struct PoolView {
  std::string application;
  std::string loader;  // empty: none
  std::vector<std::string> listeners;
  std::uint32_t workers = 0;  // as configured
  std::uint32_t wanted_workers = 0;
  std::uint32_t least_workers = 0;
  std::uint32_t most_workers = 0;
  std::uint32_t max_workers = 0;  // that can be asked for
  std::uint64_t times_exhausted = 0;
  std::uint32_t slow_bodies = 0;
  bool was_ready = false;
  bool is_going = false;  // will stop, and serves yet
  bool is_stopping = false;
  // Null before they are there.
  const shm::Scoreboard* board = nullptr;
  const shm::LobbyBoard* lobby = nullptr;
  shm::Objects* objects = nullptr;
  std::vector<ProcessView> processes;
  ReloadView reload;
};

struct ServerView {
  pid_t pid = 0;
  os::WallClock started{};
  os::Monotonic started_monotonic{};
  PoolView pool;
};

[[nodiscard]] json::Value status_report(const ServerView& server, os::Monotonic now);

// A row for each worker, those that leave among them.
[[nodiscard]] json::Value workers_report(const ServerView& server, os::Monotonic now);

}  // namespace bladepsgi::overseer
