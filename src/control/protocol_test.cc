#include "control/protocol.h"

#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

namespace bladepsgi::control {
namespace {

TEST(ControlRequest, IsACommandAndItsArguments) {
  const auto request = parse_request(R"({"fast":true,"command":"stop","number":3})");
  ASSERT_TRUE(request);
  EXPECT_EQ(request->command, "stop");
  EXPECT_EQ(request->arguments.members().size(), 2U);
  EXPECT_TRUE(*flag(request->arguments, "fast"));
  EXPECT_FALSE(*flag(request->arguments, "immediate"));
  EXPECT_EQ(number(request->arguments, "number", 0, 9).value(), 3);
  EXPECT_EQ(number(request->arguments, "other", 0, 9).value(), std::nullopt);
}

TEST(ControlRequest, IsReadAsItWasWritten) {
  Request request;
  request.command = "x\n\x1b";
  request.arguments.add("a", json::Array{1, "b"});
  const std::string line = request_line(request);
  EXPECT_EQ(line, "{\"command\":\"x\\n\\u001b\",\"a\":[1,\"b\"]}\n");
  const auto again = parse_request(std::string_view(line).substr(0, line.size() - 1));
  ASSERT_TRUE(again);
  EXPECT_EQ(request_line(*again), line);
}

TEST(ControlRequest, IsRefusedWithTheReason) {
  const std::vector<std::pair<std::string_view, std::string_view>> cases = {
      {"", "the request is not JSON at byte 1"},
      {"stop", "the request is not JSON at byte 1"},
      {"[]", "the request is no JSON object"},
      {"\"stop\"", "the request is no JSON object"},
      {"{}", "the request names no command"},
      {R"({"command":1})", "the request names no command"},
      {R"({"command":"a","command":"b"})", "the request is a member is there twice"},
  };
  for (const auto& [line, reason] : cases) {
    const auto request = parse_request(line);
    ASSERT_FALSE(request) << line;
    EXPECT_EQ(request.error().message, reason) << line;
  }
}

TEST(ControlArguments, AreRefusedWhenTheyAreUnknownOrOfAnotherKind) {
  json::Object arguments;
  arguments.add("fast", 1).add("count", 10).add("text", "x");
  EXPECT_FALSE(flag(arguments, "fast"));
  EXPECT_FALSE(number(arguments, "count", 1, 9));
  EXPECT_FALSE(number(arguments, "count", 11, 12));
  EXPECT_TRUE(number(arguments, "count", 10, 10));
  EXPECT_FALSE(number(arguments, "text", 0, 9));
  EXPECT_TRUE(check_arguments(arguments, {"text", "fast", "count"}));
  const auto checked = check_arguments(arguments, {"fast", "count"});
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().message, "the server knows no 'text' of this command");
  EXPECT_TRUE(check_arguments({}, {}));
}

TEST(ControlAnswer, IsProgressOrAnOutcome) {
  auto answer = parse_answer(R"({"progress":"3 workers"})");
  ASSERT_TRUE(answer);
  EXPECT_EQ(std::get<Progress>(*answer).text, "3 workers");

  answer = parse_answer(R"({"ok":true,"exit":0,"result":{"a":1}})");
  ASSERT_TRUE(answer);
  EXPECT_EQ(std::get<Outcome>(*answer).exit, 0);
  EXPECT_EQ(std::get<Outcome>(*answer).error, "");
  EXPECT_EQ(std::get<Outcome>(*answer).result.text(), R"({"a":1})");

  answer = parse_answer(R"({"ok":false,"exit":3,"error":"no"})");
  ASSERT_TRUE(answer);
  EXPECT_EQ(std::get<Outcome>(*answer).exit, 3);
  EXPECT_EQ(std::get<Outcome>(*answer).error, "no");
}

TEST(ControlAnswer, NeverTurnsAFailureIntoSuccess) {
  for (const std::string_view line :
       {R"({"ok":false})", R"({"ok":false,"exit":0})", R"({"ok":false,"exit":256,"error":""})",
        R"({"ok":false,"exit":"x"})"}) {
    const auto answer = parse_answer(line);
    ASSERT_TRUE(answer) << line;
    EXPECT_EQ(std::get<Outcome>(*answer).exit, 1) << line;
    EXPECT_NE(std::get<Outcome>(*answer).error, "") << line;
  }
  for (const std::string_view line : {"", "{}", "[]", R"({"ok":1})", R"({"progress":1})"})
    EXPECT_FALSE(parse_answer(line)) << line;
}

TEST(ControlAnswer, IsOneLine) {
  EXPECT_EQ(progress_line("a\nb"), "{\"progress\":\"a\\nb\"}\n");
  EXPECT_EQ(outcome_line({.exit = 7, .error = {}, .result = 1}),
            "{\"ok\":true,\"exit\":0,\"result\":1}\n");
  EXPECT_EQ(outcome_line({.exit = 0, .error = "no", .result = {}}),
            "{\"ok\":false,\"exit\":1,\"error\":\"no\"}\n");
}

}  // namespace
}  // namespace bladepsgi::control
