// ConnectionIo: one connected, non-blocking stream socket with time limits on every wait. Knows no protocol.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "os/clock.h"
#include "os/fd.h"
#include "os/listener.h"

namespace bladepsgi::worker {

[[nodiscard]] inline iovec as_vector(Bytes bytes) {
  // sendmsg only reads, but its type cannot say so.
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

[[nodiscard]] inline iovec as_writable_vector(WritableBytes bytes) {
  return {bytes.data(), bytes.size()};
}

using os::Transport;

// What happens while we wait to send. What comes from the peer somebody must take, or two that both only send wait for each other for
// ever.
class WhileSending {
 public:
  WhileSending() = default;
  WhileSending(const WhileSending&) = delete;
  WhileSending& operator=(const WhileSending&) = delete;
  virtual ~WhileSending() = default;

  // Where to receive into; empty: nothing more can be taken now.
  virtual WritableBytes input_space() noexcept = 0;
  // Bytes have come; 0: the peer has closed its side.
  virtual void input_received(std::size_t size) noexcept = 0;
  // The peer has taken nothing for so long: how long to wait before this is asked again. Empty: no longer, sending ends with EAGAIN.
  virtual std::optional<std::chrono::nanoseconds> on_stall(
      std::chrono::nanoseconds waited) noexcept = 0;

  // It takes something again, after so long.
  virtual void stall_ended(std::chrono::nanoseconds /*waited*/) noexcept {}
};

// Keeps SIGPIPE away while it lives: sendfile(2) has no MSG_NOSIGNAL, and the application may have made the signal deadly again.
class BrokenPipeGuard {
 public:
  BrokenPipeGuard();
  BrokenPipeGuard(const BrokenPipeGuard&) = delete;
  BrokenPipeGuard& operator=(const BrokenPipeGuard&) = delete;
  ~BrokenPipeGuard();

  // A call has failed with EPIPE, so the signal is pending and is to be taken away.
  void note_raised() { is_raised_ = true; }

 private:
  sigset_t pipe_{};
  sigset_t before_{};
  bool is_raised_ = false;
};

class ConnectionIo {
 public:
  enum class Wait : std::uint8_t {
    Ready,
    TimedOut,
    Woken,        // the wake descriptor became readable
    Interrupted,  // a signal was handled; call again
    Failed,
  };

  // `received` is what has come already: it is received once more here, before anything of the socket.
  void attach(os::Fd socket, Transport transport, std::vector<std::byte> received = {});

  [[nodiscard]] Bytes received_before() const { return Bytes(before_).subspan(before_taken_); }

  void close();

  // Another descriptor of the same socket, blocking, close-on-exec; empty with errno when that fails. The socket blocks for us, too,
  // where there is no MSG_DONTWAIT (sendfile): at most `patience` at a time.
  [[nodiscard]] os::Fd duplicate_blocking(std::chrono::milliseconds patience) const;

  // However it is closed from now on, a TCP peer sees an error instead of the end, also when this process is killed; until taken
  // back. A UNIX socket has no such end.
  void set_abortive(bool is_abortive) const;

  // Closes in that way.
  void reset_connection();

  // Writes of the peer fail from now on; what has come before can still be received.
  void refuse_input() const;

  [[nodiscard]] bool is_open() const { return socket_.is_open(); }

  [[nodiscard]] int descriptor() const { return socket_.get(); }

  // Never waits. Empty: nothing is here. 0: the peer has closed its side. Negative: errno, negated.
  [[nodiscard]] std::optional<ssize_t> try_receive(std::span<iovec> into);

  // Waits for `events` of poll(2). wake_descriptor may be -1.
  [[nodiscard]] Wait wait(short events,  // NOLINT(google-runtime-int): the type of poll(2)
                          os::Monotonic deadline,
                          int wake_descriptor = -1);

  // Sends all of it. What is sent is taken off the vectors, so that after EAGAIN (see WhileSending) they have the rest. The time limit is for
  // each wait without progress. Returns 0 or errno.
  [[nodiscard]] int send(std::span<iovec> what,
                         int flags,
                         std::chrono::milliseconds patience,
                         WhileSending& meanwhile);

  // Sends `length` bytes of a file from *offset, which follows what has been sent. Returns 0 or errno; ENODATA when the
  // file ended first.
  [[nodiscard]] int send_file(int file,
                              off_t* offset,
                              std::size_t length,
                              std::chrono::milliseconds patience,
                              WhileSending& meanwhile,
                              BrokenPipeGuard& guard);

  // The peer has closed both directions. On TCP that cannot be told from a half-close, so this is false there unless that counts.
  [[nodiscard]] bool is_peer_gone(bool counts_half_closed = false) const;

  // Ends our side. False: the peer has gone.
  [[nodiscard]] bool end_output() const;

  // Closes without destroying what the peer has not read yet: ends our side and reads the other one to its end first, at most
  // `limit` bytes and for at most `patience`. `scratch` must not be empty.
  void close_after_reading(std::uint64_t limit,
                           std::chrono::milliseconds patience,
                           WritableBytes scratch);

  [[nodiscard]] std::uint64_t bytes_received() const { return bytes_received_; }

  [[nodiscard]] std::uint64_t bytes_sent() const { return bytes_sent_; }

  void reset_counters() { bytes_received_ = bytes_sent_ = 0; }

 private:
  // After EAGAIN: 0 when it may be tried again, else errno.
  int wait_to_send(std::chrono::milliseconds patience, WhileSending& meanwhile);
  // Once a connection: more room in the kernel for what is sent. True: it is worth trying again.
  bool widen();

  std::size_t take_before(std::span<iovec> into);
  void forget_before();

  os::Fd socket_;
  Transport transport_ = Transport::Unix;
  bool is_wide_ = false;
  std::vector<std::byte> before_;
  std::size_t before_taken_ = 0;
  std::uint64_t bytes_received_ = 0;
  std::uint64_t bytes_sent_ = 0;
};

}  // namespace bladepsgi::worker
