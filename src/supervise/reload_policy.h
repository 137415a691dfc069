// ReloadPolicy: how a new generation takes the place of the running one, as a state machine.
//
//   Idle ──asked──▶ Loading ──loaded──▶ Proving ──proved──▶ Judging ──judged──▶ ChangingOver ──all changed over──▶ Idle
//    ▲                 │                   │                   │ failed
//    │                 │                   │              RollingBack
//    └─────────────────┴───────────────────┴───────────────────┘
//      failed: rolled back, the running generation has never stopped serving
//
// Without a canary there is no Judging: what is proved is accepted. In it a share of the workers is of the new generation and serves
// (supervise/canary.h says whether they do well); if it is rolled back, workers of the running generation take their places first.
//
// It learns what has happened and answers with what is to be done now; it does nothing itself. Who asks while a reload is under way wants what
// has changed since, so another one follows. Once the new generation is accepted there is no way back: what dies of it is replaced from
// it, as always; if workers of it cannot start, that is reported, and whoever asks next is not kept waiting for them.
//
// A zygote that has died is replaced in the same way: what lies on the disk may be a release that nobody has accepted.
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
  bool judge = false;        // let a share of the workers change over, and see how they do
  bool accept = false;       // it is the running generation from now on; workers change over
  bool roll_back = false;    // end what there is of it
  bool report_done = false;  // to those who have asked for this reload
  bool report_failed = false;
  bool report_incomplete = false;  // it was accepted, but not every worker could change over

  bool operator==(const ReloadActions&) const = default;
};

class ReloadPolicy {
 public:
  enum class Phase : std::uint8_t { Idle, Loading, Proving, Judging, RollingBack, ChangingOver };

  enum class Event : std::uint8_t {
    Asked,
    Loaded,
    Proved,
    Judged,       // and found good
    Failed,       // to load, to be started, to be proved or to be as good as the running one
    RolledBack,   // none of its workers takes requests any more
    ChangedOver,  // every worker is of the new generation
    Incomplete,   // workers of the new generation cannot start, though others could
    ZygoteLost,   // the running generation's has ended, and there is none that is being loaded
    Stopping,     // the whole server ends
  };

  explicit ReloadPolicy(bool has_canary = false) : has_canary_(has_canary) {}

  ReloadActions on(Event event);

  [[nodiscard]] Phase phase() const { return phase_; }

  // Another one follows this one.
  [[nodiscard]] bool is_asked_again() const { return asks_again_; }

 private:
  void begin_next(ReloadActions& actions);

  bool has_canary_;
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
