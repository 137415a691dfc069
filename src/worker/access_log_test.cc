#include "worker/access_log.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bladepsgi::worker {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

const std::vector<Parameter> kRequest = {{"REMOTE_ADDR", "192.0.2.1"},
                                         {"REQUEST_METHOD", "GET"},
                                         {"REQUEST_URI", "/a?b=1"},
                                         {"SERVER_PROTOCOL", "HTTP/1.1"},
                                         {"HTTP_USER_AGENT", "say \"hi\"\x1b[0m\\"},
                                         {"HTTP_X_FOO", "bar"},
                                         {"SERVER_NAME", "example.org"},
                                         {"SERVER_PORT", "80"}};

std::string line_of(std::string_view format,
                    const std::vector<Parameter>& parameters = kRequest,
                    AccessLog::Outcome outcome = {.status = 200,
                                                  .bytes = 1234,
                                                  .took = std::chrono::microseconds(2'500'000)}) {
  auto log = AccessLog::compile(format);
  EXPECT_TRUE(log) << format;
  if (!log) return {};
  log->begin(parameters, "id-1", os::WallClock{} + std::chrono::seconds(1'700'000'000));
  return std::string(log->finish(outcome));
}

TEST(AccessLog, CombinedIsWhatOthersWrite) {
  EXPECT_THAT(line_of("combined"),
              MatchesRegex("192\\.0\\.2\\.1 - - \\[1[45]/Nov/2023:[0-9:]+ [+-][0-9]+\\] "
                           "\"GET /a\\?b=1 HTTP/1\\.1\" 200 1234 \"-\" \"say .*\""));
  EXPECT_EQ(line_of(""), line_of("combined"));
}

TEST(AccessLog, NothingOfAPeerBreaksOutOfItsPlace) {
  EXPECT_EQ(line_of("\"%{User-Agent}i\""), R"("say \"hi\"\x1b[0m\\")");
}

TEST(AccessLog, EachConversion) {
  EXPECT_EQ(line_of("%h|%l|%u|%m|%U|%q|%H|%v|%p|%s|%>s|%b|%B|%D|%T|%L|%{X-Foo}i|%%"),
            "192.0.2.1|-|-|GET|/a|?b=1|HTTP/1.1|example.org|80|200|200|1234|1234|2500000|2|id-1|"
            "bar|%");
  EXPECT_EQ(line_of("%b %B", kRequest, {}), "- 0");
  EXPECT_EQ(line_of("%r", {}), "-");
}

TEST(AccessLog, JsonHoldsAnything) {
  const std::string line = line_of("json");
  EXPECT_THAT(line, HasSubstr(R"("time":"2023-11-14T22:13:20.000Z")"));
  EXPECT_THAT(line, HasSubstr(R"("user_agent":"say \"hi\"\u001b[0m\\")"));
  EXPECT_THAT(line, HasSubstr(R"("status":200,"bytes":1234,"seconds":2.500000)"));
  EXPECT_THAT(line, HasSubstr(R"("referer":null)"));
  EXPECT_EQ(line.front(), '{');
  EXPECT_EQ(line.back(), '}');
}

TEST(AccessLog, UnknownConversionsAreNamed) {
  for (const char* format : {"%z", "%", "%{X}q", "%i", "%{X"}) {
    const auto log = AccessLog::compile(format);
    ASSERT_FALSE(log) << format;
    EXPECT_THAT(log.error().message, HasSubstr("unknown conversion"));
  }
}

}  // namespace
}  // namespace bladepsgi::worker
