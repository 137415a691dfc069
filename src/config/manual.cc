#include "config/manual.h"

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "base/text.h"
#include "config/exit_codes.h"
#include "config/options.h"

namespace bladepsgi::config {

namespace {

constexpr std::size_t kWidth = 80;
constexpr std::size_t kHelpColumn = 30;
constexpr std::string_view kSummary =
    "Loads a PSGI application once and serves it over FastCGI from NUM_WORKERS processes.";
constexpr std::string_view kTimes =
    "TIME is a whole number of seconds, or of ms, s, m or h (500ms).";
constexpr std::string_view kSizes = "SIZE is a whole number of bytes, or of K, M or G (64K).";
constexpr std::string_view kRules =
    "Options may follow the arguments; -- ends them. A value may be a separate word. A long option "
    "may be shortened as long as it is unambiguous. The last of a repeated option counts.";

// `text` broken at spaces, each line but the first indented. `column` is where the first begins.
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

std::string entry(const std::string& head, std::string_view help) {
  std::string out = "  " + head;
  if (out.size() + 2 > kHelpColumn) {
    out += '\n';
    out.append(kHelpColumn, ' ');
  } else {
    out.append(kHelpColumn - out.size(), ' ');
  }
  return out + wrapped(help, kHelpColumn, kHelpColumn);
}

// What follows the help text: "1ms to 24h; default 10s".
std::string value_note(const Option& option) {
  std::string note = accepted_values(option);
  const bool choice = std::holds_alternative<Choice>(option.kind);
  if (choice || std::holds_alternative<UrlPrefix>(option.kind)) note.clear();  // the help says it
  std::string initial;
  if (!option.initial.empty()) {
    initial = "default " + std::string(option.initial);
  } else if (!option.unset.empty()) {
    initial = "default: " + std::string(option.unset);
  }
  if (!note.empty() && !initial.empty()) note += "; ";
  return note + initial;
}

std::string help_entry(const Option& option) {
  std::string head;
  for (const char letter : option.letters)
    head += std::string("-") + letter + ", ";
  if (head.empty()) head = "    ";
  head += "--" + std::string(option.name);
  if (!option.value.empty()) head += "=" + std::string(option.value);
  std::string help(option.help);
  if (const std::string note = value_note(option); !note.empty()) help += " (" + note + ")";
  return entry(head, help);
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

// Text as roff takes it literally: a bare "-" would print as a hyphen that cannot be pasted into a shell, and a line
// that begins with a dot or a quote would be a request.
std::string roff(std::string_view text) {
  std::string out = replaced(replaced(text, "\\", "\\e"), "-", "\\-");
  if (out.starts_with('.') || out.starts_with('\'')) out.insert(0, "\\&");
  return out;
}

std::string markdown_cell(std::string_view text) {
  return replaced(replaced(text, "|", "\\|"), "<", "&lt;");
}

std::string code(std::string_view text) {
  return "`" + std::string(text) + "`";
}

}  // namespace

std::string usage_line() {
  std::string line = "Usage: bladepsgi [OPTION]...";
  for (const Argument& argument : kArguments)
    line += " " + std::string(argument.name);
  return line + "\n";
}

std::string version_text() {
  return "bladepsgi " + std::string(version()) + "\n";
}

std::string help_text() {
  std::string text = usage_line() + "\n" + wrapped(kSummary, 0, 0) + "\nArguments:\n";
  for (const Argument& argument : kArguments) {
    text += entry(std::string(argument.name), argument.help);
  }
  for (const SectionTitle& section : kSections) {
    text += "\n" + std::string(section.title) + ":\n";
    for (const Option& option : kOptions) {
      if (option.section == section.section) text += help_entry(option);
    }
  }
  text += "\n" + wrapped(kTimes, 0, 0) + wrapped(kSizes, 0, 0) + wrapped(kRules, 0, 0);
  text += "\nExit codes:\n";
  for (const ExitCodeMeaning& exit : kExitCodes) {
    text += "  " + std::to_string(to_int(exit.code)) + "  " + wrapped(exit.meaning, 5, 5);
  }
  return text;
}

std::string options_markdown() {
  std::string text =
      "# Command line\n\n<!-- Made by `./dev docs` from src/config/options.h; a test compares. "
      "-->\n\n"
      "    bladepsgi [OPTION]...";
  for (const Argument& argument : kArguments)
    text += " " + std::string(argument.name);
  text += "\n\n| argument | meaning |\n| --- | --- |\n";
  for (const Argument& argument : kArguments) {
    text += "| " + code(argument.name) + " | " + markdown_cell(argument.help) + " |\n";
  }
  text +=
      "\n" + std::string(kRules) + "\n\n" + std::string(kTimes) + " " + std::string(kSizes) + "\n";
  for (const SectionTitle& section : kSections) {
    text += "\n## " + std::string(section.title) +
            "\n\n| option | meaning | accepted | default |\n| --- | --- | --- | --- |\n";
    for (const Option& option : kOptions) {
      if (option.section != section.section) continue;
      std::string name = "--" + std::string(option.name);
      if (!option.value.empty()) name += "=" + std::string(option.value);
      name = code(name);
      for (const char letter : option.letters)
        name += ", " + code(std::string("-") + letter);
      const std::string initial =
          option.initial.empty() ? std::string(option.unset) : code(option.initial);
      text += "| " + name + " | " + markdown_cell(option.help) + " | " +
              markdown_cell(accepted_values(option)) + " | " + markdown_cell(initial) + " |\n";
    }
  }
  text += "\n## Exit codes\n\n| code | meaning |\n| --- | --- |\n";
  for (const ExitCodeMeaning& exit : kExitCodes) {
    text += "| " + std::to_string(to_int(exit.code)) + " | " + markdown_cell(exit.meaning) + " |\n";
  }
  return text;
}

std::string manual_page() {
  std::string text =
      ".TH BLADEPSGI 1 \"\" \"bladepsgi " + roff(version()) +
      "\" \"User Commands\"\n.SH NAME\nbladepsgi \\- application server for PSGI over "
      "FastCGI\n.SH SYNOPSIS\n.B bladepsgi\n[\\fIOPTION\\fR]...";
  for (const Argument& argument : kArguments)
    text += " \\fI" + roff(argument.name) + "\\fR";
  text += "\n.SH DESCRIPTION\n" + roff(kSummary) + "\n.SH ARGUMENTS\n";
  for (const Argument& argument : kArguments) {
    text += ".TP\n.I " + roff(argument.name) + "\n" + roff(argument.help) + "\n";
  }
  text += ".SH OPTIONS\n" + roff(kRules) + "\n.PP\n" + roff(kTimes) + "\n" + roff(kSizes) + "\n";
  for (const SectionTitle& section : kSections) {
    text += ".SS " + roff(section.title) + "\n";
    for (const Option& option : kOptions) {
      if (option.section != section.section) continue;
      text += ".TP\n";
      for (const char letter : option.letters)
        text += "\\fB\\-" + std::string(1, letter) + "\\fR, ";
      text += "\\fB\\-\\-" + roff(option.name) + "\\fR";
      if (!option.value.empty()) text += "=\\fI" + roff(option.value) + "\\fR";
      text += "\n" + roff(option.help) + "\n";
      if (const std::string note = value_note(option); !note.empty())
        text += roff("(" + note + ")") + "\n";
    }
  }
  text +=
      ".SH SIGNALS\n"
      ".TP\n.B SIGTERM\nEach worker finishes its request; then everything ends. A second one ends "
      "it at once.\n"
      ".TP\n.B SIGINT\nEverything ends at once.\n"
      ".TP\n.B SIGQUIT\nEverything is killed.\n";
  text += ".SH \"EXIT STATUS\"\n";
  for (const ExitCodeMeaning& exit : kExitCodes) {
    text += ".TP\n.B " + std::to_string(to_int(exit.code)) + "\n" + roff(exit.meaning) + "\n";
  }
  return text;
}

}  // namespace bladepsgi::config
