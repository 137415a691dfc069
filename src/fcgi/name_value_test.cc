#include "fcgi/name_value.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fcgi/testing.h"

namespace bladepsgi::fcgi {
namespace {

std::string length(std::size_t size, bool long_form) {
  if (!long_form) return std::string(1, static_cast<char>(size));
  std::string out;
  out += static_cast<char>(0x80 | (size >> 24));
  out += static_cast<char>(size >> 16);
  out += static_cast<char>(size >> 8);
  out += static_cast<char>(size);
  return out;
}

struct Form {
  std::size_t name;
  bool long_name;
  std::size_t value;
  bool long_value;
};

class LengthForms : public ::testing::TestWithParam<Form> {};

TEST_P(LengthForms, AreRead) {
  const Form form = GetParam();
  const std::string name(form.name, 'n');
  const std::string value(form.value, 'v');
  const std::string stream = length(form.name, form.long_name) +
                             length(form.value, form.long_value) + name + value +
                             testing::pair("after", "it");
  NameValueReader reader(as_bytes(stream));
  const auto first = reader.next();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->name, name);
  EXPECT_EQ(first->value, value);
  const auto second = reader.next();
  ASSERT_TRUE(second);
  EXPECT_EQ(second->name, "after");
  EXPECT_FALSE(reader.next());
  EXPECT_FALSE(reader.is_malformed());
}

INSTANTIATE_TEST_SUITE_P(AllFour,
                         LengthForms,
                         ::testing::Values(Form{3, false, 4, false},
                                           Form{0, false, 0, false},
                                           Form{127, false, 127, false},
                                           Form{3, false, 128, true},
                                           Form{128, true, 3, false},
                                           Form{70000, true, 300, true},
                                           Form{3, true, 4, true},  // odd, but allowed
                                           Form{0, true, 0, true},
                                           Form{3, true, 0, false},
                                           Form{0, false, 5, true}));

TEST(NameValueReader, EmptyStreamHasNoPairsAndIsSound) {
  NameValueReader reader({});
  EXPECT_FALSE(reader.next());
  EXPECT_FALSE(reader.is_malformed());
}

TEST(NameValueReader, EveryTruncationIsMalformedExceptBetweenPairs) {
  const std::string first = testing::pair("name", std::string(200, 'v'));
  const std::string stream = first + testing::pair("x", "y");
  for (std::size_t size = 0; size <= stream.size(); ++size) {
    NameValueReader reader(as_bytes(stream).first(size));
    while (reader.next()) {
    }
    const bool whole = size == 0 || size == first.size() || size == stream.size();
    EXPECT_EQ(reader.is_malformed(), !whole) << size;
  }
}

// CVE-2025-23016 and CVE-2025-40907: nameLen + valueLen + 2 wrapped around and too little was allocated.
TEST(NameValueReader, LengthsWhoseSumWrapsAreMalformed) {
  for (const auto& [name, value] :
       std::vector<std::pair<std::size_t, std::size_t>>{{0x40000000, 0x40000000},
                                                        {0x7fffffff, 0x7fffffff},
                                                        {0x7ffffffe, 0},
                                                        {0, 0x7fffffff},
                                                        {0x7fffffff, 1}}) {
    const std::string stream = length(name, true) + length(value, true) + "abc";
    NameValueReader reader(as_bytes(stream));
    EXPECT_FALSE(reader.next());
    EXPECT_TRUE(reader.is_malformed()) << name << " " << value;
  }
}

TEST(NameValueReader, KeepsNulAndAnyByteInNamesAndValues) {
  const std::string name("\0a=\xff", 4);
  const std::string value("x\0y", 3);
  const std::string stream = testing::pair(name, value);
  NameValueReader reader(as_bytes(stream));
  const auto pair = reader.next();
  ASSERT_TRUE(pair);
  EXPECT_EQ(pair->name, name);
  EXPECT_EQ(pair->value, value);
}

TEST(AppendNameValue, UsesTheShortestForm) {
  std::vector<std::byte> out;
  append_name_value(out, {"a", std::string(127, 'v')});
  EXPECT_EQ(out.size(), 2U + 1U + 127U);
  out.clear();
  append_name_value(out, {"a", std::string(128, 'v')});
  EXPECT_EQ(out.size(), 5U + 1U + 128U);
}

}  // namespace
}  // namespace bladepsgi::fcgi
