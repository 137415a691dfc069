#include "overseer/log_sink.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "base/text.h"
#include "os/socket.h"
#include "os/system_error.h"

namespace bladepsgi::overseer {

LogSink::LogSink(os::EventLoop& loop, bool raw_output) : loop_(loop), raw_output_(raw_output) {
  log_.writer.emplace(STDERR_FILENO);
  log_.name = "the log";
}

LogSink::~LogSink() {
  for (const auto& [id, source] : sources_) {
    for (const os::Fd& pipe : source->pipes) {
      if (pipe.is_open()) loop_.remove(pipe.get());
    }
  }
  forget(log_);
  forget(access_);
}

void LogSink::write_access_to(int fd, std::string name) {
  access_.name = std::move(name);
  if (!access_.writer) {
    access_.writer.emplace(fd);
    return;
  }
  access_.writer->flush();
  forget(access_);
  access_.writer->change_to(fd);
  access_.writer->flush();
  watch(access_);
}

void LogSink::forget(Destination& to) {
  if (std::exchange(to.is_watching, false)) loop_.remove(to.writer->fd());
  loop_.cancel(to.retry);
}

// After each write and flush: sees to it that what is left goes out, and says what has become of it.
void LogSink::watch(Destination& to) {
  using Obstacle = os::LogWriter::Obstacle;
  const auto flush = [this, &to] {
    to.writer->flush();
    watch(to);
  };
  const Obstacle obstacle = to.writer->obstacle();
  if (to.is_watching != (obstacle == Obstacle::Full)) {
    to.is_watching = !to.is_watching;
    if (to.is_watching) {
      loop_.add(to.writer->fd(), EPOLLOUT, [flush](std::uint32_t) { flush(); });
    } else {
      loop_.remove(to.writer->fd());
    }
  }
  if (obstacle != Obstacle::Failing) {
    loop_.cancel(to.retry);
  } else if (to.retry.sequence == 0) {
    to.retry = loop_.call_at(os::monotonic_now() + os::LogWriter::kRetryPause, [&to, flush] {
      to.retry = {};
      flush();
    });
  }
  report(to);
}

void LogSink::report(Destination& to) {
  const int error = to.writer->error();
  if (&to != &log_ && error != 0 && !std::exchange(to.is_failing, true)) {
    log(Severity::Error,
        "cannot write " + to.name + ": " + os::describe_errno(error) +
            "; what does not fit is kept for a while, and tried again every second");
  }
  const auto outage = to.writer->take_outage();
  if (!outage) return;
  to.is_failing = false;
  log(Severity::Warning,
      fmt::format("{} could not be written for {:.1f} s: {}; {}", to.name,
                  std::chrono::duration<double>(outage->took).count(),
                  outage->error == 0 ? "nobody read it" : os::describe_errno(outage->error),
                  outage->dropped == 0
                      ? std::string("nothing of it was lost")
                      : fmt::format("{} {} dropped", outage->dropped,
                                    outage->dropped == 1 ? "line was" : "lines were")));
}

void LogSink::log(Severity severity, std::string_view text) {
  write(severity, role_, ::getpid(), text, os::LogWriter::Origin::Own);
}

void LogSink::write(Severity severity,
                    std::string_view role,
                    pid_t pid,
                    std::string_view text,
                    os::LogWriter::Origin origin) {
  log_.writer->write(severity, role, pid, text, origin);
  watch(log_);
}

LogSink::Opened LogSink::open(std::string role,
                              std::function<void(pid_t)> on_ready,
                              std::function<void()> on_closed,
                              std::function<void()> on_wish) {
  auto source = std::make_shared<Source>();
  source->role = std::move(role);
  source->on_ready = std::move(on_ready);
  source->on_closed = std::move(on_closed);
  source->on_wish = std::move(on_wish);
  Opened opened{.source = next_id_++, .ends = {}};
  const std::array<os::Fd*, 3> ends{&opened.ends.output, &opened.ends.error, &opened.ends.channel};
  for (const Stream stream : {Output, ErrorOutput, Channel}) {
    if (raw_output_ && stream != Channel) continue;
    os::Pipe pipe = os::make_pipe();
    os::set_non_blocking(pipe.read.get());
    source->pipes[stream] = std::move(pipe.read);
    *ends[stream] = std::move(pipe.write);
  }
  sources_.emplace(opened.source, std::move(source));
  return opened;
}

void LogSink::start_reading(SourceId id, pid_t pid) {
  const auto found = sources_.find(id);
  if (found == sources_.end()) return;
  Source& source = *found->second;
  if (pid != 0) source.pid = pid;
  if (std::exchange(source.is_reading, true)) return;
  for (const Stream stream : {Output, ErrorOutput, Channel}) {
    if (!source.pipes[stream].is_open()) continue;
    loop_.add(source.pipes[stream].get(), EPOLLIN,
              [this, id, stream](std::uint32_t) { read_some(id, stream); });
  }
}

void LogSink::read_some(SourceId id, Stream stream) {
  const auto found = sources_.find(id);
  if (found == sources_.end()) return;
  const std::shared_ptr<Source> source = found->second;
  std::array<char, std::size_t{64} * 1024> buffer;
  const ssize_t size = ::read(source->pipes[stream].get(), buffer.data(), buffer.size());
  if (size > 0) {
    take(*source, stream, {buffer.data(), static_cast<std::size_t>(size)});
  } else if (size == 0 || (errno != EAGAIN && errno != EINTR)) {
    close_stream(id, stream);
  }
}

void LogSink::take(Source& source, Stream stream, std::string_view bytes) {
  const auto line = [this, &source](std::string_view text) {
    write(Severity::Log, source.role, source.pid, text, os::LogWriter::Origin::Application);
  };
  if (stream != Channel) {
    source.lines[stream].feed(bytes, line);
    return;
  }
  // Lines of our own code in that process, but as many of them as the application and its clients cause.
  const auto on_text = [this, &source](Severity severity, std::string_view text) {
    if (severity >= Severity::Error) source.last_error = text;
    const bool is_last_word = severity >= Severity::Fatal;
    write(severity, source.role, source.pid, text,
          is_last_word ? os::LogWriter::Origin::Own : os::LogWriter::Origin::Application);
  };
  pid_t ready = 0;
  bool wishes = false;
  const auto on_access = [this](std::string_view text) {
    if (!access_.writer) return;
    access_.writer->write_line(text, os::LogWriter::Origin::Application);
    watch(access_);
  };
  const bool sound = source.frames.feed(bytes, {.on_text = on_text,
                                                .on_ready = [&ready](pid_t pid) { ready = pid; },
                                                .on_access = on_access,
                                                .on_wish =
                                                    [&wishes](pid_t) {
                                                      wishes = true;
                                                    }});
  if (ready != 0) {
    if (source.pid == 0) source.pid = ready;
    // A copy, called last: it may find that the process has ended and forget this source.
    if (const auto on_ready = source.on_ready) on_ready(ready);
  }
  if (wishes) {
    if (const auto on_wish = source.on_wish) on_wish();
  }
  if (!sound && !std::exchange(source.said_unsound, true)) {
    log(Severity::Warning,
        source.role + " (pid " + std::to_string(source.pid) +
            ") wrote into a descriptor that is not its own; some of its log lines are lost: " +
            printable(bytes, 80));
  }
}

void LogSink::close_stream(SourceId id, Stream stream) {
  const auto found = sources_.find(id);
  if (found == sources_.end()) return;
  const std::shared_ptr<Source> held = found->second;
  Source& source = *held;
  if (stream != Channel) {
    source.lines[stream].finish([this, &source](std::string_view text) {
      write(Severity::Log, source.role, source.pid, text, os::LogWriter::Origin::Application);
    });
  }
  if (source.pipes[stream].is_open()) {
    if (source.is_reading) loop_.remove(source.pipes[stream].get());
    source.pipes[stream].reset();
  }
  if (stream == Channel && source.on_closed) std::exchange(source.on_closed, nullptr)();
  for (const os::Fd& pipe : source.pipes) {
    if (pipe.is_open()) return;
  }
  if (source.is_dead) sources_.erase(id);
}

std::string LogSink::finish(SourceId id) {
  const auto found = sources_.find(id);
  if (found == sources_.end()) return {};
  const std::shared_ptr<Source> source = found->second;
  source->on_ready = nullptr;
  source->on_closed = nullptr;
  source->on_wish = nullptr;
  start_reading(id, 0);
  for (const Stream stream : {Channel, Output, ErrorOutput}) {
    // As much as a full pipe holds; a grandchild that goes on writing is read from the loop.
    std::array<char, std::size_t{64} * 1024> buffer;
    for (int turn = 0; turn < 17 && source->pipes[stream].is_open(); ++turn) {
      const ssize_t size = ::read(source->pipes[stream].get(), buffer.data(), buffer.size());
      if (size > 0) {
        take(*source, stream, {buffer.data(), static_cast<std::size_t>(size)});
        continue;
      }
      if (size == 0) close_stream(id, stream);
      break;
    }
  }
  source->is_dead = true;
  for (const os::Fd& pipe : source->pipes) {
    if (pipe.is_open()) return source->last_error;
  }
  sources_.erase(id);
  return source->last_error;
}

std::string LogSink::last_error(SourceId id) const {
  const auto found = sources_.find(id);
  return found != sources_.end() ? found->second->last_error : std::string();
}

std::optional<SourceState> LogSink::describe(SourceId id) const {
  const auto found = sources_.find(id);
  if (found == sources_.end()) return std::nullopt;
  const Source& source = *found->second;
  SourceState state;
  state.role = source.role;
  state.pid = source.pid;
  state.is_reading = source.is_reading;
  state.is_dead = source.is_dead;
  state.said_unsound = source.said_unsound;
  state.last_error = source.last_error;
  for (const Stream stream : {Output, ErrorOutput, Channel})
    state.pipes[stream].number = source.pipes[stream].get();
  for (const Stream stream : {Output, ErrorOutput})
    state.lines[stream] = source.lines[stream].held();
  os::LogFrames::Held held = source.frames.held();
  state.frames = std::move(held.bytes);
  state.text = std::move(held.text);
  state.access = std::move(held.access);
  return state;
}

std::vector<SourceState> LogSink::orphans() const {
  std::vector<SourceState> states;
  for (const auto& [id, source] : sources_) {
    if (!source->is_dead) continue;
    if (auto state = describe(id)) states.push_back(std::move(*state));
  }
  return states;
}

LogSink::SourceId LogSink::adopt(const SourceState& state,
                                 std::function<void(pid_t)> on_ready,
                                 std::function<void()> on_closed,
                                 std::function<void()> on_wish) {
  auto source = std::make_shared<Source>();
  source->role = state.role;
  source->pid = state.pid;
  source->is_dead = state.is_dead;
  source->said_unsound = state.said_unsound;
  source->last_error = state.last_error;
  for (const Stream stream : {Output, ErrorOutput, Channel})
    source->pipes[stream] = os::Fd(state.pipes[stream].number);
  for (const Stream stream : {Output, ErrorOutput})
    source->lines[stream].resume(state.lines[stream]);
  source->frames.resume({state.frames, state.text, state.access});
  source->on_ready = std::move(on_ready);
  source->on_closed = std::move(on_closed);
  source->on_wish = std::move(on_wish);
  const SourceId id = next_id_++;
  sources_.emplace(id, std::move(source));
  if (state.is_reading) start_reading(id, 0);
  return id;
}

bool LogSink::flush(std::chrono::milliseconds limit) {
  if (access_.writer) {
    access_.writer->drain(limit);
    watch(access_);
  }
  log_.writer->drain(limit);
  watch(log_);
  const auto is_done = [](const os::LogWriter& writer) {
    return writer.obstacle() == os::LogWriter::Obstacle::None;
  };
  return is_done(*log_.writer) && (!access_.writer || is_done(*access_.writer));
}

void LogSink::drain(std::chrono::milliseconds limit) {
  for (auto next = sources_.begin(); next != sources_.end();) {
    const SourceId id = (next++)->first;  // finish may erase it
    finish(id);
  }
  flush(limit);
}

}  // namespace bladepsgi::overseer
