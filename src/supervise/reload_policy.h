// ReloadPolicy: how a new generation takes the place of the running one, as a state machine.
//
//   Idle ──asked──▶ Loading ──loaded──▶ Proving ──proved──▶ ChangingOver ──all changed over──▶ Idle
//    ▲                 │                   │
//    └──── failed: rolled back, the running generation has never stopped serving
//
// It learns what has happened and answers with what is to be done now; it does nothing itself. Who asks while a reload is under way wants what
// has changed since, so another one follows. Once the new generation is accepted there is no way back: what dies of it is replaced from
// it, as always.
//
// Which workers change over next, `next_seats` says: as few at once as was asked for, but whose seat is empty waits for nobody. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace bladepsgi::supervise {

// What to do now; several may be set.
struct ReloadActions {
  bool load = false;         // start a zygote of the next generation beside the running one
  bool prove = false;        // start a worker of it, and see whether that works
  bool accept = false;       // it is the running generation from now on; workers change over
  bool roll_back = false;    // end what there is of it
  bool report_done = false;  // to those who have asked for this reload
  bool report_failed = false;

  bool operator==(const ReloadActions&) const = default;
};

class ReloadPolicy {
 public:
  enum class Phase : std::uint8_t { Idle, Loading, Proving, ChangingOver };

  enum class Event : std::uint8_t {
    Asked,
    Loaded,
    Proved,
    Failed,       // to load, to be started or to be proved
    ChangedOver,  // every worker is of the new generation
    Stopping,     // the whole server ends
  };

  ReloadActions on(Event event);

  [[nodiscard]] Phase phase() const { return phase_; }

  // Another one follows this one.
  [[nodiscard]] bool is_asked_again() const { return asks_again_; }

 private:
  void begin_next(ReloadActions& actions);

  Phase phase_ = Phase::Idle;
  bool asks_again_ = false;
};

// The place of one worker number.
struct Seat {
  enum class Newcomer : std::uint8_t { None, Starting, Ready };

  bool is_taken = false;               // by a worker of an older generation that serves
  Newcomer newcomer = Newcomer::None;  // of the running generation
};

// Indices of the seats for which a worker is to be started now, when at most `step` (at least 1) may be starting in the place of others.
[[nodiscard]] std::vector<std::uint32_t> next_seats(std::span<const Seat> seats,
                                                    std::uint32_t step);

}  // namespace bladepsgi::supervise
