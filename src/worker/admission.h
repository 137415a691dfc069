// Admission: who may connect.
//
// File permissions and firewalls keep others away first; this is a second wall. On TCP it goes by address, on UNIX sockets by the user
// and the groups of the process that has connected (SO_PEERCRED, SO_PEERGROUPS: as they were when it did). Once anybody is named,
// whoever is not is refused, on sockets of either kind; a list that is empty names nobody.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "http/address.h"
#include "os/listener.h"

namespace bladepsgi::worker {

class Admission {
 public:
  Admission() = default;  // everybody

  // Addresses and networks ("10.0.0.0/8"), "user:NAME" and "group:NAME" (or numbers), "unix" for every peer on a UNIX socket, "*"
  // for everybody; between commas. Asks the system for the names. The error names the item that is none of these.
  [[nodiscard]] static Result<Admission> parse(std::string_view list);

  // FCGI_WEB_SERVER_ADDRS (FastCGI 1.0 §3.2): IPv4 addresses between commas. Nobody, when it is anything else.
  [[nodiscard]] static Admission web_servers(std::string_view list);

  // Whether a socket of that kind is of any use.
  [[nodiscard]] bool admits_anybody(os::Transport transport) const;

  // Nothing: the peer of that connection may stay. Else who it is, for the log: "127.0.0.2", "user 1000, group 1000"; an empty text
  // when it has gone already.
  [[nodiscard]] std::optional<std::string> refuse(int socket, os::Transport transport) const {
    if (admits_all_) return std::nullopt;
    return transport == os::Transport::Unix ? refuse_process(socket) : refuse_address(socket);
  }

 private:
  [[nodiscard]] std::optional<std::string> refuse_process(int socket) const;
  [[nodiscard]] std::optional<std::string> refuse_address(int socket) const;

  bool admits_all_ = true;
  bool admits_unix_ = false;
  std::vector<http::Network> networks_;
  std::vector<uid_t> users_;
  std::vector<gid_t> groups_;
};

}  // namespace bladepsgi::worker
