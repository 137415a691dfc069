#include "monitoring/health.h"

#include <algorithm>
#include <array>
#include <limits>

#include "base/bytes.h"
#include "base/text.h"
#include "http/connection.h"
#include "http/response.h"

namespace bladepsgi::monitoring {

namespace {

constexpr std::string_view kPath = "/healthz";
constexpr std::string_view kGoing = "draining, ";
constexpr std::string_view kOf = " of ";
constexpr std::string_view kReady = " workers ready";
constexpr int kHealthy = 200;
constexpr int kIll = 503;

int status_of(const Health& health) {
  return health.is_healthy() ? kHealthy : kIll;
}

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

std::optional<std::uint32_t> parse_count(std::string_view text) {
  const auto number = parse_decimal(text);
  if (!number || *number > std::numeric_limits<std::uint32_t>::max()) return std::nullopt;
  return static_cast<std::uint32_t>(*number);
}

}  // namespace

std::optional<int> http_status(std::string_view received) {
  constexpr std::string_view kVersion = "HTTP/1.1 ";
  constexpr std::size_t kDigits = 3;
  if (received.size() < kVersion.size() + kDigits || !received.starts_with("HTTP/1.") ||
      received[kVersion.size() - 1] != ' ')
    return std::nullopt;
  const auto number = parse_decimal(received.substr(kVersion.size(), kDigits));
  if (!number) return std::nullopt;
  return static_cast<int>(*number);
}

std::string to_text(const Health& health) {
  return std::string(health.is_going ? kGoing : "") + std::to_string(health.ready) +
         std::string(kOf) + std::to_string(health.wanted) + std::string(kReady);
}

Health look_at_health(const shm::Scoreboard& scoreboard) {
  Health health{
      .ready = 0, .wanted = scoreboard.wanted_workers(), .is_going = scoreboard.is_going()};
  for (shm::SlotIndex slot = 0; slot < scoreboard.used_slots(); ++slot) {
    const auto snapshot = scoreboard.snapshot(slot);
    if (!snapshot || snapshot->role != shm::Role::Worker || snapshot->is_told_to_leave) continue;
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
  return respond(status_of(health), to_text(health) + "\n", is_head);
}

std::optional<Health> read_answer(std::string_view received) {
  constexpr std::string_view kHeadEnd = "\r\n\r\n";
  const std::size_t end = received.find(kHeadEnd);
  if (end == std::string_view::npos) return std::nullopt;
  std::string_view text = received.substr(end + kHeadEnd.size());
  const std::string line_end = std::string(kReady) + "\n";
  if (!text.ends_with(line_end)) return std::nullopt;
  text.remove_suffix(line_end.size());
  const bool is_going = text.starts_with(kGoing);
  if (is_going) text.remove_prefix(kGoing.size());
  const std::size_t middle = text.find(kOf);
  if (middle == std::string_view::npos) return std::nullopt;
  const auto ready = parse_count(text.substr(0, middle));
  const auto wanted = parse_count(text.substr(middle + kOf.size()));
  if (!ready || !wanted) return std::nullopt;
  const Health health{.ready = *ready, .wanted = *wanted, .is_going = is_going};
  if (http_status(received) != status_of(health)) return std::nullopt;
  return health;
}

}  // namespace bladepsgi::monitoring
