#include "overseer/inherited.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <utility>

#include "base/text.h"
#include "os/listener.h"

namespace bladepsgi::overseer {

namespace {

constexpr int kFirstListenFd = 3;
constexpr const char* kWebServers = "FCGI_WEB_SERVER_ADDRS";
constexpr std::uint64_t kLastDescriptor = 65535;

config::Listen passed(int descriptor, config::Protocol protocol) {
  config::Listen listen;
  listen.address.kind = config::Address::Kind::Descriptor;
  listen.address.descriptor = descriptor;
  listen.protocol = protocol;
  return listen;
}

// The variable, which is there no more; empty when it was not.
std::string take_variable(const char* name) {
  const char* value = std::getenv(name);
  std::string text = value != nullptr ? value : "";
  ::unsetenv(name);
  return text;
}

// Descriptor 0, however it was asked for.
bool is_of_web_server(const config::Listen& listen) {
  return listen.protocol == config::Protocol::FastCgi &&
         listen.address.kind == config::Address::Kind::Descriptor &&
         listen.address.descriptor == STDIN_FILENO;
}

Result<void> add(config::Config& config, Result<std::vector<config::Listen>> found) {
  if (!found) return fail(found.error());
  config.listen.insert(config.listen.end(), found->begin(), found->end());
  return {};
}

}  // namespace

Result<std::vector<config::Listen>> read_listen_fds(std::string_view count,
                                                    std::string_view names) {
  const auto number = parse_decimal(count);
  if (!number || *number > kLastDescriptor - kFirstListenFd) {
    return fail(Remedy::Refuse, "environment variable LISTEN_FDS: bad value '" + printable(count) +
                                    "'; expected a number of descriptors");
  }
  const std::vector<std::string_view> of_each = split(names, ':');
  std::vector<config::Listen> found;
  for (std::size_t i = 0; i < *number; ++i) {
    const std::string_view name = i < of_each.size() ? of_each[i] : std::string_view();
    const bool is_http = name.find("http") != std::string_view::npos;
    found.push_back(passed(kFirstListenFd + static_cast<int>(i),
                           is_http ? config::Protocol::Http : config::Protocol::FastCgi));
  }
  return found;
}

Result<std::vector<config::Listen>> read_server_starter(std::string_view ports,
                                                        config::Protocol protocol) {
  std::vector<config::Listen> found;
  for (const std::string_view one : split(ports, ';')) {
    const std::size_t equals = one.rfind('=');
    const auto descriptor = equals == std::string_view::npos
                                ? std::optional<std::uint64_t>()
                                : parse_decimal(one.substr(equals + 1));
    if (!descriptor || *descriptor > kLastDescriptor) {
      return fail(Remedy::Refuse, "environment variable SERVER_STARTER_PORT: bad part '" +
                                      printable(one) + "'; expected an address, = and a number");
    }
    found.push_back(passed(static_cast<int>(*descriptor), protocol));
  }
  return found;
}

Result<void> settle_listeners(config::Config& config) {
  const std::string pid = take_variable("LISTEN_PID");
  const std::string count = take_variable("LISTEN_FDS");
  const std::string names = take_variable("LISTEN_FDNAMES");
  take_variable("LISTEN_PIDFDID");
  // With another pid they were for a process that has started us in its turn.
  if (!pid.empty() && !count.empty() &&
      parse_decimal(pid) == static_cast<std::uint64_t>(::getpid())) {
    if (auto added = add(config, read_listen_fds(count, names)); !added) return added;
  }
  if (const std::string ports = take_variable("SERVER_STARTER_PORT"); !ports.empty()) {
    auto added = add(config, read_server_starter(ports, config.inherited_protocol));
    if (!added) return added;
  }
  if (!config::has_service(config) && os::is_listening_socket(STDIN_FILENO)) {
    config.listen.push_back(passed(STDIN_FILENO, config::Protocol::FastCgi));
    // Who starts FastCGI scripts so starts as many as he wants.
    if (config.form == config::Form::FcgiScript && config.workers == 0) config.workers = 1;
  }
  if (!config::has_service(config) && config.fallback) config.listen.push_back(*config.fallback);
  const bool has_web_server =
      std::any_of(config.listen.begin(), config.listen.end(), is_of_web_server);
  if (has_web_server && std::getenv(kWebServers) != nullptr)
    config.web_server_addresses = take_variable(kWebServers);
  return {};
}

void settle_listeners_anew(config::Config& config, const State& state) {
  for (const ListenerState& listener : state.pool.listeners) {
    if (listener.record.kind != os::ListenerRecord::Kind::Inherited) continue;
    config.listen.push_back(passed(
        listener.record.fd, listener.is_http ? config::Protocol::Http : config::Protocol::FastCgi));
    if (listener.is_of_web_server && config.form == config::Form::FcgiScript && config.workers == 0)
      config.workers = 1;
  }
  if (!config::has_service(config) && config.fallback) config.listen.push_back(*config.fallback);
  config.web_server_addresses = state.web_server_addresses;
}

}  // namespace bladepsgi::overseer
