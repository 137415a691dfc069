#include "worker/connection_io.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <ctime>
#include <utility>

#include "base/wipe.h"
#include "os/process.h"

namespace bladepsgi::worker {

namespace {

int milliseconds_until(os::Monotonic deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - os::monotonic_now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, INT_MAX));
}

}  // namespace

BrokenPipeGuard::BrokenPipeGuard() {
  sigemptyset(&pipe_);
  sigaddset(&pipe_, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
}

BrokenPipeGuard::~BrokenPipeGuard() {
  if (is_raised_) {
    const timespec now{};
    while (::sigtimedwait(&pipe_, nullptr, &now) < 0 && errno == EINTR) {
    }
  }
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void ConnectionIo::attach(os::Fd socket, Transport transport, std::vector<std::byte> received) {
  socket_ = std::move(socket);
  if (!before_.empty()) forget_before();
  before_ = std::move(received);
  // A peer that waits for the end of the connection would else wait for whatever the application has forked.
  os::set_private_connection(socket_.get());
  transport_ = transport;
  is_wide_ = false;
  reset_counters();
}

void ConnectionIo::forget_before() {
  wipe(before_);
  std::vector<std::byte>().swap(before_);
  before_taken_ = 0;
}

std::size_t ConnectionIo::take_before(std::span<iovec> into) {
  std::size_t taken = 0;
  for (const iovec& space : into) {
    const Bytes here = received_before();
    const std::size_t size = std::min(space.iov_len, here.size());
    std::copy_n(here.begin(), size, static_cast<std::byte*>(space.iov_base));
    before_taken_ += size;
    taken += size;
  }
  if (before_taken_ == before_.size()) forget_before();
  return taken;
}

void ConnectionIo::close() {
  if (!before_.empty()) forget_before();
  os::set_private_connection(-1);
  socket_.reset();
}

os::Fd ConnectionIo::duplicate_blocking(std::chrono::milliseconds patience) const {
  os::Fd copy(::fcntl(socket_.get(), F_DUPFD_CLOEXEC, 3));
  if (!copy.is_open()) return copy;
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(patience);
  const auto rest = std::chrono::duration_cast<std::chrono::microseconds>(patience - whole);
  const timeval limit{.tv_sec = whole.count(), .tv_usec = rest.count()};
  const int flags = ::fcntl(copy.get(), F_GETFL);
  if (::setsockopt(copy.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0 || flags < 0 ||
      ::fcntl(copy.get(), F_SETFL, flags & ~O_NONBLOCK) != 0) {
    copy.reset();
  }
  return copy;
}

void ConnectionIo::set_abortive(bool is_abortive) const {
  const linger reset{.l_onoff = is_abortive ? 1 : 0, .l_linger = 0};
  if (socket_.is_open()) ::setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

void ConnectionIo::reset_connection() {
  set_abortive(true);
  close();
}

std::optional<ssize_t> ConnectionIo::try_receive(std::span<iovec> into) {
  if (!before_.empty()) {
    const std::size_t size = take_before(into);
    bytes_received_ += size;
    return static_cast<ssize_t>(size);
  }
  msghdr message{};
  message.msg_iov = into.data();
  message.msg_iovlen = into.size();
  for (;;) {
    // Nearly always one piece, for which the kernel has less to copy and to check.
    const ssize_t received = into.size() == 1 ? ::recv(socket_.get(), into.front().iov_base,
                                                       into.front().iov_len, MSG_DONTWAIT)
                                              : ::recvmsg(socket_.get(), &message, MSG_DONTWAIT);
    if (received >= 0) {
      bytes_received_ += static_cast<std::uint64_t>(received);
      return received;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::nullopt;
    return -errno;
  }
}

ConnectionIo::Wait ConnectionIo::wait(short events, os::Monotonic deadline, int wake_descriptor) {
  std::array<pollfd, 2> watched = {pollfd{socket_.get(), events, 0},
                                   pollfd{wake_descriptor, POLLIN, 0}};  // -1 is left out by poll
  for (;;) {
    const int ready = ::poll(watched.data(), watched.size(), milliseconds_until(deadline));
    if (ready < 0) return errno == EINTR ? Wait::Interrupted : Wait::Failed;
    if (ready > 0) return watched[0].revents != 0 ? Wait::Ready : Wait::Woken;
    if (ready == 0 && os::monotonic_now() >= deadline) return Wait::TimedOut;
  }
}

// A UNIX socket takes so little by itself that sender and reader wait for each other all the time. (TCP finds its own size.)
bool ConnectionIo::widen() {
  constexpr int kWide =
      1024 * 1024;  // the kernel doubles it, and cuts it to net.core.wmem_max first
  if (is_wide_ || transport_ != Transport::Unix) return false;
  is_wide_ = true;
  int size = 0;
  socklen_t length = sizeof size;
  if (::getsockopt(socket_.get(), SOL_SOCKET, SO_SNDBUF, &size, &length) != 0 || size >= kWide)
    return false;
  return ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDBUF, &kWide, sizeof kWide) == 0;
}

int ConnectionIo::wait_to_send(std::chrono::milliseconds patience, WhileSending& meanwhile) {
  if (widen()) return 0;
  const os::Monotonic since = os::monotonic_now();
  const os::Monotonic deadline = since + patience;
  os::Monotonic next_question = since;
  for (;;) {
    const os::Monotonic now = os::monotonic_now();
    if (now >= deadline) return ETIMEDOUT;
    if (now >= next_question) {
      const auto more = meanwhile.on_stall(now - since);
      if (!more) return EAGAIN;
      next_question = *more > deadline - now ? deadline : now + *more;
    }
    const WritableBytes space = meanwhile.input_space();
    const auto events = static_cast<short>(space.empty() ? POLLOUT : POLLOUT | POLLIN);
    pollfd watched{socket_.get(), events, 0};
    const int ready = ::poll(&watched, 1, milliseconds_until(next_question));
    if (ready < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    if (ready == 0) continue;
    if ((watched.revents & POLLIN) != 0) {
      iovec into{space.data(), space.size()};
      const auto received = try_receive({&into, 1});
      if (received && *received < 0) return static_cast<int>(-*received);
      if (received) meanwhile.input_received(static_cast<std::size_t>(*received));
    }
    if ((watched.revents & ~POLLIN) != 0) {
      meanwhile.stall_ended(os::monotonic_now() - since);
      return 0;  // room, or an error that sending will tell
    }
  }
}

int ConnectionIo::send(std::span<iovec> what,
                       int flags,
                       std::chrono::milliseconds patience,
                       WhileSending& meanwhile) {
  for (;;) {
    while (!what.empty() && what.front().iov_len == 0)
      what = what.subspan(1);
    if (what.empty()) return 0;
    msghdr message{};
    message.msg_iov = what.data();
    message.msg_iovlen = std::min<std::size_t>(what.size(), IOV_MAX);
    const ssize_t result = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT | flags);
    if (result < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) return errno;
      if (const int error = wait_to_send(patience, meanwhile); error != 0) return error;
      continue;
    }
    auto sent = static_cast<std::size_t>(result);
    bytes_sent_ += sent;
    while (sent > 0 && sent >= what.front().iov_len) {
      sent -= what.front().iov_len;
      what.front().iov_len = 0;
      what = what.subspan(1);
    }
    if (sent > 0) {
      what.front().iov_base = static_cast<std::byte*>(what.front().iov_base) + sent;
      what.front().iov_len -= sent;
    }
  }
}

int ConnectionIo::send_file(int file,
                            off_t* offset,
                            std::size_t length,
                            std::chrono::milliseconds patience,
                            WhileSending& meanwhile,
                            BrokenPipeGuard& guard) {
  while (length > 0) {
    const ssize_t sent = ::sendfile(socket_.get(), file, offset, length);
    if (sent > 0) {
      length -= static_cast<std::size_t>(sent);
      bytes_sent_ += static_cast<std::uint64_t>(sent);
      continue;
    }
    if (sent == 0) return ENODATA;
    if (errno == EINTR) continue;
    if (errno == EPIPE) guard.note_raised();
    if (errno != EAGAIN && errno != EWOULDBLOCK) return errno;
    if (const int error = wait_to_send(patience, meanwhile); error != 0) return error;
  }
  return 0;
}

void ConnectionIo::refuse_input() const {
  ::shutdown(socket_.get(), SHUT_RD);
}

bool ConnectionIo::is_peer_gone(bool counts_half_closed) const {
  if (transport_ != Transport::Unix && !counts_half_closed) return false;
  const short wanted =  // NOLINT(google-runtime-int): the type of poll(2)
      transport_ == Transport::Tcp ? POLLRDHUP : 0;
  pollfd watched{socket_.get(), wanted, 0};
  return ::poll(&watched, 1, 0) > 0 && (watched.revents & (POLLHUP | POLLERR | POLLRDHUP)) != 0;
}

bool ConnectionIo::end_output() const {
  return ::shutdown(socket_.get(), SHUT_WR) == 0;
}

void ConnectionIo::close_after_reading(std::uint64_t limit,
                                       std::chrono::milliseconds patience,
                                       WritableBytes scratch) {
  const os::Monotonic deadline = os::monotonic_now() + patience;
  if (end_output()) {
    std::uint64_t taken = 0;
    while (taken <= limit) {
      iovec into{scratch.data(), scratch.size()};
      const auto received = try_receive({&into, 1});
      if (received && *received <= 0) break;
      if (received) {
        taken += static_cast<std::uint64_t>(*received);
        if (os::monotonic_now() >= deadline) break;
      } else if (wait(POLLIN, deadline) != Wait::Ready) {
        break;
      }
    }
  }
  close();
}

}  // namespace bladepsgi::worker
