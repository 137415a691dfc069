#include "http/syntax.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace bladepsgi::http {
namespace {

TEST(Syntax, ControlCharactersAreFoundWhereverTheyStand) {
  for (int byte = 0; byte < 256; ++byte) {
    const auto c = static_cast<char>(byte);
    const bool is_expected = byte < 0x20 || byte == 0x7f;
    EXPECT_EQ(is_control(c), is_expected) << byte;
    for (std::size_t size = 1; size < 40; ++size) {
      for (std::size_t at = 0; at < size; ++at) {
        // Neighbours that a carry could confuse it with.
        for (const char filling : {' ', '~', '\x80', '\xff'}) {
          std::string text(size, filling);
          text[at] = c;
          ASSERT_EQ(find_control(text), is_expected ? at : size)
              << byte << " " << size << " " << at;
        }
      }
    }
  }
  EXPECT_EQ(find_control("\na\nb", 1), 2U);
  EXPECT_EQ(find_control(""), 0U);
}

TEST(Syntax, TokensAreOfRfc9110) {
  EXPECT_TRUE(is_token("!#$%&'*+-.^_`|~09azAZ"));
  for (const std::string_view text :
       {"",   " ",  "a b", "a:", "(", ")", "<", ">", "@", ",",    ";",
        "\\", "\"", "/",   "[",  "]", "?", "=", "{", "}", "\x7f", "\x80"}) {
    EXPECT_FALSE(is_token(text)) << text;
  }
  EXPECT_FALSE(is_token(std::string_view("\0", 1)));
}

TEST(Syntax, BlanksAreTrimmedAndNothingElse) {
  EXPECT_EQ(trim(" \t a b\t "), "a b");
  EXPECT_EQ(trim(" \t"), "");
  EXPECT_EQ(trim("\x0b\xa0"), "\x0b\xa0");
}

TEST(Syntax, ItemsOfAList) {
  std::vector<std::string> items;
  for_each_item(", a ,,\tb c,", [&](std::string_view item) { items.emplace_back(item); });
  EXPECT_EQ(items, (std::vector<std::string>{"a", "b c"}));
}

TEST(Syntax, HexDigits) {
  EXPECT_EQ(hex_digit('0'), 0);
  EXPECT_EQ(hex_digit('9'), 9);
  EXPECT_EQ(hex_digit('a'), 10);
  EXPECT_EQ(hex_digit('F'), 15);
  for (const char c : {'g', 'G', '/', ':', '@', '`', ' ', '\xff'})
    EXPECT_EQ(hex_digit(c), -1);
}

}  // namespace
}  // namespace bladepsgi::http
