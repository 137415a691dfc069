// Place: where a control socket lies when nobody says it: PID.control in a folder that server and client both know.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bladepsgi::control {

inline constexpr std::string_view kSuffix = ".control";

// Of the process that asks. An empty variable is one that is not set.
struct Surroundings {
  std::string runtime_directory{};       // RUNTIME_DIRECTORY: systemd's, folders between colons
  std::string user_runtime_directory{};  // XDG_RUNTIME_DIR
  bool is_root = false;
};

struct Place {
  std::string directory;
  bool is_ours = false;  // made when it is not there, taken away when it is empty
};

// Of a server; empty: there is none.
[[nodiscard]] std::optional<Place> place_of_server(const Surroundings& surroundings);

// Where a client looks; besides, in every folder of /run, where systemd makes those of services.
[[nodiscard]] std::vector<std::string> places_of_client(const Surroundings& surroundings);

// "812.control"
[[nodiscard]] std::string socket_name(pid_t pid);
// Empty: no such name.
[[nodiscard]] std::optional<pid_t> pid_of(std::string_view name);

}  // namespace bladepsgi::control
