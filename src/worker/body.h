// StoredBody: a request body that is here before the application is called, in memory or in a temporary file.
//
// The file has no name and goes with its descriptor; nothing of it is left whatever becomes of the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "os/fd.h"
#include "runtime/exchange.h"

namespace bladepsgi::worker {

class StoredBody {
 public:
  // Up to `memory_size` bytes stay in memory; the rest, and all before it, goes to a file in `spool_directory`.
  StoredBody(std::size_t memory_size, std::string spool_directory);

  // Forgets the body; the memory is kept for the next one.
  void clear();

  // Memory that has not been filled yet, for receiving straight into it; then say how much of it was filled.
  [[nodiscard]] WritableBytes memory_space();

  void filled(std::size_t size) { in_memory_ += size; }

  // Returns 0 or errno (ENOSPC and the like of the spool directory).
  [[nodiscard]] int append(Bytes bytes);

  [[nodiscard]] std::uint64_t size() const { return file_.is_open() ? in_file_ : in_memory_; }

  // All of it when it is in memory, else empty.
  [[nodiscard]] Bytes memory() const;

  [[nodiscard]] runtime::BodyRead read(std::uint64_t offset, WritableBytes into) const;

  [[nodiscard]] const std::string& spool_directory() const { return spool_directory_; }

 private:
  int write_out(Bytes bytes);

  std::size_t memory_size_;
  std::string spool_directory_;
  std::unique_ptr<std::byte[]> memory_;
  std::size_t in_memory_ = 0;
  os::Fd file_;
  std::uint64_t in_file_ = 0;
};

}  // namespace bladepsgi::worker
