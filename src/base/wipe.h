// Wiping: nothing of a client shall lie about while nobody works for it, in no buffer and in no memory that a buffer has left behind.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace bladepsgi {

// Zeros that the compiler cannot leave out because the memory is freed next.
inline void wipe(void* at, std::size_t size) {
  if (size == 0) return;
  std::memset(at, 0, size);
  __asm__ volatile("" : : "r"(at) : "memory");
}

// Of a std::vector or std::string of plain data; its size stays.
template <class Storage>
void wipe(Storage& storage) {
  wipe(storage.data(), storage.size() * sizeof(*storage.data()));
}

// Makes room for `more` elements; where it has to move, nothing stays behind.
template <class Storage>
void grow(Storage& storage, std::size_t more) {
  const std::size_t wanted = storage.size() + more;
  if (wanted <= storage.capacity()) return;
  Storage larger;
  larger.reserve(std::max(wanted, 2 * storage.capacity()));
  larger.insert(larger.end(), storage.begin(), storage.end());
  wipe(storage);
  storage.swap(larger);
}

}  // namespace bladepsgi
