#include "worker/connection_io.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <string>

#include <gtest/gtest.h>

namespace bladepsgi::worker {
namespace {

using std::chrono::milliseconds;

class NoInput : public WhileSending {
 public:
  WritableBytes input_space() noexcept override { return {}; }

  void input_received(std::size_t) noexcept override { ADD_FAILURE(); }

  std::optional<std::chrono::nanoseconds> on_stall(
      std::chrono::nanoseconds /*waited*/) noexcept override {
    return std::chrono::nanoseconds::max();
  }
};

class ConnectionIoTest : public ::testing::Test {
 protected:
  ConnectionIoTest() {
    std::array<int, 2> fds{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()), 0);
    io.attach(os::Fd(fds[0]), Transport::Unix);
    peer = os::Fd(fds[1]);
  }

  ConnectionIo io;
  os::Fd peer;
  NoInput no_input;
};

TEST_F(ConnectionIoTest, SendingAFileToNobodyRaisesNoSignal) {
  ASSERT_NE(::signal(SIGPIPE, SIG_DFL), SIG_ERR);
  const os::Fd file(::memfd_create("content", MFD_CLOEXEC));
  ASSERT_EQ(::write(file.get(), "content", 7), 7);
  peer.reset();
  {
    BrokenPipeGuard guard;
    off_t offset = 0;
    EXPECT_EQ(io.send_file(file.get(), &offset, 7, milliseconds(0), no_input, guard), EPIPE);
  }
  sigset_t mask;
  ASSERT_EQ(::pthread_sigmask(SIG_BLOCK, nullptr, &mask), 0);
  EXPECT_EQ(sigismember(&mask, SIGPIPE), 0);
}

TEST_F(ConnectionIoTest, FileThatEndsEarlyIsTold) {
  const os::Fd file(::memfd_create("content", MFD_CLOEXEC));
  ASSERT_EQ(::write(file.get(), "content", 7), 7);
  BrokenPipeGuard guard;
  off_t offset = 2;
  EXPECT_EQ(io.send_file(file.get(), &offset, 100, milliseconds(0), no_input, guard), ENODATA);
  EXPECT_EQ(offset, 7);
  EXPECT_EQ(io.bytes_sent(), 5U);
}

TEST_F(ConnectionIoTest, ReceivingNeverWaitsAndTellsEndFromNothing) {
  std::array<char, 4> first{};
  std::array<char, 4> second{};
  std::array<iovec, 2> into = {iovec{first.data(), 4}, iovec{second.data(), 4}};
  EXPECT_FALSE(io.try_receive(into));
  ASSERT_EQ(::send(peer.get(), "012345", 6, 0), 6);
  EXPECT_EQ(io.try_receive(into), 6);
  EXPECT_EQ(std::string(first.data(), 4) + std::string(second.data(), 2), "012345");
  peer.reset();
  EXPECT_EQ(io.try_receive(into), 0);
  EXPECT_EQ(io.bytes_received(), 6U);
}

TEST_F(ConnectionIoTest, WaitTellsWhatEndedIt) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  const os::Fd reading(pipe[0]);
  const os::Fd writing(pipe[1]);
  const auto later = os::monotonic_now() + milliseconds(20'000);
  EXPECT_EQ(io.wait(POLLIN, os::monotonic_now(), reading.get()), ConnectionIo::Wait::TimedOut);
  ASSERT_EQ(::write(writing.get(), "x", 1), 1);
  EXPECT_EQ(io.wait(POLLIN, later, reading.get()), ConnectionIo::Wait::Woken);
  ASSERT_EQ(::send(peer.get(), "x", 1, 0), 1);
  EXPECT_EQ(io.wait(POLLIN, later, reading.get()), ConnectionIo::Wait::Ready);
}

TEST_F(ConnectionIoTest, PeerThatDoesNotReadTimesOut) {
  const std::string much(4'000'000, 'x');
  iovec vector{const_cast<char*>(much.data()), much.size()};
  EXPECT_EQ(io.send({&vector, 1}, 0, milliseconds(5), no_input), ETIMEDOUT);
}

TEST_F(ConnectionIoTest, MoreFitsThanTheKernelGivesByItself) {
  std::array<int, 2> fds{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()), 0);
  const os::Fd plain(fds[0]);
  const os::Fd its_peer(fds[1]);
  const std::string much(8'000'000, 'x');
  std::uint64_t fits = 0;
  for (ssize_t sent = 0; sent >= 0; fits += static_cast<std::uint64_t>(std::max(sent, ssize_t{0})))
    sent = ::send(plain.get(), much.data(), much.size(), MSG_DONTWAIT);
  iovec vector{const_cast<char*>(much.data()), much.size()};
  EXPECT_EQ(io.send({&vector, 1}, 0, milliseconds(0), no_input), ETIMEDOUT);
  EXPECT_GT(io.bytes_sent(), fits);
}

TEST_F(ConnectionIoTest, HalfClosedPeerIsNotGone) {
  EXPECT_FALSE(io.is_peer_gone());
  ::shutdown(peer.get(), SHUT_WR);
  EXPECT_FALSE(io.is_peer_gone());
  peer.reset();
  EXPECT_TRUE(io.is_peer_gone());
}

TEST_F(ConnectionIoTest, ClosingAfterReadingIsBoundedInBytesAndTime) {
  std::array<std::byte, 16> scratch{};
  ASSERT_EQ(::send(peer.get(), "more than the limit", 19, 0), 19);
  io.close_after_reading(3, milliseconds(20'000), scratch);
  EXPECT_FALSE(io.is_open());
  std::array<int, 2> fds{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()), 0);
  io.attach(os::Fd(fds[0]), Transport::Unix);
  const os::Fd silent(fds[1]);
  io.close_after_reading(1000, milliseconds(5), scratch);
  EXPECT_FALSE(io.is_open());
}

TEST_F(ConnectionIoTest, WhatHasComeBeforeComesFirst) {
  std::array<int, 2> fds{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()), 0);
  const os::Fd other(fds[1]);
  const std::string before = "before, ";
  const Bytes bytes = as_bytes(before);
  io.attach(os::Fd(fds[0]), Transport::Unix, {bytes.begin(), bytes.end()});
  ASSERT_EQ(::write(other.get(), "after", 5), 5);
  std::string all;
  std::array<char, 5> here{};
  while (all.size() < 13) {
    std::array<iovec, 2> into{iovec{here.data(), 2}, iovec{here.data() + 2, 3}};
    const auto size = io.try_receive(into);
    ASSERT_TRUE(size && *size > 0);
    all.append(here.data(), static_cast<std::size_t>(*size));
  }
  EXPECT_EQ(all, "before, after");
  EXPECT_TRUE(io.received_before().empty());
  EXPECT_EQ(io.bytes_received(), 13U);
}

}  // namespace
}  // namespace bladepsgi::worker
