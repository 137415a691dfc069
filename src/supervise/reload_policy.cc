#include "supervise/reload_policy.h"

#include <algorithm>
#include <utility>

namespace bladepsgi::supervise {

ReloadActions ReloadPolicy::on(Event event) {
  ReloadActions actions;
  switch (event) {
    case Event::Asked:
      if (phase_ == Phase::Idle) {
        phase_ = Phase::Loading;
        actions.load = true;
      } else {
        asks_again_ = true;
      }
      break;
    case Event::Loaded:
      if (phase_ != Phase::Loading) break;
      phase_ = Phase::Proving;
      actions.prove = true;
      break;
    case Event::Proved:
      if (phase_ != Phase::Proving) break;
      phase_ = has_canary_ ? Phase::Judging : Phase::ChangingOver;
      (has_canary_ ? actions.judge : actions.accept) = true;
      break;
    case Event::Judged:
      if (phase_ != Phase::Judging) break;
      phase_ = Phase::ChangingOver;
      actions.accept = true;
      break;
    case Event::ChangedOver:
      if (phase_ != Phase::ChangingOver) break;
      actions.report_done = true;
      begin_next(actions);
      break;
    case Event::Failed:
      if (phase_ == Phase::Judging) {
        phase_ = Phase::RollingBack;
        actions.roll_back = true;
        break;
      }
      if (phase_ != Phase::Loading && phase_ != Phase::Proving) break;
      actions.roll_back = true;
      actions.report_failed = true;
      begin_next(actions);
      break;
    case Event::RolledBack:
      if (phase_ != Phase::RollingBack) break;
      actions.report_failed = true;
      begin_next(actions);
      break;
    case Event::Incomplete:
      if (phase_ != Phase::ChangingOver) break;
      actions.report_incomplete = true;
      begin_next(actions);
      break;
    case Event::ZygoteLost:
      if (phase_ == Phase::RollingBack) asks_again_ = true;
      if (phase_ != Phase::Idle && phase_ != Phase::ChangingOver) break;
      asks_again_ = true;
      begin_next(actions);  // who waits for the end of a change-over waits for this one's
      break;
    case Event::Stopping:
      asks_again_ = false;
      if (phase_ == Phase::Idle) break;
      // What is there of it ends with everything else.
      actions.report_failed = true;
      phase_ = Phase::Idle;
      break;
  }
  return actions;
}

void ReloadPolicy::begin_next(ReloadActions& actions) {
  actions.load = std::exchange(asks_again_, false);
  phase_ = actions.load ? Phase::Loading : Phase::Idle;
}

std::vector<std::uint32_t> next_seats(std::span<const Seat> seats, std::uint32_t step) {
  using Newcomer = Seat::Newcomer;
  auto starting =
      static_cast<std::uint32_t>(std::count_if(seats.begin(), seats.end(), [](const Seat& seat) {
        return seat.is_taken && seat.newcomer == Newcomer::Starting;
      }));
  std::vector<std::uint32_t> next;
  for (std::uint32_t index = 0; index < seats.size(); ++index) {
    const Seat& seat = seats[index];
    if (seat.newcomer != Newcomer::None) continue;
    if (seat.is_taken && starting >= std::max(step, 1U)) continue;
    if (seat.is_taken) ++starting;
    next.push_back(index);
  }
  return next;
}

}  // namespace bladepsgi::supervise
