// Ping: asks a server that is running how it is, by the address that it was given with --health.
//
// For the health checks of containers and the like: it takes a bounded time, needs neither Perl nor an application, and says in
// one line what it found. Who points it at another socket of the server is told which one that seems to be.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bladepsgi::monitoring {

// Where the server answers: at the path, else at the first host that can be connected to.
struct Target {
  std::string name;  // for people
  std::string path;
  std::vector<std::string> hosts;
  std::uint16_t port = 0;
};

struct Finding {
  bool is_healthy = false;
  std::string text;  // one line without its end
};

[[nodiscard]] Finding ping(const Target& target, std::chrono::seconds limit);

// What is wrong when `received` is all that came and no answer about health; `has_ended`: the other side closed the connection.
[[nodiscard]] std::string diagnose(std::string_view received, bool has_ended);

}  // namespace bladepsgi::monitoring
