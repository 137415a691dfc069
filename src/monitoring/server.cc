#include "monitoring/server.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "os/clock.h"
#include "os/system_error.h"

namespace bladepsgi::monitoring {
namespace {

constexpr std::size_t kMostReceived = std::size_t{16} << 10;  // of a request
constexpr std::size_t kMostInput = std::size_t{1} << 20;  // from a client that has nothing to say

}  // namespace

Server::Server(os::EventLoop& loop,
               os::Fd listener,
               const Options& options,
               const std::string& name,
               Answer answer,
               std::function<void(const std::string&)> warn)
    : loop_(loop), options_(options), answer_(std::move(answer)) {
  acceptor_.emplace(
      loop, std::move(listener), "the " + name, options.accept_pause,
      [this](os::Fd socket) { greet(std::move(socket)); }, std::move(warn));
}

Server::~Server() {
  while (!clients_.empty())
    drop(clients_.begin());
}

void Server::greet(os::Fd socket) {
  const Position client = clients_.emplace(clients_.end());
  client->socket = std::move(socket);
  try_answer(*client);
  client->limit =
      loop_.call_at(os::monotonic_now() + options_.client_limit, [this, client] { drop(client); });
  proceed(client, EPOLLOUT);
  while (clients_.size() > options_.most_clients ||
         (unsent_ > options_.most_unsent_bytes && clients_.size() > 1)) {
    drop(clients_.begin());
  }
}

void Server::proceed(Position client, std::uint32_t events) {
  if ((events & (EPOLLERR | EPOLLHUP)) != 0) return drop(client);
  if ((events & EPOLLOUT) != 0 && !send(*client)) return drop(client);
  if ((events & EPOLLIN) != 0 && !receive(*client)) return drop(client);
  if (client->input_ended && client->sent == client->text.size()) return drop(client);
  watch(client);
}

void Server::watch(Position client) {
  // Only what can change something: a client that has closed its side, but is slow to read, is readable for ever.
  const std::uint32_t wanted = (client->input_ended ? 0U : std::uint32_t{EPOLLIN}) |
                               (client->sent < client->text.size() ? std::uint32_t{EPOLLOUT} : 0U);
  if (wanted == client->watched) return;
  if (client->watched != 0) loop_.remove(client->socket.get());
  client->watched = wanted;
  loop_.add(client->socket.get(), wanted,
            [this, client](std::uint32_t events) { proceed(client, events); });
}

void Server::try_answer(Client& client) {
  auto text = answer_(client.received);
  if (!text) return;
  client.is_answered = true;
  client.received = {};
  client.text = std::move(*text);
  unsent_ += client.text.size();
}

bool Server::send(Client& client) {
  if (!client.is_answered) return true;
  while (client.sent < client.text.size()) {
    const ssize_t count = ::send(client.socket.get(), client.text.data() + client.sent,
                                 client.text.size() - client.sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM;
    client.sent += static_cast<std::size_t>(count);
    unsent_ -= static_cast<std::size_t>(count);
  }
  ::shutdown(client.socket.get(), SHUT_WR);
  return true;
}

bool Server::receive(Client& client) {
  std::array<char, 4096> bytes{};
  const ssize_t count = ::recv(client.socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  if (count == 0) client.input_ended = true;
  const auto size = static_cast<std::size_t>(count);
  if (!client.is_answered) {
    client.received.append(bytes.data(), size);
    try_answer(client);
    if (client.is_answered) return send(client);
    return !client.input_ended && client.received.size() <= kMostReceived;
  }
  client.discarded += size;
  return client.discarded <= kMostInput;
}

void Server::drop(Position client) {
  unsent_ -= client->text.size() - client->sent;
  loop_.cancel(client->limit);
  if (client->watched != 0) loop_.remove(client->socket.get());
  clients_.erase(client);
}

}  // namespace bladepsgi::monitoring
