// ProtocolExchange: requests that arrive over one connection after another, and their responses, whatever the protocol.
//
// The runtime's Exchange on top of a pure Engine and a non-blocking socket: heads, bodies, time limits, and the order of a request's
// life. What the bytes of a response look like is the affair of the protocols derived from it. One object serves a worker for its
// whole life: nothing is allocated for a request in the steady state.
//
//   attach(socket) → take_request() → prepare() → the application (Exchange) → take_request() … until !is_attached()
//
// Everything that waits has a time limit. What is queued goes out in one sendmsg, the end of the response with the last of it. While
// the socket is full, what the peer sends is taken in, so that two sides that only send do not wait for each other: as much as
// the receive buffer holds while the application may still read it, and up to the drain limit once it has finished.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/engine.h"
#include "base/pace.h"
#include "base/parameter.h"
#include "base/status.h"
#include "cgi/environment.h"
#include "handoff/transfer.h"
#include "os/fd.h"
#include "runtime/exchange.h"
#include "worker/body.h"
#include "worker/connection_io.h"

namespace bladepsgi::worker {

enum class InputMode : std::uint8_t {
  Auto,    // in memory up to input_memory, larger bodies as they arrive
  Stream,  // always as they arrive
  Spool,   // the whole body first: in memory up to input_memory, larger ones in a temporary file
};

// A peer that does not take what is sent.
struct Stall {
  std::chrono::nanoseconds waited;         // since it has taken something
  std::chrono::nanoseconds waited_in_all;  // while this response was sent
  bool may_hand_over;                      // the rest can be sent by somebody else
  std::uint64_t memory;                    // that this would take at most
};

struct WhenStalled {
  enum class Action : std::uint8_t { Wait, HandOver, GiveUp };

  Action action = Action::Wait;
  std::chrono::nanoseconds wait = std::chrono::nanoseconds::max();
};

struct ExchangeOptions {
  std::chrono::milliseconds head_timeout{60'000};  // from the first wait to the end of the head
  std::chrono::milliseconds body_timeout{60'000};  // for each wait for the body
  std::chrono::milliseconds send_timeout{60'000};  // for each wait for a peer that does not read
  std::chrono::milliseconds close_timeout{
      2'000};  // to read what is left before a connection is closed
  std::uint64_t drain_bytes =
      std::uint64_t{8} * 1024 * 1024;  // how much is read before a connection is closed
  std::optional<std::uint64_t> max_body;
  std::uint64_t body_ahead =
      std::uint64_t{64} * 1024;       // with so much of its body a request is worth a worker
  std::uint64_t min_body_rate = 0;    // bytes a second, while a body is waited for; 0: any
  bool abandons_half_closed = false;  // on TCP: who has closed its side is taken for gone
  InputMode input = InputMode::Auto;
  std::size_t input_memory = std::size_t{64} * 1024;
  std::string spool_directory = "/tmp";
  cgi::EnvironmentOptions environment;
  std::uint64_t request_id_seed = 0;  // of this worker; made request ids begin with it
  // Others wait for a worker, so a connection is not kept. Empty: never.
  std::function<bool()> others_wait;
  // Where connections can be given to, see hand_over; -1: nowhere, now.
  std::function<int()> lobby;
  // The peer does not take what is sent. Empty: it is waited for. Otherwise asked at once, and again after `wait`.
  std::function<WhenStalled(const Stall&)> on_stall;
  // Gives a kept connection to somebody who keeps it until its next request comes: true when it is gone. Empty: there is nobody.
  std::function<bool()> park;
  // A request is refused before the application sees it: its parameters, as far as they are known, can be read now and not later.
  std::function<void()> on_refusal;
  // Readable: a wait for a connection on which nothing has come yet ends (take_request returns Idle). -1: none.
  int wake_descriptor = -1;
};

// Why a request or a connection ended without the application.
enum class Trouble : std::uint8_t {
  None,
  PeerClosed,     // ordinary: between requests, or in the middle of a head
  Abandoned,      // the client has gone before the application was called
  Aborted,        // by the protocol, before the application was called; its end was sent
  ProtocolError,  // connection dropped
  HeadTimeout,    // connection dropped
  BodyTimeout,    // answered 408
  HeadTooLarge,   // answered 431 or 414
  BadRequest,     // answered 400, or what else the protocol asks for
  BodyTooLarge,   // answered 413
  SpoolFailed,    // answered 507
};

// What is known of a connection that another process has had before.
struct Arrival {
  std::vector<std::byte> received;  // to be received once more
  std::uint32_t replies = 0;        // see handoff::Message
  os::Monotonic started{};          // when the first of these bytes came
  bool is_overdue = false;          // it has been waited for long enough
};

// The rest of a finished response that the peer does not take at once: from then on everything is collected here.
struct Rest {
  std::vector<std::byte> bytes;
  std::size_t before_file = 0;
  os::Fd file;
  std::uint64_t file_offset = 0;
  std::uint64_t file_length = 0;
  std::uint64_t file_piece = 0;
};

class ProtocolExchange : public runtime::Exchange, private WhileSending {
 public:
  ~ProtocolExchange() override = default;

  // --- for the worker
  // Connections may be given away by hand_over while requests are not complete.
  void keep_unserved();

  // A connected non-blocking socket; takes the place of the one before, which is closed.
  void attach(os::Fd socket, Transport transport, Arrival arrival = {});

  // False after the connection was closed, whoever closed it. True after a request: the peer keeps the connection.
  [[nodiscard]] bool is_attached() const { return io_.is_open(); }

  [[nodiscard]] int descriptor() const { return io_.descriptor(); }

  // Closes a kept connection between two requests.
  void close();

  // The next request of this connection, if there is one, is its last: the connection is not kept after it.
  void keep_no_longer() { is_last_request_ = true; }

  // The next request, if it is here already, has not waited for long, so its client has not given up waiting: no need to look whether
  // it still is there.
  void expect_presence(bool is_expected) { is_presence_expected_ = is_expected; }

  enum class Patience : std::uint8_t {
    Try,  // return Idle when no byte of a request is here (a head that has begun is waited for all the same)
    Wait,  // up to head_timeout also for the first byte
  };
  enum class Progress : std::uint8_t {
    Ready,  // take_request: call prepare next; prepare: call the application
    Idle,   // take_request only: nothing of a request is here; is_attached()
    Incomplete,  // take_request with a short wait only: it has not come to its end; hand_over() it, or go on with it
    Answered,  // this request is over without the application: see trouble(). is_attached() tells whether the connection goes on
    Gone,      // the connection is closed: see trouble()
  };
  // Reads the head of the next request. With a short wait, what is not here by then (the rest of the head; of the body as much as is
  // worth a worker) is somebody else's to wait for.
  [[nodiscard]] Progress take_request(
      Patience patience,
      std::optional<std::chrono::milliseconds> short_wait = std::nullopt);

  // After Incomplete, of a connection that has come with bytes: nothing has come of it that its last holder did not see.
  [[nodiscard]] bool is_as_it_came() const;

  // After Incomplete: it has been waited for long enough.
  void wait_no_longer() { is_overdue_ = true; }

  // After Ready: the body, too, as far as it will ever come.
  [[nodiscard]] bool has_whole_body() const { return has_whole_body_; }

  // Gives the connection to another process, between two requests or before prepare(): what has come of a request goes with it. One
  // on which nothing has come is worth keeping until `idle_deadline`; is_fresh: not even a first request. After Sent is_attached() is
  // false. Empty: it cannot be moved now.
  [[nodiscard]] std::optional<handoff::SendOutcome> hand_over(int channel,
                                                              os::Monotonic idle_deadline,
                                                              bool is_fresh);

  // Reads of the body what is to be here before the application is called, and looks whether the client still is.
  [[nodiscard]] Progress prepare();

  [[nodiscard]] Trouble trouble() const { return trouble_; }

  // For the log; empty where there is nothing to say. Holds no bytes of the peer.
  [[nodiscard]] std::string_view trouble_text() const { return trouble_text_; }

  // From Ready of take_request, and in on_refusal, until the request has ended.
  [[nodiscard]] std::string_view method() const { return environment_.method(); }

  [[nodiscard]] std::string_view uri() const { return environment_.uri(); }

  // "GET /x [request id]" of a request that was refused or whose length is wrong, for the log; empty when it is not known.
  [[nodiscard]] const std::string& title() const { return title_; }

  [[nodiscard]] int status() const { return status_; }  // of the response; 0 when none was started

  [[nodiscard]] bool was_aborted() const { return aborted_; }

  [[nodiscard]] bool was_peer_lost() const {
    return lost_;
  }  // the response could not be sent completely

  // The application has read the body of this request, or tried to, and it broke off: errno of read_body, else 0.
  [[nodiscard]] int body_error() const { return ended_body_error_; }

  // So many bytes of it had come.
  [[nodiscard]] std::uint64_t body_received() const { return body_taken_; }

  // A complete response whose body has another length than its Content-Length says.
  struct WrongLength {
    std::uint64_t announced;
    std::uint64_t sent;
  };

  [[nodiscard]] std::optional<WrongLength> wrong_length() const { return wrong_length_; }

  // Of this request, with the protocol's bytes around them.
  [[nodiscard]] std::uint64_t bytes_received() const { return io_.bytes_received(); }

  // What somebody else has still to send is among them.
  [[nodiscard]] std::uint64_t bytes_sent() const { return io_.bytes_sent() + bytes_left_; }

  // Of the body, as the application produced it.
  [[nodiscard]] std::uint64_t body_sent() const { return body_sent_; }

  // Answers the request with a page of ours and ends it (503 when the application cannot be called).
  void answer(const CannedResponse& response);

  // For a signal handler that ends this process while the application has the request. Says 504 if the kernel was given nothing of a
  // response: then true. Else makes what was begun look broken off.
  bool answer_timed_out() noexcept;

  // --- runtime::Exchange
  [[nodiscard]] std::span<const runtime::Parameter> parameters() const noexcept override;

  [[nodiscard]] std::string_view request_id() const noexcept override { return request_id_; }

  [[nodiscard]] runtime::BodyInfo body() const noexcept override;
  runtime::BodyRead read_body(WritableBytes into) noexcept override;
  bool seek_body(std::uint64_t offset) noexcept override;
  void start_response(int status, std::span<const runtime::Header> headers) noexcept override;

  [[nodiscard]] bool wants_body() const noexcept override { return wants_body_ && !is_overruled_; }

  bool write(Bytes bytes) noexcept override;
  std::int64_t send_file(int fd,
                         off_t offset,
                         std::uint64_t length,
                         bool is_last) noexcept override;
  bool flush() noexcept override;

  [[nodiscard]] bool is_committed() const noexcept override { return committed_; }

  void discard_response() noexcept override;
  void finish() noexcept override;
  void abort() noexcept override;
  void leave_raw_connection() noexcept override;
  // Gives a kept connection away. Where nobody takes it, closes it if nothing has come, so that the peer does not send a request to
  // a worker that is not waiting for it; one with bytes is kept and served next.
  void release_connection() noexcept override;

 protected:
  // `engine` is a member of the derived object: used from attach on.
  ProtocolExchange(ExchangeOptions options, Engine& engine);

  // --- what a protocol says of a request whose head is complete
  [[nodiscard]] virtual handoff::Protocol protocol() const = 0;

  // As a web server would send them (cgi/environment.h makes them right); valid until the request has ended.
  [[nodiscard]] virtual std::span<const Parameter> sent_parameters() = 0;

  // For parameter_shape, among the requests of this object.
  [[nodiscard]] std::uint64_t own_shape() const { return environment_.shape(); }

  // Nothing of the request before is to be remembered.
  virtual void on_new_request() {}

  // What CONTENT_LENGTH says, once that is known to be a number.
  virtual void on_body_length(std::optional<std::uint64_t> /*length*/) {}

  // --- the bytes of a response
  // Into head_, as far as it can be written before the length of the body is known. Returns the length that it announces.
  virtual std::optional<std::uint64_t> write_head(int status,
                                                  std::span<const runtime::Header> headers) = 0;
  // Sends pending output, head_ (and empties it) and queue_; with is_last also the end of the response. Sets committed_.
  // Returns !lost_.
  virtual bool send_queue(bool is_last, bool has_more) = 0;

  // A piece of a file goes out between these bytes. At most so many bytes make one piece. What another process has to know to make them
  // goes into the message.
  virtual void describe_pieces(handoff::Message& message) const = 0;
  [[nodiscard]] virtual std::size_t largest_piece() const = 0;
  [[nodiscard]] virtual Bytes piece_begin(std::size_t size) = 0;  // valid until the next call

  [[nodiscard]] virtual Bytes piece_end() const { return {}; }

  // Lets the peer see that a response that has begun will not be completed. False: it could not be sent.
  virtual bool send_broken_end() { return true; }

  // What answers a request that took too long; with has_begun what makes its response look broken. Returns the size, 0: nothing.
  // Async-signal-safe.
  virtual std::size_t write_timed_out(std::span<std::byte> into, bool has_begun) const noexcept = 0;

  // An orderly end of the connection is the end of the response, so one that is not complete needs another.
  [[nodiscard]] virtual bool ends_by_closing() const { return false; }

  // A connection on which nothing ever comes is worth a line in the log.
  [[nodiscard]] virtual bool is_silence_odd() const { return true; }

  // Of a request that the engine has refused; empty when that is not known.
  [[nodiscard]] virtual std::string_view refused_method() const { return {}; }

  // A body that cannot be understood can still be answered, and is by 400 when the application has not seen it.
  [[nodiscard]] virtual bool answers_what_is_malformed() const { return false; }

  // --- for the protocols
  [[nodiscard]] const ExchangeOptions& options() const { return options_; }

  [[nodiscard]] bool is_usable() const { return !ended_ && !lost_ && !aborted_; }

  [[nodiscard]] bool is_head_request() const { return is_head_request_; }

  [[nodiscard]] bool is_started() const { return started_; }

  [[nodiscard]] std::size_t queued_bytes() const;
  bool transmit(std::span<iovec> what, bool has_more);
  bool send_pending();  // replies of the engine
  // The same, to be sent with what follows: valid until the next call.
  [[nodiscard]] Bytes take_pending();

  void close_after_response() { closes_ = true; }

  // The end of the connection will be that of the response: an end that comes too early, by the death of this process, must look
  // different.
  void guard_end() { io_.set_abortive(true); }

  // The connection for the application's own use, from now on: see runtime::Exchange::open_raw_connection.
  [[nodiscard]] os::Fd lend_connection();

  // What follows the request is not of this protocol: nobody here reads it.
  void leave_input_alone() { is_input_foreign_ = true; }

  [[nodiscard]] bool will_close() const { return closes_; }

  [[nodiscard]] bool do_others_wait() const {
    return options_.others_wait && options_.others_wait();
  }

  std::string head_;          // empty once it is sent
  std::vector<Bytes> queue_;  // of the application, not copied
  bool committed_ = false;
  bool lost_ = false;  // the peer has gone, or what was begun cannot be completed
  bool wants_body_ = true;
  bool cuts_body_ =
      false;  // where it ends the peer finds by its Content-Length: no byte may follow

 private:
  WritableBytes input_space() noexcept override;
  void input_received(std::size_t size) noexcept override;
  std::optional<std::chrono::nanoseconds> on_stall(
      std::chrono::nanoseconds waited) noexcept override;
  void stall_ended(std::chrono::nanoseconds waited) noexcept override;

  // How long to wait for input, and when that began: the first wait sets the deadline.
  struct Deadline {
    std::chrono::milliseconds patience;
    std::optional<os::Monotonic> at;
  };

  // --- the head and the body
  Progress gone(Trouble trouble, std::string_view text = {});
  Progress drop();
  Progress refuse(Trouble trouble, int status, bool closes, std::string_view text = {});
  Progress begin_request();
  Progress await_body_ahead(Deadline* short_wait);
  void forget_request();
  void take_request_id();
  enum class Received : std::uint8_t { Some, End, Nothing, TimedOut, Failed, Interrupted };

  // Receives what is here; waits for it when nothing is and there is a deadline. Body bytes go straight to `direct` where the
  // protocol allows it; their number is put into *direct_size.
  Received receive(Deadline* deadline,
                   int wake_descriptor,
                   WritableBytes direct = {},
                   std::size_t* direct_size = nullptr);
  // What the engine says of the active request, remembered where it concerns all that follows.
  Event next_event();
  // Reads what the peer still sends of a request that has ended, for a moment.
  void await_rest();
  // The next bytes of the body off the connection; size 0 and error 0 at its end.
  runtime::BodyRead read_connection(WritableBytes into);
  // Takes the body in until it is stored, or larger than may be stored. Returns 0 or errno of the spool directory.
  int store_body();

  [[nodiscard]] bool is_over_limit(std::uint64_t size) const {
    return options_.max_body && size > *options_.max_body;
  }

  // --- the response
  void look_at_buffer();  // for an abort among the bytes that are here
  void look_at_socket();  // the same, after receiving what is here
  void discard_body();
  [[nodiscard]] std::uint64_t room_for_body() const;
  bool copy_file(int fd, off_t offset, std::size_t length);
  void answer_page(const CannedResponse& response);
  void end_request();
  void end_connection(bool is_input_finished);
  bool leave_closing_to_others();

  class Pieces;  // how a file is cut, for who sends a rest

  [[nodiscard]] bool may_leave_rest();
  [[nodiscard]] bool has_own_file();
  bool begin_rest(int error);
  void leave_file(std::uint64_t offset, std::uint64_t length, std::uint64_t piece);
  void leave_rest(bool keeps);
  void send_rest(const handoff::Message& message, const Rest& rest);
  void forget_client();
  void note_title();

  ExchangeOptions options_;
  Engine& engine_;
  ConnectionIo io_;
  cgi::Environment environment_;
  StoredBody stored_;

  // of the connection's first request, when another process had it before
  std::uint32_t replies_to_skip_ = 0;
  os::Monotonic request_started_{};
  bool is_overdue_ = false;
  bool is_arrival_ = false;  // the connection has come with bytes
  std::uint32_t arrival_replies_ = 0;

  bool has_whole_body_ = true;

  Pace pace_;                             // of the body
  std::chrono::nanoseconds last_wait_{};  // of receive

  std::optional<Event> unread_event_;  // of a next request, met while the rest of one was read
  Trouble trouble_ = Trouble::None;
  std::string trouble_text_;
  std::string title_;
  std::string request_id_;
  std::string id_prefix_;
  std::uint64_t requests_ = 0;

  // body
  bool is_stored_ = false;           // all of it: seekable
  std::uint64_t body_position_ = 0;  // of what is stored; the rest comes off the connection
  std::uint64_t body_taken_ = 0;     // bytes that came off the connection
  int body_error_ = 0;
  int ended_body_error_ = 0;  // the same, for who asks when the request has ended

  // response
  int status_ = 0;
  bool is_head_request_ = false;
  std::uint64_t body_sent_ = 0;  // as the application produced it
  std::uint64_t room_used_ = 0;  // what of it is on its way
  std::optional<std::uint64_t> announced_length_;
  std::optional<WrongLength> wrong_length_;
  bool started_ = false;
  bool is_overruled_ = false;  // by a page of ours: what the application produces is not sent
  bool ended_ = true;          // finish or abort has been called, or no request has come yet
  bool aborted_ = false;       // Event::Aborted was seen
  bool is_last_request_ = false;
  bool is_presence_expected_ = false;
  bool closes_ = false;            // after this response, whatever the peer asked for
  bool is_input_foreign_ = false;  // what follows the request is not for us
  bool discarding_ = false;        // nobody will read the body any more
  int send_error_ = 0;
  bool is_finishing_ = false;                 // nothing follows what is being sent
  bool is_given_up_ = false;                  // the peer has been waited for long enough
  bool must_send_rest_ = false;               // nobody else takes it
  std::chrono::nanoseconds waited_before_{};  // to send, in the waits that are over
  int last_file_ = -1;  // that nothing follows but the end of the response: the application's
  os::Fd own_file_;     // the same, ours
  std::optional<Rest> rest_;
  std::uint64_t bytes_left_ = 0;          // for somebody else to send
  std::vector<std::byte> pending_;        // of the engine, on its way out
  std::atomic<bool> is_sending_ = false;  // for a signal handler: something may be half out
  std::unique_ptr<std::byte[]> copy_buffer_;
  bool is_copy_of_body_ = false;
};

}  // namespace bladepsgi::worker
