// Request start: when a front end got a request, as it says in X-Request-Start or X-Queue-Start.
#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string_view>

#include "base/parameter.h"

namespace bladepsgi::cgi {

// Time since the epoch, with or without "t=" before it: seconds with a fraction, or a whole number of seconds, milliseconds,
// microseconds or nanoseconds, whichever makes it a date of this age.
[[nodiscard]] std::optional<std::chrono::microseconds> parse_request_start(std::string_view text);

// The earliest that the parameters of a request tell.
[[nodiscard]] std::optional<std::chrono::microseconds> request_start(
    std::span<const Parameter> parameters);

}  // namespace bladepsgi::cgi
