// Handles: what a process holds open, to find what an application opened while it loaded.
#pragma once

#include <string>
#include <vector>

namespace bladepsgi::zygote {

[[nodiscard]] std::vector<int> open_descriptors();

// "socket 7 connected to 127.0.0.1:5432"; empty when it is no socket.
[[nodiscard]] std::string describe_socket(int fd);

}  // namespace bladepsgi::zygote
