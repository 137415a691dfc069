// LogSink: where the output of every process arrives and becomes lines of the one log.
//
// Each process has three pipes: standard output, standard error, log channel. They are read a bounded piece a turn, so that a
// process that prints without end cannot keep the overseer from its duty; they are read to their end after the process
// has died, so that its last words are kept. A pipe that a grandchild still holds open simply stays.
//
// A log that cannot be written (a stuck reader, a full disk) costs lines, never service: it is tried again when there may be room, and
// what was lost is said in the log; what happens to the access log is said there too.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/severity.h"
#include "os/event_loop.h"
#include "os/fd.h"
#include "os/log.h"
#include "overseer/state.h"

namespace bladepsgi::overseer {

class LogSink {
 public:
  using SourceId = std::uint64_t;

  // The writing ends, for the child. Output and error are -1 with raw output: the child keeps what it inherited.
  struct Ends {
    os::Fd output;
    os::Fd error;
    os::Fd channel;
  };

  struct Opened {
    SourceId source = 0;
    Ends ends;
  };

  LogSink(os::EventLoop& loop, bool raw_output);
  LogSink(const LogSink&) = delete;
  LogSink& operator=(const LogSink&) = delete;
  ~LogSink();

  // Access lines go to `fd`, which stays open as long as this object and is called `name` in messages; without it they go nowhere.
  // Called again, they go there from then on, with what waits to be written.
  void write_access_to(int fd, std::string name);

  // As what the overseer's own lines are.
  void set_role(std::string role) { role_ = std::move(role); }

  // The overseer's own lines.
  void log(Severity severity, std::string_view text);

  // Pipes for a new process. Nothing is read before start_reading: lines need the pid. `on_ready` is called when the
  // process says that it is ready, with its pid.
  // `on_wish` is called when it says that it wants to be replaced.
  // `on_closed` is called when nobody holds the log channel any more.
  // Throws os::SystemError without descriptors.
  Opened open(std::string role,
              std::function<void(pid_t)> on_ready,
              std::function<void()> on_closed = {},
              std::function<void()> on_wish = {});
  void start_reading(SourceId id, pid_t pid);

  // Everything about one, for the program that goes on in this process; empty: it is not there any more.
  [[nodiscard]] std::optional<SourceState> describe(SourceId id) const;
  // Of processes that are dead, whose pipes somebody else holds.
  [[nodiscard]] std::vector<SourceState> orphans() const;
  // What describe said, in that program; the callbacks as in open. Its descriptors are taken over.
  SourceId adopt(const SourceState& state,
                 std::function<void(pid_t)> on_ready = {},
                 std::function<void()> on_closed = {},
                 std::function<void()> on_wish = {});

  // The process is dead: reads what it left behind, and forgets the pipes that nobody else holds. Returns the last error that it has said on its
  // log channel; empty: none.
  std::string finish(SourceId id);

  // As finish, of a process that lives.
  [[nodiscard]] std::string last_error(SourceId id) const;

  // Writes out what waits, waiting at most that long for a stuck reader.
  // False: something still waits.
  bool flush(std::chrono::milliseconds limit);

  // Reads what has arrived from everybody and writes it out, waiting at most that long for a stuck reader.
  void drain(std::chrono::milliseconds limit);

 private:
  enum Stream : std::size_t { Output, ErrorOutput, Channel };

  struct Source {
    std::string role;
    pid_t pid = 0;
    bool is_reading = false;
    bool is_dead = false;
    std::array<os::Fd, 3> pipes;
    std::array<os::LineSplitter, 2> lines;
    os::LogFrames frames;
    bool said_unsound = false;
    std::string last_error;
    std::function<void(pid_t)> on_ready;
    std::function<void()> on_closed;
    std::function<void()> on_wish;
  };

  void read_some(SourceId id, Stream stream);
  void take(Source& source, Stream stream, std::string_view bytes);
  void close_stream(SourceId id, Stream stream);
  void write(Severity severity,
             std::string_view role,
             pid_t pid,
             std::string_view text,
             os::LogWriter::Origin origin);

  // Where lines go, and what is done about those that could not go there yet.
  struct Destination {
    std::optional<os::LogWriter> writer;
    std::string name;
    bool is_watching = false;
    bool is_failing = false;
    os::EventLoop::TimerId retry;
  };

  void watch(Destination& to);
  void forget(Destination& to);
  void report(Destination& to);

  os::EventLoop& loop_;
  Destination log_;
  Destination access_;
  bool raw_output_;
  std::string role_ = "overseer";
  SourceId next_id_ = 1;
  std::map<SourceId, std::shared_ptr<Source>> sources_;
};

}  // namespace bladepsgi::overseer
