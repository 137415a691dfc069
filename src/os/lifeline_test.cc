#include "os/lifeline.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <optional>

#include <gtest/gtest.h>

#include "os/privileges.h"
#include "os/process.h"
#include "os/signals.h"
#include "os/socket.h"

namespace bladepsgi::os {
namespace {

constexpr uid_t kNobody = 65534;

enum class Become { Same, Nobody, NobodyBefore };

// A holder with one child tied to it, which reports its pid and waits. Killing the holder must end the child: this test is a
// subreaper meanwhile, so it reaps both.
void expect_death_with_the_holder(Become become) {
  become_subreaper();
  Pipe report = make_pipe();
  const auto holder = fork_role(Parent::Caller, [&report, become]() -> int {
    const Lifeline lifeline;
    const auto child = fork_role(Parent::Caller, [&]() -> int {
      close_all_except({lifeline.descriptor(), report.write.get()});
      if (become == Become::NobodyBefore && ::setuid(kNobody) != 0) return 1;
      const Fd tie = tie_to(lifeline.descriptor());
      if (!tie.is_open()) return 2;
      if (become == Become::Nobody && ::setuid(kNobody) != 0) return 1;
      unblock_all_signals();
      const pid_t self = ::getpid();
      if (::write(report.write.get(), &self, sizeof self) != sizeof self) return 3;
      while (true)
        ::pause();
    });
    if (!child) return 1;
    unblock_all_signals();
    while (true)
      ::pause();
  });
  ASSERT_TRUE(holder);
  report.write.reset();
  pid_t child = 0;
  ASSERT_EQ(::read(report.read.get(), &child, sizeof child), static_cast<ssize_t>(sizeof child));
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, WNOHANG), -1) << "it is the holder's child";
  ::kill(*holder, SIGKILL);
  ASSERT_EQ(::waitpid(*holder, &status, 0), *holder);
  ASSERT_EQ(::waitpid(child, &status, 0), child);  // the test's time limit is the deadline
  EXPECT_EQ(describe_status(status), "signal 9 (SIGKILL)");
  ::prctl(PR_SET_CHILD_SUBREAPER, 0);
}

TEST(Lifeline, WhoIsTiedDiesWithTheHolder) {
  expect_death_with_the_holder(Become::Same);
}

TEST(Lifeline, AChangeOfUserDoesNotCutIt) {
  if (!is_root()) GTEST_SKIP() << "only root can become somebody else";
  expect_death_with_the_holder(Become::Nobody);
}

TEST(Lifeline, WhoHasGivenRootUpCanTieItself) {
  if (!is_root()) GTEST_SKIP() << "only root can become somebody else";
  expect_death_with_the_holder(Become::NobodyBefore);
}

TEST(Lifeline, EndsWhoComesTooLate) {
  std::optional<Lifeline> lifeline(std::in_place);
  const int late = ::dup(lifeline->descriptor());
  lifeline.reset();
  const auto child = fork_role(Parent::Caller, [late] { return tie_to(late).is_open() ? 0 : 2; });
  ASSERT_TRUE(child);
  int status = 0;
  ASSERT_EQ(::waitpid(*child, &status, 0), *child);
  EXPECT_EQ(describe_status(status), "exit code 1");
  ::close(late);
}

}  // namespace
}  // namespace bladepsgi::os
