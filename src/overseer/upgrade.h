// Upgrade: how another version of the program takes this one's place, with the same pid and the same children.
//
//   1. The check. The file that this program was started from is run as a child, with the same arguments. It reads the state record, sees whether
//      it could go on with it, loads the application in a zygote of its own and has a worker answer --probe, and says what came of that on
//      a pipe. It touches no socket, no file and nothing that is shared.
//   2. The exec. This process becomes that program. What it has is in the record, its descriptors are left open, and its children do not
//      notice: their parent, to whom their parent-death signal is tied, is the same process.
//   3. There, an ordinary reload makes workers of the new program.
//
// Whatever fails before the exec leaves everything as it was. In 1 the program is one that nobody knows, so nothing that it does or does not do is
// relied upon.
//
// The record travels in a sealed memfd, whose number stands in an environment variable that is taken out again at once.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "control/protocol.h"
#include "os/event_loop.h"
#include "os/fd.h"
#include "os/log.h"
#include "os/process.h"
#include "overseer/state.h"

namespace bladepsgi::overseer {

// How this program was started, and will be again.
struct Invocation {
  std::string program;  // path of the file; empty: it is not known
  std::vector<std::string> arguments;
};

// Which file `program` means, and in which state it is: two that are equal run the same program. Error: it cannot be said.
struct ProgramIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::int64_t size = 0;
  std::int64_t changed_seconds = 0;
  std::int64_t changed_nanoseconds = 0;

  bool operator==(const ProgramIdentity&) const = default;
};

[[nodiscard]] Result<ProgramIdentity> identify(const Invocation& invocation);

// Of main's arguments, before anything changes them. A symbolic link is kept as it is, so that the file that it will mean then is what is run.
[[nodiscard]] Invocation find_invocation(int argc, const char* const* argv);

// What this program was started for by another one.
struct UpgradeOrder {
  enum class Kind : unsigned char { Check, TakeOver };

  Kind kind = Kind::Check;
  State state;
};

// Takes the order out of the environment. Empty: there is none. The error is for a check, too: it has been said to who waits for its outcome as
// far as that was possible.
[[nodiscard]] Result<std::optional<UpgradeOrder>> take_upgrade_order();

// To whoever has started this check.
void report_check(const State& state, const control::Outcome& outcome);

// Step 1, as the running program sees it.
class UpgradeCheck {
 public:
  struct Environment {
    os::EventLoop* loop = nullptr;
    std::function<void(std::string_view line)> on_line;               // what it says beside the log
    std::function<void(const control::Outcome& outcome)> on_outcome;  // once, when it has ended
  };

  // Error: it cannot be started. `state` is without `check`.
  static Result<std::unique_ptr<UpgradeCheck>> start(const Invocation& invocation,
                                                     State state,
                                                     std::chrono::milliseconds limit,
                                                     Environment environment);

  UpgradeCheck(const UpgradeCheck&) = delete;
  UpgradeCheck& operator=(const UpgradeCheck&) = delete;
  ~UpgradeCheck();  // kills it; somebody else reaps it

  // True when the pid was its. on_outcome may be called, and this object may be gone afterwards.
  bool on_reaped(os::Ended ended);

 private:
  UpgradeCheck(Environment environment, std::chrono::milliseconds limit);

  void read_lines();
  void read_outcome();
  void read_failure();

  Environment environment_;
  std::string program_;
  std::chrono::milliseconds limit_;
  os::Child child_;
  os::Fd output_;
  os::Fd outcome_;
  os::Fd failure_;  // closed by the exec; errno when there is none
  int exec_error_ = 0;
  os::LineSplitter lines_;
  std::string last_line_;
  std::string said_;
  bool is_overdue_ = false;
  os::EventLoop::TimerId deadline_;
};

// Step 2. Returns only when it has failed; everything is as it was then.
[[nodiscard]] Error become_program(const Invocation& invocation, const State& state);

}  // namespace bladepsgi::overseer
