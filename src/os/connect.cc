#include "os/connect.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <future>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "os/system_error.h"

namespace bladepsgi::os {

namespace {

ConnectFailure failure_of(int error) {
  return {.error = error, .reason = describe_errno(error)};
}

// Rounded up, so that who waits so long finds the deadline passed.
std::chrono::milliseconds time_left(Monotonic deadline) {
  return std::max(std::chrono::ceil<std::chrono::milliseconds>(deadline - monotonic_now()),
                  std::chrono::milliseconds{0});
}

// A blocking connect with a time limit of the socket's: a non-blocking one does not wait for room in the queue of a UNIX
// socket (unix(7)).
Result<Fd, ConnectFailure> connect_to(const sockaddr* address, socklen_t size, Monotonic deadline) {
  Fd fd(::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.is_open()) return fail(failure_of(errno));
  const auto left = time_left(deadline);
  if (left.count() == 0) return fail(failure_of(ETIMEDOUT));  // 0 would be no limit
  const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
  const timeval limit{.tv_sec = seconds.count(),
                      .tv_usec = std::chrono::microseconds(left - seconds).count()};
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0)
    return fail(failure_of(errno));
  if (::connect(fd.get(), address, size) == 0) return fd;
  // The limit has passed: EAGAIN on a UNIX socket, EINPROGRESS on TCP.
  const bool is_late = errno == EAGAIN || errno == EINPROGRESS;
  return fail(failure_of(is_late ? ETIMEDOUT : errno));
}

struct Found {
  int code = 0;  // of getaddrinfo
  std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses{nullptr, &::freeaddrinfo};
};

Found look_up(const std::string& host, std::uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | flags;
  addrinfo* first = nullptr;
  Found found;
  found.code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &first);
  found.addresses.reset(first);
  return found;
}

// Nothing limits getaddrinfo but the resolver's configuration: it is left behind in its thread.
std::optional<Found> look_up_until(const std::string& host,
                                   std::uint16_t port,
                                   Monotonic deadline) {
  if (Found numeric = look_up(host, port, AI_NUMERICHOST); numeric.code == 0) return numeric;
  std::packaged_task<Found()> task([host, port] { return look_up(host, port, 0); });
  std::future<Found> found = task.get_future();
  std::thread(std::move(task)).detach();
  if (found.wait_until(deadline) != std::future_status::ready) return std::nullopt;
  return found.get();
}

}  // namespace

Result<Fd, ConnectFailure> connect_to_path(const std::string& path, Monotonic deadline) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail(failure_of(ENAMETOOLONG));
  std::memcpy(address.sun_path, path.data(), path.size());
  return connect_to(reinterpret_cast<const sockaddr*>(&address),
                    static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1),
                    deadline);
}

Result<Fd, ConnectFailure> connect_to_host(const std::string& host,
                                           std::uint16_t port,
                                           Monotonic deadline) {
  const auto found = look_up_until(host, port, deadline);
  if (!found) {
    return fail(
        ConnectFailure{.error = ETIMEDOUT, .reason = "looking up its address takes too long"});
  }
  if (found->code != 0)
    return fail(ConnectFailure{.error = 0, .reason = ::gai_strerror(found->code)});
  std::optional<ConnectFailure> first_failure;
  for (const addrinfo* one = found->addresses.get(); one != nullptr; one = one->ai_next) {
    auto connected = connect_to(one->ai_addr, one->ai_addrlen, deadline);
    if (connected) return connected;
    if (!first_failure) first_failure = connected.error();
  }
  return fail(first_failure.value_or(ConnectFailure{.error = 0, .reason = "it has no address"}));
}

bool wait_readable(int fd, Monotonic deadline) {
  pollfd watched{.fd = fd, .events = POLLIN, .revents = 0};
  for (;;) {
    const auto left = time_left(deadline);
    if (::poll(&watched, 1, static_cast<int>(left.count())) > 0) return true;
    if (left.count() == 0) return false;
  }
}

}  // namespace bladepsgi::os
