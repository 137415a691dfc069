#include "monitoring/server.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace bladepsgi::monitoring {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A server and its clients in one process: the test runs the loop, so it knows what the server has seen.
class ServerTest : public ::testing::Test {
 protected:
  // An address that the kernel chooses, in the abstract namespace.
  ServerTest() : listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    address_.sun_family = AF_UNIX;
    EXPECT_EQ(::bind(listener_.get(), generic(), sizeof(sa_family_t)), 0);
    length_ = sizeof address_;
    EXPECT_EQ(::getsockname(listener_.get(), generic(), &length_), 0);
    EXPECT_EQ(::listen(listener_.get(), 4096), 0);
  }

  sockaddr* generic() { return reinterpret_cast<sockaddr*>(&address_); }

  void serve(const Options& options = {}) {
    server_.emplace(
        loop_, std::move(listener_), options, "statistics socket",
        [this](std::string_view) { return text_; },
        [this](const std::string& line) { warnings_.push_back(line); });
  }

  os::Fd connect() {
    os::Fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(client.get(), generic(), length_), 0);
    return client;
  }

  // Runs the loop until it has nothing to do; what happens after a time limit is not waited for.
  void settle() {
    for (int quiet = 0; quiet < 3; ++quiet) {
      auto wake = loop_.call_at(os::monotonic_now(), [] {});
      loop_.run_once();
      loop_.cancel(wake);
    }
  }

  void run_until(const std::function<bool()>& done) {
    bool late = false;
    auto limit = loop_.call_at(os::monotonic_now() + seconds(30), [&] { late = true; });
    while (!done() && !late)
      loop_.run_once();
    loop_.cancel(limit);
    EXPECT_FALSE(late);
  }

  // What has come so far; "…" at the end when there may be more, "!" after an error.
  static std::string read(const os::Fd& client) {
    std::string text;
    std::array<char, 65536> bytes{};
    for (;;) {
      const ssize_t count = ::recv(client.get(), bytes.data(), bytes.size(), 0);
      if (count == 0) return text;
      if (count < 0) return text + (errno == EAGAIN ? "…" : "!");
      text.append(bytes.data(), static_cast<std::size_t>(count));
    }
  }

  sockaddr_un address_{};
  socklen_t length_ = 0;
  os::Fd listener_;
  os::EventLoop loop_;
  std::string text_ = "the answer\n";
  std::vector<std::string> warnings_;
  std::optional<Server> server_;
};

TEST_F(ServerTest, AnswersAtOnceAndEnds) {
  serve();
  const os::Fd client = connect();
  settle();
  EXPECT_EQ(read(client), "the answer\n");
  text_ = "another\n";
  const os::Fd second = connect();
  settle();
  EXPECT_EQ(read(second), "another\n");
}

TEST_F(ServerTest, ForgetsAClientThatHasClosed) {
  serve();
  os::Fd client = connect();
  settle();
  EXPECT_EQ(server_->clients(), 1U);
  client.reset();
  run_until([&] { return server_->clients() == 0; });
  os::Fd gone = connect();
  gone.reset();
  settle();
  EXPECT_EQ(server_->clients(), 0U);
}

TEST_F(ServerTest, WhatAClientSendsDoesNotSpoilItsAnswer) {
  serve();
  const os::Fd early = connect();
  ASSERT_EQ(::send(early.get(), "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL), 18);
  settle();
  EXPECT_EQ(read(early), "the answer\n");
  const os::Fd late = connect();
  settle();
  ASSERT_EQ(::send(late.get(), "GET /\r\n", 7, MSG_NOSIGNAL), 7);
  settle();
  EXPECT_EQ(read(late), "the answer\n");
}

TEST_F(ServerTest, SlowReadersDelayNobody) {
  text_ = std::string(4 << 20, 'x');
  serve();
  std::vector<os::Fd> slow;
  for (int i = 0; i < 3; ++i)
    slow.push_back(connect());
  // One of them has nothing more to say, which makes it readable for ever.
  ::shutdown(slow[1].get(), SHUT_WR);
  settle();
  text_ = "short\n";
  const os::Fd client = connect();
  settle();
  EXPECT_EQ(read(client), "short\n");
  for (const os::Fd& reader : slow) {
    std::string got;
    run_until([&] {
      std::string more = read(reader);
      const bool ended = !more.ends_with("…");
      if (!ended) more.resize(more.size() - std::string("…").size());
      got += more;
      return ended;
    });
    EXPECT_EQ(got.size(), std::size_t{4} << 20);
  }
}

TEST_F(ServerTest, IdlesWhileAHalfClosedClientDoesNotRead) {
  text_ = std::string(4 << 20, 'x');
  serve();
  const os::Fd client = connect();
  ::shutdown(client.get(), SHUT_WR);
  settle();
  settle();
  int turns = 0;
  bool over = false;
  auto limit = loop_.call_at(os::monotonic_now() + milliseconds(100), [&] { over = true; });
  while (!over) {
    loop_.run_once();
    ++turns;
  }
  EXPECT_LE(turns, 3);
  loop_.cancel(limit);
}

TEST_F(ServerTest, TimeLimitEndsSilentClients) {
  text_ = std::string(4 << 20, 'x');
  serve({.client_limit = milliseconds(20)});
  const os::Fd reads_nothing = connect();
  settle();
  EXPECT_EQ(server_->clients(), 1U);
  run_until([&] { return server_->clients() == 0; });
  EXPECT_LT(read(reads_nothing).size(), std::size_t{4} << 20);
}

TEST_F(ServerTest, DropsTheOldestOfTooMany) {
  serve({.most_clients = 3});
  std::vector<os::Fd> clients;
  for (int i = 0; i < 10; ++i)
    clients.push_back(connect());
  settle();
  EXPECT_EQ(server_->clients(), 3U);
  for (const os::Fd& client : clients)
    EXPECT_EQ(read(client), "the answer\n");
}

TEST_F(ServerTest, KeepsNoMoreBytesThanItsLimit) {
  text_ = std::string(4 << 20, 'x');
  serve({.most_unsent_bytes = std::size_t{9} << 20});
  std::vector<os::Fd> clients;
  for (int i = 0; i < 6; ++i)
    clients.push_back(connect());
  settle();
  EXPECT_EQ(server_->clients(), 2U);
}

TEST_F(ServerTest, KeepsALonelyClientWhateverTheLimit) {
  text_ = std::string(4 << 20, 'x');
  serve({.most_unsent_bytes = 1});
  const os::Fd client = connect();
  settle();
  EXPECT_EQ(server_->clients(), 1U);
}

TEST_F(ServerTest, DropsAClientThatNeverStopsSending) {
  serve({.client_limit = std::chrono::hours(1)});
  const os::Fd client = connect();
  const std::string flood(100000, 'x');
  run_until([&] {
    for (int i = 0; i < 3; ++i)
      (void)::send(client.get(), flood.data(), flood.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    settle();
    return server_->clients() == 0;
  });
}

TEST_F(ServerTest, PausesWithoutDescriptorsAndGoesOn) {
  serve({.accept_pause = milliseconds(20)});
  const os::Fd client = connect();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 3;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  int turns = 0;
  bool over = false;
  auto limit = loop_.call_at(os::monotonic_now() + milliseconds(110), [&] { over = true; });
  while (!over) {
    loop_.run_once();
    ++turns;
  }
  loop_.cancel(limit);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_LE(turns, 20);  // two a pause, not thousands
  EXPECT_GE(turns, 2);
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_EQ(warnings_[0],
            "cannot accept a client of the statistics socket: Too many open files (EMFILE); "
            "trying again every 20 ms");
  run_until([&] { return server_->clients() == 1; });
  EXPECT_EQ(read(client), "the answer\n");
}

TEST_F(ServerTest, AnswersWhenEnoughHasCome) {
  server_.emplace(
      loop_, std::move(listener_), Options{}, "health socket",
      [](std::string_view received) -> std::optional<std::string> {
        if (!received.ends_with('!')) return std::nullopt;
        return "you said " + std::string(received);
      },
      [this](const std::string& line) { warnings_.push_back(line); });
  const os::Fd client = connect();
  settle();
  ASSERT_EQ(::send(client.get(), "hel", 3, MSG_NOSIGNAL), 3);
  settle();
  std::array<char, 64> bytes{};
  EXPECT_EQ(::recv(client.get(), bytes.data(), bytes.size(), MSG_DONTWAIT), -1) << "not yet";
  ASSERT_EQ(::send(client.get(), "lo!", 3, MSG_NOSIGNAL), 3);
  settle();
  const ssize_t size = ::recv(client.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  ASSERT_GT(size, 0);
  EXPECT_EQ(std::string_view(bytes.data(), static_cast<std::size_t>(size)), "you said hello!");
  EXPECT_EQ(::recv(client.get(), bytes.data(), bytes.size(), MSG_DONTWAIT), 0) << "the end";
}

TEST_F(ServerTest, WhoNeverSaysEnoughIsDropped) {
  server_.emplace(
      loop_, std::move(listener_), Options{}, "health socket",
      [](std::string_view) { return std::nullopt; },
      [this](const std::string& line) { warnings_.push_back(line); });
  const os::Fd client = connect();
  settle();
  const std::string much(20'000, 'x');
  for (int i = 0; i < 4 && server_->clients() > 0; ++i) {
    static_cast<void>(::send(client.get(), much.data(), much.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
    settle();
    settle();
  }
  EXPECT_EQ(server_->clients(), 0U);
}

}  // namespace
}  // namespace bladepsgi::monitoring
