#include "overseer/control_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/place.h"
#include "os/connect.h"

namespace bladepsgi::overseer {
namespace {

namespace fs = std::filesystem;

class ControlSocketTest : public ::testing::Test {
 protected:
  ControlSocketTest() {
    std::string pattern = (fs::temp_directory_path() / "control-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
    folder_ = root_ + "/bladepsgi";
  }

  ~ControlSocketTest() override { fs::remove_all(root_); }

  ControlSocketTest(const ControlSocketTest&) = delete;
  ControlSocketTest& operator=(const ControlSocketTest&) = delete;

  [[nodiscard]] ControlPlace ours() const {
    return {.path = {}, .directory = folder_, .is_ours = true};
  }

  [[nodiscard]] std::string path() const {
    return folder_ + "/" + control::socket_name(::getpid());
  }

  static bool can_connect(const std::string& path) {
    return os::connect_to_path(path, os::monotonic_now() + std::chrono::seconds(10)).has_value();
  }

  static mode_t mode_of(const std::string& path) {
    struct stat info {};

    return ::stat(path.c_str(), &info) == 0 ? info.st_mode & 07777U : 0U;
  }

  // What a server that was killed leaves.
  static void desert(const std::string& path) {
    const os::Fd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }

  std::string root_;
  std::string folder_;
};

TEST_F(ControlSocketTest, IsThereAsLongAsItLivesAndTheFolderWithIt) {
  {
    const mode_t mask = ::umask(0);
    const auto socket = ControlSocket::create(ours());
    ::umask(mask);
    ASSERT_TRUE(socket) << socket.error().message;
    EXPECT_EQ(socket->path(), path());
    EXPECT_TRUE(can_connect(path()));
    EXPECT_EQ(mode_of(path()), 0600U);
    EXPECT_EQ(mode_of(folder_), 0711U);
  }
  EXPECT_FALSE(fs::exists(folder_));
}

TEST_F(ControlSocketTest, SweepsAwayWhatTheDeadHaveLeft) {
  fs::create_directory(folder_);
  desert(folder_ + "/4194305.control");
  desert(folder_ + "/app.sock");
  std::ofstream(folder_ + "/1.control") << "no socket";
  const auto other = ControlSocket::create({.path = folder_ + "/2.control"});
  ASSERT_TRUE(other);
  {
    const auto socket = ControlSocket::create(ours());
    ASSERT_TRUE(socket) << socket.error().message;
    EXPECT_FALSE(fs::exists(folder_ + "/4194305.control"));
    EXPECT_TRUE(fs::exists(folder_ + "/app.sock"));
    EXPECT_TRUE(fs::exists(folder_ + "/1.control"));
    EXPECT_TRUE(can_connect(folder_ + "/2.control"));
  }
  EXPECT_FALSE(fs::exists(path()));
  EXPECT_TRUE(can_connect(folder_ + "/2.control"));
}

TEST_F(ControlSocketTest, AnothersFolderIsNeitherMadeNorTakenAway) {
  const ControlPlace place{.path = {}, .directory = folder_, .is_ours = false};
  EXPECT_FALSE(ControlSocket::create(place));
  fs::create_directory(folder_);
  {
    const auto socket = ControlSocket::create(place);
    ASSERT_TRUE(socket);
    EXPECT_TRUE(can_connect(path()));
  }
  EXPECT_TRUE(fs::exists(folder_));
}

TEST_F(ControlSocketTest, AFolderThatOthersMayWriteToIsRefused) {
  fs::create_directory(folder_);
  fs::permissions(folder_, fs::perms(0777));
  const auto socket = ControlSocket::create(ours());
  ASSERT_FALSE(socket);
  EXPECT_THAT(socket.error().message, testing::HasSubstr(folder_ + "' is no folder"));
  fs::remove(folder_);
  fs::create_symlink(root_, folder_);
  EXPECT_FALSE(ControlSocket::create(ours()));
}

TEST_F(ControlSocketTest, ALivingOneIsRefusedAndADeadOneReplaced) {
  const std::string named = root_ + "/named";
  desert(named);
  const auto first = ControlSocket::create({.path = named});
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_TRUE(can_connect(named));
  const auto second = ControlSocket::create({.path = named});
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, testing::HasSubstr("in use"));
}

}  // namespace
}  // namespace bladepsgi::overseer
