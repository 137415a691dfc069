#include "runtime/perl/free_lists.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "runtime/perl/perl_api.h"

namespace bladepsgi::perl {

namespace {

constexpr std::size_t kPageSize = 4096;
constexpr std::size_t kEntry = sizeof(void*);
constexpr std::size_t kMostOnAPage = kPageSize / kEntry;

// What is free is a list through the first word of each element: for scalars that is sv_any.
struct Free {
  Free* next;
};

static_assert(offsetof(SV, sv_any) == 0);

struct List {
  Free* first = nullptr;
  Free* last = nullptr;

  void append(Free* element) {
    (last != nullptr ? last->next : first) = element;
    last = element;
  }

  void append(const List& other) {
    if (other.first == nullptr) return;
    (last != nullptr ? last->next : first) = other.first;
    last = other.last;
  }
};

std::uintptr_t page_of(const Free* element) {
  return reinterpret_cast<std::uintptr_t>(element) / kPageSize;
}

// The elements of a list, side by side and not on the heap.
class Elements {
 public:
  // A list that is met once only: its elements are anywhere, and to look at one takes as long as to sort it.
  explicit Elements(Free* list) {
    for (; list != nullptr; list = list->next) {
      if (count_ == room_ && !grow()) return;
      memory_[count_++] = list;
    }
    is_complete_ = true;
  }

  Elements(const Elements&) = delete;
  Elements& operator=(const Elements&) = delete;

  ~Elements() {
    if (memory_ != nullptr) ::munmap(memory_, room_ * kEntry);
  }

  // Empty when there was no memory for all.
  [[nodiscard]] std::span<Free*> all() const { return {memory_, is_complete_ ? count_ : 0}; }

 private:
  bool grow() {
    const std::size_t room = room_ == 0 ? kPageSize : room_ * 2;
    void* const memory = room_ == 0
                             ? ::mmap(nullptr, room * kEntry, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                             : ::mremap(memory_, room_ * kEntry, room * kEntry, MREMAP_MAYMOVE);
    if (memory == MAP_FAILED) return false;
    memory_ = static_cast<Free**>(memory);
    room_ = room;
    return true;
  }

  Free** memory_ = nullptr;
  std::size_t room_ = 0;
  std::size_t count_ = 0;
  bool is_complete_ = false;
};

Free* ordered(Free* list) {
  const Elements elements(list);
  const std::span<Free*> all = elements.all();
  if (all.empty()) return list;
  std::sort(all.begin(), all.end());

  std::array<List, kMostOnAPage + 1> pages{};  // by how many of them are on a page
  for (auto at = all.begin(); at != all.end();) {
    const auto end = std::find_if(
        at, all.end(), [page = page_of(*at)](const Free* other) { return page_of(other) != page; });
    List& alike = pages.at(static_cast<std::size_t>(end - at));
    for (; at != end; ++at)
      alike.append(*at);
  }
  List result;
  std::for_each(pages.rbegin(), pages.rend(), [&result](const List& some) { result.append(some); });
  result.last->next = nullptr;
  return result.first;
}

}  // namespace

void order_free_lists(pTHX) {
  PL_sv_root = reinterpret_cast<SV*>(ordered(reinterpret_cast<Free*>(PL_sv_root)));
  for (void*& root : PL_body_roots)
    root = ordered(static_cast<Free*>(root));
}

}  // namespace bladepsgi::perl
