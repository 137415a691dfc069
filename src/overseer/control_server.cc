#include "overseer/control_server.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/text.h"
#include "os/clock.h"
#include "os/system_error.h"

namespace bladepsgi::overseer {

namespace {

// What one client can have copied in one turn.
constexpr std::size_t kReadSize = 16 << 10;

control::Outcome refusal(config::ExitCode exit, std::string error) {
  return {.exit = to_int(exit), .error = std::move(error), .result = {}};
}

}  // namespace

// One copy of a Session's state; its end is that of the last Session.
struct Session::Command {
  Command(std::shared_ptr<ControlServer*> of, ControlServer::Id who, const os::Peer& whose)
      : server(std::move(of)), id(who), peer(whose) {}

  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  ~Command() { finish(refusal(config::ExitCode::Failure, "the server has given the command up")); }

  void finish(const control::Outcome& outcome) {
    if (*server != nullptr && !std::exchange(is_finished, true)) (*server)->finish(id, outcome);
  }

  [[nodiscard]] bool is_attended() const {
    return *server != nullptr && !is_finished && (*server)->find(id) != nullptr;
  }

  std::shared_ptr<ControlServer*> server;
  ControlServer::Id id;
  os::Peer peer;
  bool is_finished = false;
};

void Session::progress(std::string_view text) const {
  if (!command_->is_attended()) return;
  ControlServer& server = **command_->server;
  const ControlServer::Client& client = *server.find(command_->id);
  if (client.unsent.size() - client.sent > server.options_.most_progress_bytes) return;
  server.put(command_->id, control::progress_line(text));
}

void Session::succeed(json::Value result) const {
  command_->finish({.exit = 0, .error = {}, .result = std::move(result)});
}

void Session::fail(config::ExitCode exit, std::string_view error, json::Value result) const {
  command_->finish(
      {.exit = to_int(exit), .error = std::string(error), .result = std::move(result)});
}

bool Session::is_attended() const {
  return command_->is_attended();
}

const os::Peer& Session::peer() const {
  return command_->peer;
}

ControlServer::ControlServer(os::EventLoop& loop,
                             os::Fd listener,
                             const ControlOptions& options,
                             Log log)
    : loop_(loop),
      options_(options),
      log_(std::move(log)),
      owner_(::geteuid()),
      self_(std::make_shared<ControlServer*>(this)),
      acceptor_(
          loop,
          std::move(listener),
          "the control socket",
          options.accept_pause,
          [this](os::Fd socket) { greet(std::move(socket)); },
          [this](const std::string& line) { log_(Severity::Warning, line); }) {}

ControlServer::~ControlServer() {
  while (!clients_.empty()) {
    const Id id = clients_.begin()->first;
    const Client& client = clients_.begin()->second;
    if (client.has_asked && !client.is_answered)
      finish(id, refusal(config::ExitCode::Failure, "the server has ended meanwhile"));
    drop(id);
  }
  *self_ = nullptr;
}

void ControlServer::add(Command command) {
  std::string name = command.name;
  commands_.insert_or_assign(std::move(name), std::move(command));
}

std::vector<ClientState> ControlServer::describe(const std::vector<Session>& waiting) const {
  std::vector<ClientState> states;
  for (const auto& [id, client] : clients_) {
    ClientState& state = states.emplace_back();
    state.socket.number = client.socket.get();
    state.pid = client.peer.pid;
    state.user = client.peer.user;
    state.received = client.received;
    state.has_asked = client.has_asked;
    state.is_answered = client.is_answered;
    state.unsent = client.unsent.substr(client.sent);
    state.waits_for_upgrade =
        std::any_of(waiting.begin(), waiting.end(),
                    [id = id](const Session& session) { return session.command_->id == id; });
  }
  return states;
}

std::optional<Session> ControlServer::adopt(const ClientState& state) {
  const Id id = next_id_++;
  Client& client = clients_[id];
  client.socket = os::Fd(state.socket.number);
  client.peer = {.pid = state.pid, .user = state.user};
  client.received = state.received;
  client.has_asked = state.has_asked;
  client.is_answered = state.is_answered;
  if (!client.has_asked) {
    limit(id, client, options_.request_limit);
    watch(id, client, EPOLLIN);
    return std::nullopt;
  }
  watch(id, client, 0);
  if (!state.unsent.empty()) put(id, state.unsent);
  if (state.is_answered) return std::nullopt;
  if (state.waits_for_upgrade)
    return Session(std::make_shared<Session::Command>(
        self_, id, os::Peer{.pid = state.pid, .user = state.user}));
  finish(id, refusal(config::ExitCode::Failure,
                     "the server has become another program meanwhile; ask again"));
  return std::nullopt;
}

void ControlServer::greet(os::Fd socket) {
  const os::Peer peer =
      os::peer_of(socket.get()).value_or(os::Peer{.pid = 0, .user = static_cast<uid_t>(-1)});
  const bool may_command = peer.user == 0 || peer.user == owner_;
  if (!may_command && os::monotonic_now() >= next_complaint_) {
    next_complaint_ = os::monotonic_now() + std::chrono::seconds(1);
    log_(Severity::Warning,
         fmt::format("control socket: refused user {} (pid {}); only root and user {} may command",
                     peer.user, peer.pid, owner_));
  }
  const bool has_room = may_command && make_room();
  const Id id = next_id_++;
  Client& client = clients_[id];
  client.socket = std::move(socket);
  client.peer = peer;
  if (has_room) {
    limit(id, client, options_.request_limit);
    watch(id, client, EPOLLIN);
    return;
  }
  client.has_asked = true;
  finish(id, refusal(config::ExitCode::Failure,
                     may_command
                         ? std::string("the server has too many commands to carry out already")
                         : fmt::format("only root and user {} may command this server", owner_)));
  drop(id);  // it need not read that
}

// Whoever has not asked for anything yet gives way, the oldest first.
bool ControlServer::make_room() {
  if (clients_.size() < options_.most_sessions) return true;
  for (const auto& [id, client] : clients_) {
    if (client.has_asked) continue;
    drop(id);
    return true;
  }
  return false;
}

void ControlServer::proceed(Id id, std::uint32_t events) {
  if ((events & (EPOLLERR | EPOLLHUP)) != 0) return drop(id);
  if ((events & EPOLLOUT) != 0) send(id);
  if ((events & EPOLLIN) != 0) receive(id);
}

void ControlServer::receive(Id id) {
  Client* client = find(id);
  if (client == nullptr || client->has_asked) return;
  std::array<char, kReadSize> bytes{};
  const ssize_t count = ::recv(client->socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) return drop(id);  // an end in the middle of the line, too: who asks, ends it
  const std::string_view fresh(bytes.data(), static_cast<std::size_t>(count));
  const std::size_t end = fresh.find('\n');
  client->received += fresh.substr(0, end);
  if (end == std::string_view::npos && client->received.size() < control::kMostRequestBytes) return;
  // One request a connection: nothing more is read.
  client->has_asked = true;
  const std::string line = std::exchange(client->received, {});
  loop_.cancel(client->limit);
  watch(id, *client, 0);
  if (find(id) == nullptr) return;
  if (line.size() >= control::kMostRequestBytes) {
    return finish(
        id, refusal(config::ExitCode::Usage, fmt::format("the request is longer than {} bytes",
                                                         control::kMostRequestBytes)));
  }
  dispatch(id, line);
}

void ControlServer::dispatch(Id id, std::string_view line) {
  const auto request = control::parse_request(line);
  if (!request) return finish(id, refusal(config::ExitCode::Usage, request.error().message));
  const auto command = commands_.find(request->command);
  if (command == commands_.end()) {
    return finish(id,
                  refusal(config::ExitCode::Usage, fmt::format("the server knows no command '{}'",
                                                               printable(request->command, 64))));
  }
  if (auto known = control::check_arguments(request->arguments, command->second.arguments); !known)
    return finish(id, refusal(config::ExitCode::Usage, known.error().message));
  const Session session(std::make_shared<Session::Command>(self_, id, find(id)->peer));
  command->second.run(request->arguments, session);
}

void ControlServer::finish(Id id, const control::Outcome& outcome) {
  Client* client = find(id);
  if (client == nullptr || client->is_answered) return;
  client->is_answered = true;
  put(id, control::outcome_line(outcome));
}

void ControlServer::put(Id id, std::string line) {
  Client* client = find(id);
  if (client == nullptr) return;
  if (unsent_ + line.size() > options_.most_unsent_bytes) {
    log_(Severity::Warning, fmt::format("control socket: dropped pid {}: too many bytes wait to be "
                                        "read by clients",
                                        client->peer.pid));
    return drop(id);
  }
  const bool was_waiting = client->sent < client->unsent.size();
  unsent_ += line.size();
  client->unsent += line;
  if (was_waiting) return;  // its limit runs
  limit(id, *client, options_.send_limit);
  send(id);
}

void ControlServer::send(Id id) {
  Client* client = find(id);
  if (client == nullptr) return;
  bool has_moved = false;
  while (client->sent < client->unsent.size()) {
    const ssize_t count = ::send(client->socket.get(), client->unsent.data() + client->sent,
                                 client->unsent.size() - client->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno != EAGAIN && errno != ENOBUFS && errno != ENOMEM) return drop(id);
    if (count < 0) break;
    client->sent += static_cast<std::size_t>(count);
    unsent_ -= static_cast<std::size_t>(count);
    has_moved = true;
  }
  if (client->sent < client->unsent.size()) {
    if (has_moved) limit(id, *client, options_.send_limit);
    return watch(id, *client, EPOLLOUT);
  }
  if (client->is_answered) return drop(id);
  client->unsent.clear();
  client->sent = 0;
  loop_.cancel(client->limit);
  watch(id, *client, 0);
}

// Its hanging up is always watched for. The client may be gone afterwards.
void ControlServer::watch(Id id, Client& client, std::uint32_t events) {
  if (client.is_watched && client.watched == events) return;
  if (client.is_watched) loop_.remove(client.socket.get());
  client.is_watched = false;
  try {
    loop_.add(client.socket.get(), events, [this, id](std::uint32_t what) { proceed(id, what); });
  } catch (const os::SystemError& shortage) {
    // Of memory, or of what the kernel lets us watch: the server goes on.
    log_(Severity::Warning, fmt::format("control socket: {}", shortage.what()));
    return drop(id);
  }
  client.is_watched = true;
  client.watched = events;
}

void ControlServer::limit(Id id, Client& client, std::chrono::milliseconds time) {
  loop_.cancel(client.limit);
  client.limit = loop_.call_at(os::monotonic_now() + time, [this, id] { drop(id); });
}

void ControlServer::drop(Id id) {
  const auto found = clients_.find(id);
  if (found == clients_.end()) return;
  Client& client = found->second;
  unsent_ -= client.unsent.size() - client.sent;
  loop_.cancel(client.limit);
  if (client.is_watched) loop_.remove(client.socket.get());
  clients_.erase(found);
}

ControlServer::Client* ControlServer::find(Id id) {
  const auto found = clients_.find(id);
  return found != clients_.end() ? &found->second : nullptr;
}

}  // namespace bladepsgi::overseer
