#include "bladectl/client.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/process.h"
#include "os/socket.h"

namespace bladepsgi::bladectl {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A process that says this to whoever has sent a line, closes, and ends when it is told to.
class BladectlClientTest : public ::testing::Test {
 protected:
  BladectlClientTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "client-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
  }

  ~BladectlClientTest() override {
    end_peer();
    std::filesystem::remove_all(directory_);
  }

  BladectlClientTest(const BladectlClientTest&) = delete;
  BladectlClientTest& operator=(const BladectlClientTest&) = delete;

  [[nodiscard]] std::string path() const { return directory_ + "/s"; }

  void start_peer(const std::string& answer) {
    auto [ours, theirs] = os::make_message_pair();
    const auto pid = os::fork_role(os::Parent::Caller, [&, &ours = ours, &theirs = theirs] {
      ours.reset();
      // It listens itself, so that it is the one whose end is waited for.
      auto listener = os::UnixListener::create(path(), 8, {});
      if (!listener || !(*listener)->publish()) return 1;
      const char ready = 'r';
      if (::send(theirs.get(), &ready, 1, 0) != 1) return 1;
      char byte = 0;
      os::Fd client;
      while (!client.is_open())
        client = os::Fd(::accept4((*listener)->fd(), nullptr, nullptr, SOCK_CLOEXEC));
      while (byte != '\n' && ::recv(client.get(), &byte, 1, 0) == 1) {
      }
      static_cast<void>(::send(client.get(), answer.data(), answer.size(), MSG_NOSIGNAL));
      client.reset();
      return static_cast<int>(::recv(theirs.get(), &byte, 1, 0));
    });
    ASSERT_TRUE(pid);
    peer_ = *pid;
    theirs.reset();
    leash_ = std::move(ours);
    char byte = 0;
    ASSERT_EQ(::recv(leash_.get(), &byte, 1, 0), 1);
  }

  void end_peer() {
    leash_.reset();
    if (peer_ > 0) ::waitpid(peer_, nullptr, 0);
    peer_ = 0;
  }

  Result<control::Outcome> ask(Client& client) {
    return client.ask({.command = "status", .arguments = {}}, seconds(30),
                      [this](const std::string& text) { progress_.push_back(text); });
  }

  std::string directory_;
  pid_t peer_ = 0;
  os::Fd leash_;
  std::vector<std::string> progress_;
};

TEST_F(BladectlClientTest, HearsOfProgressAndTheOutcome) {
  start_peer(
      "{\"progress\":\"one\"}\n{\"progress\":\"two\"}\n{\"ok\":true,\"exit\":0,\"result\":7}\n");
  auto client = Client::connect(path());
  ASSERT_TRUE(client) << client.error().message;
  const auto outcome = ask(*client);
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->error, "");
  EXPECT_EQ(outcome->result.as_integer(), 7);
  EXPECT_THAT(progress_, ElementsAre("one", "two"));
}

TEST_F(BladectlClientTest, WaitsForTheProcessNotForItsConnection) {
  start_peer("{\"ok\":true,\"exit\":0}\n");
  auto client = Client::connect(path());
  ASSERT_TRUE(client && ask(*client));
  EXPECT_FALSE(client->wait_for_end(milliseconds(20)));
  leash_.reset();
  EXPECT_TRUE(client->wait_for_end(seconds(30)));
}

TEST_F(BladectlClientTest, AnEndWithoutAnOutcomeIsNoSuccess) {
  for (const char* answer :
       {"", "{\"progress\":\"one\"}\n", "{\"ok\":true,\"exit\":0}", "{\"ok\":"}) {
    start_peer(answer);
    auto client = Client::connect(path());
    ASSERT_TRUE(client);
    const auto outcome = ask(*client);
    ASSERT_FALSE(outcome) << answer;
    EXPECT_THAT(outcome.error().message, HasSubstr("ended without an answer"));
    end_peer();
  }
}

TEST_F(BladectlClientTest, WhatIsNoAnswerIsAnError) {
  start_peer("HTTP/1.1 400 Bad Request\r\n\r\n");
  auto client = Client::connect(path());
  ASSERT_TRUE(client);
  const auto outcome = ask(*client);
  ASSERT_FALSE(outcome);
  EXPECT_THAT(outcome.error().message, HasSubstr("the answer is not JSON"));
  EXPECT_FALSE(Client::connect(path() + "x"));
}

}  // namespace
}  // namespace bladepsgi::bladectl
