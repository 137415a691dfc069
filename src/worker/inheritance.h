// Inheritance: everything that crosses the fork from zygote to worker. Nothing else is meant to.
//
// Besides this a worker keeps what the application itself opened while it loaded, standard input (/dev/null) and the log
// pipes on descriptors 1 and 2.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fcgi/connection.h"
#include "http/limits.h"
#include "http/trust.h"
#include "runtime/app.h"
#include "shm/mapping.h"
#include "worker/access_log.h"
#include "worker/admission.h"
#include "worker/listening.h"
#include "worker/pool_host.h"
#include "worker/protocol_exchange.h"
#include "worker/recycling.h"
#include "worker/time_limit.h"

namespace bladepsgi::worker {

struct Options {
  ExchangeOptions exchange;  // limits and time limits of a request, environment rules, input mode
  fcgi::Limits fcgi_limits;
  fcgi::Values fcgi_values;
  http::Limits http_limits;
  std::optional<AccessLog> http_access_log;  // empty: none is written
  std::optional<AccessLog> fcgi_access_log;
  http::TrustedProxies trusted_proxies;
  Admission admission;
  Admission web_servers;  // besides, on listeners of a web server
  http::ForwardingFields forwarding = http::ForwardingFields::XForwarded;
  std::chrono::milliseconds
      idle_timeout{};  // a kept connection without a request is closed after it
  std::chrono::milliseconds short_wait{
      2};  // for the rest of a request, before the lobby waits for it
  std::uint64_t lobby_memory =
      std::uint64_t{256} * 1024 * 1024;  // most that rests of responses may take there
  TimeLimitOptions time_limit;
  std::chrono::milliseconds start_timeout{std::chrono::seconds(60)};  // for on_worker_start
  std::chrono::milliseconds exit_timeout{
      std::chrono::seconds(30)};  // for on_worker_exit and END blocks
  RecyclingLimits recycling;
  // Who has waited longer when the application could be called, as the front end says, is answered 503; zero: nobody.
  std::chrono::milliseconds queue_timeout{};
};

struct Inheritance {
  std::vector<Listening> listeners;
  int log_channel = -1;
  // Both ends of a pipe: readable when the worker shall look whether it was told to leave (scoreboard, SIGTERM).
  int wake_read = -1;
  int wake_write = -1;
  // Message sockets (handoff/transfer.h) to and from the lobby; -1: there is none.
  int parking = -1;  // connections that wait
  int ready = -1;    // those with a request, shared with every sibling
  // A message socket: connections that come over it are served before any other, until its other end is closed. -1: none.
  int probation = -1;
  const shm::Mapping* mapping = nullptr;
  std::uint32_t slot = 0;
  std::uint32_t number = 0;
  runtime::App* app = nullptr;
  PoolHost* host = nullptr;  // made by the zygote, which the application's objects point to
  Options options;
};

// Serves until it is told to leave; returns the exit code. All signals are blocked when it is called.
int run(Inheritance& inheritance);

}  // namespace bladepsgi::worker
