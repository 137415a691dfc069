// Limits: how much of everything a peer may choose.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bladepsgi::http {

struct Limits {
  std::size_t receive_buffer =
      std::size_t{64} * 1024;  // at least 1 KiB; only what a peer fills of it is ever touched
  std::size_t head_bytes = std::size_t{1024} * 1024;  // request line and fields; at most 1 GiB
  std::size_t target_bytes = std::size_t{64} * 1024;
  std::size_t field_count = 4096;
  std::size_t chunk_extension_bytes = std::size_t{16} * 1024;  // of all chunks of a body
  std::size_t trailer_bytes = std::size_t{16} * 1024;
  // The rest of a body that the application did not read, when the connection is to be kept.
  std::uint64_t drain_bytes = std::size_t{8} * 1024 * 1024;
};

}  // namespace bladepsgi::http
