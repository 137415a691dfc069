#include "overseer/overseer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "base/text.h"
#include "config/exit_codes.h"
#include "config/options.h"
#include "os/system_error.h"
#include "overseer/wording.h"

namespace bladepsgi::overseer {

namespace {

// While a stop goes on, the log says how far it is.
constexpr std::chrono::seconds kFirstProgress{1};
constexpr std::chrono::seconds kNextProgress{5};

}  // namespace

Overseer::Overseer(Options options, os::ProcessTitle& title)
    : options_(std::move(options)),
      title_(title),
      signals_(os::signal_set({SIGTERM, SIGINT, SIGQUIT, SIGCHLD, SIGHUP, SIGPIPE, SIGXFSZ, SIGUSR1,
                               SIGUSR2, SIGTTIN, SIGTTOU})),
      lifeline_(options_.order && options_.order->kind == UpgradeOrder::Kind::TakeOver
                    ? os::Lifeline(os::Fd(options_.order->state.lifeline.read.number),
                                   os::Fd(options_.order->state.lifeline.held.number))
                    : os::Lifeline()),
      log_(loop_, options_.raw_output),
      stop_(options_.stop) {}

int Overseer::run() {
  if (options_.order && options_.order->kind == UpgradeOrder::Kind::Check) {
    options_.title_prefix += " upgrade";
    options_.pool.zygote.title_prefix = options_.title_prefix;
    log_.set_role("upgrade");
    service_manager_ = os::ServiceManager({});  // which knows the server
  }
  title_.set(options_.title_prefix + ": overseer");
  os::become_subreaper();
  loop_.add(signals_.fd(), EPOLLIN, [this](std::uint32_t) { on_signals(); });
  stay_alive();
  auto started = !options_.order ? start()
                 : options_.order->kind == UpgradeOrder::Kind::Check
                     ? start_check(options_.order->state)
                     : take_over(options_.order->state);
  if (!started) {
    log_.log(Severity::Fatal, started.error().message);
    failure_code_ = to_int(config::ExitCode::Failure);
    request_stop(supervise::StopRequest::Failure);
  }
  while (!exit_code_)
    loop_.run_once();

  pools_.clear();
  pid_file_.reset();
  const int exit_code = failure_code_.value_or(*exit_code_);
  answer_stop(exit_code);
  control_.reset();
  control_socket_.reset();
  log_.drain(std::chrono::seconds(1));
  loop_.cancel(stop_timer_);
  loop_.cancel(alive_timer_);
  loop_.cancel(stop_progress_);
  loop_.remove(signals_.fd());
  return exit_code;
}

// Before any other process is made, so that none of them has it.
Result<void> Overseer::open_control() {
  if (!options_.control.is_anywhere()) return {};
  auto socket = ControlSocket::create(options_.control);
  if (!socket && !options_.control.path.empty()) return fail(socket.error());
  if (!socket) {
    log_.log(Severity::Log, socket.error().message +
                                "; going on without a control socket, bladectl cannot ask this "
                                "server (--control=PATH names another one, none asks for none)");
    return {};
  }
  control_socket_.emplace(std::move(*socket));
  serve_control();
  return {};
}

void Overseer::serve_control() {
  control_.emplace(
      loop_, control_socket_->descriptor(), ControlOptions{},
      [this](Severity severity, const std::string& line) { log_.log(severity, line); });
  add_commands();
}

void Overseer::add_commands() {
  control_->add({.name = "status",
                 .arguments = {},
                 .run = [this](const json::Object&, const Session& session) {
                   session.succeed(status_report(view(), os::monotonic_now()));
                 }});
  control_->add({.name = "workers",
                 .arguments = {},
                 .run = [this](const json::Object&, const Session& session) {
                   session.succeed(workers_report(view(), os::monotonic_now()));
                 }});
  control_->add({.name = "reload",
                 .arguments = {},
                 .run = [this](const json::Object&, const Session& session) {
                   on_reload_command(session);
                 }});
  control_->add({.name = "reopen",
                 .arguments = {},
                 .run = [this](const json::Object&, const Session& session) {
                   const auto outcome =
                       reopen_logs(fmt::format("through the control socket by user {} (pid {})",
                                               session.peer().user, session.peer().pid));
                   if (outcome) {
                     session.succeed(json::Object().add("outcome", *outcome));
                   } else {
                     session.fail(config::ExitCode::Failure, outcome.error().message);
                   }
                 }});
  control_->add({.name = "scale",
                 .arguments = {"workers"},
                 .run = [this](const json::Object& arguments, const Session& session) {
                   on_scale_command(arguments, session);
                 }});
  control_->add({.name = "upgrade",
                 .arguments = {},
                 .run = [this](const json::Object&, const Session& session) {
                   upgrade(fmt::format("through the control socket by user {} (pid {})",
                                       session.peer().user, session.peer().pid),
                           &session);
                 }});
  control_->add({.name = "recycle",
                 .arguments = {"worker"},
                 .run = [this](const json::Object& arguments, const Session& session) {
                   on_recycle_command(arguments, session);
                 }});
  control_->add({.name = "stop",
                 .arguments = {"fast", "immediate"},
                 .run = [this](const json::Object& arguments, const Session& session) {
                   on_stop_command(arguments, session);
                 }});
}

ServerView Overseer::view() {
  ServerView view;
  view.pid = ::getpid();
  view.started = started_;
  view.started_monotonic = started_monotonic_;
  if (!pools_.empty()) view.pool = pools_.front().view();
  return view;
}

void Overseer::on_stop_command(const json::Object& arguments, const Session& session) {
  const auto fast = control::flag(arguments, "fast");
  const auto immediate = control::flag(arguments, "immediate");
  if (!fast || !immediate) {
    return session.fail(config::ExitCode::Usage,
                        !fast ? fast.error().message : immediate.error().message);
  }
  stop_sessions_.push_back(session);
  log_.log(Severity::Log,
           fmt::format("asked through the control socket to stop{}, by user {} (pid {})",
                       *immediate ? " immediately"
                       : *fast    ? " fast"
                                  : "",
                       session.peer().user, session.peer().pid));
  if (*immediate) {
    stop_immediately();
  } else if (*fast) {
    request_stop(supervise::StopRequest::Fast);
  } else if (!stop_.was_asked()) {
    // A second one waits for the same end, unlike a second SIGTERM.
    request_stop(supervise::StopRequest::Smart);
  }
  loop_.cancel(stop_report_);
  report_stop();
}

void Overseer::on_reload_command(const Session& session) {
  if (pools_.empty()) return session.fail(config::ExitCode::Failure, "the server has not started");
  if (stop_.was_asked()) return session.fail(config::ExitCode::Failure, "the server stops");
  session.progress("the application is loaded anew beside the running one");
  reload(fmt::format("through the control socket by user {} (pid {})", session.peer().user,
                     session.peer().pid),
         {.on_outcome =
              [this, session](const Pool::Outcome& outcome) {
                if (outcome.is_done) {
                  session.succeed(json::Object().add("outcome", outcome.text));
                } else {
                  // Of code that was not tried to the end nothing is known.
                  session.fail(stop_.was_asked() ? config::ExitCode::Failure
                                                 : config::ExitCode::ApplicationNotLoaded,
                               outcome.text);
                }
              },
          .on_progress =
              [session](const std::string& text) {
                session.progress(text);
              }});
}

void Overseer::on_scale_command(const json::Object& arguments, const Session& session) {
  const auto workers = control::number(arguments, "workers", 0, config::kMostWorkers);
  if (!workers) return session.fail(config::ExitCode::Usage, workers.error().message);
  if (!*workers) return session.fail(config::ExitCode::Usage, "'workers' is missing");
  if (pools_.empty()) return session.fail(config::ExitCode::Failure, "the server has not started");
  const auto scaled =
      pools_.front().scale_to(static_cast<std::uint64_t>(**workers),
                              fmt::format("asked through the control socket by user {} (pid {})",
                                          session.peer().user, session.peer().pid),
                              [session](const Pool::ScaleOutcome& outcome) {
                                if (!outcome.is_done)
                                  return session.fail(config::ExitCode::Failure, outcome.text);
                                session.succeed(json::Object()
                                                    .add("outcome", outcome.text)
                                                    .add("workers", outcome.workers)
                                                    .add("finishing", outcome.finishing));
                              });
  if (!scaled) {
    session.fail(scaled.error().remedy == Remedy::Refuse ? config::ExitCode::Usage
                                                         : config::ExitCode::Failure,
                 scaled.error().message);
  }
}

void Overseer::on_recycle_command(const json::Object& arguments, const Session& session) {
  const auto worker = control::number(arguments, "worker", 0, config::kMostWorkers - 1);
  if (!worker) return session.fail(config::ExitCode::Usage, worker.error().message);
  if (pools_.empty()) return session.fail(config::ExitCode::Failure, "the server has not started");
  const auto number = *worker ? std::optional(static_cast<std::uint32_t>(**worker)) : std::nullopt;
  pools_.front().recycle_workers(
      fmt::format("through the control socket by user {} (pid {})", session.peer().user,
                  session.peer().pid),
      number,
      {.on_outcome =
           [session](const Pool::Outcome& outcome) {
             if (outcome.is_done) {
               session.succeed(json::Object().add("outcome", outcome.text));
             } else {
               session.fail(config::ExitCode::Failure, outcome.text);
             }
           },
       .on_progress =
           [session](const std::string& text) {
             session.progress(text);
           }});
}

// Once a second, to whoever waits.
void Overseer::report_stop() {
  stop_report_ = {};
  if (exit_code_) return;
  const std::string text = describe_stop();
  for (const Session& session : stop_sessions_)
    session.progress(text);
  stop_report_ =
      loop_.call_at(os::monotonic_now() + std::chrono::seconds(1), [this] { report_stop(); });
}

std::string Overseer::describe_stop() const {
  const supervise::Living left = living();
  if (stop_.phase() == supervise::StopPolicy::Phase::Delaying) {
    return fmt::format("serving on for another {} (--drain-delay)",
                       seconds_text(*stop_.deadline() - os::monotonic_now()));
  }
  if (pools_.empty() || stop_.phase() == supervise::StopPolicy::Phase::Killing)
    return "everything ends";
  if (left.workers > 0) return "waiting for " + pools_.front().describe_living();
  std::string text = "all workers have gone";
  if (const std::uint64_t unsent = pools_.front().responses_in_lobby();
      left.lobbies > 0 && unsent > 0)
    text += fmt::format("; responses that clients have not taken yet: {}", unsent);
  if (left.auxiliaries > 0) text += "; waiting for " + pools_.front().describe_auxiliaries();
  return text;
}

void Overseer::answer_stop(int exit_code) {
  loop_.cancel(stop_report_);
  for (const Session& session : stop_sessions_) {
    json::Object result;
    result.add("exit", exit_code);
    session.succeed(std::move(result));
  }
  stop_sessions_.clear();
}

bool Overseer::has_access_log_file() const {
  return !options_.access_log.empty() && options_.access_log != "-";
}

Result<void> Overseer::open_access_log() {
  if (options_.access_log.empty()) return {};
  if (!has_access_log_file()) {
    log_.write_access_to(STDOUT_FILENO, "the access log on standard output");
    return {};
  }
  constexpr mode_t kMode = 0640;
  // Once it serves it does not wait for the reader of a named pipe.
  os::Fd opened(::open(options_.access_log.c_str(),
                       O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY |
                           (access_log_.is_open() ? O_NONBLOCK : 0),
                       kMode));
  if (!opened.is_open())
    return fail(os::system_failure(errno, "open access log", options_.access_log));
  log_.write_access_to(opened.get(), fmt::format("the access log '{}'", options_.access_log));
  access_log_ = std::move(opened);
  return {};
}

// What has been renamed meanwhile is left alone from here on.
Result<std::string> Overseer::reopen_logs(const std::string& why) {
  if (!has_access_log_file()) {
    std::string text = options_.access_log.empty()
                           ? "no access log is written (see --access-log)"
                           : "the access log goes to standard output, which is nobody's file here "
                             "(see --access-log)";
    log_.log(Severity::Log, fmt::format("asked to open the logs anew {}: {}", why, text));
    return text;
  }
  if (auto opened = open_access_log(); !opened) {
    log_.log(Severity::Error, opened.error().message + "; it is written to the file of before");
    return fail(opened.error());
  }
  std::string text = fmt::format("the access log '{}' has been opened anew", options_.access_log);
  log_.log(Severity::Log, text + " " + why);
  return text;
}

Result<void> Overseer::start() {
  for (const std::string& note : options_.notes)
    log_.log(Severity::Log, note);
  if (auto opened = open_access_log(); !opened) return opened;
  if (!options_.pid_file.empty()) {
    auto file = os::PidFile::create(options_.pid_file);
    if (!file) return fail(file.error());
    pid_file_ = std::move(*file);
  }
  if (auto opened = open_control(); !opened) return opened;
  prepare_pool(os::raise_descriptor_limit());
  return pools_.front().start();
}

void Overseer::prepare_pool(std::size_t descriptor_limit) {
  descriptor_limit_ = descriptor_limit;
  Pool::Environment environment;
  environment.loop = &loop_;
  environment.log = &log_;
  environment.title = &title_;
  environment.lifeline = &lifeline_;
  environment.descriptor_limit = descriptor_limit;
  environment.stop_on_crash = options_.on_crash == supervise::CrashAction::Stop;
  environment.on_ready = [this] {
    on_ready();
  };
  environment.on_end_at_stop = [this] {
    loop_.cancel(stop_timer_);
    stop_timer_ = loop_.call_at(os::monotonic_now(), [this] {
      stop_timer_ = {};
      advance_stop();
    });
  };
  environment.on_failure = [this](int code) {
    if (!failure_code_) failure_code_ = code;
    request_stop(supervise::StopRequest::Failure);
  };
  pools_.emplace_back(options_.pool, options_.title_prefix, std::move(environment));
}

void Overseer::on_ready() {
  if (pid_file_) {
    if (auto published = pid_file_->publish(); !published)
      log_.log(Severity::Error, published.error().message + "; going on without it");
  }
  if (options_.on_ready) options_.on_ready();
  service_manager_.ready("requests are served");
}

// Whoever has started us may want to know that this loop goes on.
void Overseer::stay_alive() {
  const auto interval = service_manager_.alive_interval();
  if (!interval) return;
  service_manager_.alive();
  alive_timer_ = loop_.call_at(os::monotonic_now() + *interval, [this] { stay_alive(); });
}

void Overseer::reload(const std::string& why, Pool::Waiter waiter) {
  ++reloads_;
  service_manager_.reloading("the application is loaded anew beside the running one");
  auto on_outcome = [this,
                     on_outcome = std::move(waiter.on_outcome)](const Pool::Outcome& outcome) {
    --reloads_;
    if (reloads_ == 0 && !stop_.was_asked()) {
      service_manager_.ready(outcome.is_done
                                 ? fmt::format("requests are served, by {}", outcome.text)
                                 : fmt::format("requests are served; the last reload has "
                                               "failed: {}",
                                               outcome.text));
    }
    if (on_outcome) on_outcome(outcome);
  };
  pools_.front().reload(
      why, {.on_outcome = std::move(on_outcome), .on_progress = std::move(waiter.on_progress)});
}

void Overseer::on_signals() {
  while (const auto caught = signals_.try_take()) {
    switch (caught->number) {
      case SIGCHLD:
        reap();
        break;
      case SIGTERM:
      case SIGINT:
      case SIGQUIT:
        on_stop_signal(*caught);
        break;
      case SIGHUP:
        if (!pools_.empty()) reload(fmt::format("on SIGHUP of pid {}", caught->sender));
        break;
      case SIGUSR1:
        static_cast<void>(reopen_logs(fmt::format("on SIGUSR1 of pid {}", caught->sender)));
        break;
      case SIGTTIN:
      case SIGTTOU:
        for (Pool& pool : pools_)
          pool.scale_by(
              caught->number == SIGTTIN ? 1 : -1,
              fmt::format("{} from pid {}", os::signal_name(caught->number), caught->sender));
        break;
      case SIGUSR2:
        upgrade(fmt::format("on SIGUSR2 of pid {}", caught->sender), nullptr);
        break;
      case SIGPIPE:
      case SIGXFSZ:
        break;  // writing said so already
      default:
        log_.log(Severity::Warning, fmt::format("{} from pid {} has no meaning here and is ignored",
                                                os::signal_name(caught->number), caught->sender));
        break;
    }
  }
}

void Overseer::on_stop_signal(const os::SignalFd::Caught& caught) {
  // From a terminal it is the kernel that sends it.
  log_.log(Severity::Log,
           fmt::format("asked to stop by {}{}", os::signal_name(caught.number),
                       caught.sender != 0 ? fmt::format(" of pid {}", caught.sender) : ""));
  if (caught.number == SIGQUIT) return stop_immediately();
  request_stop(caught.number == SIGTERM ? supervise::StopRequest::Smart
                                        : supervise::StopRequest::Fast);
}

void Overseer::reap() {
  for (os::Ended ended = os::try_reap_any(); ended.pid != 0; ended = os::try_reap_any()) {
    if (upgrade_check_ && upgrade_check_->on_reaped(ended)) continue;
    for (Pool& pool : pools_) {
      if (pool.on_reaped(ended)) break;
    }
  }
  if (stop_.was_asked()) advance_stop();
}

supervise::Living Overseer::living() const {
  supervise::Living all;
  for (const Pool& pool : pools_) {
    const supervise::Living one = pool.living();
    all.workers += one.workers;
    all.auxiliaries += one.auxiliaries;
    all.lobbies += one.lobbies;
    all.others += one.others;
    all.has_unserved = all.has_unserved || one.has_unserved;
  }
  return all;
}

void Overseer::request_stop(supervise::StopRequest request) {
  const bool was_stopping = stop_.is_stopping();
  const auto before = stop_.phase();
  if (!stop_.was_asked()) service_manager_.stopping("requests that are there are completed");
  const supervise::StopActions actions = stop_.request(request, living(), os::monotonic_now());
  if (is_upgrading_) end_upgrade(config::ExitCode::Failure, "the server stops");
  if (before != stop_.phase() && stop_.is_stopping() && !stop_.is_smart() &&
      request != supervise::StopRequest::Failure) {
    log_.log(Severity::Log, request == supervise::StopRequest::Immediate
                                ? "stopping immediately: everything is killed"
                                : "stopping fast: everything ends at once");
  }
  follow_stop(actions, was_stopping);
}

// The doors are closed before anybody is told, so that who finds the queues empty has seen the end of them.
void Overseer::follow_stop(const supervise::StopActions& actions, bool was_stopping) {
  if (!was_stopping && stop_.is_stopping()) {
    for (Pool& pool : pools_) {
      if (stop_.is_smart()) {
        log_.log(Severity::Log, "stopping: waiting for " + pool.describe_living());
        pool.close_doors();
      }
      pool.stop_accepting_restarts();
    }
    stop_progress_ =
        loop_.call_at(os::monotonic_now() + kFirstProgress, [this] { log_progress(); });
  }
  carry_out(actions);
}

void Overseer::log_progress() {
  stop_progress_ = {};
  if (exit_code_ || !stop_.is_smart()) return;
  log_.log(Severity::Log, "stopping: " + describe_stop());
  stop_progress_ = loop_.call_at(os::monotonic_now() + kNextProgress, [this] { log_progress(); });
}

void Overseer::stop_immediately() {
  failure_code_ = to_int(config::ExitCode::ImmediateStop);
  request_stop(supervise::StopRequest::Immediate);
}

void Overseer::advance_stop() {
  const bool was_stopping = stop_.is_stopping();
  const supervise::StopActions actions = stop_.advance(living(), os::monotonic_now());
  follow_stop(actions, was_stopping);
}

void Overseer::carry_out(const supervise::StopActions& actions) {
  if (actions.announce) {
    log_.log(Severity::Log, fmt::format("to be stopped: serving on for {} first (--drain-delay)",
                                        seconds_text(options_.stop.drain_delay)));
  }
  if (actions.name_late) {
    log_.log(Severity::Warning,
             fmt::format("stopping: not done within {} (--stop-timeout); everything ends at once",
                         seconds_text(options_.stop.timeout)));
  }
  bool is_to_go_on = false;
  for (Pool& pool : pools_) {
    if (actions.announce) pool.announce_end();
    if (actions.drain_workers) pool.drain_workers();
    if (actions.start_worker && !pool.start_last_worker()) is_to_go_on = true;
    if (actions.name_late) pool.name_late();
    if (actions.end_lobbies) {
      pool.close_sockets();
      if (const std::uint64_t unsent = pool.responses_in_lobby(); unsent > 0) {
        log_.log(
            Severity::Log,
            fmt::format(
                "stopping: all workers have gone; waiting for {} that clients have not "
                "taken yet",
                unsent == 1 ? std::string("a response") : fmt::format("{} responses", unsent)));
      }
      pool.end_lobby();
    }
    if (actions.terminate_auxiliaries) {
      pool.close_sockets();
      log_.log(Severity::Log, "stopping: all workers have gone; waiting for auxiliary processes: " +
                                  pool.describe_auxiliaries());
      pool.signal_auxiliaries(SIGTERM);
    }
    if (actions.kill_auxiliaries) {
      log_.log(Severity::Warning,
               "stopping: auxiliary processes do not follow SIGTERM and are "
               "killed: " +
                   pool.describe_auxiliaries());
      pool.signal_auxiliaries(SIGKILL);
    }
    if (actions.kill_others) pool.kill_others();
    if (actions.kill_everything) pool.kill_everything();
  }
  if (is_to_go_on) {
    advance_stop();
    return;
  }
  loop_.cancel(stop_timer_);
  if (actions.finish) {
    exit_code_ = actions.finish;
    if (!failure_code_) log_.log(Severity::Log, "stopped");
    return;
  }
  if (const auto deadline = stop_.deadline()) {
    stop_timer_ = loop_.call_at(*deadline, [this] {
      stop_timer_ = {};
      advance_stop();
    });
  }
}

}  // namespace bladepsgi::overseer
