#include "lobby/table.h"

namespace bladepsgi::lobby {

using shm::Holding;

GuestId Table::add(Holding holding, os::Monotonic deadline) {
  const GuestId guest = next_++;
  rows_.emplace(guest, Row{holding, deadline, 0});
  queue(holding).emplace(deadline, guest);
  return guest;
}

void Table::change(GuestId guest, Holding holding, os::Monotonic deadline) {
  Row& row = rows_.at(guest);
  if (row.holding == holding && row.deadline == deadline) return;
  queue(row.holding).erase({row.deadline, guest});
  if (row.holding == Holding::Ready) ready_bytes_ -= row.bytes;
  if (holding == Holding::Ready) ready_bytes_ += row.bytes;
  row.holding = holding;
  row.deadline = deadline;
  queue(holding).emplace(deadline, guest);
}

void Table::set_bytes(GuestId guest, std::uint64_t bytes) {
  Row& row = rows_.at(guest);
  bytes_ += bytes - row.bytes;
  if (row.holding == Holding::Ready) ready_bytes_ += bytes - row.bytes;
  row.bytes = bytes;
}

void Table::remove(GuestId guest) {
  const auto row = rows_.find(guest);
  if (row == rows_.end()) return;
  bytes_ -= row->second.bytes;
  if (row->second.holding == Holding::Ready) ready_bytes_ -= row->second.bytes;
  queue(row->second.holding).erase({row->second.deadline, guest});
  rows_.erase(row);
}

std::optional<os::Monotonic> Table::next_deadline() const {
  os::Monotonic next = kNever;
  for (const Queue& one : queues_) {
    if (!one.empty()) next = std::min(next, one.begin()->first);
  }
  return next == kNever ? std::nullopt : std::optional(next);
}

std::optional<GuestId> Table::find_due(os::Monotonic now) const {
  for (const Queue& one : queues_) {
    if (!one.empty() && one.begin()->first <= now) return one.begin()->second;
  }
  return std::nullopt;
}

std::optional<GuestId> Table::find_oldest() const {
  for (const Holding holding : {Holding::Closing, Holding::Idle, Holding::Head, Holding::Body,
                                Holding::SlowBody, Holding::Sending}) {
    if (const auto oldest = find_oldest(holding)) return oldest;
  }
  return std::nullopt;
}

std::optional<GuestId> Table::find_oldest(Holding holding) const {
  const Queue& one = queues_[static_cast<std::size_t>(holding)];
  return one.empty() ? std::nullopt : std::optional(one.begin()->second);
}

std::optional<GuestId> Table::find_largest() const {
  std::optional<GuestId> largest;
  std::uint64_t most = 0;
  for (const auto& [guest, row] : rows_) {
    if (row.holding == Holding::Ready || row.bytes <= most) continue;
    most = row.bytes;
    largest = guest;
  }
  return largest;
}

}  // namespace bladepsgi::lobby
