// Waiting: what has come on one connection that waits, and whether that is worth a worker. Pure.
//
// The protocol's own engine says how far the request is; the bytes are kept as they came, so that the worker's engine can be given the
// same. What needs a decision or an answer (a malformed record, a head over its limits, a question of the web server) is neither
// made nor given here: it is Decided, and the worker's engine comes to the same result. Between two requests nothing is kept, and no memory
// used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/engine.h"
#include "fcgi/connection.h"
#include "handoff/message.h"
#include "http/limits.h"

namespace bladepsgi::lobby {

struct Limits {
  fcgi::Limits fcgi;
  http::Limits http;
  std::uint64_t body_ahead = std::uint64_t{64} * 1024;
};

class Waiting {
 public:
  enum class Stage : std::uint8_t {
    Idle,     // nothing of a request is here
    Head,     // its head is not complete
    Body,     // the head is, and less of the body than is worth a worker
    Enough,   // as much as is worth a worker; or the peer waits for a word before it sends more
    Whole,    // all of it
    Decided,  // whatever else comes, a worker has something to do
    Gone,     // the peer has closed its side, and there is nobody to answer
  };

  // `replies`: see handoff::Message. `limits` outlives this.
  Waiting(handoff::Protocol protocol, const Limits& limits, std::uint32_t replies = 0);
  Waiting(Waiting&&) noexcept = default;
  Waiting& operator=(Waiting&&) noexcept = default;
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  ~Waiting();

  // Bytes have come. From Enough on they are only kept.
  Stage take(Bytes bytes);
  // The peer has closed its side.
  Stage end();

  [[nodiscard]] Stage stage() const { return stage_; }

  // For the worker: all since the request's first byte.
  [[nodiscard]] Bytes bytes() const { return bytes_; }

  [[nodiscard]] std::uint32_t replies() const { return replies_; }

  [[nodiscard]] handoff::Protocol protocol() const { return protocol_; }

 private:
  void feed(Bytes bytes);
  void look();
  void begin_body();
  void forget_served();

  handoff::Protocol protocol_;
  const Limits* limits_;
  Stage stage_ = Stage::Idle;
  std::uint32_t replies_;
  bool has_request_ = false;
  std::uint64_t body_bytes_ = 0;
  std::vector<std::byte> bytes_;
  // Absent while nothing is here.
  std::unique_ptr<Engine> engine_;
  fcgi::Connection* fcgi_ = nullptr;  // the same, if it is one
};

}  // namespace bladepsgi::lobby
