// Layout: the structures in the mapping, byte for byte. Private to this room.
//
// Everything is plain data that is valid as zero bytes (fresh memory needs no constructor) except where create() says
// otherwise. Changing anything here is a new kLayoutVersion.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "shm/lobby_board.h"
#include "shm/scoreboard.h"
#include "shm/semaphore.h"

namespace bladepsgi::shm {

inline constexpr std::size_t kCacheLine = 64;

static_assert(std::atomic<std::uint8_t>::is_always_lock_free);
static_assert(std::atomic<std::int64_t>::is_always_lock_free);

// Written once, before anybody else can see it.
struct MappingHeader {
  std::uint64_t magic = 0;
  std::uint32_t layout_version = 0;
  std::uint32_t numbers = 0;
  std::uint32_t slots = 0;
  std::uint32_t slot_bytes = 0;
  std::uint64_t object_bytes = 0;
  std::uint64_t total_bytes = 0;
};

static_assert(sizeof(MappingHeader) == 40);

// Written by the overseer alone.
struct alignas(kCacheLine) BoardHeader {
  std::atomic<std::int64_t> start_time;
  std::atomic<std::uint32_t> generation;
  std::atomic<std::uint32_t> oldest_generation;
  std::atomic<std::uint32_t> used_slots;  // the highest slot ever claimed, plus one
  std::atomic<std::uint32_t> free_hint;   // no slot below this one is free
  std::atomic<std::uint32_t> wanted;      // workers that there shall be now
  std::atomic<std::uint32_t> shown;       // numbers that statistics show; 0: all
  std::atomic<std::uint32_t> is_going;    // soon nobody will be served here any more
};

static_assert(sizeof(BoardHeader) == kCacheLine);

struct alignas(kCacheLine) Slot {
  // Written by the overseer: who owns the slot, and the counters as the owner found them.
  std::atomic<std::int32_t> pid;
  std::atomic<std::uint32_t> generation;
  std::atomic<std::uint32_t> number;  // plus one; 0: none
  std::atomic<std::uint8_t> role;
  std::atomic<std::uint8_t> told_to_leave;
  std::atomic<std::uint8_t> times_told_to_step_back;
  std::array<std::uint8_t, 1> reserved0;
  std::atomic<std::uint64_t> requests_before;
  std::atomic<std::uint64_t> bytes_in_before;
  std::atomic<std::uint64_t> bytes_out_before;
  std::atomic<std::uint64_t> failures_before;
  std::atomic<std::int64_t> took_before;
  std::array<std::uint64_t, 1> reserved1;

  // Written by the owner, at every request.
  std::atomic<std::uint8_t> state;
  std::atomic<std::uint8_t> status;  // 0: kNoStatus
  std::atomic<std::uint8_t> timed_out;
  std::atomic<std::uint8_t> wants_replacement;  // a Wish
  std::array<std::uint8_t, 4> reserved2;
  std::atomic<std::uint64_t> requests;
  std::atomic<std::uint64_t> bytes_in;
  std::atomic<std::uint64_t> bytes_out;
  std::atomic<std::int64_t> request_started;
  std::atomic<std::int64_t> last_duration;
  std::atomic<std::int64_t> call_deadline;  // 0: none
  std::atomic<std::int64_t> took;           // all requests together, in nanoseconds

  // Written by the owner, now and then.
  std::array<std::atomic<std::uint64_t>, 8> events;

  // The current request, under a sequence lock: odd while it is being written.
  std::atomic<std::uint32_t> sequence;
  std::uint32_t reserved4;
  std::atomic<std::uint64_t> lengths;  // method, URI, id: 16 bits each; then 1 when the URI is cut
  std::array<std::atomic<std::uint64_t>, 2> method;
  std::array<std::atomic<std::uint64_t>, 32> uri;
  std::array<std::atomic<std::uint64_t>, 16> request_id;

  // Written by the owner, at every request that fails.
  std::atomic<std::uint64_t> failures;
  std::array<std::uint64_t, 3> reserved5;
};

static_assert(sizeof(Slot) == 10 * kCacheLine);
static_assert(kEvents <= 8);
static_assert(kMethodLimit <= 16 && kUriLimit <= 256 && kRequestIdLimit <= 128);

struct LobbyCells {
  // Written by the lobby and, in turn, by any worker.
  alignas(kCacheLine) std::atomic<std::uint64_t> readies;  // 0: the ready queue is empty

  // Written by any worker while the server stops.
  alignas(kCacheLine) std::atomic<std::uint32_t> is_all_served;

  // Written by the overseer.
  alignas(kCacheLine) std::atomic<std::uint32_t> is_there;
  std::atomic<std::uint32_t> is_stopping;

  // Written by the lobby; last_ready and drops are added to, as there may be two of them.
  alignas(kCacheLine) std::array<std::atomic<std::uint64_t>, 8> held;
  std::atomic<std::uint64_t> bytes;
  std::atomic<std::uint64_t> last_ready;
  std::array<std::atomic<std::uint64_t>, 13> drops;
  std::atomic<std::uint64_t> unsent;
  std::atomic<std::uint32_t> is_settled;

  alignas(kCacheLine) SemaphoreCell slow_bodies;
};

static_assert(sizeof(LobbyCells) == 8 * kCacheLine);
static_assert(kHoldings <= 8 && kDrops <= 13);

// At the start of the object area. Offsets count from there.
struct alignas(kCacheLine) AreaHeader {
  std::atomic<std::uint64_t> claimed;  // everything below is taken
  std::atomic<std::uint64_t> first;    // the oldest entry; 0: none
};

static_assert(sizeof(AreaHeader) == kCacheLine);
inline constexpr std::uint64_t kFirstEntry = sizeof(AreaHeader);

// One object: this, its name, and for a semaphore, from the next cache line on, a HoldRecord for each slot.
struct alignas(kCacheLine) Entry {
  union alignas(kCacheLine) Value {
    Value() : integer(0) {}

    SemaphoreCell semaphore;
    std::atomic<std::int64_t> integer;
  } value;

  std::atomic<std::uint64_t> next;        // offset of the entry created after this one; 0: none yet
  std::atomic<std::uint32_t> generation;  // the newest that asked for it
  std::uint8_t kind = 0;
  std::uint8_t keeps = 0;  // 1: what a dead process held is not put back
  std::uint16_t name_length = 0;
  std::int64_t initial = 0;
  std::array<std::uint64_t, 1> reserved{};
  // 32 bytes of the name follow on the same cache line.
};

inline constexpr std::size_t kEntryNameOffset = kCacheLine + 32;

}  // namespace bladepsgi::shm
