// Overseer, the part that becomes another program (upgrade.h), seen from both sides.
#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "base/text.h"
#include "config/config.h"
#include "config/exit_codes.h"
#include "os/system_error.h"
#include "overseer/overseer.h"
#include "overseer/wording.h"
#include "shm/mapping.h"

namespace bladepsgi::overseer {

namespace {

using std::chrono::nanoseconds;

// For everything in a check that has no limit of its own.
constexpr std::chrono::seconds kCheckSlack{10};
// For what is under way in the server to come to its end.
constexpr std::chrono::seconds kCalmSlack{30};
constexpr std::chrono::milliseconds kCalmPause{5};

template <class Time>
std::int64_t as_number(Time time) {
  return std::chrono::duration_cast<nanoseconds>(time.time_since_epoch()).count();
}

template <class Time>
Time as_time(std::int64_t number) {
  return Time(std::chrono::duration_cast<typename Time::duration>(nanoseconds(number)));
}

}  // namespace

// --- as the new program

Result<void> Overseer::start_check(const State& state) {
  const auto report = [this, &state](int exit, std::string error) {
    json::Object result;
    result.add("version", config::version());
    report_check(state, {.exit = exit, .error = std::move(error), .result = std::move(result)});
    failure_code_ = exit;
    request_stop(supervise::StopRequest::Failure);
  };
  const auto look = [&state]() -> Result<void> {
    if (auto checked = check_formats(state.formats, Formats::ours()); !checked) return checked;
    auto mapping = shm::Mapping::adopt(os::Fd(state.pool.memory.number));
    if (!mapping) return fail(mapping.error());
    return {};
  };
  if (auto looked = look(); !looked) {
    report(to_int(config::ExitCode::Failure), looked.error().message);
    return {};
  }
  prepare_pool(static_cast<std::size_t>(state.descriptor_limit));
  auto started = pools_.front().rehearse([report](const Pool::Outcome& outcome) {
    report(outcome.is_done ? 0 : to_int(config::ExitCode::ApplicationNotLoaded), outcome.text);
  });
  if (!started) report(to_int(config::ExitCode::Failure), started.error().message);
  return {};
}

Result<void> Overseer::take_over(const State& state) {
  is_upgrading_ = true;
  started_ = as_time<os::WallClock>(state.started);
  started_monotonic_ = as_time<os::Monotonic>(state.started_monotonic);
  if (state.access_log) {
    access_log_ = os::Fd(state.access_log->file.number);
    log_.write_access_to(access_log_.get(),
                         fmt::format("the access log '{}'", state.access_log->path));
  } else if (auto opened = open_access_log(); !opened) {
    return opened;
  }
  log_.log(Severity::Log, fmt::format("this is version {} now, in the place of version {}; its "
                                      "{} processes go on",
                                      config::version(), printable(state.program_version),
                                      state.pool.processes.size()));
  if (state.pid_file) pid_file_ = os::PidFile::restore(state.pid_file->path, state.pid_file->file);
  if (state.control) {
    control_socket_.emplace(ControlSocket::restore(*state.control));
    serve_control();
    for (const ClientState& client : state.control->clients) {
      if (auto session = control_->adopt(client)) upgrade_sessions_.push_back(std::move(*session));
    }
  }
  for (const SourceState& orphan : state.orphans)
    log_.adopt(orphan);
  if (auto checked = check_formats(state.formats, Formats::ours()); !checked) return checked;
  prepare_pool(static_cast<std::size_t>(state.descriptor_limit));
  if (auto adopted =
          pools_.front().adopt(state.pool, state.formats.zygote == Formats::ours().zygote);
      !adopted) {
    return adopted;
  }
  reap();  // who has ended meanwhile
  for (const Session& session : upgrade_sessions_)
    session.progress(fmt::format("version {} loads the application", config::version()));
  const auto on_outcome = [this](const Pool::Outcome& outcome) {
    if (outcome.is_done) {
      renew_beside(fmt::format("version {}, {}", config::version(), outcome.text));
    } else {
      end_upgrade(
          config::ExitCode::ApplicationNotLoaded,
          fmt::format("the server has become version {}, but its workers are still those of "
                      "before: {}",
                      config::version(), outcome.text));
    }
  };
  const auto on_progress = [this](const std::string& text) {
    for (const Session& session : upgrade_sessions_)
      session.progress(text);
  };
  reload("by the upgrade", {.on_outcome = on_outcome, .on_progress = on_progress});
  return {};
}

// The last step: the lobby and monitoring.
void Overseer::renew_beside(const std::string& done) {
  for (const Session& session : upgrade_sessions_)
    session.progress("the lobby passes its connections on to a new one");
  const auto on_outcome = [this, done](const Pool::Outcome& outcome) {
    if (outcome.is_done) {
      end_upgrade(config::ExitCode::Success, done + outcome.text);
    } else {
      end_upgrade(config::ExitCode::Failure,
                  fmt::format("the server has become {}, but {}", done, outcome.text));
    }
  };
  pools_.front().renew_beside({.on_outcome = on_outcome, .on_progress = {}});
}

// --- as the old one

State Overseer::describe() const {
  State state;
  state.program_version = config::version();
  state.overseer = ::getpid();
  state.formats = Formats::ours();
  state.started = as_number(started_);
  state.started_monotonic = as_number(started_monotonic_);
  state.descriptor_limit = descriptor_limit_;
  state.web_server_addresses = options_.web_server_addresses;
  state.lifeline = {.read = {lifeline_.descriptor()}, .held = {lifeline_.held_end()}};
  if (access_log_.is_open())
    state.access_log = AccessLogState{.file = {access_log_.get()}, .path = options_.access_log};
  if (pid_file_)
    state.pid_file = PidFileState{.path = pid_file_->path(), .file = pid_file_->identity()};
  if (control_socket_) {
    state.control = control_socket_->describe();
    state.control->clients = control_->describe(upgrade_sessions_);
  }
  state.orphans = log_.orphans();
  state.pool = pools_.front().describe();
  return state;
}

void Overseer::upgrade(std::string_view why, const Session* session) {
  const std::string_view obstacle = stop_.was_asked() ? "the server stops"
                                    : is_upgrading_   ? "an upgrade is under way already"
                                    : pools_.empty() || !pools_.front().has_started()
                                        ? "the server is not ready yet"
                                        : "";
  if (!obstacle.empty()) {
    log_.log(Severity::Warning, fmt::format("upgrade asked for {}: refused, {}", why, obstacle));
    if (session != nullptr) session->fail(config::ExitCode::Failure, obstacle);
    return;
  }
  is_upgrading_ = true;
  if (session != nullptr) upgrade_sessions_.push_back(*session);
  const std::string program = printable(options_.invocation.program, 1024);
  log_.log(
      Severity::Log,
      fmt::format("upgrade asked for {}: '{}' is tried beside the running program", why, program));
  for (const Session& waiting : upgrade_sessions_)
    waiting.progress(fmt::format("'{}' is tried beside the running program", program));
  UpgradeCheck::Environment environment;
  environment.loop = &loop_;
  environment.on_line = [this](std::string_view line) {
    log_.log(Severity::Log, fmt::format("the new program: {}", line));
  };
  environment.on_outcome = [this](const control::Outcome& outcome) {
    on_check_outcome(outcome);
  };
  auto tried = identify(options_.invocation);
  if (!tried) return end_upgrade(config::ExitCode::Failure, tried.error().message);
  tried_program_ = *tried;
  auto started = os::attempt([&] {
    return UpgradeCheck::start(options_.invocation, describe(),
                               options_.pool.load_timeout + kCheckSlack +
                                   options_.pool.zygote.worker.start_timeout +
                                   (options_.pool.probe.empty() ? std::chrono::milliseconds()
                                                                : options_.pool.probe_timeout),
                               std::move(environment));
  });
  if (!started) return end_upgrade(config::ExitCode::Failure, started.error().message);
  upgrade_check_ = std::move(*started);
}

void Overseer::on_check_outcome(const control::Outcome& outcome) {
  upgrade_check_.reset();
  if (outcome.exit != 0) {
    const bool is_known = outcome.exit == to_int(config::ExitCode::ApplicationNotLoaded) ||
                          outcome.exit == to_int(config::ExitCode::Usage);
    return end_upgrade(
        is_known ? static_cast<config::ExitCode>(outcome.exit) : config::ExitCode::Failure,
        outcome.error);
  }
  const json::Value* version = outcome.result.find("version");
  const std::string* text = version != nullptr ? version->as_string() : nullptr;
  new_version_ = text != nullptr ? printable(*text, 64) : "?";
  log_.log(Severity::Log, fmt::format("version {} is good; this process becomes it", new_version_));
  upgrade_deadline_ = os::monotonic_now() + options_.pool.load_timeout + kCalmSlack;
  become_when_calm();
}

void Overseer::become_when_calm() {
  upgrade_timer_ = {};
  if (!pools_.front().is_calm()) {
    if (os::monotonic_now() > upgrade_deadline_) {
      return end_upgrade(config::ExitCode::Failure,
                         "the server has not come to rest: processes are being made, or a reload "
                         "takes very long");
    }
    upgrade_timer_ =
        loop_.call_at(os::monotonic_now() + kCalmPause, [this] { become_when_calm(); });
    return;
  }
  // What nobody has tried is not run.
  if (const auto found = identify(options_.invocation); !found || *found != tried_program_) {
    return end_upgrade(config::ExitCode::Failure,
                       found ? fmt::format("'{}' has been changed since it was tried; ask again",
                                           printable(options_.invocation.program, 1024))
                             : found.error().message);
  }
  if (!log_.flush(std::chrono::seconds(1))) {
    return end_upgrade(
        config::ExitCode::Failure,
        "the log cannot be written at the moment, and what waits to be written would "
        "be lost");
  }
  const Error error = become_program(options_.invocation, describe());
  end_upgrade(config::ExitCode::Failure, error.message);
}

void Overseer::end_upgrade(config::ExitCode exit, std::string_view text) {
  if (!std::exchange(is_upgrading_, false)) return;
  loop_.cancel(upgrade_timer_);
  upgrade_check_.reset();
  const bool is_done = exit == config::ExitCode::Success;
  if (is_done) {
    log_.log(Severity::Log, fmt::format("upgraded: {}", text));
  } else if (stop_.was_asked()) {
    log_.log(Severity::Log, fmt::format("the upgrade comes to nothing: {}", text));
  } else {
    log_.log(Severity::Error, fmt::format("the upgrade has failed: {}",
                                          printable(text.substr(0, text.find('\n')), 1024)));
  }
  for (const Session& session : std::exchange(upgrade_sessions_, {})) {
    if (is_done) {
      session.succeed(json::Object().add("outcome", text));
    } else {
      session.fail(exit, text);
    }
  }
}

}  // namespace bladepsgi::overseer
