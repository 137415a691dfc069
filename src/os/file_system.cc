#include "os/file_system.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>

namespace bladepsgi::os {

bool is_local_file(int fd) {
  // Those without a name in linux/magic.h: XFS, ZFS, bcachefs.
  constexpr std::array<unsigned long, 14> kLocal = {
      EXT4_SUPER_MAGIC,     0x58465342,      BTRFS_SUPER_MAGIC,     F2FS_SUPER_MAGIC,
      TMPFS_MAGIC,          RAMFS_MAGIC,     OVERLAYFS_SUPER_MAGIC, 0x2fc12fc1,
      0xca451a4e,           SQUASHFS_MAGIC,  ISOFS_SUPER_MAGIC,     EROFS_SUPER_MAGIC_V1,
      REISERFS_SUPER_MAGIC, HUGETLBFS_MAGIC,
  };

  struct statfs about {};

  if (::fstatfs(fd, &about) != 0) return false;
  const auto type = static_cast<unsigned long>(static_cast<unsigned int>(about.f_type));
  return std::find(kLocal.begin(), kLocal.end(), type) != kLocal.end();
}

}  // namespace bladepsgi::os
