#include "os/file_system.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "os/fd.h"

namespace bladepsgi::os {
namespace {

TEST(FileSystem, WhatLiesOnThisMachineIsLocal) {
  char path[] = "/tmp/file-system-XXXXXX";
  const Fd file(::mkstemp(path));
  ASSERT_TRUE(file.is_open());
  ::unlink(path);
  EXPECT_TRUE(is_local_file(file.get()));
  const Fd memory(::memfd_create("test", MFD_CLOEXEC));
  EXPECT_TRUE(is_local_file(memory.get()));
}

TEST(FileSystem, WhatCannotBeAskedIsNot) {
  EXPECT_FALSE(is_local_file(-1));
}

}  // namespace
}  // namespace bladepsgi::os
