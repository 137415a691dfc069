#include "supervise/stop_policy.h"

#include <algorithm>

namespace bladepsgi::supervise {
namespace {

bool is_empty(const Living& living) {
  return living.workers == 0 && living.auxiliaries == 0 && living.lobbies == 0 &&
         living.others == 0;
}

}  // namespace

StopActions StopPolicy::request(StopRequest request, const Living& living, Time now) {
  if (phase_ == Phase::Finished) return {};
  switch (request) {
    case StopRequest::Smart:
      if (phase_ == Phase::Running) {
        StopActions actions;
        if (options_.drain_delay > Duration::zero()) {
          phase_ = Phase::Delaying;
          deadline_ = now + options_.drain_delay;
          actions.announce = true;
        } else {
          begin(living, now, actions);
        }
        return actions;
      }
      return kill(0, living, now);
    case StopRequest::Fast:
      return kill(0, living, now);
    case StopRequest::Immediate:
    case StopRequest::Failure:
      return kill(1, living, now);
  }
  return {};
}

StopActions StopPolicy::advance(const Living& living, Time now) {
  StopActions actions;
  if (phase_ == Phase::Delaying) {
    if (now >= *deadline_) begin(living, now, actions);
    return actions;
  }
  follow(living, now, actions);
  // What was to be killed is killed, late or not.
  if (!is_smart() || phase_ == Phase::EndingOthers || !end_ || now < *end_) return actions;
  actions = kill(0, living, now);
  actions.name_late = true;
  return actions;
}

std::optional<Time> StopPolicy::deadline() const {
  if (!is_smart() || phase_ == Phase::EndingOthers || !end_) return deadline_;
  return deadline_ ? std::min(*deadline_, *end_) : *end_;
}

void StopPolicy::begin(const Living& living, Time now, StopActions& actions) {
  phase_ = Phase::Draining;
  deadline_.reset();
  if (options_.timeout > Duration::zero()) end_ = now + options_.timeout;
  actions.drain_workers = living.workers > 0;
  follow(living, now, actions);
}

StopActions StopPolicy::kill(int exit_code, const Living& living, Time now) {
  // The worst reason decides the exit code; what is being killed is not killed twice.
  if (exit_code != 0) exit_code_ = exit_code;
  StopActions actions;
  if (phase_ != Phase::Killing) {
    phase_ = Phase::Killing;
    deadline_ = now + options_.kill_grace;
    actions.kill_everything = !is_empty(living);
  }
  follow(living, now, actions);
  return actions;
}

void StopPolicy::end_others(const Living& living, Time now, StopActions& actions) {
  phase_ = Phase::EndingOthers;
  actions.kill_others = living.others > 0;
  deadline_ = now + options_.kill_grace;
}

void StopPolicy::follow(const Living& living, Time now, StopActions& actions) {
  if (phase_ == Phase::Draining && living.workers == 0) {
    if (living.has_unserved) {
      actions.start_worker = true;
      return;
    }
    phase_ = Phase::EndingAuxiliaries;
    actions.end_lobbies = living.lobbies > 0;
    if (living.auxiliaries > 0) {
      actions.terminate_auxiliaries = true;
      deadline_ = now + options_.auxiliary_grace;
    }
  }
  if (phase_ == Phase::EndingAuxiliaries) {
    if (living.auxiliaries == 0) {
      deadline_.reset();
      if (living.lobbies == 0) end_others(living, now, actions);
    } else if (deadline_ && now >= *deadline_) {
      phase_ = Phase::KillingAuxiliaries;
      actions.kill_auxiliaries = true;
      deadline_ = now + options_.kill_grace;
    }
  }
  // A corpse that does not come is not waited for, but a response is.
  if (phase_ == Phase::KillingAuxiliaries) {
    if (living.auxiliaries == 0 || (deadline_ && now >= *deadline_)) deadline_.reset();
    if (!deadline_ && living.lobbies == 0) end_others(living, now, actions);
  }
  if (phase_ == Phase::EndingOthers || phase_ == Phase::Killing) {
    if (is_empty(living) || (deadline_ && now >= *deadline_)) {
      phase_ = Phase::Finished;
      deadline_.reset();
      actions.finish = exit_code_;
    }
  }
}

}  // namespace bladepsgi::supervise
