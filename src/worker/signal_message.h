// SignalMessage: text that a signal handler puts together, without any memory but its own.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace bladepsgi::worker {

class SignalMessage {
 public:
  void add(std::string_view text) {
    const std::size_t size = std::min(text.size(), text_.size() - size_);
    std::memcpy(text_.data() + size_, text.data(), size);
    size_ += size;
  }

  // "12.3 s"
  void add(std::chrono::nanoseconds time) {
    const auto tenths = static_cast<std::uint64_t>(std::max<std::int64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(time).count() / 100, 0));
    std::array<char, 20> digits;
    std::size_t first = digits.size();
    for (std::uint64_t rest = tenths / 10; first == digits.size() || rest != 0; rest /= 10)
      digits[--first] = static_cast<char>('0' + rest % 10);
    add({digits.data() + first, digits.size() - first});
    const std::array<char, 4> end{'.', static_cast<char>('0' + tenths % 10), ' ', 's'};
    add({end.data(), end.size()});
  }

  void add_number(std::uint32_t number) {
    std::array<char, 10> digits;
    std::size_t first = digits.size();
    do {
      digits[--first] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    add({digits.data() + first, digits.size() - first});
  }

  [[nodiscard]] std::span<char> room() { return std::span(text_).subspan(size_); }

  void added(std::size_t size) { size_ += size; }

  [[nodiscard]] std::string_view text() const { return {text_.data(), size_}; }

 private:
  // One frame of the log channel, so that it cannot come in two pieces: it may have interrupted another one.
  std::array<char, 4000> text_;
  std::size_t size_ = 0;
};

}  // namespace bladepsgi::worker
