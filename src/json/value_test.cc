#include "json/value.h"

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace bladepsgi::json {
namespace {

TEST(JsonValue, IsWrittenInOneLine) {
  Object object;
  object.add("null", {}).add("yes", true).add("no", false).add("count", 42U).add("below", -1);
  object.add("half", 0.5).add("text", "a \"b\"").add("list", Array{1, "two", Array{}});
  object.add("empty", Object{});
  EXPECT_EQ(Value(object).text(),
            R"({"null":null,"yes":true,"no":false,"count":42,"below":-1,"half":0.5,)"
            R"("text":"a \"b\"","list":[1,"two",[]],"empty":{}})");
}

TEST(JsonValue, IsIndentedForPeople) {
  Object object;
  object.add("a", Array{1, 2}).add("b", Object{}).add("c", Array{});
  EXPECT_EQ(Value(object).pretty(),
            "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {},\n  \"c\": []\n}\n");
}

TEST(JsonValue, HoldsTheLargestNumberWhereACountIsLarger) {
  EXPECT_EQ(Value(std::numeric_limits<std::uint64_t>::max()).as_integer(),
            std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(Value(std::uint8_t{200}).as_integer(), 200);
}

TEST(JsonValue, WritesNothingThatATerminalWouldObey) {
  const std::string text = Value("\x1b[2J\x7f\xc2\x9b\xff\xc3\xa4\n").text();
  EXPECT_EQ(text, R"("\u001b[2J\u007f\u009b\ufffd\u00e4\n")");
}

TEST(JsonValue, ReadsWhatItWrites) {
  for (const std::string_view text :
       {R"({"a":[1,-2,0.5,true,false,null,"x\u00e4\u0000y"],"b":{"c":{}}})", "[]", "\"\"", "0",
        "null", "9223372036854775807"}) {
    const auto value = parse(text);
    ASSERT_TRUE(value) << text << ": " << value.error().message;
    EXPECT_EQ(value->text(), text);
  }
}

TEST(JsonValue, TakesWhatIsNoIntegerForANumber) {
  const auto large = parse("18446744073709551615");
  ASSERT_TRUE(large);
  EXPECT_FALSE(large->as_integer());
  EXPECT_EQ(large->as_number(), 18446744073709551615.0);
}

TEST(JsonValue, RefusesWhatIsNotJson) {
  for (const std::string_view text :
       {"",         " ",        "{",     "}",       "[1,]",
        "{\"a\"}",  "{'a':1}",  "nul",   "1 2",     "[1] x",
        "\"\x01\"", "\"\xff\"", "1e999", "\"\\x\"", "{\"a\":1,}",
        "// x\n1",  "NaN",      "[",     "\"",      "{\"a\":1,\"a\":2}"}) {
    const auto value = parse(text);
    ASSERT_FALSE(value) << text;
    EXPECT_FALSE(value.error().message.empty()) << text;
  }
  EXPECT_FALSE(parse(std::string_view("1\0", 2)));
}

TEST(JsonValue, RefusesWhatIsDeeperThanItsLimit) {
  EXPECT_TRUE(parse(std::string(32, '[') + std::string(32, ']')));
  EXPECT_FALSE(parse(std::string(33, '[') + std::string(33, ']')));
  const auto deep = parse(std::string(1 << 20, '['));
  ASSERT_FALSE(deep);
  EXPECT_EQ(deep.error().message, "too many arrays and objects in each other");
}

TEST(JsonValue, RefusesMoreMembersThanItsLimit) {
  std::string text = "{";
  for (int i = 0; i < 256; ++i)
    text += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":0";
  EXPECT_TRUE(parse(text + "}"));
  EXPECT_FALSE(parse(text + ",\"x\":0}"));
}

TEST(JsonValue, AnswersEmptyForAnotherType) {
  const Value text("x");
  EXPECT_FALSE(text.as_bool());
  EXPECT_FALSE(text.as_integer());
  EXPECT_FALSE(text.as_number());
  EXPECT_EQ(text.as_array(), nullptr);
  EXPECT_EQ(text.find("x"), nullptr);
  EXPECT_EQ(Value(1).as_string(), nullptr);
  EXPECT_TRUE(Value().is_null());
  Object object;
  object.add("a", 1);
  EXPECT_EQ(object.find("b"), nullptr);
  EXPECT_EQ(object.take("a")->as_integer(), 1);
  EXPECT_FALSE(object.take("a"));
}

}  // namespace
}  // namespace bladepsgi::json
