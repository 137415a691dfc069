#include "os/service_manager.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bladepsgi::os {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// What a service manager listens on.
class Manager {
 public:
  explicit Manager(const std::string& name) : name_(name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(&address.sun_path, name.data(), name.size());
    if (name.starts_with('@')) address.sun_path[0] = '\0';
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
  }

  Manager(const Manager&) = delete;
  Manager& operator=(const Manager&) = delete;

  ~Manager() { ::unlink(name_.c_str()); }

  // Empty: nobody has said anything.
  [[nodiscard]] std::string take() const {
    std::array<char, 4096> buffer{};
    const ssize_t size = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    return {buffer.data(), size < 0 ? 0 : static_cast<std::size_t>(size)};
  }

 private:
  Fd socket_{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  std::string name_;
};

TEST(ServiceManager, IsToldWhatBecomesOfUs) {
  const std::string path = std::filesystem::temp_directory_path() / fmt::format("sd{}", ::getpid());
  for (const std::string& name : {path, fmt::format("@bladepsgi-test-{}", ::getpid())}) {
    const Manager manager(name);
    const ServiceManager told(name);
    ASSERT_TRUE(told.is_there());
    told.ready("2 workers");
    EXPECT_EQ(manager.take(), fmt::format("READY=1\nMAINPID={}\nSTATUS=2 workers\n", ::getpid()));
    told.reloading("loads");
    EXPECT_THAT(manager.take(), StartsWith("RELOADING=1\nMONOTONIC_USEC="));
    told.ready({});
    EXPECT_EQ(manager.take(), fmt::format("READY=1\nMAINPID={}\n", ::getpid()));
    told.note("two\nREADY=1");
    EXPECT_EQ(manager.take(), "STATUS=two\\x0aREADY=1\n") << "one line";
    told.stopping("waits");
    EXPECT_EQ(manager.take(), "STOPPING=1\nSTATUS=waits\n");
    told.alive();
    EXPECT_EQ(manager.take(), "WATCHDOG=1\n");
  }
}

TEST(ServiceManager, NeedNotBeThere) {
  for (const std::string& name :
       {std::string(), std::string("relative"), std::string(200, '/'), std::string("/no/such")}) {
    const ServiceManager told(name, std::chrono::seconds(1));
    told.ready("nobody hears that");
    EXPECT_EQ(told.is_there(), name == "/no/such") << name;
    EXPECT_EQ(told.alive_interval().has_value(), told.is_there()) << name;
  }
}

TEST(ServiceManager, NobodyReadingIsNotWaitedFor) {
  const std::string name = fmt::format("@bladepsgi-full-{}", ::getpid());
  const Manager manager(name);
  const ServiceManager told(name);
  for (int i = 0; i < 10'000; ++i)
    told.note("again");
  EXPECT_THAT(manager.take(), HasSubstr("again"));
}

TEST(ServiceManager, TheEnvironmentSaysWho) {
  ::setenv("NOTIFY_SOCKET", "@bladepsgi-who", 1);
  ::setenv("WATCHDOG_USEC", "3000000", 1);
  EXPECT_EQ(ServiceManager::from_environment().alive_interval(), std::chrono::milliseconds(1500));
  ::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1);
  EXPECT_TRUE(ServiceManager::from_environment().alive_interval());
  ::setenv("WATCHDOG_PID", "1", 1);
  EXPECT_FALSE(ServiceManager::from_environment().alive_interval()) << "of somebody else";
  ::setenv("WATCHDOG_PID", "", 1);
  ::setenv("WATCHDOG_USEC", "soon", 1);
  EXPECT_FALSE(ServiceManager::from_environment().alive_interval());
  EXPECT_TRUE(ServiceManager::from_environment().is_there());
  ServiceManager::forget_in_environment();
  EXPECT_FALSE(ServiceManager::from_environment().is_there());
  EXPECT_EQ(std::getenv("WATCHDOG_USEC"), nullptr);
}

}  // namespace
}  // namespace bladepsgi::os
