// Typesetting: help texts for terminals and manual pages.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace bladepsgi::config {

// `text` broken at spaces to lines of at most 80 columns, the last one with its newline; each line but the first indented. `column` is where the first
// begins.
[[nodiscard]] std::string wrapped(std::string_view text, std::size_t column, std::size_t indent);

// What is explained at `indent`, and what there is to say about it from `column` on.
[[nodiscard]] std::string entry(std::size_t indent,
                                std::size_t column,
                                std::string_view head,
                                std::string_view help);

// Each `from` in `text` as `to`.
[[nodiscard]] std::string replaced(std::string_view text,
                                   std::string_view from,
                                   std::string_view to);

// Text as roff takes it literally: a bare "-" would print as a hyphen that cannot be pasted into a shell, and a line
// that begins with a dot or a quote would be a request.
[[nodiscard]] std::string roff(std::string_view text);

}  // namespace bladepsgi::config
