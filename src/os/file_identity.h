// FileIdentity: which file a path meant when it was ours, so that another program that goes on in this process knows it again.
#pragma once

#include <cstdint>
#include <string>

namespace bladepsgi::os {

struct FileIdentity {
  std::string path;  // empty: none
  std::uint64_t device = 0;
  std::uint64_t inode = 0;

  bool operator==(const FileIdentity&) const = default;
};

}  // namespace bladepsgi::os
