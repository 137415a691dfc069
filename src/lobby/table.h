// Table: who waits, for what and until when, and who has to go when there are too many. Pure: knows numbers, not sockets.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

#include "os/clock.h"
#include "shm/lobby_board.h"

namespace bladepsgi::lobby {

using GuestId = std::uint64_t;  // never used twice

class Table {
 public:
  // A deadline of those who wait for us and not for their peer.
  static constexpr os::Monotonic kNever = os::Monotonic::max();

  GuestId add(shm::Holding holding, os::Monotonic deadline);
  void change(GuestId guest, shm::Holding holding, os::Monotonic deadline);
  void set_bytes(GuestId guest, std::uint64_t bytes);
  void remove(GuestId guest);

  [[nodiscard]] std::size_t size() const { return rows_.size(); }

  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

  [[nodiscard]] std::uint64_t ready_bytes() const { return ready_bytes_; }  // among them

  [[nodiscard]] std::size_t count(shm::Holding holding) const {
    return queues_[static_cast<std::size_t>(holding)].size();
  }

  [[nodiscard]] shm::Holding holding(GuestId guest) const { return rows_.at(guest).holding; }

  [[nodiscard]] os::Monotonic deadline(GuestId guest) const { return rows_.at(guest).deadline; }

  // The first deadline of all; empty: nobody has one.
  [[nodiscard]] std::optional<os::Monotonic> next_deadline() const;
  // Somebody whose deadline has passed.
  [[nodiscard]] std::optional<GuestId> find_due(os::Monotonic now) const;
  // Whom a newcomer takes the place of: one that is only closed, then the idle one that has waited longest; with none idle, who has sent least of a request, longest;
  // then who takes a response. Nobody who is ready.
  [[nodiscard]] std::optional<GuestId> find_oldest() const;
  [[nodiscard]] std::optional<GuestId> find_oldest(shm::Holding holding) const;
  // Who has most bytes here, and is not ready.
  [[nodiscard]] std::optional<GuestId> find_largest() const;

 private:
  struct Row {
    shm::Holding holding;
    os::Monotonic deadline;
    std::uint64_t bytes;
  };

  // In the order of their deadlines, which is that of their arrival: all of a kind have the same time.
  using Queue = std::set<std::pair<os::Monotonic, GuestId>>;

  Queue& queue(shm::Holding holding) { return queues_[static_cast<std::size_t>(holding)]; }

  GuestId next_ = 1;
  std::uint64_t bytes_ = 0;
  std::uint64_t ready_bytes_ = 0;
  std::unordered_map<GuestId, Row> rows_;
  std::array<Queue, shm::kHoldings> queues_;
};

}  // namespace bladepsgi::lobby
