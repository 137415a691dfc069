#include "load/generator.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace bladepsgi::load {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kReceiveBuffer = std::size_t{256} * 1024;
constexpr std::size_t kProblemsTold = 5;
constexpr std::uint64_t kMostErrors = 100;  // then the run ends: the server is broken, or not there
constexpr std::chrono::milliseconds kTick{100};
constexpr int kMostReceivesAtOnce = 16;  // of one connection, before the others have their turn

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

// A descriptor and its end.
class Socket {
 public:
  Socket() = default;

  explicit Socket(int fd) : fd_(fd) {}

  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }

  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  ~Socket() { close(); }

  [[nodiscard]] int fd() const { return fd_; }

  [[nodiscard]] bool is_open() const { return fd_ >= 0; }

  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

timeval as_timeval(std::chrono::milliseconds time) {
  timeval value{};
  value.tv_sec = time.count() / 1000;
  value.tv_usec = time.count() % 1000 * 1000;
  return value;
}

double cpu_seconds() {
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

// A request and what is expected of its answer.
struct Variant {
  Request request;
  Expectation expected;
};

std::vector<Variant> make_variants(const Options& options, bool keep) {
  std::vector<Variant> variants;
  const unsigned count = std::max(options.variants, 1U);
  for (unsigned i = 0; i < count; ++i) {
    const unsigned number = i * 37 + 1;  // of one to three digits: values change in length, too
    RequestSpec spec = options.request;
    spec.protocol = options.protocol;
    spec.keep = keep;
    spec.uri = with_number(spec.uri, number);
    variants.push_back(
        {.request = Request(spec),
         .expected = {.status = options.status,
                      .body = options.is_body_pattern
                                  ? BodyRule::pattern(options.body_pattern)
                                  : BodyRule::text(with_number(options.body_text, number))}});
  }
  return variants;
}

struct Client {
  Socket socket;
  std::unique_ptr<ResponseCheck> check;
  const Variant* variant = nullptr;
  std::size_t turn = 0;
  std::uint64_t sent = 0;
  Clock::time_point started{};
  bool is_busy = false;
  bool has_failed = false;
  bool is_reused = false;     // its connection had a request before this one
  bool awaits_space = false;  // epoll tells when there is room to send
};

class Generator {
 public:
  explicit Generator(const Options& options)
      : options_(options),
        variants_(make_variants(options, options.keep)),
        buffer_(kReceiveBuffer),
        epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    if (!epoll_.is_open()) fail("epoll_create1");
    raise_descriptor_limit(options.connections + options.idle + options.half + 32);
  }

  Report run() {
    std::vector<Socket> idle;
    std::vector<Socket> half;
    std::vector<Variant> kept;
    if (options_.idle + options_.half > 0) {
      kept = make_variants(options_, true);
      idle = open_crowd(options_.idle, kept.front(), true, report_.idle);
      half = open_crowd(options_.half, kept.front(), false, report_.half);
    }
    if (options_.on_ready) options_.on_ready();
    measure();
    if (options_.on_measured) options_.on_measured();
    if (!kept.empty()) {
      end_crowd(idle, kept.front(), 0, report_.idle);
      end_crowd(half, kept.front(), half_of(kept.front().request), report_.half);
    }
    return std::move(report_);
  }

 private:
  static void raise_descriptor_limit(std::size_t wanted) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return;
    if (limit.rlim_max < wanted) {
      throw std::runtime_error(fmt::format("{} descriptors are allowed, {} are needed (ulimit -n)",
                                           limit.rlim_max, wanted));
    }
    limit.rlim_cur = wanted;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) fail("setrlimit");
  }

  // The socket stays a blocking one, for connect: to wait until there is room in the backlog costs no other request anything, as the
  // server is behind with all of them. Everything else says MSG_DONTWAIT.
  Socket connect() {
    const int family = options_.address.storage.ss_family;
    Socket socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket.is_open()) fail("socket");
    const timeval limit = as_timeval(options_.time_limit);
    ::setsockopt(socket.fd(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (family == AF_INET) {
      constexpr int kYes = 1;
      ::setsockopt(socket.fd(), IPPROTO_TCP, TCP_NODELAY, &kYes, sizeof kYes);
    }
    const auto* address = reinterpret_cast<const sockaddr*>(&options_.address.storage);
    if (::connect(socket.fd(), address, options_.address.size) != 0) {
      const int error = errno;
      socket.close();
      errno = error;
    }
    return socket;
  }

  void measure() {
    clients_.resize(std::max<std::size_t>(options_.connections, 1));
    const Clock::time_point begin = Clock::now();
    const double cpu_begin = cpu_seconds();
    end_ = options_.time.count() > 0 ? begin + options_.time : Clock::time_point::max();
    for (std::size_t i = 0; i < clients_.size(); ++i) {
      clients_[i].check = ResponseCheck::make(options_.protocol);
      clients_[i].turn = i;
    }
    for (Client& client : clients_)
      start(client);
    Clock::time_point next_tick = Clock::now() + kTick;
    std::array<epoll_event, 64> events{};
    while (busy_ + failed_ > 0) {
      if (failed_ > 0) {
        restart_failed();
        continue;
      }
      const int count = ::epoll_wait(epoll_.fd(), events.data(), static_cast<int>(events.size()),
                                     static_cast<int>(kTick.count()));
      if (count < 0 && errno != EINTR) fail("epoll_wait");
      for (int i = 0; i < count; ++i) {
        const epoll_event& event = events[static_cast<std::size_t>(i)];
        Client& client = clients_[event.data.u32];
        if (client.is_busy && client.awaits_space && (event.events & EPOLLOUT) != 0) send(client);
        if (client.is_busy && (event.events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
          receive(client);
        }
      }
      if (const Clock::time_point now = Clock::now(); now >= next_tick) {
        next_tick = now + kTick;
        for (Client& client : clients_) {
          if (client.is_busy && now - client.started > options_.time_limit) {
            fail_request(client, "no complete answer within the time limit");
          }
        }
      }
    }
    report_.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    report_.client_cpu_seconds = cpu_seconds() - cpu_begin;
    clients_.clear();
  }

  [[nodiscard]] bool is_over(Clock::time_point now) const {
    if (options_.requests > 0 && started_ >= options_.requests) return true;
    return now >= end_ || report_.errors >= kMostErrors;
  }

  // The next request of a client that has none.
  void start(Client& client) {
    const Clock::time_point now = Clock::now();
    if (is_over(now)) {
      client.socket.close();
      return;
    }
    ++started_;
    ++busy_;
    client.is_busy = true;
    client.started = now;
    client.variant = &variants_[client.turn++ % variants_.size()];
    client.is_reused = client.socket.is_open();
    ask(client);
  }

  void ask(Client& client) {
    client.sent = 0;
    client.check->start(client.variant->expected);
    if (client.socket.is_open() || open(client)) send(client);
  }

  bool open(Client& client) {
    client.awaits_space = false;
    client.socket = connect();
    if (!client.socket.is_open()) {
      fail_request(client, fmt::format("cannot connect: {}", std::strerror(errno)));
      return false;
    }
    watch(client, EPOLL_CTL_ADD, EPOLLIN);
    return true;
  }

  void watch(Client& client, int operation, std::uint32_t what) {
    epoll_event event{};
    event.events = what;
    event.data.u32 = static_cast<std::uint32_t>(&client - clients_.data());
    if (::epoll_ctl(epoll_.fd(), operation, client.socket.fd(), &event) != 0) fail("epoll_ctl");
  }

  void await_space(Client& client, bool is_wanted) {
    if (client.awaits_space == is_wanted) return;
    client.awaits_space = is_wanted;
    watch(client, EPOLL_CTL_MOD, is_wanted ? EPOLLIN | EPOLLOUT : EPOLLIN);
  }

  // As much as the socket takes.
  void send(Client& client) {
    const Request& request = client.variant->request;
    while (client.sent < request.size()) {
      std::array<iovec, 4> vectors{};
      msghdr message{};
      message.msg_iov = vectors.data();
      message.msg_iovlen = request.vectors(client.sent, vectors);
      const ssize_t sent = ::sendmsg(client.socket.fd(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent >= 0) {
        client.sent += static_cast<std::uint64_t>(sent);
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        await_space(client, true);
        return;
      } else if (errno == EPIPE || errno == ECONNRESET) {
        // What it had to say before it closed, if anything, is there to be read.
        await_space(client, false);
        return;
      } else if (errno != EINTR) {
        fail_request(client, fmt::format("cannot send: {}", std::strerror(errno)));
        return;
      }
    }
    await_space(client, false);
  }

  void receive(Client& client) {
    for (int i = 0; i < kMostReceivesAtOnce; ++i) {
      const ssize_t size = ::recv(client.socket.fd(), buffer_.data(), buffer_.size(), MSG_DONTWAIT);
      if (size < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK) return;
        if (errno == EINTR) continue;
      }
      const bool is_closed = size <= 0;
      if (is_closed && client.is_reused && client.check->is_untouched()) {
        // Kept for as long as it wanted to; its right.
        ++report_.reconnects;
        client.is_reused = false;
        client.socket.close();
        ask(client);
        return;
      }
      const Verdict verdict =
          is_closed ? client.check->peer_closed()
                    : client.check->take({buffer_.data(), static_cast<std::size_t>(size)});
      switch (verdict) {
        case Verdict::More:
          break;
        case Verdict::Done:
          finish(client, is_closed);
          return;
        case Verdict::Wrong:
          fail_request(client, client.check->problem());
          return;
      }
      if (is_closed) return;
    }
  }

  void finish(Client& client, bool is_closed) {
    report_.latencies.add(Clock::now() - client.started);
    ++report_.requests;
    // An answer that comes before the request was read to its end leaves the connection out of step.
    const bool is_all_sent = client.sent == client.variant->request.size();
    if (is_closed || !options_.keep || client.check->closes() || !is_all_sent) {
      client.socket.close();
    }
    client.is_busy = false;
    --busy_;
    start(client);
  }

  void fail_request(Client& client, const std::string& why) {
    ++report_.errors;
    if (report_.problems.size() < kProblemsTold) report_.problems.push_back(why);
    client.socket.close();
    client.is_busy = false;
    --busy_;
    client.has_failed = true;  // goes on from the loop, not from here: that may be within start()
    ++failed_;
  }

  void restart_failed() {
    for (Client& client : clients_) {
      if (!client.has_failed) continue;
      client.has_failed = false;
      --failed_;
      start(client);
    }
  }

  // --- the crowd

  static std::uint64_t half_of(const Request& request) { return request.head_size() / 2; }

  // Each sends `request` and waits for the answer, or only half of its head.
  std::vector<Socket> open_crowd(std::size_t count,
                                 const Variant& variant,
                                 bool is_served,
                                 Report::Crowd& crowd) {
    std::vector<Socket> sockets;
    sockets.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      Socket socket = connect();
      if (!socket.is_open()) {
        crowd_error(
            fmt::format("cannot open connection {} of the crowd: {}", i + 1, std::strerror(errno)));
        break;
      }
      const bool is_good = is_served
                               ? exchange(socket, variant, 0, crowd)
                               : send_part(socket, variant.request, 0, half_of(variant.request));
      if (!is_good && report_.errors > 0) break;
      ++crowd.opened;
      sockets.push_back(std::move(socket));
    }
    crowd.answered = 0;
    crowd.closed = 0;
    return sockets;
  }

  // What each has not sent yet, and its answer.
  void end_crowd(std::vector<Socket>& sockets,
                 const Variant& variant,
                 std::uint64_t from,
                 Report::Crowd& crowd) {
    for (Socket& socket : sockets) {
      if (report_.errors >= kMostErrors) return;
      static_cast<void>(exchange(socket, variant, from, crowd));
      socket.close();
    }
  }

  void crowd_error(std::string why) {
    ++report_.errors;
    if (report_.problems.size() < kProblemsTold) report_.problems.push_back(std::move(why));
  }

  // False when the server has closed the connection.
  static bool send_part(const Socket& socket,
                        const Request& request,
                        std::uint64_t from,
                        std::uint64_t to) {
    while (from < to) {
      std::array<iovec, 4> vectors{};
      const std::size_t count = request.vectors(from, vectors);
      std::uint64_t left = to - from;
      for (std::size_t i = 0; i < count; ++i) {
        vectors[i].iov_len = std::min<std::uint64_t>(vectors[i].iov_len, left);
        left -= vectors[i].iov_len;
      }
      msghdr message{};
      message.msg_iov = vectors.data();
      message.msg_iovlen = count;
      const ssize_t sent = ::sendmsg(socket.fd(), &message, MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0) return false;
      from += static_cast<std::uint64_t>(sent);
    }
    return true;
  }

  // One request on a connection of the crowd, waited for; false unless it was answered.
  bool exchange(const Socket& socket,
                const Variant& variant,
                std::uint64_t from,
                Report::Crowd& crowd) {
    const auto check = ResponseCheck::make(options_.protocol);
    check->start(variant.expected);
    if (!send_part(socket, variant.request, from, variant.request.size())) {
      ++crowd.closed;
      return false;
    }
    const Clock::time_point deadline = Clock::now() + options_.time_limit;
    while (true) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
      pollfd ready{.fd = socket.fd(), .events = POLLIN, .revents = 0};
      if (left.count() <= 0 || ::poll(&ready, 1, static_cast<int>(left.count())) == 0) {
        crowd_error("a connection of the crowd got no answer within the time limit");
        return false;
      }
      const ssize_t size = ::recv(socket.fd(), buffer_.data(), buffer_.size(), MSG_DONTWAIT);
      if (size < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (size <= 0 && check->is_untouched()) {
        ++crowd.closed;
        return false;
      }
      const Verdict verdict = size <= 0
                                  ? check->peer_closed()
                                  : check->take({buffer_.data(), static_cast<std::size_t>(size)});
      if (verdict == Verdict::Done) {
        ++crowd.answered;
        return true;
      }
      if (verdict == Verdict::Wrong) {
        crowd_error("a connection of the crowd: " + check->problem());
        return false;
      }
    }
  }

  const Options& options_;
  std::vector<Variant> variants_;
  std::vector<char> buffer_;
  Socket epoll_;
  std::vector<Client> clients_;
  std::size_t busy_ = 0;
  std::size_t failed_ = 0;
  std::uint64_t started_ = 0;
  Clock::time_point end_{};
  Report report_;
};

}  // namespace

Address Address::unix_path(std::string_view path) {
  Address address;
  auto& name = reinterpret_cast<sockaddr_un&>(address.storage);
  if (path.empty() || path.size() >= sizeof name.sun_path) {
    throw std::invalid_argument(fmt::format("'{}' is no path of a socket", path));
  }
  name.sun_family = AF_UNIX;
  std::copy(path.begin(), path.end(), name.sun_path);
  address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  return address;
}

Address Address::tcp(std::string_view host_and_port) {
  Address address;
  auto& name = reinterpret_cast<sockaddr_in&>(address.storage);
  const std::size_t colon = host_and_port.rfind(':');
  const std::string host(host_and_port.substr(0, colon));
  const std::string_view port =
      colon == std::string_view::npos ? std::string_view() : host_and_port.substr(colon + 1);
  std::uint16_t number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc() || end != port.data() + port.size() || number == 0 ||
      ::inet_pton(AF_INET, host.c_str(), &name.sin_addr) != 1) {
    throw std::invalid_argument(fmt::format("'{}' is not ADDRESS:PORT", host_and_port));
  }
  name.sin_family = AF_INET;
  name.sin_port = htons(number);
  address.size = sizeof name;
  return address;
}

Report run(const Options& options) {
  return Generator(options).run();
}

}  // namespace bladepsgi::load
