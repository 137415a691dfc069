#include "overseer/control_server.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bladepsgi::overseer {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

// A server and its clients in one process: the test runs the loop, so it knows what the server has seen.
class ControlServerTest : public ::testing::Test {
 protected:
  // An address that the kernel chooses, in the abstract namespace.
  ControlServerTest()
      : listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    address_.sun_family = AF_UNIX;
    EXPECT_EQ(::bind(listener_.get(), generic(), sizeof(sa_family_t)), 0);
    length_ = sizeof address_;
    EXPECT_EQ(::getsockname(listener_.get(), generic(), &length_), 0);
    EXPECT_EQ(::listen(listener_.get(), 4096), 0);
  }

  sockaddr* generic() { return reinterpret_cast<sockaddr*>(&address_); }

  void serve(const ControlOptions& options = {}) {
    server_.emplace(loop_, std::move(listener_), options,
                    [this](Severity, const std::string& line) { lines_.push_back(line); });
    server_->add({.name = "echo",
                  .arguments = {"value"},
                  .run = [](const json::Object& arguments, const Session& session) {
                    const json::Value* value = arguments.find("value");
                    session.succeed(value != nullptr ? *value : json::Value());
                  }});
    server_->add({.name = "later",
                  .arguments = {},
                  .run = [this](const json::Object&, const Session& session) {
                    kept_.push_back(session);
                  }});
    server_->add({.name = "never", .arguments = {}, .run = [](const json::Object&, const Session&) {
                  }});
    server_->add({.name = "large",
                  .arguments = {},
                  .run = [this](const json::Object&, const Session& session) {
                    session.succeed(std::string(large_, 'x'));
                  }});
  }

  os::Fd connect() {
    os::Fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(client.get(), generic(), length_), 0);
    return client;
  }

  static void send(const os::Fd& client, const std::string& text) {
    EXPECT_EQ(::send(client.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }

  os::Fd ask(const std::string& text) {
    os::Fd client = connect();
    send(client, text);
    settle();
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
  std::vector<std::string> lines_;
  std::vector<Session> kept_;
  std::size_t large_ = std::size_t{4} << 20;
  std::optional<ControlServer> server_;
};

TEST_F(ControlServerTest, AnswersACommandAndCloses) {
  serve();
  EXPECT_EQ(read(ask("{\"command\":\"echo\",\"value\":[1]}\n")),
            "{\"ok\":true,\"exit\":0,\"result\":[1]}\n");
  EXPECT_EQ(server_->sessions(), 0U);
}

TEST_F(ControlServerTest, TakesARequestInPieces) {
  serve();
  const os::Fd client = connect();
  for (const char c : std::string("{\"command\":\"echo\"}")) {
    send(client, std::string(1, c));
    settle();
  }
  EXPECT_EQ(read(client), "…");
  send(client, "\nnothing more is read");
  settle();
  EXPECT_EQ(read(client), "{\"ok\":true,\"exit\":0}\n");
}

TEST_F(ControlServerTest, ServesWhoHasEndedItsSide) {
  serve();
  const os::Fd client = connect();
  send(client, "{\"command\":\"later\"}\n");
  ::shutdown(client.get(), SHUT_WR);
  settle();
  ASSERT_EQ(kept_.size(), 1U);
  EXPECT_TRUE(kept_.front().is_attended());
  kept_.front().succeed(1);
  EXPECT_EQ(read(client), "{\"ok\":true,\"exit\":0,\"result\":1}\n");
}

TEST_F(ControlServerTest, RefusesWhatItDoesNotUnderstand) {
  serve();
  EXPECT_THAT(read(ask("stop\n")), HasSubstr("\"exit\":2,\"error\":\"the request is not JSON"));
  EXPECT_THAT(read(ask("\n")), HasSubstr("\"exit\":2"));
  EXPECT_THAT(read(ask("{\"command\":\"\\u001b[2J\"}\n")),
              HasSubstr("knows no command '\\\\x1b[2J'"));
  EXPECT_THAT(read(ask("{\"command\":\"echo\",\"vlaue\":1}\n")), HasSubstr("knows no 'vlaue'"));
  EXPECT_EQ(server_->sessions(), 0U);
}

TEST_F(ControlServerTest, RefusesALineThatIsTooLong) {
  serve();
  const std::string prefix = "{\"command\":\"echo\",\"value\":\"";
  const std::size_t fits = control::kMostRequestBytes - prefix.size() - 3;
  for (const std::size_t size : {fits, fits + 1, fits + 100'000}) {
    const os::Fd client = connect();
    const std::string line = prefix + std::string(size, 'x') + "\"}\n";
    std::size_t sent = 0;
    std::string answer;
    run_until([&] {
      if (sent < line.size()) {
        const ssize_t count = ::send(client.get(), line.data() + sent, line.size() - sent,
                                     MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count > 0) sent += static_cast<std::size_t>(count);
      }
      settle();
      return server_->sessions() == 0;
    });
    EXPECT_THAT(read(client), HasSubstr(size == fits ? "\"ok\":true" : "longer than 65536 bytes"));
  }
}

TEST_F(ControlServerTest, DropsWhoDoesNotAsk) {
  ControlOptions options;
  options.request_limit = milliseconds(20);
  serve(options);
  const os::Fd silent = connect();
  const os::Fd half = connect();
  send(half, "{\"command\":");
  settle();
  EXPECT_EQ(server_->sessions(), 2U);
  run_until([&] { return server_->sessions() == 0; });
  EXPECT_EQ(read(silent), "");
  const os::Fd gone = connect();
  settle();
  EXPECT_EQ(server_->sessions(), 1U);
}

TEST_F(ControlServerTest, AnUnfinishedLineIsNoRequest) {
  serve();
  const os::Fd client = connect();
  send(client, "{\"command\":\"later\"}");
  ::shutdown(client.get(), SHUT_WR);
  settle();
  EXPECT_EQ(read(client), "");
  EXPECT_TRUE(kept_.empty());
}

TEST_F(ControlServerTest, ACommandFinishesLater) {
  ControlOptions options;
  options.request_limit = milliseconds(1);  // is none for the command
  serve(options);
  const os::Fd client = ask("{\"command\":\"later\"}\n");
  ASSERT_EQ(kept_.size(), 1U);
  const Session session = kept_.front();
  bool has_passed = false;
  auto timer = loop_.call_at(os::monotonic_now() + milliseconds(20), [&] { has_passed = true; });
  run_until([&] { return has_passed; });
  loop_.cancel(timer);
  session.progress("one\ntwo");
  EXPECT_EQ(read(client), "{\"progress\":\"one\\ntwo\"}\n…");
  session.fail(config::ExitCode::ApplicationNotLoaded, "no");
  session.succeed();
  session.progress("too late");
  EXPECT_FALSE(session.is_attended());
  EXPECT_EQ(read(client), "{\"ok\":false,\"exit\":3,\"error\":\"no\"}\n");
}

TEST_F(ControlServerTest, ACommandOutlivesWhoAskedForIt) {
  serve();
  ask("{\"command\":\"later\"}\n");
  settle();
  ASSERT_EQ(kept_.size(), 1U);
  EXPECT_FALSE(kept_.front().is_attended());
  EXPECT_EQ(server_->sessions(), 0U);
  kept_.front().progress("nobody listens");
  kept_.front().succeed();
}

TEST_F(ControlServerTest, ACommandThatIsGivenUpSaysSo) {
  serve();
  EXPECT_THAT(read(ask("{\"command\":\"never\"}\n")),
              HasSubstr("\"exit\":1,\"error\":\"the server has given the command up\""));
}

TEST_F(ControlServerTest, ItsEndIsSaidToWhoWaits) {
  serve();
  const os::Fd client = ask("{\"command\":\"later\"}\n");
  const os::Fd silent = connect();
  settle();
  server_.reset();
  EXPECT_THAT(read(client), HasSubstr("the server has ended meanwhile"));
  EXPECT_EQ(read(silent), "");
  kept_.front().progress("too late");
  kept_.front().succeed();
  kept_.clear();
}

TEST_F(ControlServerTest, SendsALargeAnswerAsItIsRead) {
  serve();
  const os::Fd client = ask("{\"command\":\"large\"}\n");
  EXPECT_EQ(server_->sessions(), 1U);
  std::string answer;
  for (bool is_over = false; !is_over && !HasFailure();) {
    const std::string part = read(client);
    is_over = !part.ends_with("…");
    answer += is_over ? part : part.substr(0, part.size() - std::string("…").size());
    EXPECT_TRUE(is_over || part != "…") << answer.size();
    settle();
  }
  EXPECT_EQ(answer.size(),
            large_ + std::string("{\"ok\":true,\"exit\":0,\"result\":\"\"}\n").size());
  EXPECT_EQ(server_->sessions(), 0U);
}

TEST_F(ControlServerTest, DropsWhoDoesNotRead) {
  ControlOptions options;
  options.send_limit = milliseconds(20);
  serve(options);
  const os::Fd client = ask("{\"command\":\"large\"}\n");
  EXPECT_EQ(server_->sessions(), 1U);
  run_until([&] { return server_->sessions() == 0; });
}

TEST_F(ControlServerTest, KeepsLittleProgressForWhoIsBehind) {
  ControlOptions options;
  options.most_progress_bytes = 1000;
  options.most_unsent_bytes = 100'000;
  serve(options);
  const os::Fd client = ask("{\"command\":\"later\"}\n");
  for (int i = 0; i < 100'000; ++i)
    kept_.front().progress("a line of progress");
  EXPECT_TRUE(kept_.front().is_attended());
  EXPECT_TRUE(lines_.empty());
}

TEST_F(ControlServerTest, KeepsNoMoreThanItMay) {
  ControlOptions options;
  options.most_unsent_bytes = large_ + 1000;
  serve(options);
  const os::Fd first = ask("{\"command\":\"large\"}\n");
  const os::Fd second = ask("{\"command\":\"large\"}\n");
  EXPECT_EQ(server_->sessions(), 1U);
  ASSERT_EQ(lines_.size(), 1U);
  EXPECT_THAT(lines_.front(), HasSubstr("too many bytes"));
  EXPECT_EQ(read(second), "");
}

TEST_F(ControlServerTest, WhoHasNotAskedGivesWay) {
  ControlOptions options;
  options.most_sessions = 4;
  serve(options);
  const os::Fd busy = ask("{\"command\":\"later\"}\n");
  std::vector<os::Fd> silent;
  for (int i = 0; i < 1000; ++i)
    silent.push_back(connect());
  run_until([&] {
    settle();
    return read(silent[996]) != "…";
  });
  EXPECT_EQ(server_->sessions(), 4U);
  EXPECT_EQ(read(silent[0]), "");
  EXPECT_EQ(read(silent[999]), "…");
  EXPECT_EQ(read(ask("{\"command\":\"echo\"}\n")), "{\"ok\":true,\"exit\":0}\n");
  EXPECT_EQ(read(busy), "…");
}

TEST_F(ControlServerTest, CommandsUnderWayDoNotGiveWay) {
  ControlOptions options;
  options.most_sessions = 2;
  serve(options);
  const os::Fd first = ask("{\"command\":\"later\"}\n");
  const os::Fd second = ask("{\"command\":\"later\"}\n");
  EXPECT_THAT(read(ask("{\"command\":\"echo\"}\n")), HasSubstr("too many commands"));
  kept_.front().succeed();
  EXPECT_EQ(read(ask("{\"command\":\"echo\"}\n")), "{\"ok\":true,\"exit\":0}\n");
  EXPECT_EQ(read(second), "…");
}

TEST_F(ControlServerTest, WaitsForDescriptors) {
  ControlOptions options;
  options.accept_pause = milliseconds(5);
  serve(options);
  const os::Fd client = connect();
  send(client, "{\"command\":\"echo\"}\n");
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  settle();
  bool has_passed = false;
  auto timer = loop_.call_at(os::monotonic_now() + milliseconds(30), [&] { has_passed = true; });
  run_until([&] { return has_passed; });
  loop_.cancel(timer);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(lines_.size(), 1U);
  std::string answer;
  run_until([&] {
    answer = read(client);
    return answer != "…";
  });
  EXPECT_EQ(answer, "{\"ok\":true,\"exit\":0}\n");
}

}  // namespace
}  // namespace bladepsgi::overseer
