// Probe: one request to a worker that serves nobody else yet, to see whether a new generation answers.
//
// Spoken over a connected socket, in a process of its own that the overseer starts and whose exit code it reads: nobody waits for an
// application that does not answer.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace bladepsgi::monitoring {

enum class ProbeProtocol : std::uint8_t { FastCgi, Http };

// A whole GET request for `target`, a path with or without a query; the connection is not kept.
[[nodiscard]] std::string probe_request(ProbeProtocol protocol, std::string_view target);

// The status of a response of which this has come; empty: it is not complete. The error says what is wrong with it.
[[nodiscard]] Result<std::optional<int>> probe_status(ProbeProtocol protocol,
                                                      Bytes received,
                                                      bool has_ended);

// A status of 200 to 399 within `limit` is good; the error says what came instead.
[[nodiscard]] Result<void> probe(int socket,
                                 ProbeProtocol protocol,
                                 std::string_view target,
                                 std::chrono::milliseconds limit);

}  // namespace bladepsgi::monitoring
