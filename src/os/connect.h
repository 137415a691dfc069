// Connecting to somebody who listens, within a time limit.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "os/clock.h"
#include "os/fd.h"

namespace bladepsgi::os {

struct ConnectFailure {
  int error =
      0;  // an errno value, ETIMEDOUT when the deadline has passed; 0: the name has no address
  std::string reason;  // "Connection refused (ECONNREFUSED)"
};

// `path` fits into sun_path. A listener whose queue is full is waited for.
[[nodiscard]] Result<Fd, ConnectFailure> connect_to_path(const std::string& path,
                                                         Monotonic deadline);

// `host` is a name or a numeric address. Each of its addresses in turn; the failure is that of the first.
[[nodiscard]] Result<Fd, ConnectFailure> connect_to_host(const std::string& host,
                                                         std::uint16_t port,
                                                         Monotonic deadline);

// False: the deadline has passed, and there is still nothing to read, no end and no error.
[[nodiscard]] bool wait_readable(int fd, Monotonic deadline);

}  // namespace bladepsgi::os
