#include "monitoring/health.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bladepsgi::monitoring {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

constexpr Health kWell{.ready = 3, .wanted = 4};

std::string answer(std::string_view request, const Health& health = kWell) {
  return answer_http(request, health).value_or("(more)");
}

TEST(Health, IsAnsweredByNumbers) {
  EXPECT_THAT(answer("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("Connection: close\r\n"),
                    EndsWith("\r\n\r\n3 of 4 workers ready\n")));
  EXPECT_THAT(answer("GET /healthz?verbose HTTP/1.0\r\n\r\n"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(answer("HEAD /healthz HTTP/1.0\r\n\r\n"), EndsWith("\r\n\r\n"));
}

TEST(Health, NoWorkerIsIll) {
  EXPECT_THAT(answer("GET /healthz HTTP/1.0\r\n\r\n", {.ready = 0, .wanted = 4}),
              AllOf(StartsWith("HTTP/1.1 503 "), EndsWith("0 of 4 workers ready\n")));
}

TEST(Health, NoWorkerIsWellWhereNoneIsWanted) {
  EXPECT_TRUE(answer("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", {.ready = 0, .wanted = 0})
                  .starts_with("HTTP/1.1 200 "));
}

TEST(Health, WhoGoesIsIll) {
  EXPECT_THAT(
      answer("GET /healthz HTTP/1.0\r\n\r\n", {.ready = 4, .wanted = 4, .is_going = true}),
      AllOf(StartsWith("HTTP/1.1 503 "), EndsWith("\r\n\r\ndraining, 4 of 4 workers ready\n")));
}

TEST(Health, OtherThingsAreRefused) {
  EXPECT_THAT(answer("GET / HTTP/1.0\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(answer("POST /healthz HTTP/1.0\r\nContent-Length: 1\r\n\r\n"),
              StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(answer("nonsense\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
}

TEST(Health, WaitsForTheWholeHead) {
  EXPECT_EQ(answer(""), "(more)");
  EXPECT_EQ(answer("GET /healthz HTTP/1.1\r\nHost: x\r\n"), "(more)");
}

TEST(ReadAnswer, IsTheOtherWayOfAnswering) {
  for (const Health& health : {kWell, Health{.ready = 0, .wanted = 4},
                               Health{.ready = 4, .wanted = 4, .is_going = true}}) {
    const std::string whole = answer("GET /healthz HTTP/1.0\r\n\r\n", health);
    const auto read = read_answer(whole);
    ASSERT_TRUE(read);
    EXPECT_EQ(to_text(*read), to_text(health));
    for (std::size_t size = 0; size < whole.size(); ++size)
      EXPECT_FALSE(read_answer(whole.substr(0, size))) << size;
  }
}

TEST(ReadAnswer, TakesNothingElseForHealth) {
  const std::string head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";
  EXPECT_TRUE(read_answer(head + "1 of 1 workers ready\n"));
  for (const std::string& text :
       {head, head + "ok\n", head + "0 of 1 workers ready\n", head + "1 of x workers ready\n",
        head + " of  workers ready\n", head + "99999999999 of 1 workers ready\n",
        head + " workers ready\n", std::string("1 of 1 workers ready\n"),
        std::string("HTTP/1.1 500 X\r\n\r\n1 of 1 workers ready\n"),
        std::string("HTTP/1.1 503 X\r\n\r\n1 of 1 workers ready\n"),
        std::string("HTTP/2.0 200 X\r\n\r\n1 of 1 workers ready\n"),
        std::string("\r\n\r\n workers ready\n")}) {
    EXPECT_FALSE(read_answer(text)) << text;
  }
}

TEST(HttpStatus, IsOfTheFirstLine) {
  EXPECT_EQ(http_status("HTTP/1.1 404 Not Found\r\n"), 404);
  EXPECT_EQ(http_status("HTTP/1.0 200"), 200);
  for (const char* text : {"", "HTTP/1.1 20", "HTTP/1.1 x04 ", "HTTP/1.12200 ", "220 ready"})
    EXPECT_FALSE(http_status(text)) << text;
}

}  // namespace
}  // namespace bladepsgi::monitoring
