#include "shm/mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "os/system_error.h"
#include "shm/layout.h"

namespace bladepsgi::shm {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
constexpr std::uint64_t kPage = 4096;  // for the object area's alignment; any power of two would do

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

std::byte* map(int fd, std::uint64_t size) {
  void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  return at == MAP_FAILED ? nullptr : static_cast<std::byte*>(at);
}

Failure<Error> refuse(const std::string& reason) {
  return fail(Remedy::Refuse, "cannot take over shared memory: " + reason);
}

}  // namespace

Layout Layout::of(std::uint32_t numbers, std::uint64_t object_bytes) {
  Layout layout;
  layout.numbers = numbers;
  layout.slots = std::min(2 * numbers + kExtraSlots, kMaxSlots);
  layout.board_offset = round_up(sizeof(MappingHeader), kCacheLine);
  layout.numbers_offset = layout.board_offset + sizeof(BoardHeader);
  layout.slots_offset =
      round_up(layout.numbers_offset + numbers * sizeof(std::atomic<std::uint32_t>), kCacheLine);
  layout.lobby_offset = layout.slots_offset + layout.slots * sizeof(Slot);
  layout.permits_offset = layout.lobby_offset + sizeof(LobbyCells);
  layout.objects_offset =
      round_up(layout.permits_offset + layout.slots * sizeof(HoldRecord), kPage);
  layout.object_bytes = round_up(object_bytes, kPage);
  layout.total_bytes = layout.objects_offset + layout.object_bytes;
  return layout;
}

Mapping::Mapping(os::Fd memory, std::byte* base, const Layout& layout)
    : memory_(std::move(memory)), base_(base), layout_(layout) {}

Mapping::Mapping(Mapping&& other) noexcept
    : memory_(std::move(other.memory_)),
      base_(std::exchange(other.base_, nullptr)),
      layout_(other.layout_) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    if (base_ != nullptr) ::munmap(base_, layout_.total_bytes);
    memory_ = std::move(other.memory_);
    base_ = std::exchange(other.base_, nullptr);
    layout_ = other.layout_;
  }
  return *this;
}

Mapping::~Mapping() {
  if (base_ != nullptr) ::munmap(base_, layout_.total_bytes);
}

Mapping Mapping::create(const Options& options) {
  if (options.numbers < 1 || options.numbers > kMaxNumbers ||
      options.object_bytes < kMinObjectBytes || options.object_bytes > kMaxObjectBytes) {
    os::broken_invariant(__FILE__, __LINE__,
                         "shared memory for " + std::to_string(options.numbers) +
                             " workers with an object area of " +
                             std::to_string(options.object_bytes) + " bytes");
  }
  const Layout layout = Layout::of(options.numbers, options.object_bytes);

  os::Fd memory(::memfd_create("bladepsgi", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory.is_open()) throw os::SystemError(errno, "create shared memory");
  if (::ftruncate(memory.get(), static_cast<off_t>(layout.total_bytes)) != 0)
    throw os::SystemError(errno, "size shared memory", std::to_string(layout.total_bytes));
  if (::fcntl(memory.get(), F_ADD_SEALS, kSeals) != 0)
    throw os::SystemError(errno, "seal shared memory");
  std::byte* base = map(memory.get(), layout.total_bytes);
  if (base == nullptr)
    throw os::SystemError(errno, "map shared memory", std::to_string(layout.total_bytes));

  auto* header = reinterpret_cast<MappingHeader*>(base);
  header->magic = kMagic;
  header->layout_version = kLayoutVersion;
  header->numbers = layout.numbers;
  header->slots = layout.slots;
  header->slot_bytes = sizeof(Slot);
  header->object_bytes = layout.object_bytes;
  header->total_bytes = layout.total_bytes;
  auto* area = reinterpret_cast<AreaHeader*>(base + layout.objects_offset);
  area->claimed.store(kFirstEntry, std::memory_order_relaxed);
  return {std::move(memory), base, layout};
}

Result<Mapping> Mapping::adopt(os::Fd memory) {
  const int seals = ::fcntl(memory.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) return refuse("its size is not sealed");

  struct stat status {};

  if (::fstat(memory.get(), &status) != 0)
    return fail(os::system_failure(errno, "examine shared memory"));
  const auto size = static_cast<std::uint64_t>(status.st_size);
  MappingHeader header;
  if (size < sizeof header ||
      ::pread(memory.get(), &header, sizeof header, 0) != static_cast<ssize_t>(sizeof header)) {
    return refuse("it is too small");
  }
  if (header.magic != kMagic) return refuse("it is not ours");
  if (header.layout_version != kLayoutVersion) {
    return refuse("its layout has version " + std::to_string(header.layout_version) +
                  ", ours is version " + std::to_string(kLayoutVersion));
  }
  if (header.numbers < 1 || header.numbers > kMaxNumbers || header.object_bytes < kMinObjectBytes ||
      header.object_bytes > kMaxObjectBytes) {
    return refuse("its sizes are out of range");
  }
  const Layout layout = Layout::of(header.numbers, header.object_bytes);
  if (header.slots != layout.slots || header.slot_bytes != sizeof(Slot) ||
      header.object_bytes != layout.object_bytes || header.total_bytes != layout.total_bytes ||
      size != layout.total_bytes) {
    return refuse("its sizes do not fit each other");
  }
  std::byte* base = map(memory.get(), size);
  if (base == nullptr) return fail(os::system_failure(errno, "map shared memory"));
  return Mapping(std::move(memory), base, layout);
}

}  // namespace bladepsgi::shm
