// BodyRule: what a body has to be, byte for byte: a text, or the first so many bytes of the pattern 0, 1, … 250, 0, 1, …
//
// 251 is a prime, so bytes that are missing, doubled or from another place do not go unnoticed, whatever the sizes of buffers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bladepsgi::load {

inline constexpr std::size_t kPatternPeriod = 251;

// The first `size` bytes of the pattern.
[[nodiscard]] std::string pattern(std::size_t size);

class BodyRule {
 public:
  static BodyRule text(std::string text);
  static BodyRule pattern(std::uint64_t size);

  [[nodiscard]] std::uint64_t size() const { return size_; }

  // Are these bytes what stands at `offset`?
  [[nodiscard]] bool matches(std::uint64_t offset, std::string_view bytes) const;

 private:
  std::uint64_t size_ = 0;
  bool is_pattern_ = false;
  std::string bytes_;  // the text, or some periods of the pattern
};

}  // namespace bladepsgi::load
