// Connection: what one FastCGI connection has said so far, and what is to be done about it. Bytes in, events out.
//
// The state machine of FastCGI 1.0 for an application that serves one request at a time: it owns the receive buffer, takes
// records apart, collects the parameters, hands the body over as it arrives, answers management records by itself, and
// ignores or refuses what the protocol says is to be ignored or refused. It does no I/O:
//
//   space = receive_space();  n = recv(space);  received(n) or peer_closed();  while ((event = next()) …) …
//
// Promises:
// - How the stream is cut into pieces changes nothing: the same bytes give the same events.
// - Bytes behind a request stay here for the next one. A second request that comes before the input of the first is
//   complete is refused (CANT_MPX_CONN); one that comes later is taken up after request_ended(), if the peer keeps the
//   connection.
// - Memory follows the bytes received, never a length that was announced, and every amount a peer chooses has a limit.
// - pending_output() always ends at the end of a record. Whoever sends must send it before anything of his own and never
//   in the middle of a record.
// - No allocation in the steady state: storage is reused from request to request, and given back after a huge one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/engine.h"
#include "base/parameter.h"
#include "base/receive_buffer.h"
#include "fcgi/record.h"

namespace bladepsgi::fcgi {

struct Limits {
  std::size_t receive_buffer =
      std::size_t{64} * 1024;  // at least 1 KiB; only what a peer fills of it is ever touched
  std::size_t parameter_bytes = std::size_t{1024} * 1024;
  std::size_t parameter_count = 4096;
  // Records that nobody will use: the rest of a body that the application did not read, records of refused requests,
  // management records. Counted from the end of one request to the start of the next, and during a request.
  std::uint64_t drain_bytes = std::size_t{8} * 1024 * 1024;
  std::size_t pending_output = std::size_t{16} * 1024;
};

// Parameters over their limit are still taken up to this many times the limit, so that the peer can be told; then it is dropped.
inline constexpr std::size_t kDropFactor = 4;

// What GET_VALUES is told. We never multiplex.
struct Values {
  std::uint32_t max_connections = 1;
  std::uint32_t max_requests = 1;
};

// Event::BodyEnd is the empty STDIN record; an authorizer has none. Event::Refused means parameters over their limit; request() then
// has no parameters. Event::Aborted: END_REQUEST only.
using bladepsgi::Event;

struct Request {
  std::uint16_t id = 0;
  Role role = Role::Responder;
  bool keep_connection = false;
  std::span<const Parameter>
      parameters;  // as sent, duplicates included; valid until request_ended() or reset()
};

class Connection final : public Engine {
 public:
  explicit Connection(const Limits& limits = {}, const Values& values = {});

  void reset() override;

  // --- input
  [[nodiscard]] WritableBytes receive_space() override;
  void received(std::size_t size) override;

  void peer_closed() override { peer_closed_ = true; }

  [[nodiscard]] Event next() override;

  // --- the request: from Event::Request or Refused until request_ended()
  [[nodiscard]] const Request& request() const { return request_; }

  [[nodiscard]] bool is_active() const { return phase_ == Phase::Active; }

  [[nodiscard]] bool is_aborted() const { return aborted_; }

  // An ABORT_REQUEST that waits behind a body that nobody has read yet.
  [[nodiscard]] bool is_abort_ahead() const override;

  // CONTENT_LENGTH, if there is one: the body then ends after so many bytes, and what STDIN has beyond is swallowed.
  void set_body_length(std::optional<std::uint64_t> length);

  [[nodiscard]] Bytes body() const override;
  void consume_body(std::size_t size) override;

  [[nodiscard]] std::size_t body_bypass() const override;
  void body_bypassed(std::size_t size) override;

  [[nodiscard]] bool is_body_complete() const override;
  // STDIN has ended before set_body_length's bytes had come.
  [[nodiscard]] bool is_body_short() const override;

  // The worker has sent END_REQUEST (or will not): what still comes for that id is ignored.
  void request_ended() override;

  // --- moving to another engine: possible at the end of any record between two requests
  void keep_unserved() override { keeps_unserved_ = true; }

  [[nodiscard]] std::optional<Unserved> unserved() const override;

  void forget_unserved() override { input_.let_go(); }

  [[nodiscard]] BodyAhead body_ahead() const override;

  // --- output of the engine itself: replies to management records and refusals
  [[nodiscard]] Bytes pending_output() const override;
  void output_sent(std::size_t size) override;

  // --- state
  // Between two requests, and nothing has come that belongs to a next one.
  [[nodiscard]] bool is_idle() const;
  // Some bytes of a request have come, its parameters are not complete: the time limit for a head runs. The rest of an old
  // request's body that trickles in does not count.
  [[nodiscard]] bool is_head_started() const override;

  [[nodiscard]] bool is_rest_expected() const override {
    return phase_ == Phase::Idle && !is_input_complete();
  }

  // All that the peer will send for the active request has been taken: closing the socket cannot reset it.
  [[nodiscard]] bool is_input_finished() const override;

  [[nodiscard]] bool has_buffered_input() const override { return !input_.empty(); }

  [[nodiscard]] bool has_peer_closed() const override { return peer_closed_; }

  [[nodiscard]] ProtocolError error() const { return error_; }

  [[nodiscard]] Refusal refusal() const override;
  [[nodiscard]] std::string_view drop_reason() const override;

  [[nodiscard]] bool keeps_connection() const override { return request_.keep_connection; }

  void discard_input() override { input_.clear(); }

  // Gives the receive buffer back while nothing is in it: for a connection that will wait for long.
  void release_memory();

 private:
  enum class Phase : std::uint8_t { Idle, Parameters, Active, Closing, Dropped };
  enum class Sink : std::uint8_t {
    Skip,
    Parameters,
    Body,
    GetValues
  };  // of the content of the current record

  [[nodiscard]] bool is_input_complete() const { return !stdin_open_ && !data_open_; }

  [[nodiscard]] bool is_between_records() const { return content_left_ == 0 && padding_left_ == 0; }

  Event drop(ProtocolError error);
  Event need_more();
  // Each returns an event, or nothing to carry on.
  std::optional<Event> take_content();
  void take_parameters(Bytes content);
  void forget_parameters();
  std::optional<Event> start_record(const Header& header);
  std::optional<Event> management_record(const Header& header);
  std::optional<Event> begin_request(const Header& header);
  std::optional<Event> record_of_request(const Header& header);
  std::optional<Event> end_parameters();

  void enter_record(const Header& header, Sink sink);
  std::optional<Event> ignore_record(const Header& header);
  bool count_ignored(std::uint64_t size);
  bool answer(Bytes record);
  bool refuse(std::uint16_t id, ProtocolStatus status);
  std::optional<Event> answer_get_values();

  Limits limits_;
  Values values_;

  ReceiveBuffer input_;
  bool keeps_unserved_ = false;

  Phase phase_ = Phase::Idle;
  ProtocolError error_ = ProtocolError::None;
  bool peer_closed_ = false;

  // the record whose header has been read
  Sink sink_ = Sink::Skip;
  std::size_t content_left_ = 0;
  std::size_t padding_left_ = 0;

  // the request
  static constexpr std::uint64_t kUnknownLength = std::numeric_limits<std::uint64_t>::max();
  Request request_;
  bool too_large_ = false;
  bool aborted_ = false;
  bool stdin_open_ = false;
  bool data_open_ = false;
  bool trailing_stdin_ = false;  // an authorizer's empty STDIN, which some send, has not been seen
  std::uint64_t body_left_ = kUnknownLength;
  std::uint64_t parameter_bytes_ = 0;
  // One of these two has them.
  std::vector<std::byte> parameter_stream_;
  Bytes parameters_in_place_;  // pinned in input_
  std::vector<Parameter> parameters_;

  std::uint64_t ignored_ = 0;
  std::uint32_t replies_ = 0;  // bytes of them since the first byte that is held
  std::vector<std::byte> get_values_;
  std::vector<std::byte> output_;
  std::size_t output_begin_ = 0;
};

}  // namespace bladepsgi::fcgi
