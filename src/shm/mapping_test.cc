#include "shm/mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "shm/layout.h"

namespace bladepsgi::shm {
namespace {

os::Fd duplicate(int fd) {
  return os::Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

// A memfd of the given size, sealed or not, that starts with `header`.
os::Fd foreign_memory(const MappingHeader& header, std::uint64_t size, int seals) {
  os::Fd memory(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(::ftruncate(memory.get(), static_cast<off_t>(size)), 0);
  if (size >= sizeof header) {
    EXPECT_EQ(::pwrite(memory.get(), &header, sizeof header, 0), ssize_t{sizeof header});
  }
  EXPECT_EQ(::fcntl(memory.get(), F_ADD_SEALS, seals), 0);
  return memory;
}

MappingHeader header_of(const Layout& layout) {
  return {.magic = kMagic,
          .layout_version = kLayoutVersion,
          .numbers = layout.numbers,
          .slots = layout.slots,
          .slot_bytes = sizeof(Slot),
          .object_bytes = layout.object_bytes,
          .total_bytes = layout.total_bytes};
}

TEST(Layout, HasSlotsForTwiceTheWorkersAndMoreUpToTheLimitOfTheSemaphoreWord) {
  EXPECT_EQ(Layout::of(8, kMinObjectBytes).slots, 16 + kExtraSlots);
  EXPECT_EQ(Layout::of(kMaxNumbers, kMinObjectBytes).slots, kMaxSlots);
}

TEST(Layout, PartsDoNotOverlap) {
  for (const std::uint32_t numbers : {1U, 7U, 1000U, kMaxNumbers}) {
    const Layout layout = Layout::of(numbers, 10000);
    EXPECT_GE(layout.board_offset, sizeof(MappingHeader));
    EXPECT_GE(layout.numbers_offset, layout.board_offset + sizeof(BoardHeader));
    EXPECT_GE(layout.slots_offset, layout.numbers_offset + numbers * 4);
    EXPECT_EQ(layout.slots_offset % kCacheLine, 0U);
    EXPECT_GE(layout.objects_offset, layout.slots_offset + layout.slots * sizeof(Slot));
    EXPECT_GE(layout.object_bytes, 10000U);
    EXPECT_EQ(layout.total_bytes, layout.objects_offset + layout.object_bytes);
  }
}

TEST(Mapping, IsSharedWithAForkedChild) {
  const Mapping mapping = Mapping::create({.numbers = 1});
  std::byte* last = mapping.base() + mapping.layout().total_bytes - 1;
  const pid_t child = ::fork();
  if (child == 0) {
    *last = std::byte{42};
    ::_exit(0);
  }
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_EQ(*last, std::byte{42});
}

TEST(Mapping, ReservesAddressSpaceOnly) {
  const Mapping mapping =
      Mapping::create({.numbers = 1000, .object_bytes = std::uint64_t{1} << 30});

  struct stat status {};

  ASSERT_EQ(::fstat(mapping.descriptor(), &status), 0);
  EXPECT_LT(status.st_blocks * 512, 64 * 1024);
}

TEST(Mapping, CannotBeShrunkAndIsNotInheritedByPrograms) {
  const Mapping mapping = Mapping::create({.numbers = 1});
  EXPECT_EQ(::ftruncate(mapping.descriptor(), 4096), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(::fcntl(mapping.descriptor(), F_GETFD), FD_CLOEXEC);
}

TEST(Mapping, IsAdoptedWithItsContents) {
  const Mapping mapping = Mapping::create({.numbers = 3, .object_bytes = 10000});
  mapping.base()[mapping.layout().total_bytes - 1] = std::byte{7};
  const auto adopted = Mapping::adopt(duplicate(mapping.descriptor()));
  ASSERT_TRUE(adopted) << adopted.error().message;
  EXPECT_EQ(adopted.value().layout().numbers, 3U);
  EXPECT_EQ(adopted.value().layout().total_bytes, mapping.layout().total_bytes);
  EXPECT_EQ(adopted.value().base()[mapping.layout().total_bytes - 1], std::byte{7});
}

TEST(Mapping, RefusesWhatIsNotOurs) {
  const Layout layout = Layout::of(2, 8192);
  const MappingHeader good = header_of(layout);
  constexpr int kSealed = F_SEAL_SHRINK | F_SEAL_GROW;
  ASSERT_TRUE(Mapping::adopt(foreign_memory(good, layout.total_bytes, kSealed)));

  const auto refused = [&](const MappingHeader& header, std::uint64_t size, int seals) {
    const auto adopted = Mapping::adopt(foreign_memory(header, size, seals));
    return adopted ? std::string("adopted") : adopted.error().message;
  };
  EXPECT_THAT(refused(good, layout.total_bytes, 0), ::testing::HasSubstr("not sealed"));
  EXPECT_THAT(refused(good, 16, kSealed), ::testing::HasSubstr("too small"));
  EXPECT_THAT(refused(good, layout.total_bytes - 1, kSealed), ::testing::HasSubstr("do not fit"));
  MappingHeader bad = good;
  bad.magic ^= 1;
  EXPECT_THAT(refused(bad, layout.total_bytes, kSealed), ::testing::HasSubstr("not ours"));
  bad = good;
  bad.layout_version = kLayoutVersion + 1;
  EXPECT_THAT(refused(bad, layout.total_bytes, kSealed), ::testing::HasSubstr("version"));
  bad = good;
  bad.numbers = kMaxNumbers + 1;
  EXPECT_THAT(refused(bad, layout.total_bytes, kSealed), ::testing::HasSubstr("out of range"));
  bad = good;
  bad.object_bytes = UINT64_MAX;
  EXPECT_THAT(refused(bad, layout.total_bytes, kSealed), ::testing::HasSubstr("out of range"));
  bad = good;
  bad.slots += 1;
  EXPECT_THAT(refused(bad, layout.total_bytes, kSealed), ::testing::HasSubstr("do not fit"));

  const os::Fd file(::open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_FALSE(Mapping::adopt(duplicate(file.get())));
  EXPECT_FALSE(Mapping::adopt(os::Fd()));
}

}  // namespace
}  // namespace bladepsgi::shm
