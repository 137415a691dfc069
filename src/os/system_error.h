// SystemError: a system call that should have worked did not.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "base/result.h"

namespace bladepsgi::os {

// "Address already in use (EADDRINUSE)".
[[nodiscard]] std::string describe_errno(int error);

// "cannot ACTION 'OBJECT': Address already in use (EADDRINUSE)"; without the object when it is empty.
[[nodiscard]] std::string describe_failure(int error,
                                           std::string_view action,
                                           std::string_view object = {});

// Retry for shortage (memory, descriptors, processes, buffers), else GiveUp.
[[nodiscard]] Remedy remedy_for(int error);

// The same as a value, for expected failures.
[[nodiscard]] Error system_failure(int error,
                                   std::string_view action,
                                   std::string_view object = {});

class SystemError : public std::runtime_error {
 public:
  // `error` is an errno value, taken before anything else could change it.
  SystemError(int error, std::string_view action, std::string_view object = {});

  [[nodiscard]] int code() const { return code_; }

 private:
  int code_;
};

// Runs `action`, which returns a Result, and makes a SystemError that it throws one that may be tried again: setting processes up takes
// descriptors and memory, and being without them for a while is no reason to end.
template <class Action>
auto attempt(const Action& action) -> decltype(action()) {
  try {
    return action();
  } catch (const SystemError& shortage) {
    return fail(Remedy::Retry, shortage.what());
  }
}

// For broken invariants (EBADF, EFAULT, impossible states): writes file, line and text to standard error and aborts.
[[noreturn]] void broken_invariant(const char* file, int line, std::string_view text);

}  // namespace bladepsgi::os
