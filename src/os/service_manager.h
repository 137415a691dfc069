// ServiceManager: tells whoever has started this process what has become of it, as systemd wants to know it: sd_notify(3),
// sd_watchdog_enabled(3). Datagrams to the socket that NOTIFY_SOCKET names; nobody is told without one.
//
// Nothing here waits, and nobody is told whether it has worked: a manager that does not read is no reason to do anything else.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "os/fd.h"

namespace bladepsgi::os {

class ServiceManager {
 public:
  // As the environment variables NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID say, which stay as they are.
  [[nodiscard]] static ServiceManager from_environment();

  // Of what has been started from here, whose business it is not.
  static void forget_in_environment();

  // `notify_socket`: a path, or a name after '@' for one that no file system has; empty: nobody is told.
  explicit ServiceManager(std::string_view notify_socket,
                          std::optional<std::chrono::microseconds> watchdog = {});

  [[nodiscard]] bool is_there() const { return socket_.is_open(); }

  // All with a text for people, in one line; empty: what was said last stays.
  void ready(
      std::string_view status) const;  // serves; also the end of a reload, whatever has come of it
  void reloading(std::string_view status) const;  // until ready()
  void stopping(std::string_view status) const;
  void note(std::string_view status) const;

  // That this process goes on, to be said that often; empty: nobody waits for it.
  [[nodiscard]] std::optional<std::chrono::microseconds> alive_interval() const {
    return alive_interval_;
  }

  void alive() const;

 private:
  void say(std::string_view state, std::string_view status) const;

  Fd socket_;
  std::string address_;
  std::optional<std::chrono::microseconds> alive_interval_;
};

}  // namespace bladepsgi::os
