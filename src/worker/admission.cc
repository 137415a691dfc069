#include "worker/admission.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "os/address.h"
#include "os/privileges.h"

namespace bladepsgi::worker {

namespace {

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' '))
    text.remove_prefix(1);
  while (text.ends_with(' '))
    text.remove_suffix(1);
  return text;
}

// Besides its own group; empty also where the kernel does not tell.
std::vector<gid_t> groups_of_peer(int socket) {
  std::vector<gid_t> groups(64);
  for (;;) {
    auto size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) == 0) {
      groups.resize(size / sizeof(gid_t));
      return groups;
    }
    if (errno != ERANGE || size <= groups.size() * sizeof(gid_t)) return {};
    groups.resize(size / sizeof(gid_t));
  }
}

template <class List, class Item>
bool has(const List& list, const Item& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

}  // namespace

Result<Admission> Admission::parse(std::string_view list) {
  Admission admission;
  admission.admits_all_ = false;
  if (trimmed(list).empty()) return admission;
  for (std::string_view item : split(list, ',')) {
    item = trimmed(item);
    constexpr std::string_view kUser = "user:";
    constexpr std::string_view kGroup = "group:";
    if (item == "*") {
      admission.admits_all_ = true;
    } else if (item == "unix") {
      admission.admits_unix_ = true;
    } else if (item.starts_with(kUser)) {
      const auto user = os::find_user(std::string(item.substr(kUser.size())));
      if (!user) return fail(user.error());
      admission.users_.push_back(*user);
    } else if (item.starts_with(kGroup)) {
      const auto group = os::find_group(std::string(item.substr(kGroup.size())));
      if (!group) return fail(group.error());
      admission.groups_.push_back(*group);
    } else if (const auto network = http::parse_network(item)) {
      admission.networks_.push_back(*network);
    } else {
      return fail(Remedy::Refuse,
                  "bad item '" + printable(item) +
                      "'; expected an address, a network (10.0.0.0/8), user:NAME, group:NAME, "
                      "unix or *");
    }
  }
  return admission;
}

Admission Admission::web_servers(std::string_view list) {
  Admission admission;
  admission.admits_all_ = false;
  for (const std::string_view item : split(list, ',')) {
    const auto address = http::parse_address(trimmed(item));
    if (!address || !address->is_v4() || item.find(':') != std::string_view::npos) {
      admission.networks_.clear();
      break;
    }
    admission.networks_.push_back({.base = *address, .prefix = 128});
  }
  return admission;
}

bool Admission::admits_anybody(os::Transport transport) const {
  if (admits_all_) return true;
  if (transport == os::Transport::Tcp) return !networks_.empty();
  return admits_unix_ || !users_.empty() || !groups_.empty();
}

std::optional<std::string> Admission::refuse_process(int socket) const {
  if (admits_unix_) return std::nullopt;
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return "an unknown user";
  if (has(users_, peer.uid) || has(groups_, peer.gid)) return std::nullopt;
  if (!groups_.empty()) {
    for (const gid_t group : groups_of_peer(socket)) {
      if (has(groups_, group)) return std::nullopt;
    }
  }
  return fmt::format("user {}, group {}", peer.uid, peer.gid);
}

std::optional<std::string> Admission::refuse_address(int socket) const {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  // A connection that was reset has no peer any more.
  if (::getpeername(socket, reinterpret_cast<sockaddr*>(&peer), &size) != 0) return "";
  const std::string host = os::numeric_address(peer).host;
  const auto address = http::parse_address(host);
  const bool is_named = address && std::any_of(networks_.begin(), networks_.end(),
                                               [&address](const http::Network& network) {
                                                 return network.contains(*address);
                                               });
  if (is_named) return std::nullopt;
  return host.empty() ? "an unknown address" : host;
}

}  // namespace bladepsgi::worker
