// Mapping: the one piece of memory that all processes of a pool share.
//
// A memfd, mapped shared by the overseer before anything forks and inherited by every process; a binary upgrade hands
// the descriptor on. It holds a scoreboard sized from the configuration and an object area of which only address space
// is reserved: pages cost memory when they are first touched. Its size is sealed, so no process can pull pages from under
// another. Offsets, not pointers: every process may see it at another address.
//
// The layout version stands at the head. Within a major version of the program the object area's layout is frozen.
// Each process keeps the geometry it was given (Layout) in memory of its own: what a broken application writes into the
// mapping cannot lead anybody outside of it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "os/fd.h"

namespace bladepsgi::shm {

inline constexpr std::uint64_t kMagic = 0x4d48534947535042;  // "BPSGISHM", little-endian
inline constexpr std::uint32_t kLayoutVersion = 6;

inline constexpr std::uint32_t kMaxNumbers = 65536;
// A semaphore's word has 17 bits for a slot.
inline constexpr std::uint32_t kMaxSlots = 131072;
// Slots beyond twice the number of workers: auxiliary processes (known only after loading) and zygotes.
inline constexpr std::uint32_t kExtraSlots = 264;

inline constexpr std::uint64_t kDefaultObjectBytes = std::uint64_t{64} << 20;
inline constexpr std::uint64_t kMinObjectBytes = 4096;
inline constexpr std::uint64_t kMaxObjectBytes = std::uint64_t{1} << 40;

// Where things are, in bytes from the start of the mapping.
struct Layout {
  std::uint32_t numbers = 0;
  std::uint32_t slots = 0;
  std::uint64_t board_offset = 0;
  std::uint64_t numbers_offset = 0;
  std::uint64_t slots_offset = 0;
  std::uint64_t lobby_offset = 0;
  std::uint64_t permits_offset = 0;  // one record a slot: who holds permits for slow bodies
  std::uint64_t objects_offset = 0;
  std::uint64_t object_bytes = 0;
  std::uint64_t total_bytes = 0;

  // Preconditions: 1 … kMaxNumbers, kMinObjectBytes … kMaxObjectBytes.
  [[nodiscard]] static Layout of(std::uint32_t numbers, std::uint64_t object_bytes);
};

class Mapping {
 public:
  struct Options {
    std::uint32_t numbers = 1;  // the largest number of workers, 1 … kMaxNumbers
    std::uint64_t object_bytes = kDefaultObjectBytes;
  };

  // Throws os::SystemError when the machine cannot give it. Options out of range are a broken invariant: the
  // configuration has checked them.
  [[nodiscard]] static Mapping create(const Options& options);

  // Maps what another program made. Refuses a descriptor that is not a sealed mapping of this layout version.
  [[nodiscard]] static Result<Mapping> adopt(os::Fd memory);

  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();  // unmaps here; siblings keep theirs

  [[nodiscard]] const Layout& layout() const { return layout_; }

  [[nodiscard]] std::byte* base() const { return base_; }

  [[nodiscard]] int descriptor() const { return memory_.get(); }

 private:
  Mapping(os::Fd memory, std::byte* base, const Layout& layout);

  os::Fd memory_;
  std::byte* base_ = nullptr;
  Layout layout_;
};

}  // namespace bladepsgi::shm
