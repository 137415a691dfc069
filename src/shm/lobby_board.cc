#include "shm/lobby_board.h"

#include <algorithm>
#include <atomic>

#include "shm/layout.h"

namespace bladepsgi::shm {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

std::size_t index_of(Holding holding) {
  return std::min(static_cast<std::size_t>(holding), kHoldings - 1);
}

std::size_t index_of(Drop why) {
  return std::min(static_cast<std::size_t>(why), kDrops - 1);
}

}  // namespace

LobbyBoard::LobbyBoard(const Mapping& mapping)
    : cells_(reinterpret_cast<LobbyCells*>(mapping.base() + mapping.layout().lobby_offset)),
      permits_(reinterpret_cast<HoldRecord*>(mapping.base() + mapping.layout().permits_offset),
               mapping.layout().slots) {}

std::uint64_t LobbyBoard::held(Holding holding) const {
  return cells_->held[index_of(holding)].load(kRelaxed);
}

std::uint64_t LobbyBoard::bytes_held() const {
  return cells_->bytes.load(kRelaxed);
}

std::uint64_t LobbyBoard::dropped(Drop why) const {
  return cells_->drops[index_of(why)].load(kRelaxed);
}

std::uint64_t LobbyBoard::bytes_unsent() const {
  return cells_->unsent.load(kRelaxed);
}

Semaphore LobbyBoard::slow_bodies() const {
  return {cells_->slow_bodies, permits_};
}

void LobbyBoard::prepare(std::uint32_t slow_bodies) {
  Semaphore::initialize(cells_->slow_bodies, slow_bodies);
}

void LobbyBoard::set_there(bool is_there) {
  cells_->is_there.store(is_there ? 1 : 0, kRelaxed);
}

void LobbyBoard::set_stopping() {
  cells_->is_stopping.store(1, kRelaxed);
}

bool LobbyBoard::is_all_served() const {
  return cells_->is_all_served.load(kRelaxed) != 0;
}

void LobbyBoard::set_all_served(bool is_all_served) {
  cells_->is_all_served.store(is_all_served ? 1 : 0, kRelaxed);
}

bool LobbyBoard::is_settled() const {
  return cells_->is_settled.load(std::memory_order_acquire) != 0;
}

void LobbyBoard::set_settled(bool is_settled) {
  cells_->is_settled.store(is_settled ? 1 : 0, std::memory_order_release);
}

bool LobbyBoard::is_there() const {
  return cells_->is_there.load(kRelaxed) != 0;
}

bool LobbyBoard::is_stopping() const {
  return cells_->is_stopping.load(kRelaxed) != 0;
}

// The system calls between are what orders these accesses: a message that was sent before the value was stored is found by a receive
// after that value was loaded.
std::uint64_t LobbyBoard::readies() const {
  return cells_->readies.load(std::memory_order_acquire);
}

void LobbyBoard::found_empty(std::uint64_t seen) {
  cells_->readies.compare_exchange_strong(seen, 0, std::memory_order_relaxed);
}

void LobbyBoard::announce_ready() {
  // Never the same twice: found_empty would withdraw what it has not seen.
  const std::uint64_t next = cells_->last_ready.fetch_add(1, kRelaxed) + 1;
  cells_->readies.store(next, std::memory_order_release);
}

void LobbyBoard::set_held(Holding holding, std::uint64_t count) {
  cells_->held[index_of(holding)].store(count, kRelaxed);
}

void LobbyBoard::set_bytes_held(std::uint64_t bytes) {
  cells_->bytes.store(bytes, kRelaxed);
}

void LobbyBoard::set_bytes_unsent(std::uint64_t bytes) {
  cells_->unsent.store(bytes, kRelaxed);
}

void LobbyBoard::count(Drop why) {
  cells_->drops[index_of(why)].fetch_add(1, kRelaxed);
}

}  // namespace bladepsgi::shm
