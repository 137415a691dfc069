// Scoreboard: what each process is doing now, readable without asking it.
//
// A *slot* belongs to one process from before its fork until the overseer has reaped it and read the slot; a *number*
// (0 … N-1, as in titles and statistics) belongs to the newest ready worker. There are at least twice as many slots as
// numbers, so that old and new workers stand beside each other during a reload.
//
// Each field has one writer at a time: the process that owns the slot while it lives, the overseer before and after.
// Fields are relaxed atomics: each stands alone, and a reader may see two from different instants. Good enough to show
// a person; do not decide admission by it. Method, URI and request id of the current request hang together under a
// sequence lock, which never makes the worker wait.
//
// Counters only ever grow, also when a slot gets its next owner (who goes on from there). So a total over all slots
// never goes back and counts nothing twice, with no moment at which a dead process's share is in two places.
//
// Readers take nothing in the mapping on trust: indices and lengths are checked.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "os/clock.h"
#include "shm/mapping.h"

namespace bladepsgi::shm {

using SlotIndex = std::uint32_t;

enum class State : std::uint8_t {
  Free,      // nobody's
  Starting,  // claimed; the process may not exist yet
  Idle,      // waits for a request
  Busy,      // serves a request
  Cleanup,   // the response is out; cleanup handlers run
  Draining,  // takes no more requests
  Gone,      // has said that it leaves
};

enum class Role : std::uint8_t { None, Worker, Auxiliary, Zygote, Lobby };

// Things worth counting that are not requests served.
enum class Event : std::uint8_t {
  Abandoned,            // the client had gone before the application was called
  ClientGone,           // the client went while the response was made
  Malformed,            // bytes that break the protocol; the connection was closed
  Refused,              // over a limit; answered with an error by ourselves
  TimedOut,             // a peer was too slow
  ApplicationFailed,    // the application died or returned nonsense
  NotAdmitted,          // connections of whoever may not connect; closed at once
  ApplicationTimedOut,  // the application took longer than its time limit
};
inline constexpr std::size_t kEvents = 8;
// As reports call them, in the same order.
inline constexpr std::array<std::string_view, kEvents> kEventNames{
    "abandoned", "client-gone",        "malformed",    "refused",
    "timed-out", "application-failed", "not-admitted", "application-timed-out"};

// Why a worker wants to be replaced.
enum class Wish : std::uint8_t {
  None,
  Requests,  // it has served as many as it may
  Lifetime,  // it has lived as long as it may
  Memory,    // it has taken more than it may
};

inline constexpr std::size_t kMethodLimit = 15;
inline constexpr std::size_t kUriLimit = 255;
inline constexpr std::size_t kRequestIdLimit = 128;

inline constexpr char kNoStatus = '_';

// A slot at one moment, in memory of our own.
struct SlotSnapshot {
  SlotIndex slot = 0;
  State state = State::Free;
  Role role = Role::None;
  pid_t pid = 0;  // 0: not known yet
  std::uint32_t generation = 0;
  std::optional<std::uint32_t> number;  // workers only
  char status = kNoStatus;              // what the application last set during this request
  bool is_told_to_leave = false;
  Wish wish = Wish::None;      // it serves until it is told to leave
  bool has_timed_out = false;  // its process ended by itself because its request took too long
  os::Monotonic
      call_deadline;  // when it must have done that, if it still runs; epoch: no limit runs
  // Since this process began.
  std::uint64_t requests = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
  std::uint64_t failures = 0;  // requests answered with a status of 5xx, not completely or too late
  std::chrono::nanoseconds took{};  // all requests together
  os::Monotonic request_started;    // of the current request, or of the last one; epoch: none yet
  std::chrono::nanoseconds last_duration{};
  // The current request while Busy or Cleanup, else the last one. Empty and false when the writer was caught (or died)
  // while writing it.
  bool request_known = false;
  std::string method;
  std::string uri;
  std::string request_id;
  bool uri_is_cut = false;
};

struct BoardHeader;
struct Slot;

// A view; cheap to copy. The Mapping outlives it.
class Scoreboard {
 public:
  explicit Scoreboard(const Mapping& mapping);

  // For every process.
  [[nodiscard]] std::uint32_t numbers() const { return layout_.numbers; }

  // Workers that there shall be now, and the numbers that are of interest: those above have no worker and shall have none.
  [[nodiscard]] std::uint32_t wanted_workers() const;
  [[nodiscard]] std::uint32_t shown_numbers() const;

  [[nodiscard]] SlotIndex slots() const { return layout_.slots; }

  // Slots from this one on were never used; reading them would only make the kernel give us pages.
  [[nodiscard]] SlotIndex used_slots() const;
  [[nodiscard]] std::int64_t start_time() const;  // seconds since the epoch; 0 while loading
  [[nodiscard]] std::uint32_t generation() const;
  [[nodiscard]] std::uint32_t oldest_generation() const;
  // Whoever sends us requests shall look for somebody else.
  [[nodiscard]] bool is_going() const;
  [[nodiscard]] std::uint64_t total_requests() const;
  [[nodiscard]] std::uint64_t total_failures() const;
  [[nodiscard]] std::uint64_t total_events(Event event) const;
  // Empty for a slot index out of range.
  [[nodiscard]] std::optional<SlotSnapshot> snapshot(SlotIndex slot) const;
  // The newest ready worker of that number.
  [[nodiscard]] std::optional<SlotIndex> slot_of(std::uint32_t number) const;
  // Another process of that role than the one in `slot` lives, or has died and was not reaped yet. Once it is false, what those have sent is seen.
  [[nodiscard]] bool has_other(Role role, SlotIndex slot) const;
  // Its status octet; '_' for a number that nobody has.
  [[nodiscard]] char status_of(std::uint32_t number) const;

  // For the overseer alone, from here on.
  void set_start_time(os::WallClock when);
  void set_workers(std::uint32_t wanted, std::uint32_t shown_numbers);
  void set_going();
  // The generation that new workers are made from, and the oldest one of which a process still lives.
  void set_generations(std::uint32_t newest, std::uint32_t oldest_living);

  // A free slot, made ready for its owner (Starting). `number` is for workers. Empty when all are taken.
  [[nodiscard]] std::optional<SlotIndex> claim(Role role,
                                               std::uint32_t generation,
                                               std::optional<std::uint32_t> number);
  void set_pid(SlotIndex slot, pid_t pid);
  // The owner shall leave after its current request; it looks between requests (who waits must be woken besides).
  void tell_to_leave(SlotIndex slot);
  // The owner shall let others who watch the same listeners go before it.
  void tell_to_step_back(SlotIndex slot);
  // The worker in `slot` is ready: its number now means this slot.
  void assign_number(SlotIndex slot);
  // After reaping its owner (or when it was never made): what it did last; the slot is free afterwards, and its number
  // nobody's, unless a newer worker has that.
  SlotSnapshot retire(SlotIndex index);

 private:
  friend class OwnSlot;

  [[nodiscard]] Slot& slot_at(SlotIndex slot) const;
  [[nodiscard]] std::atomic<std::uint32_t>& number_at(std::uint32_t number) const;
  [[nodiscard]] SlotSnapshot read(SlotIndex index) const;

  Layout layout_;
  std::byte* base_;
  BoardHeader* header_;
};

// What a process writes about itself. One object in one process per slot.
class OwnSlot {
 public:
  OwnSlot(const Scoreboard& board, SlotIndex index);

  [[nodiscard]] SlotIndex index() const { return index_; }

  // Waits for a request from now on; the status octet is '_' again.
  void become_idle();
  void begin_request(std::string_view method,
                     std::string_view uri,
                     std::string_view request_id,
                     os::Monotonic now);
  // The response is out; counts the request. The bytes are those of this request.
  // The response is out; what the request has taken is known. Without it that is when end_request is called.
  void begin_cleanup(os::Monotonic now);
  [[nodiscard]] std::chrono::nanoseconds last_duration() const;
  void end_request(os::Monotonic now,
                   std::uint64_t bytes_in,
                   std::uint64_t bytes_out,
                   bool has_failed = false);
  void set_state(State state);
  void set_status(char octet);
  // While the application has a request and there is a time limit: see SlotSnapshot. Epoch: none.
  void set_call_deadline(os::Monotonic when);
  // "GET /uri [id]" of the current request, each character one that can be shown; cut to what `into` holds. Returns its size. This
  // and note_timed_out are async-signal-safe.
  std::size_t write_title(std::span<char> into) const noexcept;
  void note_timed_out() noexcept;
  void want_replacement(Wish why);
  [[nodiscard]] bool is_told_to_leave() const;

  // Another number than before: once more.
  [[nodiscard]] std::uint8_t times_told_to_step_back() const;
  void count(Event event);

 private:
  SlotIndex index_;
  Slot* slot_;
};

}  // namespace bladepsgi::shm
