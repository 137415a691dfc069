#include "os/acceptor.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "os/clock.h"

namespace bladepsgi::os {
namespace {

using std::chrono::milliseconds;

constexpr std::chrono::seconds kDeadline{20};

// A listening socket with a name that the kernel makes up, and that address.
Fd listening(sockaddr_un& address, socklen_t& size) {
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  address = {};
  address.sun_family = AF_UNIX;
  EXPECT_EQ(
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address.sun_family),
      0);
  EXPECT_EQ(::listen(socket.get(), 128), 0);
  size = sizeof address;
  ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size);
  return socket;
}

TEST(Acceptor, GreetsEverybody) {
  sockaddr_un address{};
  socklen_t size = 0;
  Fd listener = listening(address, size);
  std::vector<Fd> clients;
  for (int i = 0; i < 40; ++i) {
    clients.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(clients.back().get(), reinterpret_cast<const sockaddr*>(&address), size),
              0);
  }
  EventLoop loop;
  std::vector<Fd> greeted;
  std::vector<std::string> lines;
  const Acceptor acceptor(
      loop, std::move(listener), "the test socket", milliseconds(10),
      [&](Fd socket) { greeted.push_back(std::move(socket)); },
      [&](const std::string& line) { lines.push_back(line); });
  loop.run_once();
  EXPECT_LT(greeted.size(), clients.size()) << "others have a turn, too";
  while (greeted.size() < clients.size())
    loop.run_once();
  EXPECT_TRUE(lines.empty());
}

// accept4 says EINVAL here, which no accept on a socket that listens does.
TEST(Acceptor, GoesOnWhateverTheError) {
  EventLoop loop;
  std::vector<std::string> lines;
  const Acceptor acceptor(
      loop, Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)), "the test socket",
      milliseconds(1), [](const Fd&) { FAIL() << "who?"; },
      [&](const std::string& line) { lines.push_back(line); });
  int turns = 0;
  bool is_over = false;
  loop.call_at(monotonic_now() + kDeadline, [&] { is_over = true; });
  while (turns < 10 && !is_over) {
    loop.run_once();
    ++turns;
  }
  EXPECT_EQ(lines, (std::vector<std::string>{
                       "cannot accept a client of the test socket: Invalid argument (EINVAL); "
                       "trying again every 1 ms"}));
}

}  // namespace
}  // namespace bladepsgi::os
