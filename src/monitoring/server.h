// Server: answers every connection of a listening socket with a text, without waiting for anybody.
//
// A client is answered as soon as it connects. What its socket does not take at once is sent as the client reads. Then our
// side is closed (the client sees the end) and what the client still sends is thrown away until it closes too: closing
// with unread bytes there would give it an error instead of the end. All of that has a time limit, and there is a limit to the number
// of clients and to the bytes kept for them; over it the oldest is dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <string>

#include "monitoring/inheritance.h"
#include "os/event_loop.h"
#include "os/fd.h"

namespace bladepsgi::monitoring {

class Server {
 public:
  // `answer` makes the text for one client; `warn` takes one line for the log. The loop outlives the server.
  Server(os::EventLoop& loop,
         os::Fd listener,
         const Options& options,
         std::function<std::string()> answer,
         std::function<void(const std::string&)> warn);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server();

  [[nodiscard]] std::size_t clients() const { return clients_.size(); }

 private:
  struct Client {
    os::Fd socket;
    std::string text;      // what is to be sent
    std::size_t sent = 0;  // of it
    std::size_t discarded = 0;
    bool input_ended = false;
    std::uint32_t watched = 0;
    os::EventLoop::TimerId limit;
  };

  using Position = std::list<Client>::iterator;

  void listen();
  void accept_clients();
  void pause_accepting(int error);
  void greet(os::Fd socket);
  void proceed(Position client, std::uint32_t events);
  void watch(Position client);
  // Both say whether the client is still worth keeping.
  bool send(Client& client);
  static bool discard_input(Client& client);
  void drop(Position client);

  os::EventLoop& loop_;
  os::Fd listener_;
  Options options_;
  std::function<std::string()> answer_;
  std::function<void(const std::string&)> warn_;
  std::list<Client> clients_;  // oldest first
  std::size_t unsent_ = 0;     // bytes of all clients
  os::EventLoop::TimerId pause_;
  bool warned_ = false;  // about the shortage that lasts
};

}  // namespace bladepsgi::monitoring
