// Bytes: views of raw memory, their text, and network byte order.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace bladepsgi {

using Bytes = std::span<const std::byte>;
using WritableBytes = std::span<std::byte>;

// The same memory seen as the other type; nothing is copied, and the view lives as long as that memory.
[[nodiscard]] inline Bytes as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

[[nodiscard]] inline std::string_view as_text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Big-endian integers; `at` must have as many bytes as the name says.
[[nodiscard]] constexpr std::uint8_t load_u8(const std::byte* at) {
  return static_cast<std::uint8_t>(*at);
}

[[nodiscard]] constexpr std::uint16_t load_u16(const std::byte* at) {
  return static_cast<std::uint16_t>((load_u8(at) << 8) | load_u8(at + 1));
}

[[nodiscard]] constexpr std::uint32_t load_u32(const std::byte* at) {
  return (static_cast<std::uint32_t>(load_u16(at)) << 16) | load_u16(at + 2);
}

constexpr void store_u16(std::byte* at, std::uint16_t value) {
  at[0] = static_cast<std::byte>(value >> 8);
  at[1] = static_cast<std::byte>(value & 0xff);
}

constexpr void store_u32(std::byte* at, std::uint32_t value) {
  store_u16(at, static_cast<std::uint16_t>(value >> 16));
  store_u16(at + 2, static_cast<std::uint16_t>(value & 0xffff));
}

}  // namespace bladepsgi
