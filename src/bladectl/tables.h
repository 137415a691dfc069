// Tables: what a server reports, for a person at a terminal. Whatever a server, or a client of it, has put into a report, no
// control character of it is shown. What is missing in a report is left out.
#pragma once

#include <string>
#include <string_view>

#include "json/value.h"

namespace bladepsgi::bladectl {

[[nodiscard]] std::string status_text(const json::Value& status);
[[nodiscard]] std::string workers_text(const json::Value& workers);
[[nodiscard]] std::string reload_text(const json::Value& result);
[[nodiscard]] std::string outcome_text(const json::Value& result);  // of what says it itself
[[nodiscard]] std::string upgrade_text(const json::Value& result);

// One line of text from a server; without newline.
[[nodiscard]] std::string line_text(std::string_view text);

// "1.5 s", "12 min 5 s", "3 h 20 min", "2 d 3 h"
[[nodiscard]] std::string duration_text(double seconds);

}  // namespace bladepsgi::bladectl
