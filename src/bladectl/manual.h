// Manual: what a person reads about bladectl, made from the tables of commands.h and exit_codes.h.
#pragma once

#include <string>

namespace bladepsgi::bladectl {

[[nodiscard]] std::string usage_line();  // with newline
[[nodiscard]] std::string help_text();
[[nodiscard]] std::string version_text();

[[nodiscard]] std::string markdown();     // docs/bladectl.md
[[nodiscard]] std::string manual_page();  // bladectl(1) in man(7) macros

}  // namespace bladepsgi::bladectl
