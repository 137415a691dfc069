#include "os/listener.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <limits>
#include <optional>
#include <utility>

#include "base/text.h"
#include "os/address.h"
#include "os/socket.h"
#include "os/system_error.h"

namespace bladepsgi::os {

namespace {

class TcpListener final : public Listener {
 public:
  TcpListener(Fd fd, std::string name) : Listener(std::move(fd), Transport::Tcp, std::move(name)) {}

  [[nodiscard]] ListenerRecord record() const override {
    return {
        .kind = ListenerRecord::Kind::Tcp, .fd = fd(), .transport = transport(), .name = name()};
  }
};

class InheritedListener final : public Listener {
 public:
  InheritedListener(Fd fd, Transport transport, std::string name)
      : Listener(std::move(fd), transport, std::move(name)) {}

  [[nodiscard]] ListenerRecord record() const override {
    return {.kind = ListenerRecord::Kind::Inherited,
            .fd = fd(),
            .transport = transport(),
            .name = name()};
  }

  [[nodiscard]] bool is_inherited() const override { return true; }

  void close_door() noexcept override {}  // whoever started us goes on with it

  void refuse() noexcept override {}
};

std::string describe_local(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  return describe_address(address, size);
}

// Error: with the errno in it, and `*error` set for the caller to look at.
Result<std::unique_ptr<Listener>> listen_on(const addrinfo& address,
                                            const std::string& wanted,
                                            bool is_dual,
                                            int backlog,
                                            int* error) {
  const auto failed = [&](std::string_view action) {
    *error = errno;
    return fail(system_failure(*error, std::string(action), wanted));
  };
  Fd fd(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.is_open()) return failed("create listening socket");
  constexpr int kYes = 1;
  const int only_v6 = is_dual ? 0 : 1;
  // Connections of an instance before this one that still time out shall not be in the way.
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &kYes, sizeof kYes);
  if (address.ai_family == AF_INET6)
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only_v6, sizeof only_v6);
  if (::bind(fd.get(), address.ai_addr, address.ai_addrlen) != 0)
    return failed("bind listening socket");
  if (::listen(fd.get(), backlog) != 0) return failed("listen on socket");
  std::string name = describe_local(fd.get());
  return std::unique_ptr<Listener>(std::make_unique<TcpListener>(std::move(fd), std::move(name)));
}

}  // namespace

namespace {

// Drops what wants to begin a connection (SYN without ACK, RFC 9293 §3.1), at the 14th byte of the segment, and nothing else: whose
// handshake is under way gets into the queue yet.
bool drop_beginnings(int socket) {
  constexpr std::uint32_t kFlags = 13;
  constexpr std::uint32_t kSyn = 0x02;
  constexpr std::uint32_t kAck = 0x10;
  std::array<sock_filter, 5> code{{
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kFlags),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, kSyn | kAck),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kSyn, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0),
      BPF_STMT(BPF_RET | BPF_K, std::numeric_limits<std::uint32_t>::max()),
  }};
  const sock_fprog program{.len = code.size(), .filter = code.data()};
  return ::setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
}

}  // namespace

void Listener::close_door() noexcept {
  if (transport_ == Transport::Unix) {
    ::shutdown(fd_.get(), SHUT_RD);  // unix(7): connect is refused, the queue stays
    return;
  }
  is_door_tight_ = drop_beginnings(fd_.get());
  if (!is_door_tight_) ::listen(fd_.get(), 0);
}

void Listener::refuse() noexcept {
  ::shutdown(fd_.get(), SHUT_RDWR);
}

Result<Listeners> listen_on_tcp(const std::string& host, std::uint16_t port, int backlog) {
  const std::string wanted = (host.empty() ? "*" : host) + ":" + std::to_string(port);
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(host.empty() ? nullptr : host.c_str(),
                                 std::to_string(port).c_str(), &hints, &found);
  if (code != 0) {
    return fail(Remedy::Refuse, "cannot find the address of '" + printable(host) +
                                    "' to listen on: " + ::gai_strerror(code));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, &::freeaddrinfo);

  Listeners listeners;
  std::optional<Error> first_error;
  const bool is_everywhere = host.empty();
  if (is_everywhere) {
    // One socket for both families where the machine has both.
    for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
      int error = 0;
      if (one->ai_family != AF_INET6) continue;
      auto listener = listen_on(*one, wanted, true, backlog, &error);
      if (listener) {
        listeners.push_back(std::move(*listener));
        return listeners;
      }
      if (error != EAFNOSUPPORT && error != EADDRNOTAVAIL) return fail(listener.error());
    }
  }
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    if (port == 0 && !listeners.empty()) break;  // two would have two ports
    int error = 0;
    auto listener = listen_on(*one, wanted, false, backlog, &error);
    if (listener) {
      listeners.push_back(std::move(*listener));
      continue;
    }
    // A name often has an address of a family that the machine does not speak.
    if (error != EAFNOSUPPORT && error != EADDRNOTAVAIL) return fail(listener.error());
    if (!first_error) first_error = listener.error();
  }
  if (listeners.empty()) {
    return fail(first_error.value_or(Error{Remedy::Refuse, "no address for '" + wanted + "'"}));
  }
  return listeners;
}

bool is_listening_socket(int fd) {
  int value = 0;
  socklen_t size = sizeof value;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size) != 0 || value != SOCK_STREAM)
    return false;
  size = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size) == 0 && value != 0;
}

std::unique_ptr<Listener> listen_nowhere() {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr address{};
  address.sa_family = AF_UNIX;
  if (!fd.is_open() || ::bind(fd.get(), &address, sizeof address.sa_family) != 0 ||
      ::listen(fd.get(), 1) != 0) {
    throw SystemError(errno, "make a listening socket without a name");
  }
  return std::make_unique<InheritedListener>(std::move(fd), Transport::Unix, "nowhere");
}

Result<std::unique_ptr<Listener>> restore_listener(const ListenerRecord& record) {
  if (!is_listening_socket(record.fd)) {
    return fail(Remedy::Refuse, "descriptor " + std::to_string(record.fd) + ", which was '" +
                                    printable(record.name) +
                                    "', is no socket that listens for connections");
  }
  switch (record.kind) {
    case ListenerRecord::Kind::Unix:
      return std::unique_ptr<Listener>(UnixListener::restore(record));
    case ListenerRecord::Kind::Tcp:
      return std::unique_ptr<Listener>(std::make_unique<TcpListener>(Fd(record.fd), record.name));
    case ListenerRecord::Kind::Inherited:
      break;
  }
  return std::unique_ptr<Listener>(
      std::make_unique<InheritedListener>(Fd(record.fd), record.transport, record.name));
}

Result<std::unique_ptr<Listener>> adopt_listener(int fd) {
  if (!is_listening_socket(fd)) {
    return fail(Remedy::Refuse,
                "descriptor " + std::to_string(fd) + " is no socket that listens for connections");
  }
  // A descriptor of our own: that of whoever started us may be one of the first three, which have other duties, and is
  // inherited by whatever is started.
  constexpr int kFirst = STDERR_FILENO + 1;
  Fd own(::fcntl(fd, F_DUPFD_CLOEXEC, kFirst));
  if (!own.is_open())
    return fail(system_failure(errno, "duplicate descriptor", std::to_string(fd)));
  if (fd < kFirst) {
    const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (null.is_open()) ::dup2(null.get(), fd);
  } else {
    ::close(fd);
  }
  const int flags = ::fcntl(own.get(), F_GETFL);
  ::fcntl(own.get(), F_SETFL, flags | O_NONBLOCK);
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  ::getsockname(own.get(), reinterpret_cast<sockaddr*>(&address), &size);
  const Transport transport = address.ss_family == AF_UNIX ? Transport::Unix : Transport::Tcp;
  std::string name = describe_local(own.get());
  if (name.empty()) name = "descriptor " + std::to_string(fd);
  return std::unique_ptr<Listener>(
      std::make_unique<InheritedListener>(std::move(own), transport, std::move(name)));
}

}  // namespace bladepsgi::os
