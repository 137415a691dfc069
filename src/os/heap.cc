#include "os/heap.h"

#include <malloc.h>
#include <sys/mman.h>

#include <array>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

namespace bladepsgi::os {

namespace {

// Blocks of one size lie on top of each other when they are cut from a large one.
constexpr std::size_t kCutFromOne = 4;

constexpr std::size_t kSmallest = 24;
constexpr std::size_t kLargest = 1032;  // up to here malloc has lists of free blocks by size
constexpr std::size_t kStep = 16;
constexpr std::size_t kHeader = 8;

// Takes free blocks of this size until malloc begins to cut new ones. `budget`: bytes that are free at all.
void take_all(std::size_t size, std::size_t& budget) {
  std::array<void*, kCutFromOne> cut{};
  std::size_t count = 0;
  std::uintptr_t expected = 0;
  while (count < cut.size() && budget >= size) {
    void* const block =
        std::malloc(size);  // NOLINT(cppcoreguidelines-no-malloc): it is what this is about
    if (block == nullptr) break;
    budget -= size;
    const auto at = reinterpret_cast<std::uintptr_t>(block);
    if (at != expected) count = 0;
    cut.at(count++) = block;
    expected = at + size + kHeader;
  }
  for (std::size_t i = 0; i < count; ++i)
    std::free(cut.at(i));  // NOLINT(cppcoreguidelines-no-malloc)
  budget += count * size;
}

}  // namespace

void settle_heap() {
  std::size_t budget = ::mallinfo2().fordblks;  // 0 when malloc is another than the C library's
  for (std::size_t size = kLargest; size >= kSmallest; size -= kStep)
    take_all(size, budget);
  ::malloc_trim(0);
}

void release_code() {
  std::ifstream maps("/proc/self/smaps");
  void* begin = nullptr;
  std::size_t size = 0;
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t first = 0;
    std::uintptr_t last = 0;
    std::array<char, 5> rights{};
    std::uint64_t inode = 0;
    // NOLINTNEXTLINE(cert-err34-c): the kernel has written it
    if (std::sscanf(line.c_str(), "%zx-%zx %4s %*x %*s %" SCNu64, &first, &last, rights.data(),
                    &inode) == 4) {
      const bool is_code = rights[0] == 'r' && rights[1] == '-' && inode != 0;
      begin =
          is_code ? reinterpret_cast<void*>(first) : nullptr;  // NOLINT(performance-no-int-to-ptr)
      size = last - first;
    } else if (begin != nullptr && line.starts_with("Anonymous:")) {
      if (line.ends_with(" 0 kB")) ::madvise(begin, size, MADV_DONTNEED);
      begin = nullptr;
    }
  }
}

}  // namespace bladepsgi::os
