// Backlog: how many connections wait in the listen queue of a socket.
#pragma once

#include <cstdint>
#include <optional>

namespace bladepsgi::os {

// That nobody has accepted yet. Empty where the kernel does not tell: of a UNIX socket it is asked through sock_diag(7), which it may have been
// built without, or which a sandbox forbids.
[[nodiscard]] std::optional<std::uint32_t> waiting_connections(int listener);

}  // namespace bladepsgi::os
