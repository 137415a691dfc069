#include "os/listener.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "os/backlog.h"
#include "os/socket.h"

namespace bladepsgi::os {
namespace {

// The error of an accept; 0: somebody was there.
int accept_one(const Listener& listener) {
  const Fd accepted(::accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC));
  return accepted.is_open() ? 0 : errno;
}

// Connected, or with the error that connecting ended in; ETIMEDOUT: in none, for a moment.
int connect_to(const Listener& listener, Fd& connection) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  ::getsockname(listener.fd(), reinterpret_cast<sockaddr*>(&address), &size);
  connection = Fd(::socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::connect(connection.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd done{.fd = connection.get(), .events = POLLOUT, .revents = 0};
  constexpr int kMoment = 200;
  if (::poll(&done, 1, kMoment) == 0) return ETIMEDOUT;
  int error = 0;
  size = sizeof error;
  ::getsockopt(connection.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

class ClosedDoor : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("listener-" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }

  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<UnixListener> unix_listener() {
    return std::move(*UnixListener::create((folder_ / "s").string(), 16, {}));
  }

  static std::unique_ptr<Listener> tcp_listener() {
    return std::move((*listen_on_tcp("127.0.0.1", 0, 16)).front());
  }

  std::filesystem::path folder_;
};

TEST_F(ClosedDoor, OfAUnixSocketKeepsTheQueueAndRefusesOthers) {
  const auto listener = unix_listener();
  std::vector<Fd> clients(3);
  for (Fd& client : clients)
    ASSERT_EQ(connect_to(*listener, client), 0);
  listener->close_door();
  Fd late;
  EXPECT_EQ(connect_to(*listener, late), ECONNREFUSED);
  for (std::size_t i = 0; i < clients.size(); ++i)
    EXPECT_EQ(accept_one(*listener), 0) << i;
  EXPECT_EQ(accept_one(*listener), EAGAIN) << "nobody is left, nor will be";
}

TEST_F(ClosedDoor, OfATcpSocketKeepsTheQueueAndLetsNobodyIn) {
  const auto listener = tcp_listener();
  std::vector<Fd> clients(3);
  for (Fd& client : clients)
    ASSERT_EQ(connect_to(*listener, client), 0);
  EXPECT_EQ(waiting_connections(listener->fd()), 3U);
  listener->close_door();
  Fd late;
  EXPECT_EQ(connect_to(*listener, late), ETIMEDOUT);
  for (std::size_t i = 0; i < clients.size(); ++i)
    EXPECT_EQ(accept_one(*listener), 0) << i;
  EXPECT_EQ(waiting_connections(listener->fd()), 0U);
  EXPECT_EQ(accept_one(*listener), EAGAIN);
  listener->refuse();
  EXPECT_EQ(accept_one(*listener), EINVAL);
  EXPECT_EQ(connect_to(*listener, late), ECONNREFUSED);
}

TEST_F(ClosedDoor, OfATcpSocketThatRefusesLeavesThePortToOthers) {
  const auto listener = tcp_listener();
  const Fd held_elsewhere(::fcntl(listener->fd(), F_DUPFD_CLOEXEC, 0));
  const std::string& name = listener->name();
  const auto port = static_cast<std::uint16_t>(std::stoi(name.substr(name.rfind(':') + 1)));
  EXPECT_FALSE(listen_on_tcp("127.0.0.1", port, 16));
  listener->close_door();
  listener->refuse();
  const auto next = listen_on_tcp("127.0.0.1", port, 16);
  ASSERT_TRUE(next);
  Fd client;
  EXPECT_EQ(connect_to(*next->front(), client), 0);
  EXPECT_EQ(accept_one(*next->front()), 0);
}

TEST_F(ClosedDoor, OfAnInheritedSocketStaysOpen) {
  const auto first = tcp_listener();
  const auto listener = adopt_listener(::fcntl(first->fd(), F_DUPFD_CLOEXEC, 0));
  ASSERT_TRUE(listener);
  EXPECT_TRUE((*listener)->is_inherited());
  EXPECT_FALSE(first->is_inherited());
  (*listener)->close_door();
  (*listener)->refuse();
  Fd client;
  EXPECT_EQ(connect_to(**listener, client), 0);
  EXPECT_EQ(accept_one(*first), 0);
}

}  // namespace
}  // namespace bladepsgi::os
