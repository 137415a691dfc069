// The log: one process writes it, everybody else sends lines to that process through pipes.
//
// LogChannel is the sending end that our own code uses: it carries the severity, and one message that is no text ("ready").
// LogFrames and LineSplitter are the overseer's receiving ends, for channels and for the plain output of applications.
// LogWriter writes whole lines `DATE TIME.mmm SEVERITY:  [ROLE[PID]: ]text` to standard error and never waits for whoever
// reads it, or for room on the disk.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/severity.h"
#include "os/clock.h"
#include "os/fd.h"

namespace bladepsgi::os {

// Frames of at most PIPE_BUF bytes, so that each arrives whole however many processes share the pipe.
class LogChannel {
 public:
  // `fd` is the writing end of a pipe, not owned; -1 writes plain text to standard error.
  explicit LogChannel(int fd) : fd_(fd) {}

  // Text of any length; newlines separate lines of one message. Async-signal-safe but for the wait on a full pipe.
  void text(Severity severity, std::string_view text) const noexcept;

  // A whole line for the access log, which has no severity and no prefix.
  void access(std::string_view line) const noexcept;

  // This process has done its preparations and takes up its work. Carries the pid.
  void ready(pid_t pid) const noexcept;

  // This process wants to be replaced; why is on the scoreboard. Carries the pid.
  void wants_replacement(pid_t pid) const noexcept;

  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

// Of the frames of a log channel. Processes that one program has made may write to another one, after a binary upgrade.
inline constexpr std::uint32_t kLogFormat = 1;

class LogFrames {
 public:
  struct Handler {
    std::function<void(Severity, std::string_view text)> on_text;
    std::function<void(pid_t)> on_ready;
    std::function<void(std::string_view line)> on_access = {};
    std::function<void(pid_t)> on_wish = {};
  };

  // Takes bytes as they come from the pipe; calls the handler for each whole message. False: these are no frames of ours
  // (something else wrote into the pipe); what was held is dropped and reading goes on at the next bytes.
  bool feed(std::string_view bytes, const Handler& handler);

  // What has come of a message that is not whole yet, for somebody who goes on reading.
  struct Held {
    std::string bytes;
    std::string text;
    std::string access;
  };

  [[nodiscard]] Held held() const { return {held_, text_, access_}; }

  void resume(Held held) {
    held_ = std::move(held.bytes);
    text_ = std::move(held.text);
    access_ = std::move(held.access);
  }

 private:
  std::string held_;    // bytes of an incomplete frame
  std::string text_;    // pieces of a message so far
  std::string access_;  // of an access line so far
};

class LineSplitter {
 public:
  static constexpr std::size_t kMaxLine =
      std::size_t{64} * 1024;  // a longer line is cut into several

  void feed(std::string_view bytes, const std::function<void(std::string_view line)>& on_line);
  // What is left without a newline when the writer has gone.
  void finish(const std::function<void(std::string_view line)>& on_line);

  // The line's beginning, for somebody who goes on reading.
  [[nodiscard]] const std::string& held() const { return held_; }

  void resume(std::string held) { held_ = std::move(held); }

 private:
  std::string held_;
};

class LogWriter {
 public:
  enum class Origin { Own, Application };

  explicit LogWriter(int fd);

  // From now on lines go to `fd`, those that wait included. Nobody watches the old fd() any more when it is called.
  void change_to(int fd);

  // Why there is a backlog, and what to do about it.
  enum class Obstacle {
    None,
    Full,     // its reader is slow: watch fd() for EPOLLOUT and call flush
    Failing,  // writing is an error, on a full disk for one; there is no event for its end: call flush after kRetryPause
  };
  static constexpr std::chrono::seconds kRetryPause{1};

  // A time in which lines waited, over now.
  struct Outage {
    int error = 0;  // 0: the reader was stuck
    Monotonic::duration took{};
    std::size_t dropped = 0;  // lines
  };

  // One line for each line of `text`; `role` empty: no ROLE[PID]. While the log cannot be written, lines are kept up to a limit,
  // which for those of the application is lower, and what is more is dropped and counted.
  void write(Severity severity,
             std::string_view role,
             pid_t pid,
             std::string_view text,
             Origin origin);

  // A line as it is, without a prefix.
  void write_line(std::string_view text, Origin origin);

  [[nodiscard]] Obstacle obstacle() const {
    if (backlog_.empty()) return Obstacle::None;
    return error_ != 0 ? Obstacle::Failing : Obstacle::Full;
  }

  // errno of what is failing now.
  [[nodiscard]] int error() const { return error_; }

  [[nodiscard]] int fd() const { return fd_; }

  void flush();

  // Once after a backlog has gone out, if anything was dropped or failing.
  [[nodiscard]] std::optional<Outage> take_outage();

  // Waits at most that long for a stuck reader to take the backlog; not for what is failing.
  void drain(std::chrono::milliseconds limit);

 private:
  // Bytes of the backlog beyond which lines of the application, and any, are dropped.
  static constexpr std::size_t kApplicationBacklog = std::size_t{256} * 1024;
  static constexpr std::size_t kBacklog = std::size_t{1024} * 1024;

  void put(std::string line, Origin origin);
  [[nodiscard]] bool try_write(std::string_view& bytes);  // false: not now; `bytes` is what is left
  std::string prefix(Severity severity, std::string_view role, pid_t pid);

  Fd reopened_;  // pipes and terminals are opened anew, so that ours alone is non-blocking
  int fd_ = -1;
  std::deque<std::string> backlog_;
  std::size_t backlog_bytes_ = 0;
  int error_ = 0;  // of the last write
  Outage outage_;  // that goes on, or has not been taken
  Monotonic began_{};
  std::time_t stamped_second_ = -1;
  std::string stamp_;
};

}  // namespace bladepsgi::os
