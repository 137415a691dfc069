#include "os/process.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>

#include <gtest/gtest.h>

#include "os/clock.h"
#include "os/connect.h"
#include "os/signals.h"
#include "os/socket.h"
#include "os/system_error.h"

namespace bladepsgi::os {
namespace {

int wait_for(pid_t pid) {
  int status = 0;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  return status;
}

TEST(ForkRole, EndsTheChildWithTheValueReturned) {
  const auto pid = fork_role(Parent::Caller, [] { return 7; });
  ASSERT_TRUE(pid);
  EXPECT_EQ(describe_status(wait_for(*pid)), "exit code 7");
}

TEST(ForkRole, AnExceptionEndsTheChildAlone) {
  const auto pid = fork_role(Parent::Caller, []() -> int {
    ::close(STDERR_FILENO);  // the message is not for this test's output
    throw SystemError(ENOENT, "do something");
  });
  ASSERT_TRUE(pid);
  EXPECT_EQ(describe_status(wait_for(*pid)), "exit code 1");
}

TEST(ForkRole, ASiblingIsReapedByTheCallersParentAndOutlivesTheCaller) {
  Pipe pipe = make_pipe();
  const auto middle = fork_role(Parent::Caller, [&pipe] {
    const pid_t overseer = ::getppid();
    const auto sibling = fork_role(Parent::CallersParent, [overseer] {
      die_with_parent(overseer);
      unblock_all_signals();
      while (true)
        ::pause();
      return 0;
    });
    if (!sibling) return 1;
    return ::write(pipe.write.get(), &*sibling, sizeof *sibling) == sizeof *sibling ? 0 : 1;
  });
  ASSERT_TRUE(middle);
  pid_t sibling = 0;
  ASSERT_EQ(::read(pipe.read.get(), &sibling, sizeof sibling),
            static_cast<ssize_t>(sizeof sibling));
  EXPECT_EQ(describe_status(wait_for(*middle)), "exit code 0");
  int status = 0;
  EXPECT_EQ(::waitpid(sibling, &status, WNOHANG), 0) << "it died with the process that made it";
  ::kill(sibling, SIGTERM);
  EXPECT_EQ(describe_status(wait_for(sibling)), "signal 15 (SIGTERM)");
}

TEST(ForkRole, SignalsAreBlockedUntilTheChildSaysOtherwise) {
  const auto pid = fork_role(Parent::Caller, [] {
    sigset_t mask;
    ::sigprocmask(SIG_SETMASK, nullptr, &mask);
    return ::sigismember(&mask, SIGTERM) == 1 ? 0 : 1;
  });
  ASSERT_TRUE(pid);
  EXPECT_EQ(wait_for(*pid), 0);
}

TEST(CloseAllExcept, KeepsTheNamedDescriptorsOnly) {
  const auto pid = fork_role(Parent::Caller, []() -> int {
    Pipe first = make_pipe();
    Pipe second = make_pipe();
    close_all_except({second.write.get(), first.read.get()});
    const bool kept =
        ::fcntl(first.read.get(), F_GETFD) >= 0 && ::fcntl(second.write.get(), F_GETFD) >= 0;
    const bool closed =
        ::fcntl(first.write.get(), F_GETFD) < 0 && ::fcntl(second.read.get(), F_GETFD) < 0;
    ::_exit(kept && closed ? 0 : 1);  // not through the destructors of what was closed
  });
  ASSERT_TRUE(pid);
  EXPECT_EQ(wait_for(*pid), 0);
}

TEST(ThreadCount, IsOneHere) {
  EXPECT_EQ(thread_count(), 1U);
}

TEST(WatchProcess, IsReadableAtItsEnd) {
  auto [ours, theirs] = make_message_pair();
  const auto pid = fork_role(Parent::Caller, [&, &ours = ours, &theirs = theirs] {
    ours.reset();
    char byte = 0;
    return static_cast<int>(::read(theirs.get(), &byte, 1));
  });
  ASSERT_TRUE(pid);
  theirs.reset();
  const Fd watch = watch_process(*pid);
  ASSERT_TRUE(watch.is_open());
  EXPECT_FALSE(wait_readable(watch.get(), monotonic_now()));
  ours.reset();
  EXPECT_TRUE(wait_readable(watch.get(), monotonic_now() + std::chrono::seconds(30)));
  ASSERT_EQ(::waitpid(*pid, nullptr, 0), *pid);
  EXPECT_FALSE(watch_process(*pid).is_open());
  EXPECT_FALSE(watch_process(0).is_open());
}

TEST(DescribeStatus, NamesSignals) {
  const auto pid = fork_role(Parent::Caller, [] {
    unblock_all_signals();
    ::raise(SIGKILL);
    return 0;
  });
  ASSERT_TRUE(pid);
  EXPECT_EQ(describe_status(wait_for(*pid)), "signal 9 (SIGKILL)");
}

TEST(Messages, CarryDescriptors) {
  auto [left, right] = make_message_pair();
  Pipe pipe = make_pipe();
  const std::array<int, 1> fds{pipe.write.get()};
  ASSERT_TRUE(send_message(left.get(), as_bytes("hello"), fds));
  std::array<std::byte, 64> buffer{};
  auto received = receive_message(right.get(), buffer);
  ASSERT_TRUE(received && *received);
  EXPECT_EQ(as_text(Bytes(buffer).first((*received)->size)), "hello");
  ASSERT_EQ((*received)->fds.size(), 1U);
  pipe.write.reset();
  ASSERT_EQ(::write((*received)->fds[0].get(), "x", 1), 1);
  char c = 0;
  EXPECT_EQ(::read(pipe.read.get(), &c, 1), 1);
  EXPECT_NE(::fcntl((*received)->fds[0].get(), F_GETFD) & FD_CLOEXEC, 0);

  left.reset();
  received = receive_message(right.get(), buffer);
  ASSERT_TRUE(received && *received);
  EXPECT_EQ((*received)->size, 0U);
}

}  // namespace
}  // namespace bladepsgi::os
