#include "shm/objects.h"

#include <atomic>
#include <cstring>
#include <limits>
#include <span>

#include "base/text.h"
#include "os/system_error.h"
#include "shm/layout.h"

namespace bladepsgi::shm {
namespace {

constexpr std::uint64_t round_up(std::uint64_t value) {
  return (value + kCacheLine - 1) / kCacheLine * kCacheLine;
}

std::string_view word_for(Kind kind) {
  return kind == Kind::Semaphore ? "semaphore" : "atomic";
}

std::string key_of(Kind kind, std::string_view name) {
  std::string key(1, static_cast<char>(kind));
  key += name;
  return key;
}

Failure<Error> cannot_create(Kind kind,
                             Remedy remedy,
                             std::string_view name,
                             std::string_view cause) {
  std::string message = "cannot create ";
  message += word_for(kind);
  message += " '";
  message += name;
  message += "': ";
  message += cause;
  return fail(remedy, std::move(message));
}

char* name_of(Entry& entry) {
  return reinterpret_cast<char*>(&entry) + kEntryNameOffset;
}

std::uint64_t head_size(std::size_t name_length) {
  return round_up(kEntryNameOffset + name_length);
}

}  // namespace

Objects::Objects(const Mapping& mapping)
    : layout_(mapping.layout()),
      area_(mapping.base() + layout_.objects_offset),
      header_(reinterpret_cast<AreaHeader*>(area_)) {
  static_assert(kEntryNameOffset <= sizeof(Entry));
}

std::uint64_t Objects::size_of(Kind kind, std::size_t name_length) const {
  const std::uint64_t records =
      kind == Kind::Semaphore ? round_up(layout_.slots * sizeof(HoldRecord)) : 0;
  return head_size(name_length) + records;
}

Entry* Objects::entry_at(std::uint64_t offset) const {
  if (offset < kFirstEntry || offset % kCacheLine != 0 || offset >= layout_.object_bytes ||
      layout_.object_bytes - offset < sizeof(Entry)) {
    return nullptr;
  }
  return reinterpret_cast<Entry*>(area_ + offset);
}

void Objects::catch_up() {
  for (;;) {
    const std::uint64_t offset =
        known_.empty() ? header_->first.load() : known_.back().entry->next.load();
    if (offset == 0) return;
    // A chain that leads out of the area, round in a circle or to nonsense was written by somebody else; what came
    // before is good.
    Entry* entry = entry_at(offset);
    if (entry == nullptr || known_.size() >= layout_.object_bytes / sizeof(Entry)) return;
    const std::size_t name_length = entry->name_length;
    const auto kind = static_cast<Kind>(entry->kind);
    if ((kind != Kind::Semaphore && kind != Kind::Atomic) || name_length < 1 ||
        name_length > kNameLimit || size_of(kind, name_length) > layout_.object_bytes - offset) {
      return;
    }
    Known known{.entry = entry,
                .kind = kind,
                .keeps = entry->keeps != 0,
                .name = std::string(name_of(*entry), name_length),
                .initial = entry->initial};
    const auto id = static_cast<ObjectId>(known_.size());
    if (!ids_.emplace(key_of(kind, known.name), id).second) return;
    known_.push_back(std::move(known));
  }
}

std::optional<Created> Objects::find(Kind kind, std::string_view name) {
  const auto found = ids_.find(key_of(kind, name));
  if (found == ids_.end()) return std::nullopt;
  return Created{.id = found->second, .existed = true};
}

Created Objects::use(ObjectId id, std::int64_t initial, bool keeps, std::uint32_t generation) {
  const Known& known = known_[id];
  std::uint32_t newest = known.entry->generation.load();
  while (newest < generation &&
         !known.entry->generation.compare_exchange_weak(newest, generation)) {
  }
  return {.id = id,
          .existed = true,
          .initial_differs = known.initial != initial,
          .on_death_differs = known.kind == Kind::Semaphore && known.keeps != keeps,
          .existing_initial = known.initial};
}

Result<Created> Objects::semaphore(std::string_view name,
                                   std::int64_t initial,
                                   OnDeath on_death,
                                   std::uint32_t generation) {
  if (initial < 0 || initial > std::int64_t{kMaxSemaphoreValue}) {
    return cannot_create(Kind::Semaphore, Remedy::Refuse, printable(name),
                         "initial value " + std::to_string(initial) + " is out of range (0 to " +
                             std::to_string(kMaxSemaphoreValue) + ")");
  }
  const bool keeps = on_death == OnDeath::Keep || (on_death == OnDeath::Default && initial == 0);
  return find_or_create(Kind::Semaphore, name, initial, keeps, generation);
}

Result<Created> Objects::atomic(std::string_view name,
                                std::int64_t initial,
                                std::uint32_t generation) {
  return find_or_create(Kind::Atomic, name, initial, true, generation);
}

Result<Created> Objects::find_or_create(Kind kind,
                                        std::string_view name,
                                        std::int64_t initial,
                                        bool keeps,
                                        std::uint32_t generation) {
  if (name.empty()) return cannot_create(kind, Remedy::Refuse, name, "the name is empty");
  if (name.size() > kNameLimit) {
    return cannot_create(kind, Remedy::Refuse, printable(name),
                         "the name is longer than " + std::to_string(kNameLimit) + " bytes");
  }
  if (name.find('\n') != std::string_view::npos || name.find('\0') != std::string_view::npos) {
    return cannot_create(kind, Remedy::Refuse, printable(name),
                         "the name contains a newline or a NUL");
  }
  catch_up();
  if (const auto found = find(kind, name)) return use(found->id, initial, keeps, generation);

  const std::uint64_t size = size_of(kind, name.size());
  std::uint64_t offset = header_->claimed.load();
  do {
    if (offset < kFirstEntry || offset % kCacheLine != 0) {
      return cannot_create(kind, Remedy::GiveUp, name, "shared memory is damaged");
    }
    if (offset > layout_.object_bytes || layout_.object_bytes - offset < size) {
      return cannot_create(kind, Remedy::GiveUp, name,
                           "shared memory is exhausted (" + std::to_string(layout_.object_bytes) +
                               " bytes; see --shared-memory)");
    }
  } while (!header_->claimed.compare_exchange_weak(offset, offset + size));

  // The memory is ours and zero; nobody looks at it until it is published.
  auto& entry = *reinterpret_cast<Entry*>(area_ + offset);
  if (kind == Kind::Semaphore) {
    Semaphore::initialize(entry.value.semaphore, static_cast<std::uint32_t>(initial));
  } else {
    entry.value.integer.store(initial);
  }
  entry.generation.store(generation);
  entry.kind = static_cast<std::uint8_t>(kind);
  entry.keeps = keeps ? 1 : 0;
  entry.name_length = static_cast<std::uint16_t>(name.size());
  entry.initial = initial;
  std::memcpy(name_of(entry), name.data(), name.size());

  for (;;) {
    std::atomic<std::uint64_t>& end = known_.empty() ? header_->first : known_.back().entry->next;
    std::uint64_t nothing = 0;
    if (end.compare_exchange_strong(nothing, offset)) break;
    const std::size_t before = known_.size();
    catch_up();
    const auto found = find(kind, name);
    if (!found && known_.size() > before) continue;
    // Somebody was faster. Returns the room, clean, unless somebody has claimed room behind it since.
    std::memset(area_ + offset, 0, head_size(name.size()));
    std::uint64_t claimed = offset + size;
    header_->claimed.compare_exchange_strong(claimed, offset);
    if (found) return use(found->id, initial, keeps, generation);
    return cannot_create(kind, Remedy::GiveUp, name, "shared memory is damaged");
  }
  catch_up();
  const auto created = find(kind, name);
  if (!created || known_[created->id].entry != &entry) {
    return cannot_create(kind, Remedy::GiveUp, name, "shared memory is damaged");
  }
  return Created{.id = created->id, .existing_initial = initial};
}

const Objects::Known& Objects::known(ObjectId id, Kind kind) {
  if (id >= known_.size()) catch_up();  // made by another process
  if (id >= known_.size() || known_[id].kind != kind) {
    os::broken_invariant(__FILE__, __LINE__,
                         "no " + std::string(word_for(kind)) + " has id " + std::to_string(id));
  }
  return known_[id];
}

Semaphore Objects::view(const Known& known) const {
  auto* records = reinterpret_cast<HoldRecord*>(reinterpret_cast<std::byte*>(known.entry) +
                                                head_size(known.name.size()));
  return {known.entry->value.semaphore, std::span(records, layout_.slots)};
}

bool Objects::try_acquire(ObjectId semaphore, SlotIndex slot) {
  return view(known(semaphore, Kind::Semaphore)).try_acquire(slot);
}

Acquired Objects::acquire(ObjectId semaphore, SlotIndex slot) {
  return view(known(semaphore, Kind::Semaphore)).acquire(slot);
}

Result<void> Objects::release(ObjectId semaphore, SlotIndex slot) {
  const Known& object = known(semaphore, Kind::Semaphore);
  if (view(object).release(slot)) return {};
  return fail(Remedy::Refuse, "cannot release semaphore '" + object.name + "': its value is " +
                                  std::to_string(kMaxSemaphoreValue) + " already");
}

std::int64_t Objects::fetch_add(ObjectId atomic, std::int64_t operand) {
  return known(atomic, Kind::Atomic).entry->value.integer.fetch_add(operand);
}

std::int64_t Objects::load(ObjectId atomic) {
  return known(atomic, Kind::Atomic).entry->value.integer.load();
}

void Objects::store(ObjectId atomic, std::int64_t value) {
  known(atomic, Kind::Atomic).entry->value.integer.store(value);
}

std::vector<GivenBack> Objects::give_back(SlotIndex slot) {
  catch_up();
  std::vector<GivenBack> given;
  for (const Known& object : known_) {
    if (object.kind != Kind::Semaphore) continue;
    const std::uint32_t permits = view(object).give_back(slot, !object.keeps);
    if (permits > 0) given.push_back({.name = object.name, .permits = permits});
  }
  return given;
}

std::vector<ObjectValue> Objects::list(std::uint32_t oldest_generation) {
  catch_up();
  std::vector<ObjectValue> values;
  for (const Known& object : known_) {
    if (object.entry->generation.load() < oldest_generation) continue;
    values.push_back({.kind = object.kind,
                      .name = object.name,
                      .value = object.kind == Kind::Semaphore
                                   ? std::int64_t{view(object).value()}
                                   : object.entry->value.integer.load()});
  }
  return values;
}

}  // namespace bladepsgi::shm
