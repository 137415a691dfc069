#include "os/service_manager.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "base/text.h"
#include "os/clock.h"

namespace bladepsgi::os {

namespace {

constexpr const char* kSocket = "NOTIFY_SOCKET";
constexpr const char* kWatchdogTime = "WATCHDOG_USEC";
constexpr const char* kWatchdogPid = "WATCHDOG_PID";
constexpr std::size_t kMostStatus = 512;

std::string_view variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : std::string_view();
}

}  // namespace

ServiceManager ServiceManager::from_environment() {
  std::optional<std::chrono::microseconds> watchdog;
  const auto pid = parse_decimal(variable(kWatchdogPid));
  const auto time = parse_decimal(variable(kWatchdogTime));
  if (time && *time > 0 && (!pid || *pid == static_cast<std::uint64_t>(::getpid())))
    watchdog = std::chrono::microseconds(*time);
  return ServiceManager(variable(kSocket), watchdog);
}

void ServiceManager::forget_in_environment() {
  for (const char* name : {kSocket, kWatchdogTime, kWatchdogPid})
    ::unsetenv(name);
}

ServiceManager::ServiceManager(std::string_view notify_socket,
                               std::optional<std::chrono::microseconds> watchdog) {
  const bool is_name = notify_socket.starts_with('/') || notify_socket.starts_with('@');
  if (!is_name || notify_socket.size() >= sizeof(sockaddr_un::sun_path)) return;
  socket_ = Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  address_ = notify_socket;
  if (socket_.is_open() && watchdog) alive_interval_ = *watchdog / 2;  // as the manual page has it
}

void ServiceManager::ready(std::string_view status) const {
  say(fmt::format("READY=1\nMAINPID={}\n", ::getpid()), status);
}

void ServiceManager::reloading(std::string_view status) const {
  const auto now =
      std::chrono::duration_cast<std::chrono::microseconds>(monotonic_now().time_since_epoch());
  say(fmt::format("RELOADING=1\nMONOTONIC_USEC={}\n", now.count()), status);
}

void ServiceManager::stopping(std::string_view status) const {
  say("STOPPING=1\n", status);
}

void ServiceManager::note(std::string_view status) const {
  say({}, status);
}

void ServiceManager::alive() const {
  say("WATCHDOG=1\n", {});
}

void ServiceManager::say(std::string_view state, std::string_view status) const {
  if (!socket_.is_open()) return;
  std::string text(state);
  if (!status.empty()) text += "STATUS=" + printable(status.substr(0, kMostStatus)) + "\n";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(&address.sun_path, address_.data(), address_.size());
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
  static_cast<void>(::sendto(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL,
                             reinterpret_cast<const sockaddr*>(&address), size));
}

}  // namespace bladepsgi::os
