#include "os/acceptor.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "os/clock.h"
#include "os/system_error.h"

namespace bladepsgi::os {

namespace {

// So that a flood of clients does not keep the loop from the others.
constexpr int kAcceptsPerTurn = 16;

}  // namespace

Acceptor::Acceptor(EventLoop& loop,
                   Fd listener,
                   std::string name,
                   std::chrono::milliseconds pause,
                   Greet greet,
                   Warn warn)
    : loop_(loop),
      listener_(std::move(listener)),
      name_(std::move(name)),
      pause_(pause),
      greet_(std::move(greet)),
      warn_(std::move(warn)) {
  listen();
}

Acceptor::~Acceptor() {
  loop_.cancel(next_try_);
  if (is_listening_) loop_.remove(listener_.get());
}

void Acceptor::listen() {
  is_listening_ = true;
  loop_.add(listener_.get(), EPOLLIN, [this](std::uint32_t) { accept_some(); });
}

void Acceptor::accept_some() {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (socket.is_open()) {
      warned_ = false;
      greet_(std::move(socket));
      continue;
    }
    switch (errno) {
      case EAGAIN:
        return;
      case EINTR:
      case ECONNABORTED:
      case EPROTO:
        continue;
      default:
        return pause_after(errno);
    }
  }
}

void Acceptor::pause_after(int error) {
  // The connection that cannot be taken stays in the queue and would wake us again at once.
  if (!std::exchange(warned_, true)) {
    warn_(describe_failure(error, "accept a client of " + name_) + "; trying again every " +
          std::to_string(pause_.count()) + " ms");
  }
  loop_.remove(listener_.get());
  is_listening_ = false;
  next_try_ = loop_.call_at(monotonic_now() + pause_, [this] { listen(); });
}

}  // namespace bladepsgi::os
