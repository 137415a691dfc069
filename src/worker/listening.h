// Listening: a socket that workers accept from, and what is spoken on it.
#pragma once

#include <cstdint>

#include "os/listener.h"

namespace bladepsgi::worker {

enum class Protocol : std::uint8_t { FastCgi, Http };

// The descriptor is non-blocking and shared with every sibling.
struct Listening {
  int fd = -1;
  Protocol protocol = Protocol::FastCgi;
  os::Transport transport = os::Transport::Unix;
  bool is_inherited = false;      // at a stop, who waits there is left to others
  bool is_of_web_server = false;  // which has started this server with it as descriptor 0
};

}  // namespace bladepsgi::worker
