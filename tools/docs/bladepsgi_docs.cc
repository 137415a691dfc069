// bladepsgi-docs: prints the documents that are made from the program's own tables.
//
//   bladepsgi-docs markdown       docs/options.md
//   bladepsgi-docs readme FILE    README.md, FILE being what it is now
//   bladepsgi-docs man            bladepsgi(1)
//   bladepsgi-docs bladectl       docs/bladectl.md
//   bladepsgi-docs bladectl-man   bladectl(1)
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "bladectl/manual.h"
#include "config/exit_codes.h"
#include "config/manual.h"

namespace {

using bladepsgi::config::ExitCode;

ExitCode print(const std::string& text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  // A full disk shows only when the buffer is written.
  return written && std::fflush(stdout) == 0 ? ExitCode::Success : ExitCode::Failure;
}

ExitCode print_readme(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw std::runtime_error(std::string("cannot read ") + path);
  const auto readme = bladepsgi::config::readme_markdown(text);
  if (!readme) throw std::runtime_error(std::string(path) + ": " + readme.error());
  return print(*readme);
}

ExitCode run(std::span<const char* const> arguments) {
  if (arguments.size() == 2) {
    const std::string_view document = arguments[1];
    if (document == "markdown") return print(bladepsgi::config::options_markdown());
    if (document == "man") return print(bladepsgi::config::manual_page());
    if (document == "bladectl") return print(bladepsgi::bladectl::markdown());
    if (document == "bladectl-man") return print(bladepsgi::bladectl::manual_page());
  }
  if (arguments.size() == 3 && std::string_view(arguments[1]) == "readme")
    return print_readme(arguments[2]);
  static_cast<void>(
      std::fputs("Usage: bladepsgi-docs markdown|readme FILE|man|bladectl|bladectl-man\n", stderr));
  return ExitCode::Usage;
}

}  // namespace

int main(int argc, const char* const* argv) {
  try {
    return to_int(run({argv, static_cast<std::size_t>(argc)}));
  } catch (const std::exception& error) {
    static_cast<void>(std::fprintf(stderr, "bladepsgi-docs: %s\n", error.what()));
    return to_int(ExitCode::Failure);
  }
}
