// Connection: what one HTTP/1.1 connection has said so far, and what is to be done about it. Bytes in, events out.
//
// The state machine of RFC 9112 for a server that answers one request at a time, with the words of fcgi::Connection. It does no
// I/O:
//
//   space = receive_space();  n = recv(space);  received(n) or peer_closed();  while ((event = next()) …) …
//
// Promises:
// - How the stream is cut into pieces changes nothing: the same bytes give the same events.
// - Bytes behind a request stay here for the next one, which is taken up after request_ended() if must_close() is false then.
// - Whatever two servers could read differently is refused, not repaired (docs/decisions/0007).
// - Memory follows the bytes received, never a length that was announced, and every amount a peer chooses has a limit.
// - No allocation in the steady state: storage is reused from request to request, and given back after a huge one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/bytes.h"
#include "base/engine.h"
#include "base/receive_buffer.h"
#include "http/chunked.h"
#include "http/head.h"
#include "http/limits.h"

namespace bladepsgi::http {

// Event::Refused: answer with refusal() and close; Close follows, and request() has what is known of it. Event::BodyEnd comes also
// when there is no body. Event::Dropped with a request active: its body is malformed, and an answer is still possible; else it is to
// be closed without a word.
using bladepsgi::Event;

class Connection final : public Engine {
 public:
  explicit Connection(const Limits& limits = {});

  void reset() override;

  // --- input
  [[nodiscard]] WritableBytes receive_space() override;
  void received(std::size_t size) override;

  void peer_closed() override { peer_closed_ = true; }

  [[nodiscard]] Event next() override;

  // --- the request: from Event::Request until request_ended(); its views live as long
  [[nodiscard]] const Request& request() const { return head_.request(); }

  // From Event::Refused until reset().
  [[nodiscard]] Refusal refusal() const override { return head_.refusal(); }

  [[nodiscard]] bool is_active() const { return phase_ == Phase::Active; }

  // The application wants the body now: a peer that waits to be told so is told, through pending_output(), unless the body has
  // begun already. Not after the head of the response: it would end up in the middle of it.
  void want_body() override;
  [[nodiscard]] bool awaits_word() const override;

  [[nodiscard]] Bytes body() const override;
  void consume_body(std::size_t size) override;

  [[nodiscard]] std::size_t body_bypass() const override;
  void body_bypassed(std::size_t size) override;

  // Every byte of the body has been consumed; a chunked one also needs its end to have been seen by next().
  [[nodiscard]] bool is_body_complete() const override;
  // The peer has closed its side before the end of the body, and all that came of it has been consumed.
  [[nodiscard]] bool is_body_short() const override;

  // As far as is known now, no other request can follow on this connection, so the response is to say "Connection: close": the
  // peer wants it so, or waits with a body that nobody asked for, or the rest of the body is malformed or too much to read away.
  [[nodiscard]] bool must_close() const;

  [[nodiscard]] bool keeps_connection() const override {
    return request().keeps_connection && !must_close();
  }

  // The response said so.
  void close_after_request() { closes_ = true; }

  // The response is complete (or will not be). What is left of the body is read away if the connection is kept.
  void request_ended() override;

  // --- moving to another engine
  void keep_unserved() override { keeps_unserved_ = true; }

  [[nodiscard]] std::optional<Unserved> unserved() const override;

  void forget_unserved() override { input_.let_go(); }

  [[nodiscard]] BodyAhead body_ahead() const override;

  // --- output of the engine itself: "100 Continue". To be sent before anything else.
  [[nodiscard]] Bytes pending_output() const override;

  void output_sent(std::size_t size) override { output_sent_ += size; }

  // --- state
  // Between two requests, and nothing has come that belongs to a next one. (An empty line does not.)
  [[nodiscard]] bool is_idle() const;
  // Some bytes of a request have come, its head is not complete: the time limit for a head runs. The rest of an old request's
  // body that trickles in does not count.
  [[nodiscard]] bool is_head_started() const override;

  [[nodiscard]] bool is_rest_expected() const override { return phase_ == Phase::Draining; }

  // All that the peer will send for the active request has been taken, and nothing else is here: closing the socket cannot reset
  // it.
  [[nodiscard]] bool is_input_finished() const override;

  [[nodiscard]] bool has_buffered_input() const override { return !input_.empty(); }

  [[nodiscard]] bool has_peer_closed() const override { return peer_closed_; }

  // After Dropped; for the log, lives for ever.
  [[nodiscard]] std::string_view drop_reason() const override { return error_; }

  void discard_input() override { input_.clear(); }

  // Gives the storage back while nothing is in it: for a connection that will wait for long.
  void release_memory();

 private:
  enum class Phase : std::uint8_t {
    Idle,  // also while a head arrives
    Active,
    Draining,  // the rest of the body of a request that has ended
    Closing,
    Dropped,
  };

  // Bytes of data that follow with nothing between: the rest of the body, or of a chunk.
  [[nodiscard]] std::uint64_t data_left() const;
  void data_taken(std::uint64_t size);

  Event drop(std::string_view error);
  Event need_more();
  Event take_head();
  // Goes on to the next data or to the end of the body; empty once there is data or the body has ended.
  std::optional<Event> take_framing();
  Event next_of_body();
  std::optional<Event> drain();
  bool count_drained(std::uint64_t size);

  Limits limits_;

  ReceiveBuffer input_;
  bool keeps_unserved_ = false;

  Phase phase_ = Phase::Idle;
  std::string_view error_;
  bool peer_closed_ = false;

  HeadParser head_;

  // the body
  ChunkDecoder chunks_;
  std::uint64_t length_left_ = 0;  // of a body with Content-Length
  bool body_ended_ = false;        // all of it has been taken
  bool end_told_ = false;          // BodyEnd was returned
  bool is_malformed_ = false;
  bool body_begun_ = false;
  bool body_wanted_ = false;
  bool closes_ = false;
  std::uint64_t drained_ = 0;

  bool continues_ = false;  // "100 Continue" is on its way
  std::size_t output_sent_ = 0;
};

}  // namespace bladepsgi::http
