#include "http/syntax.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace bladepsgi::http {

namespace {

constexpr std::array<bool, 256> kTokenChars = [] {
  std::array<bool, 256> table{};
  for (const char c : std::string_view("!#$%&'*+-.^_`|~")) {
    table[static_cast<unsigned char>(c)] = true;
  }
  for (unsigned i = 0; i < 128; ++i) {
    const auto c = static_cast<char>(i);
    if (is_letter(c) || is_digit(c)) table[i] = true;
  }
  return table;
}();

constexpr std::uint64_t kEach = 0x0101010101010101;

// Not zero if one of the eight bytes may be a control character, and always if one is.
constexpr std::uint64_t suspects(std::uint64_t word) {
  const std::uint64_t below_space = (word - kEach * 0x20) & ~word;
  const std::uint64_t without_del = word ^ (kEach * 0x7f);
  const std::uint64_t is_del = (without_del - kEach) & ~without_del;
  return (below_space | is_del) & (kEach * 0x80);
}

}  // namespace

bool is_token_char(char c) {
  return kTokenChars[static_cast<unsigned char>(c)];
}

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_token_char);
}

int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::size_t find_control(std::string_view text, std::size_t from) {
  std::size_t at = from;
  for (; at + sizeof(std::uint64_t) <= text.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + at, sizeof word);
    if (suspects(word) == 0) continue;
    for (std::size_t i = at; i < at + sizeof word; ++i) {
      if (is_control(text[i])) return i;
    }
  }
  while (at < text.size() && !is_control(text[at]))
    ++at;
  return at;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_blank(text.front()))
    text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back()))
    text.remove_suffix(1);
  return text;
}

}  // namespace bladepsgi::http
