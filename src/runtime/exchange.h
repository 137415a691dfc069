// Exchange: one request and its response in progress, as a language adapter sees it.
//
// The seam between worker and runtime. The worker implements it on top of a protocol (FastCGI now, HTTP/1.1 beside it);
// an adapter (runtime/perl) consumes it; neither knows the other. Nothing here throws and nothing here runs application
// code, so that a foreign frame (an XSUB) may call every method directly.
//
// Order of calls: parameters, body and read_body at any time before finish or abort; start_response once; then write and
// send_file any number of times; then finish, abort or leave_raw_connection, exactly once. A peer that has gone makes writes return false; the
// adapter then stops producing and calls finish (which then does nothing more) or abort.
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/bytes.h"
#include "base/parameter.h"

namespace bladepsgi::runtime {

// One CGI/1.1 meta-variable, already made right for a PSGI or WSGI environment: no duplicates, no psgi.* names, SCRIPT_NAME and
// PATH_INFO corrected. Views live until finish or abort.
using bladepsgi::Parameter;

struct Header {
  std::string_view name;
  std::string_view value;
};

// What is known of the request body when the application is about to be called.
struct BodyInfo {
  bool buffered = false;  // the whole body is here: read_body never waits, seek_body works
  std::optional<std::uint64_t>
      length;    // bytes; empty when the peer did not say and the body is not buffered
  Bytes memory;  // buffered in memory: all of it, valid until finish or abort; else empty
};

struct BodyRead {
  std::size_t size = 0;  // 0 with error 0 is the end of the body
  // errno; never 0 for a body that broke off (ECONNABORTED: shorter than announced, or the peer has gone; ETIMEDOUT: too
  // slow; EFBIG: over the limit). Later calls repeat it. EINTR breaks nothing off: a signal came while it waited; run the
  // language's handlers and call again.
  int error = 0;
};

class Exchange {
 public:
  Exchange() = default;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  virtual ~Exchange() = default;

  [[nodiscard]] virtual std::span<const Parameter> parameters() const noexcept = 0;

  // Requests of one process for which this is the same number have the same names in parameters(), in the same order; 0: that is not
  // known.
  [[nodiscard]] virtual std::uint64_t parameter_shape() const noexcept { return 0; }

  // Of the front end (X-Request-Id) or made; printable ASCII, at most 128 bytes.
  [[nodiscard]] virtual std::string_view request_id() const noexcept = 0;

  [[nodiscard]] virtual BodyInfo body() const noexcept = 0;

  // Reads the next bytes of the body into `into` (not empty); waits for the peer while none are here.
  virtual BodyRead read_body(WritableBytes into) noexcept = 0;

  // Buffered bodies only: the next read_body starts at `offset` (0 … length). False when not possible.
  virtual bool seek_body(std::uint64_t offset) noexcept = 0;

  // Status 100 … 999. Names and values hold no CR, LF or NUL (the adapter has checked). Copies; sends nothing yet.
  // A HEAD request or a 204 or 304 status makes later writes succeed and send nothing (see wants_body).
  virtual void start_response(int status, std::span<const Header> headers) noexcept = 0;

  // False when the response must not have a body: the adapter need not produce it.
  [[nodiscard]] virtual bool wants_body() const noexcept = 0;

  // Queues bytes of the body. They are not copied: they must stay valid and unchanged until flush, finish or abort has
  // returned. False: the peer has gone. An empty span is allowed and sends nothing.
  virtual bool write(Bytes bytes) noexcept = 0;

  // Sends `length` bytes of the regular file `fd` from `offset` without moving its file position. Sends what is queued
  // first. Returns the number of bytes sent: fewer when the file is shorter, -1 when the peer has gone or the file cannot be read
  // (errno tells which; EINVAL: this file cannot be sent that way, nothing of it was sent, write it instead).
  // With is_last nothing follows it but finish(): what the peer does not take at once may be sent later, from the file as it is then, and
  // counts as sent.
  virtual std::int64_t send_file(int fd,
                                 off_t offset,
                                 std::uint64_t length,
                                 bool is_last) noexcept = 0;

  // Everything queued is with the kernel when this returns true. False: the peer has gone.
  virtual bool flush() noexcept = 0;

  // Bytes for the web server's error log (FCGI_STDERR), at once. Ignored where the protocol has no such stream.
  virtual void write_error(Bytes bytes) noexcept = 0;

  // inform() may have an effect for this request.
  [[nodiscard]] virtual bool knows_informational() const noexcept { return false; }

  // An informational response (103 Early Hints) before the real one, at once. False: not sent; the protocol or the peer knows none, or
  // it is too late.
  virtual bool inform(int /*status*/, std::span<const Header> /*headers*/) noexcept {
    return false;
  }

  // There is a connection to the client itself, on which an application might speak by itself (psgix.io).
  [[nodiscard]] virtual bool has_raw_connection() const noexcept { return false; }

  // A blocking, close-on-exec descriptor of that connection, which the caller owns; -1 with errno when there is none. What the peer
  // sends from now on is left for it, but for what is missing of the request's body, and the connection is not kept.
  virtual int open_raw_connection() noexcept {
    errno = ENOTSUP;
    return -1;
  }

  // In place of finish and abort, before any response was started: whoever has the raw connection has answered on it or
  // will. Nothing is sent, and the connection lasts as long as that descriptor.
  virtual void leave_raw_connection() noexcept { abort(); }

  // True once any byte of the response may have reached the peer: too late for another status.
  [[nodiscard]] virtual bool is_committed() const noexcept = 0;

  // Drops a response that was started but not committed, so that another can be started.
  virtual void discard_response() noexcept = 0;

  // Ends the response as complete. Returns when the kernel has all of it; the connection is then no longer needed unless
  // the peer asked to keep it.
  virtual void finish() noexcept = 0;

  // Ends the response so that the peer can see that it is not complete (the connection is dropped without the protocol's
  // end marker). Nothing else of this request reaches the peer.
  virtual void abort() noexcept = 0;

  // After finish, before work that the next request should not wait for: hands the kept connection back, if there is one.
  virtual void release_connection() noexcept = 0;
};

}  // namespace bladepsgi::runtime
