#include "cgi/request_start.h"

#include <algorithm>
#include <cstdint>

#include "base/text.h"

namespace bladepsgi::cgi {

namespace {

using std::chrono::microseconds;

constexpr std::uint64_t kMillion = 1'000'000;

// Years 2001 to 5138 as seconds; a number that is larger counts something smaller.
constexpr std::uint64_t kLeast = 1'000'000'000;
constexpr std::uint64_t kMost = 100'000'000'000;

}  // namespace

std::optional<microseconds> parse_request_start(std::string_view text) {
  if (text.starts_with("t=")) text.remove_prefix(2);
  const std::size_t dot = text.find('.');
  const std::optional<std::uint64_t> whole = parse_decimal(text.substr(0, dot));
  if (!whole || *whole < kLeast) return std::nullopt;
  if (dot != std::string_view::npos) {
    if (*whole >= kMost) return std::nullopt;
    std::uint64_t fraction = 0;
    std::uint64_t unit = kMillion;
    for (const char c : text.substr(dot + 1)) {
      if (c < '0' || c > '9') return std::nullopt;
      unit /= 10;
      fraction += static_cast<std::uint64_t>(c - '0') * unit;
    }
    return microseconds(static_cast<std::int64_t>(*whole * kMillion + fraction));
  }
  for (std::uint64_t factor : {std::uint64_t{1}, std::uint64_t{1000}, kMillion, kMillion * 1000}) {
    if (*whole / factor >= kMost) continue;
    const std::uint64_t time =
        factor <= kMillion ? *whole * (kMillion / factor) : *whole / (factor / kMillion);
    return microseconds(static_cast<std::int64_t>(time));
  }
  return std::nullopt;
}

std::optional<microseconds> request_start(std::span<const Parameter> parameters) {
  std::optional<microseconds> earliest;
  for (const Parameter& parameter : parameters) {
    if (parameter.name != "HTTP_X_REQUEST_START" && parameter.name != "HTTP_X_QUEUE_START")
      continue;
    const auto start = parse_request_start(parameter.value);
    if (start && (!earliest || *start < *earliest)) earliest = start;
  }
  return earliest;
}

}  // namespace bladepsgi::cgi
