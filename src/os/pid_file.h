// PidFile: tells others which process to signal. Under a temporary name until publish(), so that a start that fails does not touch
// that of a server that runs; removed at the end, while it is still ours.
#pragma once

#include <string>
#include <utility>

#include "base/result.h"
#include "os/file_identity.h"
#include "os/socket.h"

namespace bladepsgi::os {

class PidFile {
 public:
  // Writes the pid of this process beside `path`.
  static Result<PidFile> create(const std::string& path);

  // Goes on with that of the program that this process was before: `path` and `file` as path() and identity() were.
  static PidFile restore(std::string path, const FileIdentity& file) {
    return {std::move(path), OwnedPath(file)};
  }

  [[nodiscard]] const std::string& path() const { return path_; }

  [[nodiscard]] FileIdentity identity() const { return file_.identity(); }

  // Replaces what is there.
  Result<void> publish() { return file_.rename_to(path_); }

 private:
  PidFile(std::string path, OwnedPath file) : path_(std::move(path)), file_(std::move(file)) {}

  std::string path_;
  OwnedPath file_;
};

}  // namespace bladepsgi::os
