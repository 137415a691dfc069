// Pool, the part that exchanges one generation for the next: supervise::ReloadPolicy says what is to be done, here it is done.
#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <tuple>
#include <utility>

#include "base/text.h"
#include "handoff/transfer.h"
#include "monitoring/probe.h"
#include "os/system_error.h"
#include "overseer/pool.h"
#include "overseer/wording.h"

namespace bladepsgi::overseer {

namespace {

using Event = supervise::ReloadPolicy::Event;

// So often may a worker of an accepted generation fail to start before its reload is no longer waited for.
constexpr std::uint32_t kChances = 3;

std::string first_line(std::string_view text) {
  return std::string(text.substr(0, text.find('\n')));
}

}  // namespace

void Pool::reload(std::string_view why, Waiter waiter) {
  if (is_stopping_) {
    environment_.log->log(Severity::Log,
                          fmt::format("reload asked for {}: refused, the server stops", why));
    if (waiter.on_outcome) waiter.on_outcome({.text = "the server stops"});
    return;
  }
  const bool is_busy = reload_.phase() != supervise::ReloadPolicy::Phase::Idle;
  auto& waits = is_busy ? next_reload_waits_ : reload_waits_;
  if (waiter.on_outcome) waits.push_back(std::move(waiter));
  if (!was_ready_) {
    reloads_when_ready_ = true;
    environment_.log->log(
        Severity::Log,
        fmt::format("reload asked for {}: it follows when the server is ready", why));
    return;
  }
  environment_.log->log(
      Severity::Log,
      fmt::format("reload asked for {}: {}", why,
                  is_busy ? "one is under way, another one follows it"
                          : "the application is loaded anew beside the running one"));
  follow(reload_.on(Event::Asked), {});
}

void Pool::follow(const supervise::ReloadActions& actions, std::string_view reason) {
  // Nobody comes whose requests could be judged.
  if (is_rehearsal_ && (actions.accept || actions.judge || actions.report_failed)) {
    if (const auto report = std::exchange(rehearsal_, nullptr))
      report({.is_done = actions.accept || actions.judge, .text = std::string(reason)});
    return;
  }
  if (actions.roll_back) {
    rollback_reason_ = reason;
    reject_candidate();
    if (!actions.report_failed) {
      environment_.log->log(Severity::Warning,
                            fmt::format("workers of generation {} take the places of those that "
                                        "were tried: {}",
                                        zygote_.generation, printable(first_line(reason), 1024)));
      announce_rollback();
      return;
    }
  }
  if (actions.report_failed) report_failed_reload(reason);
  if (actions.report_incomplete) {
    environment_.log->log(Severity::Error, fmt::format("the reload is not complete: {}",
                                                       printable(first_line(reason), 1024)));
    report_reload(false, std::string(reason));
  }
  if (actions.report_done) report_reload(true, fmt::format("generation {}", zygote_.generation));
  if (actions.prove) prove_candidate();
  if (actions.judge) {
    if (zygote_.is_loaded || serves_without_candidate()) {
      begin_trial();
    } else {
      // There is nobody to go back to.
      follow(reload_.on(Event::Judged), reason);
    }
  }
  if (actions.accept) accept_candidate();
  if (actions.load) {
    // Those who have asked meanwhile wait for this one.
    for (auto& wait : std::exchange(next_reload_waits_, {}))
      reload_waits_.push_back(std::move(wait));
    load_candidate();
  }
}

void Pool::report_failed_reload(std::string_view reason) {
  if (is_stopping_) {
    environment_.log->log(Severity::Log, fmt::format("the reload comes to nothing: {}", reason));
  } else {
    const std::string text = printable(first_line(reason), 1024);
    const auto delay = std::max(zygote_position_.restart.when - os::monotonic_now(),
                                os::Monotonic::duration::zero());
    environment_.log->log(
        Severity::Error,
        zygote_.control.is_open()
            ? fmt::format("the reload has failed: {}; generation {} goes on serving", text,
                          zygote_.generation)
            : fmt::format("the application could not be loaded again: {}; generation {} goes on "
                          "serving, a new zygote is started in {}",
                          text, zygote_.generation, seconds_text(delay)));
  }
  if (!zygote_.control.is_open()) zygote_failure_ = reason;
  report_reload(false, std::string(reason));
}

// A number that has had its chances: its old worker serves on, and whoever asks for a reload that mends it is not kept waiting.
void Pool::give_up_changeover(const Process& failed, const std::string& reason) {
  if (!changes_over_ || failed.is_ready || failed.generation != zygote_.generation) return;
  const std::uint32_t chances = worker_positions_[failed.number].policy.early_deaths();
  if (chances < kChances) return;
  follow(reload_.on(Event::Incomplete),
         fmt::format("generation {} was accepted, but worker {} of it could not start {} times, "
                     "which is tried again: {}",
                     zygote_.generation, failed.number, chances, reason));
}

bool Pool::is_being_probed() const {
  return std::any_of(processes_.begin(), processes_.end(),
                     [](const Process& process) { return process.kind == Kind::Probe; });
}

bool Pool::serves_without_candidate() const {
  return std::any_of(processes_.begin(), processes_.end(), [this](const Process& process) {
    return process.kind == Kind::Worker && process.is_ready && !process.is_leaving &&
           process.generation != candidate_->generation;
  });
}

void Pool::report_reload(bool is_done, std::string text) {
  last_reload_ = {.is_done = is_done,
                  .reason = text,
                  .when = os::wall_clock_now(),
                  .generation = zygote_.generation};
  const Outcome outcome{.is_done = is_done, .text = std::move(text)};
  for (const Waiter& waiter : std::exchange(reload_waits_, {}))
    waiter.on_outcome(outcome);
}

void Pool::load_candidate() {
  auto made = os::attempt([this] {
    return make_zygote(fmt::format("{}: zygote {}", title_prefix_, next_generation_));
  });
  if (!made) {
    on_candidate_failed(made.error().message);
    return;
  }
  candidate_ = std::move(*made);
}

void Pool::on_candidate_loaded(Process& zygote, std::chrono::milliseconds took) {
  environment_.loop->cancel(candidate_->load_deadline);
  candidate_->is_loaded = true;
  zygote.is_ready = true;
  if (is_preloading()) candidate_->auxiliary_names = std::move(zygote.auxiliary_names);
  load_time_ = took;
  follow(reload_.on(Event::Loaded), {});
}

void Pool::prove_candidate() {
  const auto asked = os::attempt([this] {
    os::Fd theirs;
    if (!options_.probe.empty() || is_rehearsal_) {
      std::tie(probation_, theirs) = os::make_message_pair();
      os::set_non_blocking(theirs.get());
    }
    return try_request_child(*candidate_, Kind::Worker, "worker", 0, theirs.get());
  });
  if (!asked) {
    on_candidate_failed(asked.error().message.empty() ? "its zygote takes no requests"
                                                      : asked.error().message);
  }
}

void Pool::on_candidate_ready(Handle worker) {
  if (is_stopping_) return;
  if (trial_) {
    continue_trial();
    return;
  }
  if (probation_.is_open() && !options_.probe.empty()) {
    if (auto started = os::attempt([this] { return start_probe(); }); !started)
      on_candidate_failed(started.error().message);
    return;
  }
  follow(reload_.on(Event::Proved), {});
  if (worker->generation == zygote_.generation) seat(worker);
}

// One connection: its one end goes to the worker, at the other one somebody asks.
Result<void> Pool::start_probe() {
  std::array<int, 2> fds{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0)
    return fail(os::system_failure(errno, "make a connection for the probe request"));
  const os::Fd ours(fds[0]);
  const os::Fd workers(fds[1]);
  os::set_non_blocking(workers.get());
  const auto& listening = listeners_.listening();
  const bool is_fcgi = std::any_of(
      listening.begin(), listening.end(),
      [](const worker::Listening& one) { return one.protocol == worker::Protocol::FastCgi; });
  handoff::Message message;
  message.protocol = is_fcgi ? handoff::Protocol::FastCgi : handoff::Protocol::Http;
  if (const auto sent = handoff::send(probation_.get(), message, workers.get());
      sent != handoff::SendOutcome::Sent) {
    return fail(Remedy::Retry,
                fmt::format("cannot hand the probe request's connection to a worker: {}",
                            handoff::describe(sent)));
  }
  Process process;
  process.kind = Kind::Probe;
  process.role = "probe";
  return start_beside(std::move(process), {ours.get()}, [&](os::LogChannel log) {
    const auto answered = monitoring::probe(
        ours.get(), is_fcgi ? monitoring::ProbeProtocol::FastCgi : monitoring::ProbeProtocol::Http,
        options_.probe, options_.probe_timeout);
    if (answered) return 0;
    log.text(Severity::Error, answered.error().message);
    return 1;
  });
}

void Pool::on_probe_ended(bool is_good, std::string reason) {
  if (!candidate_) return;
  if (!is_good) {
    // What the worker has said it said before its answer. It is rejected, so nothing else of it matters any more.
    for (const Process& process : processes_) {
      if (process.kind != Kind::Worker || process.generation != candidate_->generation) continue;
      if (const std::string error = environment_.log->finish(process.source); !error.empty())
        reason += "; the last error was: " + error;
    }
    on_candidate_failed(std::move(reason));
    return;
  }
  const std::uint32_t generation = candidate_->generation;
  follow(reload_.on(Event::Proved), {});
  if (zygote_.generation != generation) return;
  for (auto process = processes_.begin(); process != processes_.end(); ++process) {
    if (process->kind == Kind::Worker && process->generation == generation && process->is_ready) {
      seat(process);
      return;
    }
  }
  request_missing_workers();  // it has left after its request, which was good
}

void Pool::on_candidate_failed(std::string reason) {
  follow(reload_.on(Event::Failed), reason);
}

void Pool::accept_candidate() {
  for (Process& process : processes_) {
    if (process.kind == Kind::Zygote && process.generation == zygote_.generation)
      process.is_leaving = true;
  }
  environment_.loop->cancel(zygote_position_.restart);
  forget(zygote_);  // which is what a zygote ends for
  zygote_ = std::move(*candidate_);
  zygote_failure_.clear();
  candidate_.reset();
  probation_.reset();  // which is what its first worker waits for
  zygote_position_.policy.served();
  board_->set_generations(zygote_.generation, std::min(oldest_generation(), zygote_.generation));
  static_cast<void>(zygote::send(zygote_.control.get(), {.kind = zygote::MessageKind::Rename},
                                 title_prefix_ + ": zygote"));
  end_trial();
  for (Position& position : worker_positions_)
    position.policy.served();  // what was wrong with the code of before is over
  changes_over_ = true;
  environment_.log->log(
      Severity::Log,
      fmt::format("generation {} {}; workers change over", zygote_.generation,
                  is_preloading() ? fmt::format("is good, its application was loaded in {:.1f} s",
                                                std::chrono::duration<double>(load_time_).count())
                                  : std::string("is good")));
  if (zygote_.auxiliary_names) make_auxiliaries();
  // Those that were tried have their seats already; whom they have spared leaves now.
  bool has_seated = false;
  for (Process& process : processes_) {
    if (!process.is_canary || process.generation != zygote_.generation) continue;
    process.is_canary = false;
    has_seated = true;
    if (!worker_positions_[process.number].is_wanted) tell_to_leave(process);  // meanwhile
    for (Process& other : processes_) {
      if (other.kind == Kind::Worker && other.number == process.number && !other.is_leaving &&
          other.generation < process.generation)
        tell_to_leave(other);
    }
  }
  if (!has_seated) return;
  request_missing_workers();
  announce_changeover();
}

// The one that serves was not touched; if its zygote has died meanwhile, it gets another one.
void Pool::reject_candidate() {
  std::uint32_t generation = 0;
  std::vector<std::uint32_t> numbers;
  if (candidate_) {
    generation = candidate_->generation;
    forget(*candidate_);
    candidate_.reset();
    if (trial_) dismiss_unseated(generation);
    numbers = end_trial();
  }
  bool has_zygote = false;
  for (Process& process : processes_) {
    if (process.is_canary) continue;  // which serve
    const bool is_of_it = process.kind == Kind::Probe ||
                          (process.generation == generation &&
                           (process.kind == Kind::Zygote || process.kind == Kind::Worker));
    if (is_of_it) {
      process.is_rejected = process.is_leaving = process.is_given_up = true;
      process.child.signal(SIGKILL);
      // With this closed it would serve, and it may not even have been made yet.
      if (process.kind == Kind::Worker && probation_.is_open())
        process.probation = std::move(probation_);
    } else if (process.kind == Kind::Zygote && !process.is_leaving) {
      has_zygote = true;
    }
  }
  probation_.reset();
  roll_back_trial(generation, numbers);
  if (!has_zygote && !is_stopping_) {
    const os::Monotonic now = os::monotonic_now();
    schedule(zygote_position_, Kind::Zygote, 0,
             zygote_position_.policy.delay_after({.started = now, .died = now}, chance()));
  }
  recycle();
}

}  // namespace bladepsgi::overseer
