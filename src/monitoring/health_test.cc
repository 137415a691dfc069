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

}  // namespace
}  // namespace bladepsgi::monitoring
