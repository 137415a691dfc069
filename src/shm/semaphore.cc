#include "shm/semaphore.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <climits>
#include <ctime>
#include <string>

#include "os/system_error.h"

namespace bladepsgi::shm {
namespace {

// The word, from the lowest bit: value 31, operation 1, sequence 15, slot 17. The fresh word names slot 0's
// operation 0, which its fresh record says is settled.
constexpr std::uint32_t kSequenceMask = 0x7fff;

struct Word {
  std::uint32_t value = 0;
  Semaphore::Operation operation = Semaphore::Operation::Acquire;
  std::uint32_t sequence = 0;
  SlotIndex slot = 0;

  static Word from(std::uint64_t bits) {
    return {.value = static_cast<std::uint32_t>(bits & kMaxSemaphoreValue),
            .operation = static_cast<Semaphore::Operation>(bits >> 31 & 1),
            .sequence = static_cast<std::uint32_t>(bits >> 32 & kSequenceMask),
            .slot = static_cast<SlotIndex>(bits >> 47)};
  }

  [[nodiscard]] std::uint64_t bits() const {
    return value | std::uint64_t{static_cast<std::uint8_t>(operation)} << 31 |
           std::uint64_t{sequence} << 32 | std::uint64_t{slot} << 47;
  }
};

static_assert(kMaxSlots == 1U << 17);

struct Record {
  std::uint32_t sequence = 0;
  std::uint32_t held = 0;

  static Record from(std::uint64_t bits) {
    return {.sequence = static_cast<std::uint32_t>(bits >> 32),
            .held = static_cast<std::uint32_t>(bits)};
  }

  [[nodiscard]] std::uint64_t bits() const {
    // NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): what is shifted has 64 bits
    return std::uint64_t{sequence} << 32 | held;
  }

  [[nodiscard]] Record after(Semaphore::Operation operation) const {
    Record next{.sequence = sequence + 1, .held = held};
    if (operation == Semaphore::Operation::Acquire) {
      ++next.held;
    } else if (held > 0) {
      --next.held;
    }
    return next;
  }
};

// The half of the word with the value in it. Not private: the waiters are other processes.
std::uint32_t* futex_of(SemaphoreCell& cell) {
  auto* halves = reinterpret_cast<std::uint32_t*>(&cell.word);
  return std::endian::native == std::endian::little ? halves : halves + 1;
}

// 0 when woken, or why not. The deadline is absolute, on the monotonic clock.
int futex_wait(SemaphoreCell& cell, std::uint64_t seen, os::Monotonic deadline) {
  const auto since_epoch = deadline.time_since_epoch();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since_epoch);
  timespec until{};
  until.tv_sec = static_cast<time_t>(seconds.count());
  until.tv_nsec = static_cast<decltype(until.tv_nsec)>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(since_epoch - seconds).count());
  const auto done =
      ::syscall(SYS_futex, futex_of(cell), FUTEX_WAIT_BITSET, static_cast<std::uint32_t>(seen),
                &until, nullptr, FUTEX_BITSET_MATCH_ANY);
  return done == 0 ? 0 : errno;
}

}  // namespace

void Semaphore::initialize(SemaphoreCell& cell, std::uint32_t value) {
  cell.word.store(Word{.value = value}.bits());
  cell.waiters.store(0);
}

std::uint32_t Semaphore::value() const {
  return Word::from(cell_->word.load()).value;
}

// Why this is exact: a slot's record is either that of its last operation or that of the one before, and the latter only
// while the word still names the last one. If the word is the same before and after the record was read, then at the
// second reading the record was one of these two, and its sequence tells which.
std::uint64_t Semaphore::settle() {
  for (;;) {
    const std::uint64_t seen = cell_->word.load();
    const Word word = Word::from(seen);
    if (word.slot >= records_.size()) return seen;  // not written by us; nobody's record to settle
    HoldRecord& record = records_[word.slot];
    std::uint64_t before = record.load();
    const Record settled = Record::from(before);
    if (((settled.sequence + 1) & kSequenceMask) != word.sequence) return seen;
    if (cell_->word.load() != seen) continue;
    // Failing means that somebody else has just settled it.
    record.compare_exchange_strong(before, settled.after(word.operation).bits());
    return seen;
  }
}

Semaphore::Change Semaphore::commit(SlotIndex slot, Operation operation) {
  if (slot >= records_.size()) {
    os::broken_invariant(__FILE__, __LINE__,
                         "slot " + std::to_string(slot) + " of " + std::to_string(records_.size()));
  }
  for (;;) {
    std::uint64_t seen = settle();
    Word next = Word::from(seen);
    if (operation == Operation::Acquire) {
      if (next.value == 0) return Change::Empty;
      --next.value;
    } else {
      if (next.value == kMaxSemaphoreValue) return Change::Full;
      ++next.value;
    }
    // Read after settling: if the word does not change until the exchange, neither does this.
    next.operation = operation;
    next.sequence = (Record::from(records_[slot].load()).sequence + 1) & kSequenceMask;
    next.slot = slot;
    if (cell_->word.compare_exchange_strong(seen, next.bits())) return Change::Done;
  }
}

bool Semaphore::try_acquire(SlotIndex slot) {
  if (commit(slot, Operation::Acquire) != Change::Done) return false;
  settle();
  return true;
}

Acquired Semaphore::acquire(SlotIndex slot, std::chrono::nanoseconds longest) {
  if (try_acquire(slot)) return Acquired::Yes;
  const os::Monotonic deadline = os::monotonic_now() + longest;
  cell_->waiters.fetch_add(
      1);  // before the value is read again: release looks here after changing it
  Acquired result = Acquired::Interrupted;
  for (;;) {
    if (try_acquire(slot)) {
      result = Acquired::Yes;
      break;
    }
    const std::uint64_t seen = cell_->word.load();
    if (Word::from(seen).value != 0) continue;
    const int error = futex_wait(*cell_, seen, deadline);
    if (error == 0 || error == EAGAIN) continue;
    if (error != EINTR && error != ETIMEDOUT)
      os::broken_invariant(__FILE__, __LINE__, "futex: " + os::describe_errno(error));
    if (try_acquire(slot)) result = Acquired::Yes;
    break;
  }
  cell_->waiters.fetch_sub(1);
  return result;
}

bool Semaphore::release(SlotIndex slot) {
  if (commit(slot, Operation::Release) != Change::Done) return false;
  if (cell_->waiters.load() != 0) wake(1);
  settle();
  return true;
}

std::uint32_t Semaphore::held_by(SlotIndex slot) {
  settle();
  return slot < records_.size() ? Record::from(records_[slot].load()).held : 0;
}

std::uint32_t Semaphore::give_back(SlotIndex slot, bool put_back) {
  settle();
  HoldRecord& record = records_[slot];
  const Record last = Record::from(record.load());
  if (last.held != 0) record.store(Record{.sequence = last.sequence, .held = 0}.bits());
  if (last.held != 0 && put_back) {
    for (;;) {
      // The word goes on naming an operation that is settled, so nobody has to be told who did this.
      std::uint64_t seen = settle();
      Word next = Word::from(seen);
      next.value += std::min(last.held, kMaxSemaphoreValue - next.value);
      if (cell_->word.compare_exchange_strong(seen, next.bits())) break;
    }
  }
  if (cell_->waiters.load() != 0) wake(INT_MAX);
  return put_back ? last.held : 0;
}

void Semaphore::wake(int how_many) {
  // Nothing to do about a failure: waiters look again after a second.
  ::syscall(SYS_futex, futex_of(*cell_), FUTEX_WAKE, how_many, nullptr, nullptr, 0);
}

}  // namespace bladepsgi::shm
