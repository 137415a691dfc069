#include "overseer/report.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string_view>
#include <utility>

#include "config/config.h"

namespace bladepsgi::overseer {

namespace {

// Who adds one gives it a name.
static_assert(!shm::kEventNames.back().empty() && !shm::kHoldingNames.back().empty() &&
              !shm::kDropNames.back().empty());

// Whole milliseconds are all that anybody reads.
double seconds(std::chrono::nanoseconds duration) {
  return std::round(std::chrono::duration<double, std::milli>(duration).count()) / 1000;
}

double since(os::Monotonic then, os::Monotonic now) {
  return seconds(std::max(now - then, os::Monotonic::duration::zero()));
}

std::optional<shm::SlotSnapshot> snapshot_of(const ProcessView& process,
                                             const shm::Scoreboard* board) {
  if (board == nullptr || !process.slot) return std::nullopt;
  return board->snapshot(*process.slot);
}

bool is_serving(const std::optional<shm::SlotSnapshot>& slot) {
  return slot && (slot->state == shm::State::Busy || slot->state == shm::State::Cleanup);
}

std::string_view state_of(const ProcessView& process,
                          const std::optional<shm::SlotSnapshot>& slot) {
  if (!process.is_ready) return "starting";
  if (!slot) return "running";
  switch (slot->state) {
    case shm::State::Busy:
      return "busy";
    case shm::State::Cleanup:
      return "cleanup";
    case shm::State::Draining:
    case shm::State::Gone:
      return "leaving";
    case shm::State::Free:
    case shm::State::Starting:
    case shm::State::Idle:
      break;
  }
  return process.is_leaving ? "leaving" : "idle";
}

json::Value worker_counts(const PoolView& pool) {
  std::uint64_t busy = 0;
  std::uint64_t idle = 0;
  std::uint64_t starting = 0;
  std::uint64_t leaving = 0;
  for (const ProcessView& process : pool.processes) {
    if (process.kind != ProcessView::Kind::Worker) continue;
    if (process.is_leaving) {
      ++leaving;
    } else if (!process.is_ready) {
      ++starting;
    } else if (is_serving(snapshot_of(process, pool.board))) {
      ++busy;
    } else {
      ++idle;
    }
  }
  json::Object object;
  object.add("configured", pool.workers).add("wanted", pool.wanted_workers);
  object.add("min", pool.least_workers).add("max", pool.most_workers);
  object.add("max-possible", pool.max_workers).add("max-reached", pool.times_exhausted);
  object.add("busy", busy).add("idle", idle);
  object.add("starting", starting).add("leaving", leaving);
  return object;
}

json::Value event_counts(const shm::Scoreboard& board) {
  json::Object object;
  for (std::size_t i = 0; i < shm::kEvents; ++i)
    object.add(shm::kEventNames[i], board.total_events(static_cast<shm::Event>(i)));
  return object;
}

json::Value lobby_report(const PoolView& pool) {
  const shm::LobbyBoard& lobby = *pool.lobby;
  json::Object held;
  for (std::size_t i = 0; i < shm::kHoldings; ++i)
    held.add(shm::kHoldingNames[i], lobby.held(static_cast<shm::Holding>(i)));
  json::Object dropped;
  for (std::size_t i = 0; i < shm::kDrops; ++i)
    dropped.add(shm::kDropNames[i], lobby.dropped(static_cast<shm::Drop>(i)));
  json::Object slow_bodies;
  slow_bodies.add("configured", pool.slow_bodies).add("free", lobby.slow_bodies().value());
  json::Object object;
  object.add("there", lobby.is_there()).add("held", std::move(held));
  object.add("bytes", lobby.bytes_held()).add("bytes_unsent", lobby.bytes_unsent());
  object.add("dropped", std::move(dropped));
  object.add("slow_bodies", std::move(slow_bodies));
  return object;
}

// Their names may be any bytes, and the same for a semaphore and an atomic.
json::Value objects_report(const std::vector<shm::ObjectValue>& objects, shm::Kind kind) {
  json::Array list;
  for (const shm::ObjectValue& one : objects) {
    if (one.kind != kind) continue;
    json::Object object;
    object.add("name", one.name).add("value", one.value);
    list.emplace_back(std::move(object));
  }
  return list;
}

json::Value processes_report(const PoolView& pool, ProcessView::Kind kind, os::Monotonic now) {
  json::Array list;
  for (const ProcessView& process : pool.processes) {
    if (process.kind != kind) continue;
    json::Object object;
    object.add("name", process.role);
    object.add("pid", process.pid != 0 ? json::Value(process.pid) : json::Value());
    object.add("state", process.is_leaving ? "leaving" : process.is_ready ? "running" : "starting");
    object.add("age", since(process.started, now));
    if (process.generation != 0) object.add("generation", process.generation);
    list.emplace_back(std::move(object));
  }
  return list;
}

json::Value reload_report(const ReloadView& reload) {
  json::Object object;
  object.add("phase", reload.phase);
  if (!reload.progress.empty()) object.add("progress", reload.progress);
  if (!reload.last) return object;
  json::Object last;
  last.add("outcome", reload.last->is_done ? "done" : "failed").add("reason", reload.last->reason);
  last.add("when",
           std::chrono::duration_cast<std::chrono::seconds>(reload.last->when.time_since_epoch())
               .count());
  last.add("generation", reload.last->generation);
  object.add("last", std::move(last));
  return object;
}

json::Value worker_report(const ProcessView& process,
                          const shm::Scoreboard* board,
                          os::Monotonic now) {
  const auto slot = snapshot_of(process, board);
  json::Object object;
  object.add("number", process.number);
  object.add("pid", process.pid != 0 ? json::Value(process.pid) : json::Value());
  object.add("generation", process.generation);
  object.add("state", state_of(process, slot)).add("leaving", process.is_leaving);
  object.add("age", since(process.started, now));
  if (!slot) return object;
  object.add("requests", slot->requests).add("failures", slot->failures);
  object.add("bytes_in", slot->bytes_in).add("bytes_out", slot->bytes_out);
  object.add("status", std::string(1, slot->status));
  object.add("last_duration",
             slot->requests != 0 ? json::Value(seconds(slot->last_duration)) : json::Value());
  if (!is_serving(slot)) {
    object.add("request", {});
    return object;
  }
  json::Object request;
  request.add("age", since(slot->request_started, now));
  if (slot->request_known) {
    request.add("method", slot->method).add("uri", slot->uri).add("uri_is_cut", slot->uri_is_cut);
    request.add("id", slot->request_id);
  }
  object.add("request", std::move(request));
  return object;
}

}  // namespace

json::Value status_report(const ServerView& server, os::Monotonic now) {
  const PoolView& pool = server.pool;
  json::Object object;
  object.add("version", config::version()).add("pid", server.pid);
  object.add("state", pool.is_stopping ? "stopping"
                      : pool.is_going  ? "draining"
                      : pool.was_ready ? "ready"
                                       : "starting");
  object.add(
      "started",
      std::chrono::duration_cast<std::chrono::seconds>(server.started.time_since_epoch()).count());
  object.add("uptime", since(server.started_monotonic, now));
  object.add("application", pool.application);
  if (!pool.loader.empty()) object.add("loader", pool.loader);
  json::Array listeners;
  for (const std::string& one : pool.listeners)
    listeners.emplace_back(one);
  object.add("listeners", std::move(listeners));
  object.add("workers", worker_counts(pool));
  if (pool.board == nullptr) return object;
  object.add("generation", pool.board->generation());
  object.add("oldest_generation", pool.board->oldest_generation());
  object.add("reload", reload_report(pool.reload));
  object.add("requests", pool.board->total_requests());
  object.add("failures", pool.board->total_failures());
  object.add("events", event_counts(*pool.board));
  if (pool.lobby != nullptr) object.add("lobby", lobby_report(pool));
  if (pool.objects != nullptr) {
    const auto objects = pool.objects->list(pool.board->oldest_generation());
    object.add("semaphores", objects_report(objects, shm::Kind::Semaphore));
    object.add("atomics", objects_report(objects, shm::Kind::Atomic));
  }
  object.add("auxiliaries", processes_report(pool, ProcessView::Kind::Auxiliary, now));
  object.add("processes", processes_report(pool, ProcessView::Kind::Other, now));
  return object;
}

json::Value workers_report(const ServerView& server, os::Monotonic now) {
  std::vector<const ProcessView*> workers;
  for (const ProcessView& process : server.pool.processes) {
    if (process.kind == ProcessView::Kind::Worker) workers.push_back(&process);
  }
  std::stable_sort(workers.begin(), workers.end(),
                   [](const ProcessView* left, const ProcessView* right) {
                     return std::pair(left->number, left->generation) <
                            std::pair(right->number, right->generation);
                   });
  json::Array rows;
  for (const ProcessView* worker : workers)
    rows.push_back(worker_report(*worker, server.pool.board, now));
  return rows;
}

}  // namespace bladepsgi::overseer
