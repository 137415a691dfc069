#include "load/response_check.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace bladepsgi::load {
namespace {

using namespace std::string_literals;

std::string record(int type, const std::string& content, std::size_t padding = 0, int id = 1) {
  std::string out = {1,
                     static_cast<char>(type),
                     0,
                     static_cast<char>(id),
                     static_cast<char>(content.size() >> 8),
                     static_cast<char>(content.size() & 0xff),
                     static_cast<char>(padding),
                     0};
  return out + content + std::string(padding, '\xAA');
}

constexpr int kEnd = 3;
constexpr int kOut = 6;
constexpr int kErr = 7;

std::string good_end() {
  return record(kEnd, std::string(8, '\0'));
}

std::string head() {
  return "Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n";
}

struct Case {
  std::string name;
  Protocol protocol;
  std::string bytes;
  bool is_closed;  // behind them
  Verdict verdict;
};

Expectation hello() {
  return {.status = 200, .body = BodyRule::text("hello")};
}

std::string prefix() {
  return "HTTP/1.1 200 OK\r\n";
}

std::vector<Case> cases() {
  const auto fcgi = Protocol::FastCgi;
  const auto http = Protocol::Http;
  const std::string out_end = record(kOut, "");
  return {
      {"one record", fcgi, record(kOut, head() + "hello") + out_end + good_end(), false,
       Verdict::Done},
      {"many records, padded", fcgi,
       record(kOut, "Sta", 5) + record(kOut, "tus: 200\r\n\r", 1) + record(kOut, "\nhel", 255) +
           record(kOut, "lo", 3) + record(kEnd, std::string(8, '\0'), 7),
       false, Verdict::Done},
      {"no Status, empty STDERR", fcgi,
       record(kErr, "") + record(kOut, "A: b\n\nhello") + good_end(), false, Verdict::Done},
      {"right Content-Length", fcgi, record(kOut, "content-length: 5\r\n\r\nhello") + good_end(),
       false, Verdict::Done},
      {"a wrong byte", fcgi, record(kOut, head() + "hellO") + good_end(), false, Verdict::Wrong},
      {"too short", fcgi, record(kOut, head() + "hell") + good_end(), false, Verdict::Wrong},
      {"too long", fcgi, record(kOut, head() + "hello!") + good_end(), false, Verdict::Wrong},
      {"another status", fcgi, record(kOut, "Status: 500 Oops\r\n\r\nhello") + good_end(), false,
       Verdict::Wrong},
      {"status that only begins like it", fcgi,
       record(kOut, "Status: 2000\r\n\r\nhello") + good_end(), false, Verdict::Wrong},
      {"wrong Content-Length", fcgi, record(kOut, "Content-Length: 6\r\n\r\nhello") + good_end(),
       false, Verdict::Wrong},
      {"standard error", fcgi, record(kOut, head() + "hello") + record(kErr, "Oops") + good_end(),
       false, Verdict::Wrong},
      {"another request's record", fcgi, record(kOut, head() + "hello", 0, 2) + good_end(), false,
       Verdict::Wrong},
      {"another version", fcgi, "\x02" + record(kOut, head()).substr(1), false, Verdict::Wrong},
      {"a record nobody sends", fcgi, record(5, "x"), false, Verdict::Wrong},
      {"STDOUT goes on", fcgi, record(kOut, head()) + out_end + record(kOut, "hello") + good_end(),
       false, Verdict::Wrong},
      {"END_REQUEST of a failure", fcgi,
       record(kOut, head() + "hello") + record(kEnd, "\0\0\0\1\0\0\0\0"s), false, Verdict::Wrong},
      {"END_REQUEST refuses", fcgi,
       record(kOut, head() + "hello") + record(kEnd, "\0\0\0\0\2\0\0\0"s), false, Verdict::Wrong},
      {"END_REQUEST too early", fcgi, good_end(), false, Verdict::Wrong},
      {"END_REQUEST too short", fcgi, record(kOut, head() + "hello") + record(kEnd, "\0\0\0\0"s),
       false, Verdict::Wrong},
      {"something behind", fcgi, record(kOut, head() + "hello") + good_end() + good_end(), false,
       Verdict::Wrong},
      {"closed before the end", fcgi, record(kOut, head() + "hello") + out_end, true,
       Verdict::Wrong},
      {"closed at once", fcgi, "", true, Verdict::Wrong},
      {"not finished", fcgi, record(kOut, head() + "hello") + good_end().substr(0, 15), false,
       Verdict::More},

      {"length", http, prefix() + "Content-Length: 5\r\n\r\nhello", false, Verdict::Done},
      {"chunks", http,
       prefix() + "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nA: b\r\n\r\n",
       false, Verdict::Done},
      {"until close", http, "HTTP/1.0 200 OK\r\n\r\nhello", true, Verdict::Done},
      {"until close, short", http, prefix() + "\r\nhell", true, Verdict::Wrong},
      {"wrong byte", http, prefix() + "Content-Length: 5\r\n\r\nhellO", false, Verdict::Wrong},
      {"wrong length", http, prefix() + "Content-Length: 4\r\n\r\nhell", false, Verdict::Wrong},
      {"not HTTP", http, "Status: 200 OK\r\n\r\nhello", false, Verdict::Wrong},
      {"wrong status", http, "HTTP/1.1 404 Gone\r\nContent-Length: 5\r\n\r\nhello", false,
       Verdict::Wrong},
      {"short", http, prefix() + "Content-Length: 5\r\n\r\nhell", true, Verdict::Wrong},
      {"behind the length", http, prefix() + "Content-Length: 5\r\n\r\nhello\n", false,
       Verdict::Wrong},
      {"chunks and a length", http,
       prefix() + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", false, Verdict::Wrong},
      {"no chunk size", http, prefix() + "Transfer-Encoding: chunked\r\n\r\nx\r\n", false,
       Verdict::Wrong},
      {"chunk too long", http, prefix() + "Transfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n", false,
       Verdict::Wrong},
      {"chunks end early", http,
       prefix() + "Transfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n0\r\n\r\n", false,
       Verdict::Wrong},
      {"behind the last chunk", http,
       prefix() + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nX", false,
       Verdict::Wrong},
      {"without the last chunk", http,
       prefix() + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", true, Verdict::Wrong},
  };
}

Verdict verdict_on(const Case& which, std::size_t piece) {
  const Expectation expected = hello();
  const auto check = ResponseCheck::make(which.protocol);
  check->start(expected);
  for (std::size_t at = 0; at < which.bytes.size(); at += piece) {
    const Verdict verdict = check->take(std::string_view(which.bytes).substr(at, piece));
    // In small pieces what is behind the end has not come yet.
    if (verdict != Verdict::More) return verdict;
  }
  return which.is_closed ? check->peer_closed() : Verdict::More;
}

TEST(ResponseCheck, TellsRightFromWrong) {
  for (const Case& which : cases())
    EXPECT_EQ(verdict_on(which, which.bytes.size() + 1), which.verdict) << which.name;
}

TEST(ResponseCheck, SaysTheSameHoweverTheBytesAreCut) {
  for (const Case& which : cases()) {
    if (which.name.find("behind") != std::string::npos) continue;
    for (std::size_t piece = 1; piece < 40; ++piece)
      EXPECT_EQ(verdict_on(which, piece), which.verdict) << which.name << ", cut at " << piece;
  }
}

TEST(ResponseCheck, FindsOneWrongByteAnywhere) {
  const Expectation expected{.status = 200, .body = BodyRule::pattern(1000)};
  const std::string right = record(kOut, head() + pattern(1000)) + good_end();
  const auto check = ResponseCheck::make(Protocol::FastCgi);
  for (std::size_t i = 0; i < 1000; ++i) {
    std::string wrong = right;
    wrong[8 + head().size() + i] ^= 1;
    check->start(expected);
    EXPECT_EQ(check->take(wrong), Verdict::Wrong) << i;
  }
  check->start(expected);
  EXPECT_EQ(check->take(right), Verdict::Done);
}

TEST(ResponseCheck, RefusesAHeadWithoutEnd) {
  const Expectation expected = hello();
  const auto check = ResponseCheck::make(Protocol::Http);
  check->start(expected);
  Verdict verdict = check->take(prefix());
  for (int i = 0; i < 1000 && verdict == Verdict::More; ++i)
    verdict = check->take("X-Field: " + std::string(1000, 'x') + "\r\n");
  EXPECT_EQ(verdict, Verdict::Wrong);
}

TEST(ResponseCheck, KnowsWhetherTheConnectionIsKept) {
  const Expectation expected = hello();
  const auto check = ResponseCheck::make(Protocol::Http);
  const auto closes = [&](const std::string& head) {
    check->start(expected);
    EXPECT_EQ(check->take(head + "Content-Length: 5\r\n\r\nhello"), Verdict::Done);
    return check->closes();
  };
  EXPECT_FALSE(closes(prefix()));
  EXPECT_TRUE(closes(prefix() + "connection: Close\r\n"));
  EXPECT_TRUE(closes("HTTP/1.0 200 OK\r\n"));
  EXPECT_FALSE(closes("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"));
}

TEST(BodyRule, MatchesOnlyItsOwnBytesAtTheirPlace) {
  const BodyRule rule = BodyRule::pattern(1'000'000);
  const std::string bytes = pattern(1'000'000);
  EXPECT_TRUE(rule.matches(0, bytes));
  EXPECT_TRUE(rule.matches(777'777, std::string_view(bytes).substr(777'777)));
  EXPECT_FALSE(rule.matches(777'778, std::string_view(bytes).substr(777'777)));
  EXPECT_FALSE(rule.matches(999'999, std::string_view(bytes).substr(999'999 % kPatternPeriod, 2)));
  EXPECT_FALSE(rule.matches(1'000'001, ""));
}

}  // namespace
}  // namespace bladepsgi::load
