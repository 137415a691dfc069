// Health: the answer to an HTTP request for /healthz, which asks no worker.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "shm/scoreboard.h"

namespace bladepsgi::monitoring {

struct Health {
  std::uint32_t ready = 0;   // workers that serve or wait for a request
  std::uint32_t wanted = 0;  // that there shall be now; none: the first request has one started
  bool is_going = false;     // to stop; it serves yet

  [[nodiscard]] bool is_healthy() const { return (ready > 0 || wanted == 0) && !is_going; }
};

// "3 of 4 workers ready", "draining, 3 of 4 workers ready"
[[nodiscard]] std::string to_text(const Health& health);

[[nodiscard]] Health look_at_health(const shm::Scoreboard& scoreboard);

// `received` is what has come on the connection so far. Empty: the head of a request is not complete yet. Else a whole response,
// behind which the connection is closed: 200 or 503 for /healthz, the reason in a line of text; 404 for anything else.
[[nodiscard]] std::optional<std::string> answer_http(std::string_view received,
                                                     const Health& health);

// Of a response that has begun to come; empty: it is none in HTTP/1.
[[nodiscard]] std::optional<int> http_status(std::string_view received);

// The other way: what `received` from such an address says. Empty: it is no whole answer of one.
[[nodiscard]] std::optional<Health> read_answer(std::string_view received);

}  // namespace bladepsgi::monitoring
