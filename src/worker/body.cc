#include "worker/body.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/wipe.h"

namespace bladepsgi::worker {

namespace {

// Returns a descriptor, or -1 with errno.
int open_nameless_file(const std::string& directory) {
  const int file = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return file;
  // Some file systems (overlayfs of older kernels, NFS) cannot make a file without a name.
  std::string path = directory + "/bladepsgi-body-XXXXXX";
  const int named = ::mkostemp(path.data(), O_CLOEXEC);
  if (named >= 0) ::unlink(path.c_str());
  return named;
}

}  // namespace

StoredBody::StoredBody(std::size_t memory_size, std::string spool_directory)
    : memory_size_(memory_size), spool_directory_(std::move(spool_directory)) {}

void StoredBody::clear() {
  wipe(memory_.get(), in_memory_);
  in_memory_ = 0;
  in_file_ = 0;
  file_.reset();
}

WritableBytes StoredBody::memory_space() {
  if (file_.is_open()) return {};
  if (!memory_) memory_ = std::make_unique_for_overwrite<std::byte[]>(memory_size_);
  return {memory_.get() + in_memory_, memory_size_ - in_memory_};
}

int StoredBody::append(Bytes bytes) {
  const WritableBytes space = memory_space();
  if (!file_.is_open() && bytes.size() <= space.size()) {
    std::copy(bytes.begin(), bytes.end(), space.begin());
    in_memory_ += bytes.size();
    return 0;
  }
  if (!file_.is_open()) {
    file_ = os::Fd(open_nameless_file(spool_directory_));
    if (!file_.is_open()) return errno;
    if (const int error = write_out({memory_.get(), in_memory_}); error != 0) return error;
  }
  return write_out(bytes);
}

int StoredBody::write_out(Bytes bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file_.get(), bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    in_file_ += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return 0;
}

Bytes StoredBody::memory() const {
  if (file_.is_open()) return {};
  return {memory_.get(), in_memory_};
}

runtime::BodyRead StoredBody::read(std::uint64_t offset, WritableBytes into) const {
  if (!file_.is_open()) {
    if (offset >= in_memory_) return {};
    const Bytes rest = memory().subspan(static_cast<std::size_t>(offset));
    const std::size_t size = std::min(rest.size(), into.size());
    std::copy_n(rest.begin(), size, into.begin());
    return {size, 0};
  }
  for (;;) {
    const ssize_t size = ::pread(file_.get(), into.data(), into.size(), static_cast<off_t>(offset));
    if (size >= 0) return {static_cast<std::size_t>(size), 0};
    if (errno != EINTR) return {0, errno};
  }
}

}  // namespace bladepsgi::worker
