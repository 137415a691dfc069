// PidFile: tells others which process to signal. Under a temporary name until publish(), so that a start that fails does not touch
// that of a server that runs; removed at the end, while it is still ours.
#pragma once

#include <string>

#include "base/result.h"
#include "os/socket.h"

namespace bladepsgi::os {

class PidFile {
 public:
  // Writes the pid of this process beside `path`.
  static Result<PidFile> create(const std::string& path);

  // Replaces what is there.
  Result<void> publish() { return file_.rename_to(path_); }

 private:
  PidFile(std::string path, OwnedPath file) : path_(std::move(path)), file_(std::move(file)) {}

  std::string path_;
  OwnedPath file_;
};

}  // namespace bladepsgi::os
