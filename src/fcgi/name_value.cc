#include "fcgi/name_value.h"

#include <array>
#include <cstdint>

namespace bladepsgi::fcgi {

bool NameValueReader::read_length(std::size_t& length) {
  if (rest_.empty()) return false;
  const std::uint8_t first = load_u8(rest_.data());
  if (first < 0x80) {
    length = first;
    rest_ = rest_.subspan(1);
    return true;
  }
  if (rest_.size() < 4) return false;
  length = load_u32(rest_.data()) & 0x7fffffffU;
  rest_ = rest_.subspan(4);
  return true;
}

std::optional<Parameter> NameValueReader::next_of_any_size() {
  if (rest_.empty()) return std::nullopt;
  std::size_t name_length = 0;
  std::size_t value_length = 0;
  // Each length is held against what is left before anything is added, so no sum can wrap.
  if (!read_length(name_length) || !read_length(value_length) || name_length > rest_.size() ||
      value_length > rest_.size() - name_length) {
    malformed_ = true;
    rest_ = {};
    return std::nullopt;
  }
  const Parameter pair{as_text(rest_.first(name_length)),
                       as_text(rest_.subspan(name_length, value_length))};
  rest_ = rest_.subspan(name_length + value_length);
  return pair;
}

namespace {

void append_length(std::vector<std::byte>& into, std::size_t length) {
  if (length < 0x80) {
    into.push_back(static_cast<std::byte>(length));
    return;
  }
  std::array<std::byte, 4> four{};
  store_u32(four.data(), static_cast<std::uint32_t>(length) | 0x80000000U);
  into.insert(into.end(), four.begin(), four.end());
}

void append_text(std::vector<std::byte>& into, std::string_view text) {
  const Bytes bytes = as_bytes(text);
  into.insert(into.end(), bytes.begin(), bytes.end());
}

}  // namespace

void append_name_value(std::vector<std::byte>& into, Parameter pair) {
  append_length(into, pair.name.size());
  append_length(into, pair.value.size());
  append_text(into, pair.name);
  append_text(into, pair.value);
}

}  // namespace bladepsgi::fcgi
