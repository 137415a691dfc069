// Fd: owns one descriptor. Everything in os that makes a descriptor makes it close-on-exec.
#pragma once

#include <utility>

namespace bladepsgi::os {

class Fd {
 public:
  Fd() = default;

  explicit Fd(int fd) : fd_(fd) {}  // takes ownership; -1 is "none"

  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;

  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }

  ~Fd() { reset(); }

  [[nodiscard]] int get() const { return fd_; }

  [[nodiscard]] bool is_open() const { return fd_ >= 0; }

  // Gives up ownership.
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }

  // Closes. Keeps errno.
  void reset() noexcept;

 private:
  int fd_ = -1;
};

}  // namespace bladepsgi::os
