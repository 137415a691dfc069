// ControlServer: the overseer's control socket: who asks, what they ask for, and the answer, whenever it comes.
//
// Nobody who connects can delay the overseer: nothing here waits, a request has a size and a time limit, who does not read its
// answer is dropped, and there is a limit to the number of connections and to the bytes kept for them. Only root and the user
// of this process are served, whatever the mode of the socket has become.
//
// A command is a name, the arguments it knows and a function. That gets the arguments and a Session, and may finish it at once or
// keep it and finish it later: its copies outlive the client and this server, and do nothing then.
//
//   server.add({.name = "reload", .arguments = {"probe"}, .run = [this](const json::Object& arguments, control::Session session) {…}});
//
// When the last copy of a Session goes without having finished it, the client is told that its command was given up.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/severity.h"
#include "config/exit_codes.h"
#include "control/protocol.h"
#include "json/value.h"
#include "os/acceptor.h"
#include "os/event_loop.h"
#include "os/fd.h"
#include "os/socket.h"
#include "overseer/state.h"

namespace bladepsgi::overseer {

struct ControlOptions {
  std::chrono::milliseconds request_limit{5000};  // for a whole request line
  std::chrono::milliseconds send_limit{
      10'000};  // for a client to take something of what waits for it
  std::chrono::milliseconds accept_pause{100};  // after a shortage
  std::size_t most_sessions = 64;
  std::size_t most_progress_bytes = std::size_t{64}
                                    << 10;  // that wait for one client; more progress is left out
  std::size_t most_unsent_bytes = std::size_t{64} << 20;  // of all
};

class ControlServer;

// Of one client and its command. Copies mean the same one.
class Session {
 public:
  // What goes on meanwhile, for a person: one line without newline. Left out for a client that is behind.
  void progress(std::string_view text) const;
  // The end of the command; what comes after it does nothing.
  void succeed(json::Value result = {}) const;
  void fail(config::ExitCode exit, std::string_view error, json::Value result = {}) const;

  // Somebody waits for the outcome.
  [[nodiscard]] bool is_attended() const;

  [[nodiscard]] const os::Peer& peer() const;

 private:
  friend class ControlServer;
  struct Command;

  explicit Session(std::shared_ptr<Command> command) : command_(std::move(command)) {}

  std::shared_ptr<Command> command_;
};

class ControlServer {
 public:
  struct Command {
    std::string name;
    std::vector<std::string_view> arguments;  // others are refused
    std::function<void(const json::Object& arguments, const Session& session)> run;
  };

  // Takes one line for the log.
  using Log = std::function<void(Severity severity, const std::string& line)>;

  // The loop outlives the server; the listener listens already.
  ControlServer(os::EventLoop& loop, os::Fd listener, const ControlOptions& options, Log log);
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;
  ~ControlServer();  // whose command has not finished is told that the server has ended

  void add(Command command);

  // Everybody who is connected, for the program that goes on in this process; who has one of these sessions waits there for its outcome.
  [[nodiscard]] std::vector<ClientState> describe(const std::vector<Session>& waiting) const;
  // What describe has said, there; the descriptor is taken over. Returns the session of who waits. Who waits for the end of another command is told
  // that the program that carried it out has gone.
  std::optional<Session> adopt(const ClientState& state);

  [[nodiscard]] std::size_t sessions() const { return clients_.size(); }

 private:
  friend class Session;
  using Id = std::uint64_t;

  struct Client {
    os::Fd socket;
    os::Peer peer;
    std::string received;
    bool has_asked = false;
    bool is_answered = false;  // the last line is in `unsent`, or sent
    std::string unsent;
    std::size_t sent = 0;  // of it
    std::uint32_t watched = 0;
    bool is_watched = false;
    os::EventLoop::TimerId limit;  // to ask, then to take what is unsent
  };

  void greet(os::Fd socket);
  [[nodiscard]] bool make_room();
  void proceed(Id id, std::uint32_t events);
  void receive(Id id);
  void dispatch(Id id, std::string_view line);
  void put(Id id, std::string line);
  void finish(Id id, const control::Outcome& outcome);
  void send(Id id);
  void watch(Id id, Client& client, std::uint32_t events);
  void limit(Id id, Client& client, std::chrono::milliseconds time);
  void drop(Id id);
  [[nodiscard]] Client* find(Id id);

  os::EventLoop& loop_;
  ControlOptions options_;
  Log log_;
  uid_t owner_;
  std::map<std::string, Command, std::less<>> commands_;
  std::map<Id, Client> clients_;  // oldest first
  Id next_id_ = 1;
  std::size_t unsent_ = 0;                // bytes of all clients
  os::Monotonic next_complaint_{};        // about who may not command
  std::shared_ptr<ControlServer*> self_;  // for sessions that outlive it
  os::Acceptor acceptor_;
};

}  // namespace bladepsgi::overseer
