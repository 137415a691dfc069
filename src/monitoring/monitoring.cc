#include "monitoring/monitoring.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <csignal>
#include <exception>
#include <list>
#include <string>
#include <string_view>
#include <utility>

#include "monitoring/health.h"
#include "monitoring/server.h"
#include "monitoring/statistics.h"
#include "os/event_loop.h"
#include "os/signals.h"
#include "shm/objects.h"
#include "shm/scoreboard.h"

namespace bladepsgi::monitoring {

namespace {

int serve(Inheritance& inheritance) {
  // The others are read too, and forgotten.
  os::SignalFd signals(
      os::signal_set({SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGTSTP}));
  if (::getppid() != inheritance.parent) return 0;

  const shm::Scoreboard scoreboard(*inheritance.mapping);
  shm::Objects objects(*inheritance.mapping);
  const os::LogChannel log = inheritance.log;
  os::EventLoop loop;
  bool stopping = false;
  bool is_replaced = false;
  loop.add(signals.fd(), EPOLLIN, [&](std::uint32_t) {
    while (const auto caught = signals.try_take()) {
      if (caught->number == SIGTERM) stopping = true;
      if (caught->number == SIGUSR2) is_replaced = true;
    }
  });
  {
    const auto warn = [&](const std::string& text) {
      log.text(Severity::Warning, text);
    };
    std::list<Server> servers;
    if (inheritance.statistics.is_open()) {
      servers.emplace_back(
          loop, std::move(inheritance.statistics), inheritance.options, "statistics socket",
          [&](std::string_view) { return format(collect(scoreboard, objects)); }, warn);
    }
    for (os::Fd& listener : inheritance.health) {
      servers.emplace_back(
          loop, std::move(listener), inheritance.options, "health socket",
          [&](std::string_view received) {
            return answer_http(received, look_at_health(scoreboard));
          },
          warn);
    }
    log.ready(::getpid());
    bool is_done = false;
    while (!stopping && !is_done) {
      loop.run_once();
      if (!is_replaced) continue;
      is_done = true;
      for (Server& server : servers) {
        server.stop_accepting();
        if (server.clients() > 0) is_done = false;
      }
    }
  }
  loop.remove(signals.fd());
  return 0;
}

}  // namespace

int run(Inheritance inheritance) {
  try {
    return serve(inheritance);
  } catch (const std::exception& failure) {
    inheritance.log.text(Severity::Panic, failure.what());
    return 1;
  }
}

}  // namespace bladepsgi::monitoring
