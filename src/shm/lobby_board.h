// LobbyBoard: what lobby and workers know of each other without asking, and what the lobby holds.
//
// For a moment after an upgrade there are two lobbies: both count and announce, what is held is said by the one that stays.
//
// Nothing here has to be put right after a death: whether there is something in the ready queue is a hint that is set again after
// each message and withdrawn only by who has found the queue empty since; what the lobby holds it writes anew when it starts;
// permits for slow bodies are a semaphore, whose books the overseer closes for a dead worker.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "shm/mapping.h"
#include "shm/scoreboard.h"
#include "shm/semaphore.h"

namespace bladepsgi::shm {

// What waits in the lobby.
enum class Holding : std::uint8_t {
  Idle,      // kept connections between two requests
  Head,      // a request has begun, its head is not complete
  Body,      // too little of its body is here
  SlowBody,  // enough of its body is here, but too many like it are served
  Ready,     // for a worker; the ready queue is full
  Closing,   // answered; the peer has not ended its side
  Sending,   // answered; the peer has not taken all of the response
};
inline constexpr std::size_t kHoldings = 7;
// As reports call them, in the same order.
inline constexpr std::array<std::string_view, kHoldings> kHoldingNames{
    "idle", "head", "body", "slow-body", "ready", "closing", "sending"};

// Why the lobby has closed a connection.
enum class Drop : std::uint8_t {
  PeerClosed,   // the peer has, between two requests or within a head
  IdleTimeout,  // the next request did not come
  HeadTimeout,  // the request did not come to its end
  GaveWay,      // too many are held: the one that has waited longest
  Memory,       // too many bytes are held: the one with the most of them
  Malformed,    // what another process handed over was no message of ours
  SendTimeout,  // the response was not taken
  BrokenFile,   // the response's file cannot be read to its end
};
inline constexpr std::size_t kDrops = 8;
inline constexpr std::array<std::string_view, kDrops> kDropNames{
    "peer-closed", "idle-timeout", "head-timeout", "gave-way",
    "memory",      "malformed",    "send-timeout", "broken-file"};

struct LobbyCells;

// A view; cheap to copy. The Mapping outlives it.
class LobbyBoard {
 public:
  explicit LobbyBoard(const Mapping& mapping);

  // --- for every process
  [[nodiscard]] std::uint64_t held(Holding holding) const;
  [[nodiscard]] std::uint64_t bytes_held() const;    // of requests
  [[nodiscard]] std::uint64_t bytes_unsent() const;  // of responses, without those in files
  [[nodiscard]] std::uint64_t dropped(Drop why) const;
  // Permits; who has one serves a request whose body is not here.
  [[nodiscard]] Semaphore slow_bodies() const;

  // --- for the overseer
  void prepare(std::uint32_t slow_bodies);
  void set_there(
      bool is_there);   // false: connections are kept by workers, there is nobody to give them to
  void set_stopping();  // the doors are closed
  // While the server stops: a worker has seen that nobody is inside who waits to be served.
  [[nodiscard]] bool is_all_served() const;

  // --- for workers
  [[nodiscard]] bool is_there() const;
  [[nodiscard]] bool is_stopping() const;
  // While the server stops: nobody in the lobby will come back. What was sent to it and not received yet is unknown to it.
  [[nodiscard]] bool is_settled() const;
  void set_all_served(bool is_all_served);

  // Not 0: a message is in the ready queue, or was a moment ago.
  [[nodiscard]] std::uint64_t readies() const;
  // The queue was empty after readies() had returned `seen`.
  void found_empty(std::uint64_t seen);

  // --- for the lobby
  void announce_ready();  // after a message was put into the ready queue, and when the lobby starts
  void set_settled(bool is_settled);
  void set_held(Holding holding, std::uint64_t count);
  void set_bytes_held(std::uint64_t bytes);
  void set_bytes_unsent(std::uint64_t bytes);
  void count(Drop why);

 private:
  LobbyCells* cells_;
  std::span<HoldRecord> permits_;
};

}  // namespace bladepsgi::shm
