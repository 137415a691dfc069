// ListenerSet: the sockets of a pool, from their addresses to their names.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/address.h"
#include "os/listener.h"
#include "os/socket.h"
#include "overseer/state.h"
#include "zygote/inheritance.h"

namespace bladepsgi::overseer {

struct ListenOptions {
  config::Address address;
  worker::Protocol protocol = worker::Protocol::FastCgi;
};

class ListenerSet {
 public:
  // Creates them all; with an error none is left.
  Result<void> open(const std::vector<ListenOptions>& wanted,
                    int backlog,
                    const os::SocketAccess& access);

  // In the place of open, for a trial: sockets of the same protocols on which nobody comes. Throws os::SystemError.
  void open_nowhere(const std::vector<ListenOptions>& wanted);

  // In the place of open and publish: as describe_all() has said.
  Result<void> restore(const std::vector<ListenerState>& states);
  [[nodiscard]] std::vector<ListenerState> describe_all() const;

  // Gives them their names. What has happened until an error stays until remove().
  Result<void> publish();

  [[nodiscard]] bool is_published() const { return is_published_; }

  void remove() noexcept;
  // Names are taken away and doors closed (os::Listener), of those that are ours.
  void close_doors() noexcept;
  // Then, of TCP sockets: those with nobody in their queue refuse. True: there is none left that does not. `is_late`: there was time enough for those who
  // waited when the doors were closed.
  bool refuse_where_empty(bool is_late) noexcept;
  void refuse() noexcept;

  [[nodiscard]] const std::vector<worker::Listening>& listening() const { return listening_; }

  // "http://127.0.0.1:5000/, /run/app.sock (FastCGI)"
  [[nodiscard]] std::string describe() const;
  [[nodiscard]] std::string describe(std::size_t index) const;  // one of listening()

 private:
  os::Listeners listeners_;
  std::vector<worker::Listening> listening_;  // the same ones
  std::vector<os::Listener*> emptying_;       // among them
  bool is_published_ = false;  // those that have no name to get, too: the start is over
};

}  // namespace bladepsgi::overseer
