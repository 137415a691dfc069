#include "bladectl/client.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "os/connect.h"
#include "os/process.h"
#include "os/socket.h"
#include "os/system_error.h"

namespace bladepsgi::bladectl {

namespace {

constexpr std::chrono::seconds kConnectLimit{5};
constexpr std::size_t kMostAnswerBytes = std::size_t{256} << 20;

}  // namespace

Result<Client> Client::connect(const std::string& path) {
  auto socket = os::connect_to_path(path, os::monotonic_now() + kConnectLimit);
  if (!socket) {
    return fail(Remedy::GiveUp,
                "cannot connect to control socket '" + path + "': " + socket.error().reason);
  }
  // Before anything is asked: that may end it.
  const auto peer = os::peer_of(socket->get());
  os::Fd process = os::watch_process(peer ? peer->pid : 0);
  return Client(std::move(*socket), std::move(process));
}

Result<control::Outcome> Client::ask(
    const control::Request& request,
    std::optional<std::chrono::milliseconds> limit,
    const std::function<void(const std::string& text)>& on_progress) {
  const std::string line = control::request_line(request);
  for (std::size_t sent = 0; sent < line.size();) {
    const ssize_t count =
        ::send(socket_.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    // A server that refuses says why before it closes.
    if (count < 0 && errno == EPIPE) break;
    if (count < 0) return fail(os::system_failure(errno, "send the request"));
    sent += static_cast<std::size_t>(count);
  }
  std::string received;
  std::size_t searched = 0;
  std::vector<char> bytes(std::size_t{64} << 10);
  for (;;) {
    if (limit && !os::wait_readable(socket_.get(), os::monotonic_now() + *limit))
      return fail(Remedy::GiveUp, "the server does not answer");
    const ssize_t count = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count < 0) return fail(os::system_failure(errno, "read the answer"));
    if (count == 0) return fail(Remedy::GiveUp, "the server has ended without an answer");
    received.append(bytes.data(), static_cast<std::size_t>(count));
    for (std::size_t end = received.find('\n', searched); end != std::string::npos;
         end = received.find('\n')) {
      auto answer = control::parse_answer(std::string_view(received).substr(0, end));
      if (!answer) return fail(answer.error());
      if (auto* outcome = std::get_if<control::Outcome>(&*answer)) return std::move(*outcome);
      on_progress(std::get<control::Progress>(*answer).text);
      received.erase(0, end + 1);
    }
    searched = received.size();
    if (received.size() > kMostAnswerBytes) return fail(Remedy::GiveUp, "the answer has no end");
  }
}

bool Client::wait_for_end(std::chrono::milliseconds limit) const {
  return os::wait_readable(process_.is_open() ? process_.get() : socket_.get(),
                           os::monotonic_now() + limit);
}

}  // namespace bladepsgi::bladectl
