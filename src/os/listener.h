// Listeners: sockets that wait for connections, whatever their address family and whoever made them.
//
// Non-blocking and close-on-exec. One of a UNIX path becomes visible only by publish(), when somebody answers on it; one of TCP is
// there when it has been created; one that was inherited belongs to whoever started us, and is neither named nor removed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "os/fd.h"
#include "os/file_identity.h"

namespace bladepsgi::os {

enum class Transport : std::uint8_t { Unix, Tcp };

// All that another program has to know that goes on in this process, with this descriptor (overseer/upgrade.h).
struct ListenerRecord {
  enum class Kind : std::uint8_t { Unix, Tcp, Inherited };

  Kind kind = Kind::Tcp;
  int fd = -1;
  Transport transport = Transport::Tcp;
  std::string name;
  FileIdentity file{};  // of a UNIX path that is ours
  bool is_published = true;
};

class Listener {
 public:
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  virtual ~Listener() = default;

  [[nodiscard]] int fd() const { return fd_.get(); }

  [[nodiscard]] Transport transport() const { return transport_; }

  // For people: the path, "127.0.0.1:8080", "[::1]:8080".
  [[nodiscard]] const std::string& name() const { return name_; }

  // From now on who connects to the name reaches this socket.
  virtual Result<void> publish() { return {}; }

  // Somebody else's, who goes on with it.
  [[nodiscard]] virtual bool is_inherited() const { return false; }

  // Nobody new gets in, but who is in the queue already stays there and can be accepted; if it is ours. On a UNIX socket connecting is
  // refused from now on, and an accept that finds nobody has seen the end. On a TCP socket nothing answers who connects, until it
  // is known that the queue is empty (os/backlog.h) and refuse() is called.
  virtual void close_door() noexcept;

  // The door lets nobody in; false: one at a time, whenever the queue is empty, for want of memory or rights.
  [[nodiscard]] bool is_door_tight() const { return is_door_tight_; }

  // Who connects from now on is refused, whoever else holds this socket, and who waits is lost; if it is ours. Accepting from it is an
  // error then (EINVAL).
  virtual void refuse() noexcept;

  [[nodiscard]] virtual ListenerRecord record() const = 0;

  // Takes the name away, if it is ours.
  virtual void remove() noexcept {}

 protected:
  Listener(Fd fd, Transport transport, std::string name)
      : fd_(std::move(fd)), transport_(transport), name_(std::move(name)) {}

 private:
  Fd fd_;
  Transport transport_;
  std::string name_;
  bool is_door_tight_ = true;
};

using Listeners = std::vector<std::unique_ptr<Listener>>;

// One for each address that `host` has; empty: every interface. Port 0: one that is free, see name(). At least one, or the error.
Result<Listeners> listen_on_tcp(const std::string& host, std::uint16_t port, int backlog);

// A socket that was listening when this process was started, on descriptor `fd`, which is taken over. Error: it is none.
Result<std::unique_ptr<Listener>> adopt_listener(int fd);

// One that nobody finds: of a UNIX address that the kernel chooses, in no file system. Throws SystemError.
[[nodiscard]] std::unique_ptr<Listener> listen_nowhere();

// As it was before this process became another program; takes the descriptor over. Error: it is none.
Result<std::unique_ptr<Listener>> restore_listener(const ListenerRecord& record);

// Descriptor `fd` is a stream socket that listens.
[[nodiscard]] bool is_listening_socket(int fd);

}  // namespace bladepsgi::os
