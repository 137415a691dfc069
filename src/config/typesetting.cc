#include "config/typesetting.h"

#include "base/text.h"

namespace bladepsgi::config {

namespace {

constexpr std::size_t kWidth = 80;

}  // namespace

std::string wrapped(std::string_view text, std::size_t column, std::size_t indent) {
  std::string out;
  bool at_start = true;
  for (const std::string_view word : split(text, ' ')) {
    if (!at_start && column + 1 + word.size() > kWidth) {
      out += '\n';
      out.append(indent, ' ');
      column = indent;
      at_start = true;
    }
    if (!at_start) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
    at_start = false;
  }
  return out + '\n';
}

std::string entry(std::size_t indent,
                  std::size_t column,
                  std::string_view head,
                  std::string_view help) {
  std::string out(indent, ' ');
  out += head;
  if (out.size() + 2 > column) {
    out += '\n';
    out.append(column, ' ');
  } else {
    out.append(column - out.size(), ' ');
  }
  return out + wrapped(help, column, column);
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  while (true) {
    const std::size_t at = text.find(from);
    out += text.substr(0, at);
    if (at == std::string_view::npos) return out;
    out += to;
    text.remove_prefix(at + from.size());
  }
}

std::string roff(std::string_view text) {
  std::string out = replaced(replaced(text, "\\", "\\e"), "-", "\\-");
  if (out.starts_with('.') || out.starts_with('\'')) out.insert(0, "\\&");
  return out;
}

}  // namespace bladepsgi::config
