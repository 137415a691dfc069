#include "monitoring/monitoring.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "os/process.h"
#include "shm/objects.h"
#include "shm/scoreboard.h"

namespace bladepsgi::monitoring {
namespace {

// The process itself, forked as the overseer does it: with all signals blocked.
class MonitoringTest : public ::testing::Test {
 protected:
  MonitoringTest() { renew(); }

  void renew() {
    listener_ = os::Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    address_ = {};
    address_.sun_family = AF_UNIX;
    EXPECT_EQ(::bind(listener_.get(), generic(), sizeof(sa_family_t)), 0);
    length_ = sizeof address_;
    EXPECT_EQ(::getsockname(listener_.get(), generic(), &length_), 0);
    EXPECT_EQ(::listen(listener_.get(), 64), 0);
  }

  sockaddr* generic() { return reinterpret_cast<sockaddr*>(&address_); }

  void start(pid_t parent) {
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::sigprocmask(SIG_BLOCK, &all, &before);
    const pid_t test = ::getpid();
    process_ = ::fork();
    if (process_ == 0) {
      os::die_with_parent(test);
      Inheritance inheritance;
      inheritance.statistics = std::move(listener_);
      inheritance.mapping = &mapping_;
      inheritance.parent = parent;
      ::_exit(run(std::move(inheritance)));
    }
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    listener_.reset();
  }

  // Not open: it was refused.
  os::Fd connect() {
    os::Fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(client.get(), generic(), length_) != 0) client.reset();
    return client;
  }

  std::string ask() {
    const os::Fd client = connect();
    EXPECT_TRUE(client.is_open());
    std::string text;
    std::array<char, 4096> bytes{};
    for (;;) {
      const ssize_t count = ::read(client.get(), bytes.data(), bytes.size());
      if (count <= 0) return count == 0 ? text : text + "!";
      text.append(bytes.data(), static_cast<std::size_t>(count));
    }
  }

  [[nodiscard]] int end() const {
    int status = -1;
    EXPECT_EQ(::waitpid(process_, &status, 0), process_);
    return status;
  }

  sockaddr_un address_{};
  socklen_t length_ = 0;
  os::Fd listener_;
  shm::Mapping mapping_ = shm::Mapping::create({.numbers = 2, .object_bytes = 1 << 20});
  pid_t process_ = 0;
};

TEST_F(MonitoringTest, AnswersFromSharedMemoryAndEndsOnTerm) {
  start(::getpid());
  EXPECT_EQ(ask(), "0\n__\n0\n\n");
  shm::Scoreboard board(mapping_);
  board.set_start_time(os::WallClock(std::chrono::seconds(99)));
  shm::Objects objects(mapping_);
  ASSERT_TRUE(objects.semaphore("made later", 4, shm::OnDeath::Default, 1));
  EXPECT_EQ(ask(), "99\n__\n0\n\nsem made later: 4\n");
  ::kill(process_, SIGTERM);
  EXPECT_EQ(end(), 0);
}

TEST_F(MonitoringTest, ShrugsAtATerminalsSignals) {
  start(::getpid());
  for (const int number : {SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGPIPE}) {
    ::kill(process_, number);
    EXPECT_EQ(ask(), "0\n__\n0\n\n");
  }
  ::kill(process_, SIGTERM);
  EXPECT_EQ(end(), 0);
}

TEST_F(MonitoringTest, WhenItIsReplacedItStaysForThoseWhoAreHere) {
  start(::getpid());
  os::Fd client = connect();
  std::array<char, 64> bytes{};
  EXPECT_EQ(::read(client.get(), bytes.data(), 2), 2);
  ::kill(process_, SIGUSR2);
  while (connect().is_open())
    ::poll(nullptr, 0, 1);
  int status = -1;
  EXPECT_EQ(::waitpid(process_, &status, WNOHANG), 0);
  EXPECT_EQ(::read(client.get(), bytes.data(), bytes.size()), 6) << "__, 0, and an empty line";
  client.reset();
  EXPECT_EQ(end(), 0);

  renew();
  start(::getpid());
  client = connect();
  EXPECT_EQ(::read(client.get(), bytes.data(), 2), 2);
  ::kill(process_, SIGUSR2);
  ::kill(process_, SIGTERM);
  EXPECT_EQ(end(), 0) << "at a stop it waits for nobody";
}

TEST_F(MonitoringTest, EndsWhenItsParentHasGone) {
  start(::getpid() + 1);
  EXPECT_EQ(end(), 0);
}

}  // namespace
}  // namespace bladepsgi::monitoring
