#include "os/file_system.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>

namespace bladepsgi::os {

bool is_local_file(int fd) {
  // GFS2 has no name in linux/magic.h.
  constexpr std::array<unsigned long, 11> kElsewhere = {
      NFS_SUPER_MAGIC,  SMB_SUPER_MAGIC,  SMB2_SUPER_MAGIC,  CIFS_SUPER_MAGIC,
      AFS_SUPER_MAGIC,  CODA_SUPER_MAGIC, V9FS_MAGIC,        FUSE_SUPER_MAGIC,
      CEPH_SUPER_MAGIC, 0x01161970,       OCFS2_SUPER_MAGIC,
  };

  struct statfs about {};

  if (::fstatfs(fd, &about) != 0) return false;
  const auto type = static_cast<unsigned long>(static_cast<unsigned int>(about.f_type));
  return std::find(kElsewhere.begin(), kElsewhere.end(), type) == kElsewhere.end();
}

}  // namespace bladepsgi::os
