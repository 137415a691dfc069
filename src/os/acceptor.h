// Acceptor: takes the connections of a listening socket in an event loop, a few a turn, and waits a moment when that does not work.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "os/event_loop.h"
#include "os/fd.h"

namespace bladepsgi::os {

class Acceptor {
 public:
  using Greet = std::function<void(Fd socket)>;  // non-blocking, close-on-exec
  using Warn = std::function<void(const std::string& line)>;

  // `name` is that of the socket in messages ("the statistics socket"); `warn` is called once for a trouble that lasts, whatever it
  // is: nothing that can happen here is a reason for a process to end. `pause` is from one try to the next then. The
  // loop outlives the acceptor.
  Acceptor(EventLoop& loop,
           Fd listener,
           std::string name,
           std::chrono::milliseconds pause,
           Greet greet,
           Warn warn);
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;
  ~Acceptor();

 private:
  void listen();
  void accept_some();
  void pause_after(int error);

  EventLoop& loop_;
  Fd listener_;
  std::string name_;
  std::chrono::milliseconds pause_;
  Greet greet_;
  Warn warn_;
  bool is_listening_ = false;
  bool warned_ = false;  // about the trouble that lasts
  EventLoop::TimerId next_try_;
};

}  // namespace bladepsgi::os
