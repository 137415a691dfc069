// Engine: what a protocol makes of the bytes of one connection. Bytes in, events out.
//
// What FastCGI and HTTP have in common for a server that answers one request at a time: whoever holds the socket receives into
// receive_space(), says how much came, asks next() what follows from it until that is NeedMore, and sends pending_output() before
// anything of his own. How the stream is cut into pieces changes nothing; memory follows the bytes received.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/bytes.h"

namespace bladepsgi {

enum class Event : std::uint8_t {
  NeedMore,  // nothing further follows from the bytes received
  Request,   // the head is complete. Once for a request.
  Refused,   // instead of Request: see refusal(); answer it and close
  Body,      // body() is not empty. Repeated until it is consumed.
  BodyEnd,   // once for a request that can have a body, also when that had no bytes
  Aborted,   // the peer wants no answer any more. Once for a request.
  Close,  // send pending_output() and close. With a request active: the peer has closed its side, nothing more will
          // come, and an answer may still be wanted.
  Dropped,  // see drop_reason(): close without a word
};

struct Refusal {
  int status = 400;
  std::string_view reason;  // for the log; lives for ever
};

// What takes a connection to another engine: a fresh one that is given these bytes says all that this one has said since the first of
// them, and goes on where this one is.
struct Unserved {
  Bytes bytes;                // empty: between two requests
  std::uint32_t replies = 0;  // so many bytes of pending_output() came of them
};

// What is here of the body of the request that has begun, and has not been consumed.
struct BodyAhead {
  std::uint64_t bytes = 0;
  bool is_whole = false;      // nothing more is to be waited for: it ends here, or breaks off
  bool needs_answer = false;  // the peer waits for a word of ours before it sends more
};

class Engine {
 public:
  Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  virtual ~Engine() = default;

  // For another peer: forgets everything and keeps the storage.
  virtual void reset() = 0;

  // --- input
  // Where to receive into. Empty while the buffer is full of what has not been consumed: do not read then.
  [[nodiscard]] virtual WritableBytes receive_space() = 0;
  virtual void received(std::size_t size) = 0;
  virtual void peer_closed() = 0;
  [[nodiscard]] virtual bool has_peer_closed() const = 0;
  [[nodiscard]] virtual bool has_buffered_input() const = 0;
  [[nodiscard]] virtual Event next() = 0;
  [[nodiscard]] virtual Refusal refusal() const = 0;
  // Empty: it has not been dropped.
  [[nodiscard]] virtual std::string_view drop_reason() const = 0;

  // --- the request: from Event::Request or Refused until request_ended()
  // The peer wants to send another one on this connection, and nothing that it has said stands against it.
  [[nodiscard]] virtual bool keeps_connection() const = 0;

  // The body is wanted now and will be waited for.
  virtual void want_body() {}

  // The peer sends no body until it has been told that it is wanted.
  [[nodiscard]] virtual bool awaits_word() const { return false; }

  // Bytes of the body that are here, in the receive buffer; valid until the next call that is not const.
  [[nodiscard]] virtual Bytes body() const = 0;
  virtual void consume_body(std::size_t size) = 0;
  // When nothing is buffered: so many bytes of the body come next on the wire with nothing between, and may be received
  // somewhere else than into receive_space(); they are then reported with body_bypassed instead of received.
  [[nodiscard]] virtual std::size_t body_bypass() const = 0;
  virtual void body_bypassed(std::size_t size) = 0;
  // Every byte that the application may read has been consumed. Never after an abort.
  [[nodiscard]] virtual bool is_body_complete() const = 0;
  // The body has ended before as many bytes had come as were announced.
  [[nodiscard]] virtual bool is_body_short() const = 0;

  // An abort that waits behind a body that nobody has read yet.
  [[nodiscard]] virtual bool is_abort_ahead() const { return false; }

  // The end of the response has been sent (or will not be).
  virtual void request_ended() = 0;

  // --- moving to another engine
  // For who means to ask unserved(): the bytes of each request are kept from its first one on, in the receive buffer, which is full by
  // them sooner or later.
  virtual void keep_unserved() = 0;
  // Valid until the next call that is not const. Empty: not now, the rest of an older request is on its way, or of this one not all
  // bytes are there any more.
  [[nodiscard]] virtual std::optional<Unserved> unserved() const = 0;
  // The request will be served here: its bytes need not be kept. Those of the next one are.
  virtual void forget_unserved() = 0;
  // From Event::Request until the body is consumed.
  [[nodiscard]] virtual BodyAhead body_ahead() const = 0;

  // --- output of the engine itself
  [[nodiscard]] virtual Bytes pending_output() const = 0;
  virtual void output_sent(std::size_t size) = 0;

  // --- state
  // Some bytes of a request have come, its head is not complete: the time limit for a head runs.
  [[nodiscard]] virtual bool is_head_started() const = 0;
  // All that the peer will send for the active request has been taken: closing the socket cannot reset it.
  [[nodiscard]] virtual bool is_input_finished() const = 0;
  // The request has ended, and the peer has not finished sending it: whoever closes now cuts it short.
  [[nodiscard]] virtual bool is_rest_expected() const = 0;
  // Forgets what is buffered: for a connection that is only read to its end before it is closed.
  virtual void discard_input() = 0;
};

}  // namespace bladepsgi
