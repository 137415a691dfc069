// Client: one conversation with a server over its control socket.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "base/result.h"
#include "control/protocol.h"
#include "os/clock.h"
#include "os/fd.h"

namespace bladepsgi::bladectl {

class Client {
 public:
  static Result<Client> connect(const std::string& path);

  // Asks, and waits for the outcome; `limit`, if there is one, is that for each line of the answer. The error: there was no outcome.
  Result<control::Outcome> ask(const control::Request& request,
                               std::optional<std::chrono::milliseconds> limit,
                               const std::function<void(const std::string& text)>& on_progress);

  // The process at the other end has ended. Where it cannot be watched, that its connection has ended must do.
  [[nodiscard]] bool wait_for_end(std::chrono::milliseconds limit) const;

 private:
  Client(os::Fd socket, os::Fd process)
      : socket_(std::move(socket)), process_(std::move(process)) {}

  os::Fd socket_;
  os::Fd process_;
};

}  // namespace bladepsgi::bladectl
