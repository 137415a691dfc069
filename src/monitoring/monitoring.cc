#include "monitoring/monitoring.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <utility>

#include "monitoring/server.h"
#include "monitoring/statistics.h"
#include "os/event_loop.h"
#include "os/signals.h"
#include "shm/objects.h"
#include "shm/scoreboard.h"

namespace bladepsgi::monitoring {

int run(Inheritance inheritance) {
  // The others are read too, and forgotten.
  os::SignalFd signals(
      os::signal_set({SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGTSTP}));
  if (::getppid() != inheritance.parent) return 0;

  const shm::Scoreboard scoreboard(*inheritance.mapping);
  shm::Objects objects(*inheritance.mapping);
  const os::LogChannel log = inheritance.log;
  os::EventLoop loop;
  bool stopping = false;
  loop.add(signals.fd(), EPOLLIN, [&](std::uint32_t) {
    while (const auto caught = signals.try_take()) {
      if (caught->number == SIGTERM) stopping = true;
    }
  });
  {
    const Server server(
        loop, std::move(inheritance.listener), inheritance.options,
        [&] { return format(collect(scoreboard, objects)); },
        [&](const std::string& text) { log.text(Severity::Warning, text); });
    log.ready(::getpid());
    while (!stopping)
      loop.run_once();
  }
  loop.remove(signals.fd());
  return 0;
}

}  // namespace bladepsgi::monitoring
