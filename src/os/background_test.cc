#include "os/background.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include <gtest/gtest.h>

#include "os/process.h"
#include "os/signals.h"
#include "os/socket.h"

namespace bladepsgi::os {
namespace {

char read_byte(const Fd& fd) {
  char byte = 0;
  return ::read(fd.get(), &byte, 1) == 1 ? byte : '\0';
}

void write_byte(const Fd& fd, char byte) {
  ASSERT_EQ(::write(fd.get(), &byte, 1), 1);
}

TEST(RunInBackground, ReturnsWhenTheOtherIsReleased) {
  Pipe go_on = make_pipe();
  Pipe report = make_pipe();
  const pid_t session = ::getsid(0);
  EXPECT_EQ(run_in_background([&](const std::function<void()>& release) {
              release();
              const bool is_apart = ::getsid(0) == ::getpid() && ::getsid(0) != session;
              read_byte(go_on.read);  // alive after the other has returned
              write_byte(report.write, is_apart ? 'y' : 'n');
              return 7;
            }),
            0);
  write_byte(go_on.write, 'g');
  EXPECT_EQ(read_byte(report.read), 'y');
  int status = 0;
  EXPECT_GT(::wait(&status), 0);
}

TEST(RunInBackground, ReturnsTheCodeOfOneThatEnds) {
  EXPECT_EQ(run_in_background([](const std::function<void()>&) { return 3; }), 3);
  EXPECT_EQ(run_in_background([](const std::function<void()>&) -> int { ::abort(); }), 1);
}

TEST(RunInBackground, EndsTheOtherWhenItsCallerIsEnded) {
  Pipe report = make_pipe();
  const auto waiting = fork_role(Parent::Caller, [&] {
    return run_in_background([&](const std::function<void()>&) {
      SignalFd term(signal_set({SIGTERM}));
      write_byte(report.write, 's');
      while (true) {
        if (term.try_take()) break;
        ::usleep(1000);
      }
      write_byte(report.write, 't');
      return 0;
    });
  });
  ASSERT_TRUE(waiting);
  EXPECT_EQ(read_byte(report.read), 's');
  ::kill(*waiting, SIGKILL);
  EXPECT_EQ(read_byte(report.read), 't');
  int status = 0;
  EXPECT_EQ(::waitpid(*waiting, &status, 0), *waiting);
}

}  // namespace
}  // namespace bladepsgi::os
