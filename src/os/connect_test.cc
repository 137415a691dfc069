#include "os/connect.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/listener.h"
#include "os/socket.h"

namespace bladepsgi::os {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

class Connect : public ::testing::Test {
 protected:
  Connect() {
    std::array<char, 32> name{"/tmp/bladepsgi-connect-XXXXXX"};
    folder_ = ::mkdtemp(name.data());
  }

  ~Connect() override { std::filesystem::remove_all(folder_); }

  static Monotonic soon() { return monotonic_now() + milliseconds(50); }

  static Monotonic late() { return monotonic_now() + seconds(30); }

  [[nodiscard]] std::string path() const { return folder_ + "/socket"; }

  [[nodiscard]] std::unique_ptr<UnixListener> listen(int backlog) const {
    auto listener = UnixListener::create(path(), backlog, {});
    EXPECT_TRUE(listener && (*listener)->publish());
    return std::move(*listener);
  }

  std::string folder_;
};

TEST_F(Connect, ReachesWhoListens) {
  const auto listener = listen(8);
  const auto connected = connect_to_path(path(), late());
  ASSERT_TRUE(connected);
  EXPECT_FALSE(wait_readable(connected->get(), soon()));
  const Fd peer(::accept4(listener->fd(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(peer.is_open());
  ASSERT_EQ(::send(peer.get(), "x", 1, MSG_NOSIGNAL), 1);
  EXPECT_TRUE(wait_readable(connected->get(), late()));
}

TEST_F(Connect, ReachesTcpByNumberAndName) {
  for (const std::string host : {"127.0.0.1", "localhost"}) {
    const auto listeners = listen_on_tcp(host, 0, 8);
    ASSERT_TRUE(listeners);
    const std::string& name = listeners->front()->name();
    const auto port = static_cast<std::uint16_t>(std::stoi(name.substr(name.rfind(':') + 1)));
    EXPECT_TRUE(connect_to_host(host, port, late())) << host;
  }
}

TEST_F(Connect, SaysWhyNot) {
  EXPECT_EQ(connect_to_path(path(), late()).error().error, ENOENT);
  {
    auto listener = listen(8);
    listener->refuse();
    const auto refused = connect_to_path(path(), late());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().error, ECONNREFUSED);
    EXPECT_EQ(refused.error().reason, "Connection refused (ECONNREFUSED)");
  }
  EXPECT_EQ(connect_to_path(std::string(108, 'x'), late()).error().error, ENAMETOOLONG);
  const auto unknown = connect_to_host("256.0.0.1.invalid", 1, late());
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().error, 0);
  EXPECT_NE(unknown.error().reason, "");
}

TEST_F(Connect, WaitsForRoomInTheQueueUntilTheDeadline) {
  const auto listener = listen(1);
  std::vector<Fd> waiting;
  for (;;) {
    auto connected = connect_to_path(path(), soon());
    if (!connected) {
      EXPECT_EQ(connected.error().error, ETIMEDOUT);
      EXPECT_THAT(connected.error().reason, HasSubstr("ETIMEDOUT"));
      break;
    }
    waiting.push_back(std::move(*connected));
    ASSERT_LT(waiting.size(), 100U);
  }
  EXPECT_FALSE(waiting.empty());
}

TEST_F(Connect, ADeadlineThatHasPassedIsNoUnlimitedTime) {
  const auto listener = listen(1);
  const auto connected = connect_to_path(path(), monotonic_now());
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().error, ETIMEDOUT);
}

}  // namespace
}  // namespace bladepsgi::os
