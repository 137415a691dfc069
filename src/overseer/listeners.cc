#include "overseer/listeners.h"

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "os/backlog.h"

namespace bladepsgi::overseer {

namespace {

Result<os::Listeners> open_one(const config::Address& address,
                               int backlog,
                               const os::SocketAccess& access) {
  os::Listeners opened;
  switch (address.kind) {
    case config::Address::Kind::Unix: {
      auto listener = os::UnixListener::create(address.path, backlog, access);
      if (!listener) return fail(listener.error());
      opened.push_back(std::move(*listener));
      break;
    }
    case config::Address::Kind::Tcp: {
      // Private unless told otherwise: both addresses of this machine where it has both.
      if (address.scope == config::Address::Scope::Loopback)
        return os::listen_on_tcp("localhost", address.port, backlog);
      return os::listen_on_tcp(address.host, address.port, backlog);
    }
    case config::Address::Kind::Descriptor: {
      auto listener = os::adopt_listener(address.descriptor);
      if (!listener) return fail(listener.error());
      opened.push_back(std::move(*listener));
      break;
    }
  }
  return opened;
}

}  // namespace

Result<void> ListenerSet::open(const std::vector<ListenOptions>& wanted,
                               int backlog,
                               const os::SocketAccess& access) {
  for (const ListenOptions& one : wanted) {
    auto opened = open_one(one.address, backlog, access);
    if (!opened) {
      listening_.clear();
      listeners_.clear();
      return fail(opened.error());
    }
    for (auto& listener : *opened) {
      listening_.push_back(
          {.fd = listener->fd(),
           .protocol = one.protocol,
           .transport = listener->transport(),
           .is_inherited = listener->is_inherited(),
           .is_of_web_server = one.protocol == worker::Protocol::FastCgi &&
                               one.address.kind == config::Address::Kind::Descriptor &&
                               one.address.descriptor == 0});
      listeners_.push_back(std::move(listener));
    }
  }
  return {};
}

void ListenerSet::open_nowhere(const std::vector<ListenOptions>& wanted) {
  for (const ListenOptions& one : wanted) {
    listeners_.push_back(os::listen_nowhere());
    listening_.push_back({.fd = listeners_.back()->fd(), .protocol = one.protocol});
  }
}

Result<void> ListenerSet::restore(const std::vector<ListenerState>& states) {
  for (const ListenerState& state : states) {
    auto listener = os::restore_listener(state.record);
    if (!listener) return fail(listener.error());
    listening_.push_back(
        {.fd = (*listener)->fd(),
         .protocol = state.is_http ? worker::Protocol::Http : worker::Protocol::FastCgi,
         .transport = (*listener)->transport(),
         .is_inherited = (*listener)->is_inherited(),
         .is_of_web_server = state.is_of_web_server});
    listeners_.push_back(std::move(*listener));
  }
  is_published_ = true;
  return {};
}

std::vector<ListenerState> ListenerSet::describe_all() const {
  std::vector<ListenerState> states;
  for (std::size_t i = 0; i < listeners_.size(); ++i) {
    states.push_back({.record = listeners_[i]->record(),
                      .is_http = listening_[i].protocol == worker::Protocol::Http,
                      .is_of_web_server = listening_[i].is_of_web_server});
  }
  return states;
}

Result<void> ListenerSet::publish() {
  for (auto& listener : listeners_) {
    if (auto published = listener->publish(); !published) return published;
  }
  is_published_ = true;
  return {};
}

void ListenerSet::remove() noexcept {
  for (auto& listener : listeners_)
    listener->remove();
}

void ListenerSet::close_doors() noexcept {
  remove();
  for (auto& listener : listeners_) {
    listener->close_door();
    if (listener->transport() == os::Transport::Tcp && !listener->is_inherited())
      emptying_.push_back(listener.get());
  }
}

bool ListenerSet::refuse_where_empty(bool is_late) noexcept {
  const auto refuses = [is_late](os::Listener* listener) {
    // Where the door is not tight, whoever gets in is never the last one.
    const std::uint32_t most = listener->is_door_tight() || !is_late ? 0 : 1;
    if (os::waiting_connections(listener->fd()).value_or(0) > most) return false;
    listener->refuse();
    return true;
  };
  emptying_.erase(std::remove_if(emptying_.begin(), emptying_.end(), refuses), emptying_.end());
  return emptying_.empty();
}

void ListenerSet::refuse() noexcept {
  emptying_.clear();
  for (auto& listener : listeners_)
    listener->refuse();
}

std::string ListenerSet::describe() const {
  std::string text;
  for (std::size_t i = 0; i < listeners_.size(); ++i) {
    if (i != 0) text += ", ";
    text += describe(i);
  }
  return text;
}

std::string ListenerSet::describe(std::size_t index) const {
  const std::string name = printable(listeners_[index]->name());
  const bool is_http = listening_[index].protocol == worker::Protocol::Http;
  if (is_http && listeners_[index]->transport() == os::Transport::Tcp)
    return "http://" + name + "/";
  return name + (is_http ? " (HTTP)" : " (FastCGI)");
}

}  // namespace bladepsgi::overseer
