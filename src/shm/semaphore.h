// Semaphore: a counting semaphore in shared memory that survives the death of any process at any instruction.
//
// The hard part is not the value but whose the permits are: when a process is killed, the overseer must know exactly how
// many it still held. So a change is one compare-and-swap of one 64-bit word that holds the new value *and* who changed
// it: slot, operation and a sequence number of that slot. Each slot has a record {sequence, held} for each semaphore.
// Whoever is about to replace the word first settles the operation it names: adds it to that slot's record, by a
// compare-and-swap from the record before it, so that settling twice is impossible. A process that is killed between the two steps has
// done its operation, and somebody else completes the books.
//
// The sequence has 15 bits in the word and 32 in the record. Settling is exact: the word is read again after the record,
// so a sequence that came round in between is noticed. What remains possible is a process that stalls between settling and
// replacing while one other process makes exactly a multiple of 32768 operations on this semaphore, leaves the same
// value behind and is killed within the few instructions before it settles its own: one permit's owner is then lost.
//
// Waiting uses a futex on the half of the word that has the value. No count or queue depends on waiters staying alive: a
// waiter that dies leaves only a needless wake-up call behind, and every wait ends after a second at the latest.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include "shm/scoreboard.h"

namespace bladepsgi::shm {

inline constexpr std::uint32_t kMaxSemaphoreValue = 2147483647;

// Interrupted: a signal came, or a second has passed. The caller looks after its signals and calls again.
enum class Acquired : std::uint8_t { Yes, Interrupted };

// In shared memory, on a cache line of its own. All zero bytes are a semaphore of value 0.
struct SemaphoreCell {
  std::atomic<std::uint64_t> word{0};
  std::atomic<std::uint32_t> waiters{0};  // may be too high for ever after a waiter was killed
  std::uint32_t reserved = 0;
};

// One for each slot, in shared memory; zero at first.
using HoldRecord = std::atomic<std::uint64_t>;

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);
static_assert(sizeof(HoldRecord) == 8);

// A view; slots must be below records.size().
class Semaphore {
 public:
  enum class Operation : std::uint8_t { Acquire, Release };
  enum class Change : std::uint8_t { Done, Empty, Full };

  Semaphore(SemaphoreCell& cell, std::span<HoldRecord> records) : cell_(&cell), records_(records) {}

  // Only before anybody else can see it.
  static void initialize(SemaphoreCell& cell, std::uint32_t value);

  [[nodiscard]] std::uint32_t value() const;

  bool try_acquire(SlotIndex slot);
  Acquired acquire(SlotIndex slot, std::chrono::nanoseconds longest = std::chrono::seconds(1));
  // False: the value is kMaxSemaphoreValue. A slot that holds nothing owes nothing: a plain increment.
  [[nodiscard]] bool release(SlotIndex slot);

  // Permits that `slot` has acquired and not released.
  [[nodiscard]] std::uint32_t held_by(SlotIndex slot);

  // Overseer alone, after reaping the slot's process: what it held, which is put back if `put_back`. The record is empty
  // afterwards. Wakes all waiters: one that was woken may have died before it took the permit.
  std::uint32_t give_back(SlotIndex slot, bool put_back);

  // The two steps of a change, for tests that let a process die between them. commit settles what was there before, then
  // does the operation; settle enters the last operation into its slot's record, and returns the word it found settled.
  Change commit(SlotIndex slot, Operation operation);
  std::uint64_t settle();

 private:
  void wake(int how_many);

  SemaphoreCell* cell_;
  std::span<HoldRecord> records_;
};

}  // namespace bladepsgi::shm
