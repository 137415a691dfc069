#include "load/generator.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace bladepsgi::load {
namespace {

using namespace std::string_literals;

std::string end_request() {
  return "\1\3\0\1\0\10\0\0"s + std::string(8, '\0');
}

std::string out(const std::string& content) {
  return "\1\6\0\1"s + static_cast<char>(content.size() >> 8) +
         static_cast<char>(content.size() & 0xff) + "\0\0"s + content;
}

std::string answer(const std::string& body) {
  return out("Status: 200 OK\r\n\r\n" + body) + end_request();
}

// A server in a thread: for each request (an empty STDIN record ends it) sends what `reply` makes of it and its number; closes the
// connection unless the client keeps it and the reply is not empty.
class Server {
 public:
  using Reply = std::function<std::string(const std::string& request, int number)>;

  explicit Server(Reply reply)
      : reply_(std::move(reply)), listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    char folder[] = "/tmp/bladepsgi-load-XXXXXX";
    folder_ = ::mkdtemp(folder);
    path_ = folder_ + "/socket";
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    path_.copy(name.sun_path, sizeof name.sun_path - 1);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
    EXPECT_EQ(::listen(listener_, 100), 0);
    thread_ = std::thread([this] { serve(); });
  }

  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  ~Server() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
    ::unlink(path_.c_str());
    ::rmdir(folder_.c_str());
  }

  [[nodiscard]] Options options() const {
    Options options;
    options.address = Address::unix_path(path_);
    options.connections = 1;
    options.requests = 20;
    options.time_limit = std::chrono::seconds(5);
    options.body_text = "hello";
    return options;
  }

  [[nodiscard]] int connections() const { return connections_; }

  std::size_t longest_request = 0;

 private:
  void serve() {
    for (;;) {
      const int peer = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (peer < 0) return;
      ++connections_;
      while (serve_one(peer)) {
      }
      ::close(peer);
    }
  }

  bool serve_one(int peer) {
    static const std::string kStdinEnd = "\1\5\0\1\0\0\0\0"s;
    std::string request;
    std::vector<char> buffer(100'000);
    while (!request.ends_with(kStdinEnd)) {
      const ssize_t size = ::recv(peer, buffer.data(), buffer.size(), 0);
      if (size <= 0) return false;
      request.append(buffer.data(), static_cast<std::size_t>(size));
    }
    longest_request = std::max(longest_request, request.size());
    const std::string reply = reply_(request, served_++);
    static_cast<void>(::send(peer, reply.data(), reply.size(), MSG_NOSIGNAL));
    return !reply.empty() && (request[10] & 1) != 0;
  }

  Reply reply_;
  std::string folder_;
  std::string path_;
  int listener_;
  std::atomic<int> connections_ = 0;
  int served_ = 0;
  std::thread thread_;
};

TEST(Generator, CountsRightAnswers) {
  Server server([](const std::string&, int) { return answer("hello"); });
  const Report report = run(server.options());
  EXPECT_EQ(report.requests, 20U);
  EXPECT_EQ(report.errors, 0U);
  EXPECT_EQ(server.connections(), 20);
  EXPECT_GT(report.latencies.microseconds_at(0.5), 0);
}

TEST(Generator, KeepsConnections) {
  Server server([](const std::string&, int) { return answer("hello"); });
  Options options = server.options();
  options.keep = true;
  const Report report = run(options);
  EXPECT_EQ(report.requests, 20U);
  EXPECT_EQ(report.errors, 0U);
  EXPECT_EQ(server.connections(), 1);
}

TEST(Generator, CountsEachWrongAnswer) {
  const std::vector<std::string> wrong = {
      answer("hellO"),
      answer("hell"),
      answer("hello!"),
      out("Status: 500 Oops\r\n\r\nhello") + end_request(),
      answer("hello") + "x",               // behind END_REQUEST
      out("Status: 200 OK\r\n\r\nhello"),  // without END_REQUEST
      "",
  };
  Server server([&](const std::string&, int number) {
    return number < static_cast<int>(wrong.size()) ? wrong[static_cast<std::size_t>(number)]
                                                   : answer("hello");
  });
  const Report report = run(server.options());
  EXPECT_EQ(report.errors, wrong.size());
  EXPECT_EQ(report.requests, 20 - wrong.size());
  EXPECT_EQ(report.problems.size(), 5U);
}

TEST(Generator, NoticesTheAnswerToAnotherRequest) {
  std::string earlier = "n=0";
  const auto number_in = [](const std::string& request) {
    const std::size_t at = request.find("n=");
    return request.substr(at, request.find_first_not_of("0123456789", at + 2) - at);
  };
  Server right([&](const std::string& request, int) { return answer(number_in(request)); });
  Server stale([&](const std::string& request, int) {
    return answer(std::exchange(earlier, number_in(request)));
  });
  for (const Server* server : {&right, &stale}) {
    Options options = server->options();
    options.request.uri = "/?n=%n";
    options.body_text = "n=%n";
    EXPECT_EQ(run(options).errors, server == &right ? 0U : 20U);
  }
}

TEST(Generator, AsksAgainOverAFreshConnectionWhenAKeptOneIsClosed) {
  Server server([](const std::string&, int number) {
    return number % 3 == 2 ? std::string() : answer("hello");
  });
  Options options = server.options();
  options.keep = true;
  const Report report = run(options);
  EXPECT_EQ(report.requests, 20U);
  EXPECT_EQ(report.errors, 0U);
  EXPECT_GT(report.reconnects, 5U);
}

TEST(Generator, SendsLargeBodiesWhole) {
  Server server([](const std::string&, int) { return answer("hello"); });
  Options options = server.options();
  options.requests = 2;
  options.request.method = "POST";
  options.request.has_body = true;
  options.request.body_size = 5'000'000;
  const Report report = run(options);
  EXPECT_EQ(report.errors, 0U);
  EXPECT_GT(server.longest_request, 5'000'000U);
  EXPECT_LT(server.longest_request, 5'010'000U);
}

TEST(Generator, EndsWhenTheServerIsNotThere) {
  Options options;
  options.address = Address::unix_path("/nonexistent/socket");
  options.time = std::chrono::seconds(100);
  const Report report = run(options);
  EXPECT_EQ(report.requests, 0U);
  EXPECT_GE(report.errors, 100U);
}

TEST(Generator, EndsWhenTheServerSaysNothing) {
  Server server([](const std::string&, int) {
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
    return answer("hello");
  });
  Options options = server.options();
  options.requests = 1;
  options.time_limit = std::chrono::milliseconds(200);
  const Report report = run(options);
  EXPECT_EQ(report.requests, 0U);
  EXPECT_EQ(report.errors, 1U);
}

TEST(Generator, AnswersTheCrowdAfterTheLoad) {
  Server server([](const std::string&, int) { return answer("hello"); });
  Options options = server.options();
  options.keep = true;
  int served_before = 0;
  options.on_ready = [&] {
    served_before = server.connections();
  };
  const Report report = run(options);
  EXPECT_EQ(report.errors, 0U);
  EXPECT_EQ(served_before, 0);
  // The server of this test serves one connection at a time, so there is one of them and nothing beside it.
  options.idle = 1;
  options.requests = 1;
  options.connections = 1;
  options.time_limit = std::chrono::milliseconds(300);
  const Report crowded = run(options);
  EXPECT_EQ(crowded.idle.opened, 1U);
  EXPECT_EQ(crowded.idle.answered, 1U);
  EXPECT_EQ(crowded.errors, 1U);
}

TEST(Request, IsTheSameWhereverSendingStops) {
  for (const Protocol protocol : {Protocol::FastCgi, Protocol::Http}) {
    for (const std::uint64_t size : {0, 100, 40'000, 70'000, 3'000'000}) {
      const Request request({.protocol = protocol,
                             .keep = true,
                             .method = "POST",
                             .uri = "/",
                             .body_size = size,
                             .has_body = true});
      std::string whole;
      const auto read_on = [&](std::uint64_t step) {
        std::string bytes;
        while (bytes.size() < request.size()) {
          std::array<iovec, 3> vectors{};
          const std::size_t count = request.vectors(bytes.size(), vectors);
          std::uint64_t left = step;
          for (std::size_t i = 0; i < count && left > 0; ++i) {
            const std::size_t part = std::min<std::uint64_t>(vectors[i].iov_len, left);
            bytes.append(static_cast<const char*>(vectors[i].iov_base), part);
            left -= part;
          }
          if (count == 0) break;
        }
        return bytes;
      };
      whole = read_on(1 << 30);
      EXPECT_EQ(whole.size(), request.size());
      EXPECT_TRUE(whole == read_on(7919)) << size;
      if (protocol == Protocol::Http) {
        EXPECT_TRUE(whole.ends_with("\r\n\r\n" + pattern(size))) << size;
      }
    }
  }
}

TEST(Latencies, KnowTheirShares) {
  Latencies latencies;
  EXPECT_EQ(latencies.microseconds_at(0.5), 0);
  for (int i = 1; i <= 1000; ++i)
    latencies.add(std::chrono::microseconds(i));
  EXPECT_NEAR(latencies.microseconds_at(0.5), 500, 10);
  EXPECT_NEAR(latencies.microseconds_at(0.99), 990, 16);
  EXPECT_EQ(latencies.longest_microseconds(), 1000);
}

}  // namespace
}  // namespace bladepsgi::load
