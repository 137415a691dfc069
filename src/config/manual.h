// Manual: what a person reads about the command line, made from the tables of options.h and exit_codes.h.
//
// The same text for the same tables, always: docs/options.md and README.md are checked in, and tests compare.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "config/config.h"

namespace bladepsgi::config {

// "Usage: bladepsgi [OPTION]... APPLICATION_PATH …" for each form of the command line, newlines at the end.
[[nodiscard]] std::string usage_lines(Program program);

// --help and --version; at most 80 columns wide.
[[nodiscard]] std::string help_text(Program program);
[[nodiscard]] std::string version_text();

// docs/options.md.
[[nodiscard]] std::string options_markdown();

// README.md, `text` being what it is now: with its table of the options of kPurposes as it has to be. Error: there is no place
// marked for that.
[[nodiscard]] Result<std::string, std::string> readme_markdown(std::string_view text);

// bladepsgi(1) in man(7) macros.
[[nodiscard]] std::string manual_page();

}  // namespace bladepsgi::config
