// Pool, the part that exchanges the lobby and monitoring while the server runs.
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "os/system_error.h"
#include "overseer/pool.h"
#include "overseer/wording.h"

namespace bladepsgi::overseer {

namespace {

// For others to be ready, and for those of before to go. Who cannot pass a response on stays until that has been taken, and nobody waits for it.
constexpr std::chrono::seconds kRenewalLimit{30};

}  // namespace

void Pool::renew_beside(Waiter waiter) {
  renewal_ = std::move(waiter);
  if (is_stopping_) return end_renewal({.text = "the server stops"});
  const auto start_another = [this](Kind kind,
                                    const std::function<Result<void>()>& start) -> Result<void> {
    const bool is_there = std::any_of(
        processes_.begin(), processes_.end(),
        [kind](const Process& process) { return process.kind == kind && !process.is_leaving; });
    if (!is_there) return {};  // whoever is started next is of this program
    if (auto started = os::attempt(start); !started) return started;
    processes_.back().is_newcomer = true;
    return {};
  };
  const auto fail_with = [this](std::string_view role, const Error& error) {
    end_renewal({.text = fmt::format("{} is still that of before: {}", role, error.message)});
  };
  if (options_.lobby) {
    if (auto started = start_another(Kind::Lobby, [this] { return start_lobby(); }); !started)
      fail_with("the lobby", started.error());
  }
  if (has_monitoring()) {
    if (auto started = start_another(Kind::Monitoring, [this] { return start_monitoring(); });
        !started)
      fail_with("monitoring", started.error());
  }
  if (!renewal_) return;
  renewal_limit_ = environment_.loop->call_at(os::monotonic_now() + kRenewalLimit, [this] {
    renewal_limit_ = {};
    bool is_late = false;
    for (Process& process : processes_) {
      if (!process.is_newcomer) continue;
      is_late = true;
      process.child.signal(SIGKILL);
    }
    if (is_late) {
      end_renewal({.text = fmt::format(
                       "lobby and monitoring are not both new: another one was not ready within {}",
                       seconds_text(kRenewalLimit))});
    } else {
      end_renewal({.is_done = true, .text = "; those of before still have connections"});
    }
  });
  look_at_renewal();
}

// Whoever is replaced is told only now: until then it serves on, whatever becomes of the other one.
void Pool::on_newcomer_ready(pid_t pid) {
  const auto found = find_pid(pid);
  if (!found || !std::exchange((*found)->is_newcomer, false)) return;
  for (Process& other : processes_) {
    if (other.kind != (*found)->kind || &other == &**found || other.is_leaving) continue;
    other.is_leaving = true;
    other.child.signal(SIGUSR2);
  }
  look_at_renewal();
}

void Pool::look_at_renewal() {
  if (!renewal_) return;
  const bool is_under_way =
      std::any_of(processes_.begin(), processes_.end(), [](const Process& process) {
        return (process.kind == Kind::Lobby || process.kind == Kind::Monitoring) &&
               (process.is_leaving || process.is_newcomer);
      });
  if (!is_under_way) end_renewal({.is_done = true, .text = {}});
}

void Pool::end_renewal(const Outcome& outcome) {
  environment_.loop->cancel(renewal_limit_);
  if (!renewal_) return;
  const Waiter waiter = std::move(*renewal_);
  renewal_.reset();
  if (waiter.on_outcome) waiter.on_outcome(outcome);
}

bool Pool::has_equal(const Process& process) const {
  return std::any_of(processes_.begin(), processes_.end(), [&](const Process& other) {
    return &other != &process && other.kind == process.kind && !other.is_leaving;
  });
}

}  // namespace bladepsgi::overseer
