#include "shm/scoreboard.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "os/system_error.h"
#include "shm/layout.h"

namespace bladepsgi::shm {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

// A reader that finds the request being written tries again this often. Writing takes well under a microsecond, unless
// the writer was stopped or killed in the middle.
constexpr int kReadAttempts = 100;

using Words = std::span<std::atomic<std::uint64_t>>;

// The words of a request are stored with release and loaded with acquire order, which is what keeps them between the two
// accesses to the sequence (on x86 that is free).
void store_text(Words words, std::string_view text) {
  for (std::size_t at = 0; at < text.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + at, std::min(sizeof word, text.size() - at));
    words[at / sizeof word].store(word, std::memory_order_release);
  }
}

void load_text(Words words, std::size_t size, std::string& into) {
  into.resize(size);
  for (std::size_t at = 0; at < size; at += sizeof(std::uint64_t)) {
    const std::uint64_t word = words[at / sizeof word].load(std::memory_order_acquire);
    std::memcpy(into.data() + at, &word, std::min(sizeof word, size - at));
  }
}

void write_request(Slot& slot,
                   std::string_view method,
                   std::string_view uri,
                   std::string_view request_id) {
  const bool is_cut = uri.size() > kUriLimit;
  method = method.substr(0, kMethodLimit);
  uri = uri.substr(0, kUriLimit);
  request_id = request_id.substr(0, kRequestIdLimit);
  // Odd already when the slot's last owner died here.
  const std::uint32_t writing = slot.sequence.load(kRelaxed) | 1U;
  slot.sequence.store(writing, kRelaxed);
  slot.lengths.store(method.size() | uri.size() << 16 | request_id.size() << 32 |
                         (is_cut ? std::uint64_t{1} << 48 : 0),
                     std::memory_order_release);
  store_text(slot.method, method);
  store_text(slot.uri, uri);
  store_text(slot.request_id, request_id);
  slot.sequence.store(writing + 1, std::memory_order_release);
}

bool try_read_request(Slot& slot, SlotSnapshot& into) {
  const std::uint32_t before = slot.sequence.load(std::memory_order_acquire);
  if ((before & 1U) != 0) return false;
  const std::uint64_t lengths = slot.lengths.load(std::memory_order_acquire);
  load_text(slot.method, std::min<std::size_t>(lengths & 0xffff, kMethodLimit), into.method);
  load_text(slot.uri, std::min<std::size_t>(lengths >> 16 & 0xffff, kUriLimit), into.uri);
  load_text(slot.request_id, std::min<std::size_t>(lengths >> 32 & 0xffff, kRequestIdLimit),
            into.request_id);
  into.uri_is_cut = (lengths >> 48) != 0;
  return slot.sequence.load(kRelaxed) == before;
}

std::int64_t nanoseconds(os::Monotonic time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

os::Monotonic monotonic(std::int64_t nanoseconds) {
  return os::Monotonic(
      std::chrono::duration_cast<os::Monotonic::duration>(std::chrono::nanoseconds(nanoseconds)));
}

void add(std::atomic<std::uint64_t>& counter, std::uint64_t amount) {
  counter.store(counter.load(kRelaxed) + amount, kRelaxed);  // one writer: no locked operation
}

std::size_t index_of(Event event) {
  return std::min(static_cast<std::size_t>(event), kEvents - 1);
}

}  // namespace

Scoreboard::Scoreboard(const Mapping& mapping)
    : layout_(mapping.layout()),
      base_(mapping.base()),
      header_(reinterpret_cast<BoardHeader*>(base_ + layout_.board_offset)) {}

Slot& Scoreboard::slot_at(SlotIndex slot) const {
  if (slot >= layout_.slots) {
    os::broken_invariant(__FILE__, __LINE__,
                         "slot " + std::to_string(slot) + " of " + std::to_string(layout_.slots));
  }
  return reinterpret_cast<Slot*>(base_ + layout_.slots_offset)[slot];
}

std::atomic<std::uint32_t>& Scoreboard::number_at(std::uint32_t number) const {
  return reinterpret_cast<std::atomic<std::uint32_t>*>(base_ + layout_.numbers_offset)[number];
}

SlotIndex Scoreboard::used_slots() const {
  return std::min(header_->used_slots.load(kRelaxed), layout_.slots);
}

std::int64_t Scoreboard::start_time() const {
  return header_->start_time.load(kRelaxed);
}

std::uint32_t Scoreboard::generation() const {
  return header_->generation.load(kRelaxed);
}

std::uint32_t Scoreboard::oldest_generation() const {
  return header_->oldest_generation.load(kRelaxed);
}

std::uint32_t Scoreboard::wanted_workers() const {
  return std::min(header_->wanted.load(kRelaxed), layout_.numbers);
}

std::uint32_t Scoreboard::shown_numbers() const {
  const std::uint32_t shown = header_->shown.load(kRelaxed);
  return shown == 0 ? layout_.numbers : std::min(shown, layout_.numbers);
}

bool Scoreboard::is_going() const {
  return header_->is_going.load(kRelaxed) != 0;
}

std::uint64_t Scoreboard::total_requests() const {
  std::uint64_t total = 0;
  const SlotIndex used = used_slots();
  for (SlotIndex slot = 0; slot < used; ++slot)
    total += slot_at(slot).requests.load(kRelaxed);
  return total;
}

std::uint64_t Scoreboard::total_failures() const {
  std::uint64_t total = 0;
  const SlotIndex used = used_slots();
  for (SlotIndex slot = 0; slot < used; ++slot)
    total += slot_at(slot).failures.load(kRelaxed);
  return total;
}

std::uint64_t Scoreboard::total_events(Event event) const {
  std::uint64_t total = 0;
  const SlotIndex used = used_slots();
  for (SlotIndex slot = 0; slot < used; ++slot)
    total += slot_at(slot).events[index_of(event)].load(kRelaxed);
  return total;
}

std::optional<SlotSnapshot> Scoreboard::snapshot(SlotIndex slot) const {
  if (slot >= layout_.slots) return std::nullopt;
  return read(slot);
}

namespace {

// Whatever an application may have written there: a time that can be added up.
std::chrono::nanoseconds duration(std::uint64_t count) {
  constexpr std::uint64_t kLongest = std::uint64_t{1} << 56;  // two years
  return std::chrono::nanoseconds(count <= kLongest ? static_cast<std::int64_t>(count) : 0);
}

}  // namespace

SlotSnapshot Scoreboard::read(SlotIndex index) const {
  Slot& slot = slot_at(index);
  SlotSnapshot snapshot;
  snapshot.slot = index;
  const std::uint8_t state = slot.state.load(kRelaxed);
  if (state <= static_cast<std::uint8_t>(State::Gone)) snapshot.state = static_cast<State>(state);
  const std::uint8_t role = slot.role.load(kRelaxed);
  if (role <= static_cast<std::uint8_t>(Role::Lobby)) snapshot.role = static_cast<Role>(role);
  snapshot.pid = slot.pid.load(kRelaxed);
  snapshot.generation = slot.generation.load(kRelaxed);
  const std::uint32_t number = slot.number.load(kRelaxed);
  if (number != 0 && number <= layout_.numbers) snapshot.number = number - 1;
  const std::uint8_t status = slot.status.load(kRelaxed);
  if (status != 0) snapshot.status = static_cast<char>(status);
  snapshot.is_told_to_leave = slot.told_to_leave.load(kRelaxed) != 0;
  if (const std::uint8_t wish = slot.wants_replacement.load(kRelaxed);
      wish <= static_cast<std::uint8_t>(Wish::Memory)) {
    snapshot.wish = static_cast<Wish>(wish);
  }
  snapshot.has_timed_out = slot.timed_out.load(kRelaxed) != 0;
  snapshot.call_deadline = monotonic(slot.call_deadline.load(kRelaxed));
  snapshot.requests = slot.requests.load(kRelaxed) - slot.requests_before.load(kRelaxed);
  snapshot.bytes_in = slot.bytes_in.load(kRelaxed) - slot.bytes_in_before.load(kRelaxed);
  snapshot.bytes_out = slot.bytes_out.load(kRelaxed) - slot.bytes_out_before.load(kRelaxed);
  snapshot.failures = slot.failures.load(kRelaxed) - slot.failures_before.load(kRelaxed);
  snapshot.took = duration(static_cast<std::uint64_t>(slot.took.load(kRelaxed)) -
                           static_cast<std::uint64_t>(slot.took_before.load(kRelaxed)));
  snapshot.request_started = monotonic(slot.request_started.load(kRelaxed));
  snapshot.last_duration = duration(static_cast<std::uint64_t>(slot.last_duration.load(kRelaxed)));
  for (int attempt = 0; attempt < kReadAttempts && !snapshot.request_known; ++attempt)
    snapshot.request_known = try_read_request(slot, snapshot);
  if (!snapshot.request_known) {
    snapshot.method.clear();
    snapshot.uri.clear();
    snapshot.request_id.clear();
    snapshot.uri_is_cut = false;
  }
  return snapshot;
}

std::optional<SlotIndex> Scoreboard::slot_of(std::uint32_t number) const {
  if (number >= layout_.numbers) return std::nullopt;
  const std::uint32_t slot = number_at(number).load(kRelaxed);
  if (slot == 0 || slot > layout_.slots) return std::nullopt;
  return slot - 1;
}

bool Scoreboard::has_other(Role role, SlotIndex slot) const {
  const SlotIndex used = used_slots();
  for (SlotIndex other = 0; other < used; ++other) {
    if (other != slot &&
        slot_at(other).role.load(std::memory_order_acquire) == static_cast<std::uint8_t>(role)) {
      return true;
    }
  }
  return false;
}

char Scoreboard::status_of(std::uint32_t number) const {
  const std::optional<SlotIndex> slot = slot_of(number);
  if (!slot) return kNoStatus;
  const std::uint8_t status = slot_at(*slot).status.load(kRelaxed);
  return status == 0 ? kNoStatus : static_cast<char>(status);
}

void Scoreboard::set_start_time(os::WallClock when) {
  header_->start_time.store(
      std::chrono::floor<std::chrono::seconds>(when).time_since_epoch().count(), kRelaxed);
}

void Scoreboard::set_workers(std::uint32_t wanted, std::uint32_t shown_numbers) {
  header_->wanted.store(wanted, kRelaxed);
  header_->shown.store(shown_numbers, kRelaxed);
}

void Scoreboard::set_going() {
  header_->is_going.store(1, kRelaxed);
}

void Scoreboard::set_generations(std::uint32_t newest, std::uint32_t oldest_living) {
  header_->generation.store(newest, kRelaxed);
  header_->oldest_generation.store(oldest_living, kRelaxed);
}

std::optional<SlotIndex> Scoreboard::claim(Role role,
                                           std::uint32_t generation,
                                           std::optional<std::uint32_t> number) {
  const auto is_free = [&](SlotIndex slot) {
    return slot_at(slot).state.load(kRelaxed) == static_cast<std::uint8_t>(State::Free);
  };
  SlotIndex index = std::min(header_->free_hint.load(kRelaxed), layout_.slots);
  while (index < layout_.slots && !is_free(index))
    ++index;
  header_->free_hint.store(index, kRelaxed);
  if (index == layout_.slots) return std::nullopt;
  header_->free_hint.store(index + 1, kRelaxed);
  if (index >= used_slots()) header_->used_slots.store(index + 1, kRelaxed);

  Slot& slot = slot_at(index);
  slot.pid.store(0, kRelaxed);
  slot.generation.store(generation, kRelaxed);
  slot.number.store(number ? *number + 1 : 0, kRelaxed);
  slot.role.store(static_cast<std::uint8_t>(role), kRelaxed);
  slot.told_to_leave.store(0, kRelaxed);
  slot.times_told_to_step_back.store(0, kRelaxed);
  slot.timed_out.store(0, kRelaxed);
  slot.wants_replacement.store(0, kRelaxed);
  slot.call_deadline.store(0, kRelaxed);
  slot.requests_before.store(slot.requests.load(kRelaxed), kRelaxed);
  slot.bytes_in_before.store(slot.bytes_in.load(kRelaxed), kRelaxed);
  slot.bytes_out_before.store(slot.bytes_out.load(kRelaxed), kRelaxed);
  slot.failures_before.store(slot.failures.load(kRelaxed), kRelaxed);
  slot.took_before.store(slot.took.load(kRelaxed), kRelaxed);
  slot.status.store(0, kRelaxed);
  slot.request_started.store(0, kRelaxed);
  slot.last_duration.store(0, kRelaxed);
  write_request(slot, {}, {}, {});
  slot.state.store(static_cast<std::uint8_t>(State::Starting), kRelaxed);
  return index;
}

void Scoreboard::set_pid(SlotIndex slot, pid_t pid) {
  slot_at(slot).pid.store(pid, kRelaxed);
}

void Scoreboard::tell_to_leave(SlotIndex slot) {
  slot_at(slot).told_to_leave.store(1, kRelaxed);
}

void Scoreboard::tell_to_step_back(SlotIndex slot) {
  auto& times = slot_at(slot).times_told_to_step_back;
  times.store(static_cast<std::uint8_t>(times.load(kRelaxed) + 1), kRelaxed);
}

void Scoreboard::assign_number(SlotIndex slot) {
  const std::uint32_t number = slot_at(slot).number.load(kRelaxed);
  if (number != 0 && number <= layout_.numbers) number_at(number - 1).store(slot + 1, kRelaxed);
}

SlotSnapshot Scoreboard::retire(SlotIndex index) {
  SlotSnapshot last = read(index);
  // The number table is ours alone, so this needs no compare-and-swap.
  if (last.number && slot_of(*last.number) == index) number_at(*last.number).store(0, kRelaxed);
  Slot& slot = slot_at(index);
  slot.status.store(0, kRelaxed);
  slot.pid.store(0, kRelaxed);
  slot.number.store(0, kRelaxed);
  slot.role.store(static_cast<std::uint8_t>(Role::None), std::memory_order_release);
  slot.state.store(static_cast<std::uint8_t>(State::Free), kRelaxed);
  if (index < header_->free_hint.load(kRelaxed)) header_->free_hint.store(index, kRelaxed);
  return last;
}

OwnSlot::OwnSlot(const Scoreboard& board, SlotIndex index)
    : index_(index), slot_(&board.slot_at(index)) {}

void OwnSlot::become_idle() {
  slot_->status.store(0, kRelaxed);
  set_state(State::Idle);
}

void OwnSlot::begin_request(std::string_view method,
                            std::string_view uri,
                            std::string_view request_id,
                            os::Monotonic now) {
  write_request(*slot_, method, uri, request_id);
  slot_->request_started.store(nanoseconds(now), kRelaxed);
  set_state(State::Busy);
}

void OwnSlot::end_request(os::Monotonic now,
                          std::uint64_t bytes_in,
                          std::uint64_t bytes_out,
                          bool has_failed) {
  if (static_cast<State>(slot_->state.load(kRelaxed)) != State::Cleanup) begin_cleanup(now);
  const std::int64_t took = slot_->last_duration.load(kRelaxed);
  slot_->took.store(slot_->took.load(kRelaxed) + took, kRelaxed);
  if (has_failed) add(slot_->failures, 1);
  add(slot_->bytes_in, bytes_in);
  add(slot_->bytes_out, bytes_out);
  add(slot_->requests, 1);
}

void OwnSlot::begin_cleanup(os::Monotonic now) {
  slot_->last_duration.store(nanoseconds(now) - slot_->request_started.load(kRelaxed), kRelaxed);
  set_state(State::Cleanup);
}

std::chrono::nanoseconds OwnSlot::last_duration() const {
  return std::chrono::nanoseconds(slot_->last_duration.load(kRelaxed));
}

void OwnSlot::set_state(State state) {
  slot_->state.store(static_cast<std::uint8_t>(state), kRelaxed);
}

void OwnSlot::set_status(char octet) {
  slot_->status.store(static_cast<std::uint8_t>(octet), kRelaxed);
}

bool OwnSlot::is_told_to_leave() const {
  return slot_->told_to_leave.load(kRelaxed) != 0;
}

std::uint8_t OwnSlot::times_told_to_step_back() const {
  return slot_->times_told_to_step_back.load(kRelaxed);
}

void OwnSlot::set_call_deadline(os::Monotonic when) {
  slot_->call_deadline.store(nanoseconds(when), kRelaxed);
}

void OwnSlot::note_timed_out() noexcept {
  slot_->timed_out.store(1, kRelaxed);
  count(Event::ApplicationTimedOut);
}

void OwnSlot::want_replacement(Wish why) {
  slot_->wants_replacement.store(static_cast<std::uint8_t>(why), kRelaxed);
}

std::size_t OwnSlot::write_title(std::span<char> into) const noexcept {
  std::size_t size = 0;
  const auto add = [&](char c) {
    if (size < into.size()) into[size++] = c;
  };
  const auto add_text = [&](Words words, std::size_t length) {
    for (std::size_t at = 0; at < length; ++at) {
      const std::uint64_t word = words[at / sizeof(std::uint64_t)].load(kRelaxed);
      char bytes[sizeof word];
      std::memcpy(bytes, &word, sizeof word);
      const char c = bytes[at % sizeof word];
      add(c > ' ' && c < '\x7f' ? c : '?');
    }
  };
  // One writer, and it is we: nothing changes meanwhile.
  const std::uint64_t lengths = slot_->lengths.load(kRelaxed);
  add_text(slot_->method, std::min<std::size_t>(lengths & 0xffff, kMethodLimit));
  add(' ');
  add_text(slot_->uri, std::min<std::size_t>(lengths >> 16 & 0xffff, kUriLimit));
  if ((lengths >> 48) != 0) {
    for (const char c : std::string_view("…"))
      add(c);
  }
  add(' ');
  add('[');
  add_text(slot_->request_id, std::min<std::size_t>(lengths >> 32 & 0xffff, kRequestIdLimit));
  add(']');
  return size;
}

void OwnSlot::count(Event event) {
  add(slot_->events[index_of(event)], 1);
}

}  // namespace bladepsgi::shm
