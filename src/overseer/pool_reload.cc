// Pool, the part that exchanges one generation for the next: supervise::ReloadPolicy says what is to be done, here it is done.
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "base/text.h"
#include "overseer/pool.h"

namespace bladepsgi::overseer {

namespace {

using Event = supervise::ReloadPolicy::Event;

std::string first_line(std::string_view text) {
  return std::string(text.substr(0, text.find('\n')));
}

}  // namespace

void Pool::reload(std::string_view why, std::function<void(const ReloadOutcome&)> on_outcome) {
  if (is_stopping_) {
    if (on_outcome) on_outcome({.text = "the server stops"});
    return;
  }
  const bool is_busy = reload_.phase() != supervise::ReloadPolicy::Phase::Idle;
  auto& waits = is_busy ? next_reload_waits_ : reload_waits_;
  if (on_outcome) waits.push_back(std::move(on_outcome));
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
  if (actions.roll_back) reject_candidate();
  if (actions.report_failed) {
    if (is_stopping_) {
      environment_.log->log(Severity::Log, fmt::format("the reload comes to nothing: {}", reason));
    } else {
      environment_.log->log(Severity::Error,
                            fmt::format("the reload has failed: {}; generation {} goes on serving",
                                        printable(first_line(reason), 1024), zygote_.generation));
    }
    report_reload(false, std::string(reason));
  }
  if (actions.report_done) report_reload(true, fmt::format("generation {}", zygote_.generation));
  if (actions.prove) prove_candidate();
  if (actions.accept) accept_candidate();
  if (actions.load) {
    // Those who have asked meanwhile wait for this one.
    for (auto& wait : std::exchange(next_reload_waits_, {}))
      reload_waits_.push_back(std::move(wait));
    load_candidate();
  }
}

void Pool::report_reload(bool is_done, std::string text) {
  const ReloadOutcome outcome{.is_done = is_done, .text = std::move(text)};
  for (const auto& wait : std::exchange(reload_waits_, {}))
    wait(outcome);
}

void Pool::load_candidate() {
  auto made = make_zygote(fmt::format("{}: zygote {}", title_prefix_, next_generation_));
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
  if (auto asked = try_request_child(*candidate_, Kind::Worker, "worker", 0); !asked) {
    on_candidate_failed(asked.error().message.empty() ? "its zygote takes no requests"
                                                      : asked.error().message);
  }
}

void Pool::on_candidate_ready(Handle worker) {
  follow(reload_.on(Event::Proved), {});
  if (worker->generation == zygote_.generation) seat(worker);
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
  candidate_.reset();
  zygote_position_.policy.served();
  board_->set_generations(zygote_.generation, std::min(oldest_generation(), zygote_.generation));
  static_cast<void>(zygote::send(zygote_.control.get(), {.kind = zygote::MessageKind::Rename},
                                 title_prefix_ + ": zygote"));
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
}

// The one that serves was not touched; if its zygote has died meanwhile, it gets another one.
void Pool::reject_candidate() {
  if (!candidate_) return;
  const std::uint32_t generation = candidate_->generation;
  forget(*candidate_);
  candidate_.reset();
  bool has_zygote = false;
  for (Process& process : processes_) {
    const bool is_of_it = process.generation == generation &&
                          (process.kind == Kind::Zygote || process.kind == Kind::Worker);
    if (is_of_it) {
      process.is_rejected = process.is_leaving = process.is_given_up = true;
      process.child.signal(SIGKILL);
    } else if (process.kind == Kind::Zygote) {
      has_zygote = true;
    }
  }
  if (!has_zygote && !is_stopping_)
    schedule(zygote_position_, Kind::Zygote, 0, std::chrono::seconds(1));
}

}  // namespace bladepsgi::overseer
