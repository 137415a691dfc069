// What kind of file system a file lies on.
#pragma once

namespace bladepsgi::os {

// Reading it depends on this machine alone, so that it does not wait for another one, or for a program that may be stuck. False also when that
// cannot be told.
[[nodiscard]] bool is_local_file(int fd);

}  // namespace bladepsgi::os
