#include "worker/recycling.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "base/text.h"
#include "os/fd.h"

namespace bladepsgi::worker {

namespace {

constexpr double kSpread = 0.2;
// The kernel counts pages for an answer, which takes a moment for a large process.
constexpr std::chrono::seconds kBetweenLooks{1};

}  // namespace

std::optional<std::uint64_t> private_memory() {
  const os::Fd file(::open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC));
  std::array<char, 4096> buffer;
  const ssize_t size = file.is_open() ? ::read(file.get(), buffer.data(), buffer.size()) : -1;
  if (size <= 0) return std::nullopt;
  std::string_view text(buffer.data(), static_cast<std::size_t>(size));
  std::optional<std::uint64_t> total;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.starts_with("Private_Clean:") && !line.starts_with("Private_Dirty:")) continue;
    line.remove_prefix(std::min(line.find_first_of("0123456789"), line.size()));
    const auto kibibytes = parse_decimal(line.substr(0, line.find(' ')));
    if (kibibytes) total = total.value_or(0) + *kibibytes * 1024;
  }
  return total;
}

Recycling::Recycling(const RecyclingLimits& limits,
                     os::Monotonic now,
                     double chance,
                     MemoryReader memory)
    : requests_left_(0), memory_(limits.memory), read_memory_(std::move(memory)) {
  const double share = 1 - kSpread * chance;
  if (limits.requests > 0) {
    requests_left_ =
        std::max(static_cast<std::uint32_t>(static_cast<double>(limits.requests) * share), 1U);
  }
  if (limits.lifetime > std::chrono::milliseconds::zero()) {
    end_ = now + std::chrono::duration_cast<os::Monotonic::duration>(limits.lifetime * share);
  }
}

shm::Wish Recycling::wish(shm::Wish what) {
  has_wished_ = true;
  return what;
}

shm::Wish Recycling::request_ended(os::Monotonic now) {
  if (has_wished_) return shm::Wish::None;
  if (requests_left_ > 0 && --requests_left_ == 0) return wish(shm::Wish::Requests);
  if (memory_ > 0 && now - last_look_ >= kBetweenLooks) {
    last_look_ = now;
    if (read_memory_().value_or(0) > memory_) return wish(shm::Wish::Memory);
  }
  return time_passed(now);
}

shm::Wish Recycling::time_passed(os::Monotonic now) {
  return !has_wished_ && end_ && now >= *end_ ? wish(shm::Wish::Lifetime) : shm::Wish::None;
}

std::optional<os::Monotonic> Recycling::deadline() const {
  return has_wished_ ? std::nullopt : end_;
}

}  // namespace bladepsgi::worker
