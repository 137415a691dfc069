#include "os/event_loop.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>

#include "os/system_error.h"

namespace bladepsgi::os {

EventLoop::EventLoop() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_.is_open()) throw SystemError(errno, "create epoll set");
}

void EventLoop::add(int fd, std::uint32_t events, Callback callback) {
  auto watch = std::make_shared<Watch>(Watch{std::move(callback), next_generation_++});
  epoll_event event{};
  event.events = events;
  // The generation tells a descriptor from an earlier one of the same number whose event is still in this turn's list.
  event.data.u64 =
      (static_cast<std::uint64_t>(watch->generation) << 32) | static_cast<std::uint32_t>(fd);
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    throw SystemError(errno, "watch descriptor");
  watches_[fd] = std::move(watch);
}

void EventLoop::remove(int fd) {
  if (watches_.erase(fd) != 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

EventLoop::TimerId EventLoop::call_at(Monotonic when, TimerCallback callback) {
  const TimerId id{when, next_sequence_++};
  timers_.emplace(std::make_pair(when, id.sequence), std::move(callback));
  return id;
}

void EventLoop::cancel(TimerId& timer) {
  if (timer.sequence != 0) timers_.erase({timer.when, timer.sequence});
  timer = {};
}

void EventLoop::run_once() {
  int timeout = -1;
  if (!timers_.empty()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(timers_.begin()->first.first -
                                                                   monotonic_now());
    timeout = static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, INT_MAX));
  }
  std::array<epoll_event, 64> events;
  const int count =
      ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout);
  if (count < 0 && errno != EINTR) throw SystemError(errno, "wait for events");
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    const auto found = watches_.find(static_cast<int>(event.data.u64 & 0xffffffffU));
    if (found == watches_.end() || found->second->generation != event.data.u64 >> 32) continue;
    const std::shared_ptr<Watch> watch = found->second;  // the callback may remove itself
    watch->callback(event.events);
  }
  const Monotonic now = monotonic_now();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    const auto callback = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    callback();
  }
}

}  // namespace bladepsgi::os
