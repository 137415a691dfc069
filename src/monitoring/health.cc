#include "monitoring/health.h"

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "http/connection.h"
#include "http/response.h"

namespace bladepsgi::monitoring {

namespace {

constexpr std::string_view kPath = "/healthz";

std::string respond(int status, std::string_view text, bool is_head) {
  std::string response;
  const std::array<http::Field, 2> fields{
      {{.name = "Content-Type", .value = "text/plain; charset=utf-8"},
       {.name = "Cache-Control", .value = "no-store"}}};
  http::ResponseContext context;
  context.is_head_request = is_head;
  context.keeps_connection = false;
  if (!is_head) context.known_length = text.size();
  static_cast<void>(http::append_response_head(response, status, fields, context));
  if (!is_head) response += text;
  return response;
}

}  // namespace

Health look_at_health(const shm::Scoreboard& scoreboard, std::uint32_t workers) {
  Health health{.ready = 0, .wanted = workers};
  for (shm::SlotIndex slot = 0; slot < scoreboard.used_slots(); ++slot) {
    const auto snapshot = scoreboard.snapshot(slot);
    if (!snapshot || snapshot->role != shm::Role::Worker) continue;
    if (snapshot->state == shm::State::Idle || snapshot->state == shm::State::Busy ||
        snapshot->state == shm::State::Cleanup) {
      ++health.ready;
    }
  }
  return health;
}

std::optional<std::string> answer_http(std::string_view received, const Health& health) {
  http::Connection connection;
  const WritableBytes space = connection.receive_space();
  const Bytes bytes = as_bytes(received.substr(0, space.size()));
  std::copy(bytes.begin(), bytes.end(), space.begin());
  connection.received(bytes.size());
  switch (connection.next()) {
    case Event::NeedMore:
      return std::nullopt;
    case Event::Request:
      break;
    default:
      return respond(connection.refusal().status, std::string(connection.refusal().reason) + "\n",
                     false);
  }
  const http::Request& request = connection.request();
  const bool is_head = request.method == "HEAD";
  if (request.method != "GET" && !is_head) return respond(405, "only GET and HEAD\n", false);
  if (request.uri.substr(0, request.uri.find('?')) != kPath)
    return respond(404, "there is only /healthz here\n", is_head);
  const std::string text =
      std::to_string(health.ready) + " of " + std::to_string(health.wanted) + " workers ready\n";
  return respond(health.is_healthy() ? 200 : 503, text, is_head);
}

}  // namespace bladepsgi::monitoring
