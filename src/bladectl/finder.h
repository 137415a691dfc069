// Finder: the control sockets of living servers, where servers put them by themselves.
#pragma once

#include <string>
#include <vector>

#include "control/place.h"

namespace bladepsgi::bladectl {

struct Found {
  std::vector<std::string> sockets;      // that somebody listens on
  std::vector<std::string> unreachable;  // "/run/x/812.control: Permission denied (EACCES)"
  std::vector<std::string> folders;      // that were looked at, whether they exist or not
};

[[nodiscard]] Found find_servers(const control::Surroundings& surroundings);

}  // namespace bladepsgi::bladectl
