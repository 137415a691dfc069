// Protocol of the control socket: one request a connection, and what becomes of it.
//
// The client sends one line, {"command":"stop","fast":true}: the command and its arguments. The server answers with lines: any number
// of {"progress":"text"}, then one last {"ok":true,"exit":0,"result":…} or {"ok":false,"exit":1,"error":"text"}, and closes.
// A connection that ends without a last line says nothing about the outcome. Pure: bytes in, meaning out, and the way back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "json/value.h"

namespace bladepsgi::control {

inline constexpr std::size_t kMostRequestBytes = std::size_t{64} << 10;  // the newline included

struct Request {
  std::string command;
  json::Object arguments;
};

// What the command came to. An empty error: it was done.
struct Outcome {
  int exit = 0;  // of whoever asked: 0 when it was done, else 1 to 255
  std::string error;
  json::Value result;
};

struct Progress {
  std::string text;
};

using Answer = std::variant<Progress, Outcome>;

// `line` is without its newline. The errors are for whoever sent it.
Result<Request> parse_request(std::string_view line);
Result<Answer> parse_answer(std::string_view line);

// With the newline.
[[nodiscard]] std::string request_line(const Request& request);
[[nodiscard]] std::string progress_line(std::string_view text);
[[nodiscard]] std::string outcome_line(const Outcome& outcome);

// A request of a newer client may ask for more than this server knows; doing a part of it would be worse than nothing.
Result<void> check_arguments(const json::Object& arguments,
                             const std::vector<std::string_view>& known);
// False when it is not there.
Result<bool> flag(const json::Object& arguments, std::string_view name);
// Empty when it is not there.
Result<std::optional<std::int64_t>> number(const json::Object& arguments,
                                           std::string_view name,
                                           std::int64_t least,
                                           std::int64_t most);

}  // namespace bladepsgi::control
