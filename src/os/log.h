// The log: one process writes it, everybody else sends lines to that process through pipes.
//
// LogChannel is the sending end that our own code uses: it carries the severity, and one message that is no text ("ready").
// LogFrames and LineSplitter are the overseer's receiving ends, for channels and for the plain output of applications.
// LogWriter writes whole lines `DATE TIME.mmm SEVERITY:  [ROLE[PID]: ]text` to standard error and never waits for whoever
// reads it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

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

  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

class LogFrames {
 public:
  struct Handler {
    std::function<void(Severity, std::string_view text)> on_text;
    std::function<void(pid_t)> on_ready;
    std::function<void(std::string_view line)> on_access = {};
  };

  // Takes bytes as they come from the pipe; calls the handler for each whole message. False: these are no frames of ours
  // (something else wrote into the pipe); what was held is dropped and reading goes on at the next bytes.
  bool feed(std::string_view bytes, const Handler& handler);

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

 private:
  std::string held_;
};

class LogWriter {
 public:
  enum class Origin { Own, Application };

  explicit LogWriter(int fd);

  // One line for each line of `text`; `role` empty: no ROLE[PID]. Lines of the application are dropped, and counted, while
  // the reader of the log is stuck; ours are kept.
  void write(Severity severity,
             std::string_view role,
             pid_t pid,
             std::string_view text,
             Origin origin);

  // A line as it is, without a prefix.
  void write_line(std::string_view text, Origin origin);

  // What could not be written yet. Watch fd() for EPOLLOUT and call flush.
  [[nodiscard]] bool has_backlog() const { return !backlog_.empty(); }

  [[nodiscard]] int fd() const { return fd_; }

  void flush();

  // Waits at most that long for the backlog to go out.
  void drain(std::chrono::milliseconds limit);

 private:
  static constexpr std::size_t kApplicationBacklog =
      std::size_t{256} * 1024;  // bytes; beyond it application lines go

  void put(std::string line, Origin origin);
  [[nodiscard]] bool try_write(std::string_view& bytes);  // false: not now; `bytes` is what is left
  std::string prefix(Severity severity, std::string_view role, pid_t pid);

  Fd reopened_;  // pipes and terminals are opened anew, so that ours alone is non-blocking
  int fd_;
  std::deque<std::string> backlog_;
  std::size_t backlog_bytes_ = 0;
  std::size_t dropped_ = 0;
  std::time_t stamped_second_ = -1;
  std::string stamp_;
};

}  // namespace bladepsgi::os
