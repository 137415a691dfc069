// Syntax: the character classes and small productions of RFC 9110 §5.6, which all parsers here share.
#pragma once

#include <cstddef>
#include <string_view>

namespace bladepsgi::http {

[[nodiscard]] bool is_token_char(char c);

// One or more of them.
[[nodiscard]] bool is_token(std::string_view text);

[[nodiscard]] constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

[[nodiscard]] constexpr bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// 0 … 15, or -1.
[[nodiscard]] int hex_digit(char c);

[[nodiscard]] constexpr bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

// Everything below space, tab included, and DEL.
[[nodiscard]] constexpr bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

// Where the first control character at or behind `from` is; text.size() when there is none.
[[nodiscard]] std::size_t find_control(std::string_view text, std::size_t from = 0);

// Without the spaces and tabs around it.
[[nodiscard]] std::string_view trim(std::string_view text);

// Calls visit(item) for each part between commas, trimmed; empty ones are left out, as RFC 9110 §5.6.1 wants of a recipient.
// For lists without quoted strings.
template <class Visit>
void for_each_item(std::string_view list, Visit visit) {
  for (;;) {
    const std::size_t comma = list.find(',');
    const std::string_view item = trim(list.substr(0, comma));
    if (!item.empty()) visit(item);
    if (comma == std::string_view::npos) return;
    list.remove_prefix(comma + 1);
  }
}

}  // namespace bladepsgi::http
