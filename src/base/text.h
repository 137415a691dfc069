// Text: small questions about strings, independent of any locale.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bladepsgi {

// ASCII only: bytes above 127 are equal to themselves alone.
[[nodiscard]] bool equals_ignoring_case(std::string_view left, std::string_view right);

// A whole decimal number without sign, space or leading "+"; empty when it is anything else or too large.
[[nodiscard]] std::optional<std::uint64_t> parse_decimal(std::string_view text);

// The parts between separators, empty ones included; views into `text`.
[[nodiscard]] std::vector<std::string_view> split(std::string_view text, char separator);

// Text of a peer made fit for a log line: control bytes, DEL and backslash appear as \xHH, and what is longer than
// `limit` bytes is cut and marked with "…".
[[nodiscard]] std::string printable(std::string_view text, std::size_t limit = 256);

}  // namespace bladepsgi
