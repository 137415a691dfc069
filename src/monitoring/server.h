// Server: answers every connection of a listening socket with a text, without waiting for anybody.
//
// A client is answered as soon as what it has sent is enough for an answer, which may be nothing. What its socket does not take at once is sent as the client reads. Then our
// side is closed (the client sees the end) and what the client still sends is thrown away until it closes too: closing
// with unread bytes there would give it an error instead of the end. All of that has a time limit, and there is a limit to the number
// of clients and to the bytes kept for them; over it the oldest is dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <string_view>

#include "monitoring/inheritance.h"
#include "os/acceptor.h"
#include "os/event_loop.h"
#include "os/fd.h"

namespace bladepsgi::monitoring {

class Server {
 public:
  // The text for a client that has sent so much; empty: it has to send more.
  using Answer = std::function<std::optional<std::string>(std::string_view received)>;

  // `name` is that of the socket in log lines; `warn` takes one line for the log. The loop outlives the server.
  Server(os::EventLoop& loop,
         os::Fd listener,
         const Options& options,
         const std::string& name,
         Answer answer,
         std::function<void(const std::string&)> warn);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server();

  // Whoever is connected is still answered.
  void stop_accepting() { acceptor_.reset(); }

  [[nodiscard]] std::size_t clients() const { return clients_.size(); }

 private:
  struct Client {
    os::Fd socket;
    std::string received;  // until there is an answer to it
    bool is_answered = false;
    std::string text;      // what is to be sent
    std::size_t sent = 0;  // of it
    std::size_t discarded = 0;
    bool input_ended = false;
    std::uint32_t watched = 0;
    os::EventLoop::TimerId limit;
  };

  using Position = std::list<Client>::iterator;

  void greet(os::Fd socket);
  void proceed(Position client, std::uint32_t events);
  void watch(Position client);
  // Both say whether the client is still worth keeping.
  bool send(Client& client);
  bool receive(Client& client);
  void try_answer(Client& client);
  void drop(Position client);

  os::EventLoop& loop_;
  Options options_;
  Answer answer_;
  std::list<Client> clients_;  // oldest first
  std::size_t unsent_ = 0;     // bytes of all clients
  std::optional<os::Acceptor> acceptor_;
};

}  // namespace bladepsgi::monitoring
