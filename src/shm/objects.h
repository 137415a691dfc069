// Objects: named semaphores and 64-bit integers that all processes of a pool share, created at any time by any of them.
//
// Objects are found by kind and name, live as long as the pool and keep their value over reloads. Their ids count from 0 in
// order of creation and mean the same object in every process. Creation takes no lock: a creator claims room, writes the whole object and publishes it by
// one compare-and-swap at the end of a chain; of two that create the same name at once, one finds the other's. A process killed on
// the way has published nothing, blocks nobody and wastes the room it had claimed. Nothing is ever removed.
//
// A dead process owes back the permits it held: only the overseer calls give_back, after reaping.
//
// Names of semaphores and of atomics are independent. Lookups are remembered in this process (the chain only grows), so an Objects is
// made once and kept; not for use by several threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "shm/mapping.h"
#include "shm/scoreboard.h"
#include "shm/semaphore.h"

namespace bladepsgi::shm {

using ObjectId = std::uint32_t;

enum class Kind : std::uint8_t { Semaphore = 1, Atomic = 2 };

// What becomes of permits a dead process held. Default: Return, but Keep for a semaphore whose initial value is 0 (a signal,
// not a lock).
enum class OnDeath : std::uint8_t { Default, Return, Keep };

inline constexpr std::size_t kNameLimit = 255;

struct Created {
  ObjectId id = 0;
  bool existed = false;
  // Asked for with another initial value, or another on_death, than it has: worth a warning. The existing ones stand.
  bool initial_differs = false;
  bool on_death_differs = false;
  std::int64_t existing_initial = 0;
};

struct ObjectValue {
  Kind kind = Kind::Atomic;
  std::string name;
  std::int64_t value = 0;
};

struct GivenBack {
  std::string name;
  std::uint32_t permits = 0;
};

struct Entry;
struct AreaHeader;

class Objects {
 public:
  explicit Objects(const Mapping& mapping);

  // Finds or creates, and marks the object as asked for by `generation`. Errors name object and cause: an unusable name
  // (1 … 255 bytes, no newline, no NUL), a value out of range, no room.
  Result<Created> semaphore(std::string_view name,
                            std::int64_t initial,
                            OnDeath on_death,
                            std::uint32_t generation);
  Result<Created> atomic(std::string_view name, std::int64_t initial, std::uint32_t generation);

  // On semaphores, by the process that owns `slot`.
  bool try_acquire(ObjectId semaphore, SlotIndex slot);
  Acquired acquire(ObjectId semaphore, SlotIndex slot);
  Result<void> release(ObjectId semaphore, SlotIndex slot);

  // On atomics; wraps, sequentially consistent. fetch_add returns the value before.
  std::int64_t fetch_add(ObjectId atomic, std::int64_t operand);
  std::int64_t load(ObjectId atomic);
  void store(ObjectId atomic, std::int64_t value);

  // Overseer, after reaping the process in `slot`: puts back what it held and lists what was put back.
  std::vector<GivenBack> give_back(SlotIndex slot);

  // In order of creation; only objects asked for by a generation not older than `oldest_generation`.
  [[nodiscard]] std::vector<ObjectValue> list(std::uint32_t oldest_generation);

 private:
  struct Known {
    Entry* entry = nullptr;
    Kind kind = Kind::Atomic;
    bool keeps = false;
    std::string name;  // our own copy, checked once
    std::int64_t initial = 0;
  };

  Result<Created> find_or_create(Kind kind,
                                 std::string_view name,
                                 std::int64_t initial,
                                 bool keeps,
                                 std::uint32_t generation);
  [[nodiscard]] std::optional<Created> find(Kind kind, std::string_view name);
  Created use(ObjectId id, std::int64_t initial, bool keeps, std::uint32_t generation);
  // Learns what others have published since.
  void catch_up();
  [[nodiscard]] Entry* entry_at(std::uint64_t offset) const;
  [[nodiscard]] const Known& known(ObjectId id, Kind kind);
  [[nodiscard]] Semaphore view(const Known& known) const;
  [[nodiscard]] std::uint64_t size_of(Kind kind, std::size_t name_length) const;

  Layout layout_;
  std::byte* area_;
  AreaHeader* header_;
  std::vector<Known> known_;
  std::unordered_map<std::string, ObjectId> ids_;  // key: kind as one byte, then the name
};

// The names that one run of the loader has asked for: the second time is an error of the application.
class LoaderNames {
 public:
  // False when the name was added before.
  bool add(Kind kind, std::string_view name) { return names_.emplace(kind, name).second; }

 private:
  std::set<std::pair<Kind, std::string>> names_;
};

}  // namespace bladepsgi::shm
