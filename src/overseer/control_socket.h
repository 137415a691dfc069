// ControlSocket: the control socket's file, from the folder it lies in to its removal.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "os/fd.h"
#include "os/socket.h"
#include "overseer/state.h"

namespace bladepsgi::overseer {

struct ControlPlace {
  std::string path;         // as asked for; else empty
  std::string directory{};  // for PID.control; empty: nowhere
  bool is_ours = false;  // the folder is made when it is not there, and taken away when it is empty

  [[nodiscard]] bool is_anywhere() const { return !path.empty() || !directory.empty(); }
};

class ControlSocket {
 public:
  // What servers that were killed have left in our folder is swept away.
  static Result<ControlSocket> create(const ControlPlace& place);

  // Goes on with that of the program that this process was before.
  static ControlSocket restore(const ControlState& state) {
    return {os::UnixListener::restore(state.listener), state.directory};
  }

  [[nodiscard]] ControlState describe() const {
    return {.listener = listener_->record(), .directory = directory_, .clients = {}};
  }

  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;
  ControlSocket(ControlSocket&&) = default;
  ControlSocket& operator=(ControlSocket&&) = default;
  ~ControlSocket();

  // A descriptor of its own.
  [[nodiscard]] os::Fd descriptor() const;

  [[nodiscard]] const std::string& path() const { return listener_->path(); }

 private:
  ControlSocket(std::unique_ptr<os::UnixListener> listener, std::string directory)
      : listener_(std::move(listener)), directory_(std::move(directory)) {}

  std::unique_ptr<os::UnixListener> listener_;
  std::string directory_;  // ours; empty: it is not
};

}  // namespace bladepsgi::overseer
