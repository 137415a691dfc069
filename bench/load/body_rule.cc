#include "load/body_rule.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace bladepsgi::load {

namespace {

constexpr std::size_t kPeriodsHeld = 512;

}  // namespace

std::string pattern(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<char>(i % kPatternPeriod);
  return bytes;
}

BodyRule BodyRule::text(std::string text) {
  BodyRule rule;
  rule.size_ = text.size();
  rule.bytes_ = std::move(text);
  return rule;
}

BodyRule BodyRule::pattern(std::uint64_t size) {
  BodyRule rule;
  rule.size_ = size;
  rule.is_pattern_ = true;
  rule.bytes_ = load::pattern(kPatternPeriod * kPeriodsHeld);
  return rule;
}

bool BodyRule::matches(std::uint64_t offset, std::string_view bytes) const {
  if (offset > size_ || bytes.size() > size_ - offset) return false;
  while (!bytes.empty()) {
    const std::size_t from = is_pattern_ ? offset % kPatternPeriod : offset;
    const std::size_t part = std::min(bytes.size(), bytes_.size() - from);
    if (std::memcmp(bytes.data(), bytes_.data() + from, part) != 0) return false;
    bytes.remove_prefix(part);
    offset += part;
  }
  return true;
}

}  // namespace bladepsgi::load
