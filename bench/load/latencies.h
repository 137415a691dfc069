// Latencies: how long requests took, in buckets that are 1/64 of their value wide, so that adding one is an increment.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace bladepsgi::load {

class Latencies {
 public:
  void add(std::chrono::nanoseconds took) {
    const auto value = static_cast<std::uint64_t>(std::max<std::int64_t>(took.count(), 0));
    ++buckets_[bucket_of(value)];
    ++count_;
    longest_ = std::max(longest_, value);
  }

  // So that `share` (0 … 1) of all took no longer; 0 without any.
  [[nodiscard]] double microseconds_at(double share) const {
    const auto wanted = static_cast<std::uint64_t>(share * static_cast<double>(count_));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      seen += buckets_[i];
      if (seen > wanted) return std::min(middle_of(i), static_cast<double>(longest_)) / 1000;
    }
    return longest_microseconds();
  }

  [[nodiscard]] double longest_microseconds() const { return static_cast<double>(longest_) / 1000; }

 private:
  static constexpr unsigned kBits = 6;  // of a value that its bucket tells
  static constexpr std::size_t kPerPower = std::size_t{1} << kBits;

  static std::size_t bucket_of(std::uint64_t value) {
    if (value < kPerPower) return value;
    const auto power = static_cast<unsigned>(std::bit_width(value)) - kBits - 1;
    return (power + 1) * kPerPower + ((value >> power) - kPerPower);
  }

  static double middle_of(std::size_t bucket) {
    if (bucket < kPerPower) return static_cast<double>(bucket);
    const std::size_t power = bucket / kPerPower - 1;
    const std::uint64_t low = (kPerPower + bucket % kPerPower) << power;
    return static_cast<double>(low) + static_cast<double>(std::uint64_t{1} << power) / 2;
  }

  std::array<std::uint64_t, (65 - kBits) * kPerPower> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t longest_ = 0;
};

}  // namespace bladepsgi::load
