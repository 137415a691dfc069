#include "os/socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/process.h"

namespace bladepsgi::os {
namespace {

class UnixListenerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "listener-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }

  void TearDown() override { std::filesystem::remove_all(directory_); }

  [[nodiscard]] std::string path(const std::string& name) const { return directory_ + "/" + name; }

  static bool can_connect(const std::string& path) {
    const Fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    return ::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
           0;
  }

  std::string directory_;
};

TEST_F(UnixListenerTest, AppearsWithItsModeOnlyWhenPublishedAndGoesAtTheEnd) {
  {
    auto listener = UnixListener::create(path("s"), 8, {.mode = 0640, .owner = {}, .group = {}});
    ASSERT_TRUE(listener) << listener.error().message;
    EXPECT_FALSE(std::filesystem::exists(path("s")));
    ASSERT_TRUE((*listener)->publish());

    struct stat info {};

    ASSERT_EQ(::stat(path("s").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0640U);
    EXPECT_TRUE(can_connect(path("s")));
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

TEST_F(UnixListenerTest, AStaleSocketIsReplacedALiveOneRefused) {
  auto first = UnixListener::create(path("s"), 8, {});
  ASSERT_TRUE(first && (*first)->publish());
  const auto second = UnixListener::create(path("s"), 8, {});
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, testing::HasSubstr(path("s") + "' is in use"));

  {
    const Fd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path("stale").c_str(), sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  auto third = UnixListener::create(path("stale"), 8, {});
  ASSERT_TRUE(third) << third.error().message;
  EXPECT_TRUE((*third)->publish());
  EXPECT_TRUE(can_connect(path("stale")));
}

TEST_F(UnixListenerTest, WhatIsNoSocketIsLeftAlone) {
  std::ofstream(path("file")) << "precious";
  std::filesystem::create_symlink(path("nowhere"), path("dangling"));
  for (const char* name : {"file", "dangling"}) {
    const auto listener = UnixListener::create(path(name), 8, {});
    ASSERT_FALSE(listener) << name;
    EXPECT_THAT(listener.error().message, testing::HasSubstr(path(name)));
  }
  EXPECT_EQ(std::filesystem::file_size(path("file")), 8U);
}

TEST_F(UnixListenerTest, TheLongestPathWorksAndALongerOneIsRefused) {
  const std::size_t longest = sizeof(sockaddr_un::sun_path) - 1;
  const std::string fits = path(std::string(longest - directory_.size() - 1, 'x'));
  auto listener = UnixListener::create(fits, 8, {});
  ASSERT_TRUE(listener) << listener.error().message;
  ASSERT_TRUE((*listener)->publish());
  EXPECT_TRUE(can_connect(fits));
  const auto refused = UnixListener::create(fits + "x", 8, {});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("longer than"));
}

TEST_F(UnixListenerTest, AnotherProcessOrASuccessorsFileIsNotRemoved) {
  auto listener = UnixListener::create(path("s"), 8, {});
  ASSERT_TRUE(listener && (*listener)->publish());
  const auto child = fork_role(Parent::Caller, [&listener] {
    (*listener)->remove();
    return 0;
  });
  ASSERT_TRUE(child);
  ASSERT_EQ(::waitpid(*child, nullptr, 0), *child);
  EXPECT_TRUE(std::filesystem::exists(path("s")));

  std::filesystem::remove(path("s"));
  std::ofstream(path("s")) << "a successor's";
  (*listener)->remove();
  EXPECT_TRUE(std::filesystem::exists(path("s")));
}

TEST_F(UnixListenerTest, AnAbandonedSocketIsToldFromALivingOne) {
  {
    auto listener = UnixListener::create(path("s"), 8, {});
    ASSERT_TRUE(listener && (*listener)->publish());
    EXPECT_FALSE(is_deserted_socket(path("s")));
    std::filesystem::create_hard_link(path("s"), path("left"));
  }
  EXPECT_TRUE(is_deserted_socket(path("left")));
  EXPECT_FALSE(is_deserted_socket(path("nothing")));
  std::ofstream(path("file")) << "precious";
  EXPECT_FALSE(is_deserted_socket(path("file")));
}

TEST_F(UnixListenerTest, BothSidesKnowWhoTheOtherIs) {
  auto listener = UnixListener::create(path("s"), 8, {});
  ASSERT_TRUE(listener && (*listener)->publish());
  const Fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path("s").c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
            0);
  const Fd accepted(::accept4((*listener)->fd(), nullptr, nullptr, SOCK_CLOEXEC));
  for (const int fd : {client.get(), accepted.get()}) {
    const auto peer = peer_of(fd);
    ASSERT_TRUE(peer);
    EXPECT_EQ(peer->pid, ::getpid());
    EXPECT_EQ(peer->user, ::geteuid());
  }
  EXPECT_FALSE(peer_of(-1));
}

}  // namespace
}  // namespace bladepsgi::os
