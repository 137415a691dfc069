// Background: leaving the caller's terminal and shell behind, once there is something to leave.
#pragma once

#include <functional>

namespace bladepsgi::os {

// Runs `body` in a process with a session of its own. This process waits until `body` calls `release`, and then returns 0;
// when `body` has ended before, the code that it returned. Should this process be ended while it waits, the other gets SIGTERM.
// Throws SystemError.
int run_in_background(const std::function<int(const std::function<void()>& release)>& body);

}  // namespace bladepsgi::os
