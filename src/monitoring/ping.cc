#include "monitoring/ping.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include "base/result.h"
#include "base/text.h"
#include "monitoring/health.h"
#include "os/clock.h"
#include "os/connect.h"
#include "os/fd.h"

namespace bladepsgi::monitoring {

namespace {

using os::ConnectFailure;

// Without kept connections and chunks: the answer ends with the connection.
constexpr std::string_view kRequest =
    "GET /healthz HTTP/1.0\r\nHost: localhost\r\nUser-Agent: bladepsgi-ping\r\n\r\n";
constexpr std::size_t kMostReceived = std::size_t{16} * 1024;
constexpr std::size_t kMostQuoted = 40;

Result<os::Fd, ConnectFailure> connect(const Target& target, os::Monotonic deadline) {
  if (!target.path.empty()) return os::connect_to_path(target.path, deadline);
  std::optional<ConnectFailure> first_failure;
  for (const std::string& host : target.hosts) {
    auto connected = os::connect_to_host(host, target.port, deadline);
    if (connected) return connected;
    if (!first_failure) first_failure = connected.error();
  }
  return fail(first_failure.value_or(ConnectFailure{}));
}

std::string advice_for(int error, const std::string& name) {
  switch (error) {
    case ECONNREFUSED:
    case ENOENT:
      return "; is the server running, with --health=" + printable(name) + "?";
    case EACCES:
    case EPERM:
      return "; this user may not connect, see --socket-mode and --socket-group";
    default:
      return {};
  }
}

// The first line of the statistics socket's text is a time, the second has a character for each worker.
bool is_statistics(std::string_view text) {
  const std::vector<std::string_view> lines = split(text, '\n');
  return lines.size() > 3 && parse_decimal(lines[0]) && !lines[1].empty() &&
         parse_decimal(lines[2]) && lines[3].empty();
}

struct Answer {
  std::string received;
  bool has_ended = false;
};

Answer ask(const os::Fd& socket, os::Monotonic deadline) {
  // So few bytes fit into the buffer of a fresh socket. Who has closed already may have said something before.
  static_cast<void>(::send(socket.get(), kRequest.data(), kRequest.size(), MSG_NOSIGNAL));
  Answer answer;
  while (answer.received.size() < kMostReceived && !read_answer(answer.received) &&
         os::wait_readable(socket.get(), deadline)) {
    std::array<char, 4096> bytes{};
    const ssize_t count = ::recv(socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (count <= 0) {
      answer.has_ended = true;
      break;
    }
    answer.received.append(bytes.data(), static_cast<std::size_t>(count));
  }
  return answer;
}

}  // namespace

std::string diagnose(std::string_view received, bool has_ended) {
  if (received.empty() && has_ended) {
    return "closes the connection without a word, as a FastCGI socket does; --ping asks an address "
           "of --health";
  }
  if (received.empty()) {
    return "takes the connection and says nothing; an address of --health answers at once, the "
           "application's when a worker is free";
  }
  if (is_statistics(received))
    return "is the statistics socket of a server; --ping asks an address of --health";
  if (const auto status = http_status(received)) {
    return "answers in HTTP, with status " + std::to_string(*status) +
           ", but not about health; --ping asks an address of --health, not of the application";
  }
  return "answers '" + printable(received, kMostQuoted) +
         "', which is not HTTP; --ping asks an address of --health";
}

Finding ping(const Target& target, std::chrono::seconds limit) {
  const os::Monotonic deadline = os::monotonic_now() + limit;
  const std::string within = " within " + std::to_string(limit.count()) + " s";
  const std::string name = "'" + printable(target.name) + "'";
  const auto socket = connect(target, deadline);
  if (!socket) {
    const ConnectFailure& failure = socket.error();
    std::string text = "no answer from " + name;
    if (failure.error == ETIMEDOUT) text += within;
    return {.text = text + ": " + failure.reason + advice_for(failure.error, target.name)};
  }
  const Answer answer = ask(*socket, deadline);
  if (const auto health = read_answer(answer.received)) {
    const std::string workers = to_text(*health);
    return {.is_healthy = health->is_healthy(),
            .text = (health->is_healthy() ? "ok: " : "not healthy: ") + workers};
  }
  const std::string diagnosis = diagnose(answer.received, answer.has_ended);
  if (answer.received.empty())
    return {.text =
                "no answer from " + name + (answer.has_ended ? "" : within) + ": it " + diagnosis};
  return {.text = name + " " + diagnosis};
}

}  // namespace bladepsgi::monitoring
