// StopPolicy: how the server ends, as a state machine.
//
//   Running ──TERM──▶ Delaying ──delay over──▶ Draining ──nobody left to serve──▶ EndingAuxiliaries ──all gone, the lobby, too──▶ EndingOthers ──▶ Finished
//      │    (without a delay at once)              │                                   │ (TERM; KILL 30 s later:                     │
//      │                  │                        │                                   │  KillingAuxiliaries)                        │
//      └──────────────────┴─ TERM again, INT, QUIT, failure; from Draining on, too late ─┴────▶ Killing ─────────────────────────────┴──▶ Finished
//
// It learns of signals, of how many processes live and of the time, and answers with what is to be done now; it does nothing
// itself. Each answer is given once. Pure: no clock, no processes.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "supervise/restart_policy.h"

namespace bladepsgi::supervise {

enum class StopRequest : std::uint8_t {
  Smart,      // SIGTERM; the second one is Fast
  Fast,       // SIGINT
  Immediate,  // SIGQUIT
  Failure,  // something ended that the server does not go on without (--on-crash=stop); as Fast, but exit code 1
};

// Children not yet reaped, those that are only just starting included.
struct Living {
  std::uint32_t workers = 0;
  std::uint32_t auxiliaries = 0;
  std::uint32_t lobbies = 0;  // may be sending responses, which workers have left to them
  std::uint32_t others = 0;   // zygotes, monitoring
  // Somebody may be waiting inside yet, and a worker could be made that serves him.
  bool has_unserved = false;
};

// What to do now; several may be set.
struct StopActions {
  bool announce = false;       // whoever asks for our health hears that we go; all else goes on
  bool drain_workers = false;  // each serves who is inside and leaves; no new ones are made
  bool start_worker = false;   // none is left, and somebody may be waiting inside yet
  bool name_late = false;      // who is not done in time, before all of them are killed
  bool end_lobbies = false;    // they send what they have to its end, and end
  bool terminate_auxiliaries = false;  // SIGTERM
  bool kill_auxiliaries = false;       // SIGKILL
  bool kill_others = false;            // SIGKILL: nothing in them is worth saving
  bool kill_everything = false;        // SIGKILL to every child
  std::optional<int> finish{};         // exit with this code

  bool operator==(const StopActions&) const = default;
};

struct StopOptions {
  Duration auxiliary_grace = std::chrono::seconds(30);
  // How long to wait for the corpses of what was killed. What does not die even then (stuck in the kernel) has a parent-death signal.
  Duration kill_grace = std::chrono::seconds(5);
  // Between the first request and the stop.
  Duration drain_delay{};
  // For all of a smart stop, from the end of that on; zero: any.
  Duration timeout{};
};

class StopPolicy {
 public:
  enum class Phase : std::uint8_t {
    Running,
    Delaying,
    Draining,
    EndingAuxiliaries,
    KillingAuxiliaries,
    EndingOthers,
    Killing,
    Finished,
  };

  explicit StopPolicy(const StopOptions& options = {}) : options_(options) {}

  StopActions request(StopRequest request, const Living& living, Time now);
  // After every reaped child, and when the deadline has passed.
  StopActions advance(const Living& living, Time now);

  [[nodiscard]] Phase phase() const { return phase_; }

  // From the first request on.
  [[nodiscard]] bool was_asked() const { return phase_ != Phase::Running; }

  // What dies now is neither replaced nor a crash.
  [[nodiscard]] bool is_stopping() const {
    return phase_ != Phase::Running && phase_ != Phase::Delaying;
  }

  // Who is inside is waited for.
  [[nodiscard]] bool is_smart() const {
    return is_stopping() && phase_ != Phase::Killing && phase_ != Phase::Finished;
  }

  // When to call advance even if nothing happens.
  [[nodiscard]] std::optional<Time> deadline() const;

 private:
  void begin(const Living& living, Time now, StopActions& actions);
  StopActions kill(int exit_code, const Living& living, Time now);
  void follow(const Living& living, Time now, StopActions& actions);
  void end_others(const Living& living, Time now, StopActions& actions);

  StopOptions options_;
  Phase phase_ = Phase::Running;
  std::optional<Time> deadline_;  // of the phase
  std::optional<Time> end_;       // of a smart stop
  int exit_code_ = 0;
};

}  // namespace bladepsgi::supervise
