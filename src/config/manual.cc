#include "config/manual.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/text.h"
#include "config/exit_codes.h"
#include "config/options.h"
#include "config/typesetting.h"

namespace bladepsgi::config {

namespace {

constexpr std::size_t kHelpColumn = 30;
constexpr std::string_view kSummary =
    "Loads a PSGI application once and serves it over FastCGI and HTTP from preforked processes.";
constexpr std::string_view kFormRules =
    "With an application alone the options say how many workers there are and where they listen; "
    "with none of these it is served on http://127.0.0.1:5000/. The form with four arguments is "
    "that of version 1.0.";
constexpr std::string_view kTimes =
    "TIME is a whole number of seconds, or of ms, s, m or h (500ms).";
constexpr std::string_view kSizes = "SIZE is a whole number of bytes, or of K, M or G (64K).";
constexpr std::string_view kRules =
    "Options may follow the arguments; -- ends them. A value may be a separate word. A long option "
    "may be shortened as long as it is unambiguous. The last of a repeated option counts.";

constexpr std::string_view kScriptRules =
    "bladepsgi-fcgi is the same program with the habits of FastCGI scripts, those of plackup -s "
    "FCGI "
    "and of Catalyst: its letters are theirs, and it speaks FastCGI wherever --http does not say "
    "otherwise. With nothing to listen on but a socket that is descriptor 0 it serves that, by one "
    "worker unless told otherwise. Where no option says it, these environment variables do:";

// "FCGI_SOCKET_PATH (--listen)", and so on.
std::string variables() {
  std::string list;
  std::string idle;
  for (const Variable& variable : kVariables) {
    std::string& text = variable.option.empty() ? idle : list;
    if (!text.empty()) text += ", ";
    text += variable.name;
    if (!variable.option.empty()) text += " (--" + std::string(variable.option) + ")";
  }
  return list + ". Without effect, and the log says so: " + idle + ".";
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

bool is_in(const Forms& forms, std::span<const Form> some) {
  return std::any_of(some.begin(), some.end(), [&](Form form) { return forms.has(form); });
}

// Which of `some` that are in `possible` are in `forms`: "with four arguments", "not with four arguments"; empty: all.
std::string where_in(const Forms& forms, const Forms& possible, std::span<const Form> some) {
  std::vector<std::string_view> in;
  std::vector<std::string_view> out;
  for (const Form form : some) {
    if (possible.has(form)) (forms.has(form) ? in : out).push_back(form_name(form));
  }
  if (out.empty()) return {};
  if (out.size() < in.size()) return "not " + std::string(out.front());
  std::string text;
  for (const std::string_view name : in)
    text += (text.empty() ? "" : " or ") + std::string(name);
  return text;
}

std::string dashed(const Spelling& spelling) {
  return (spelling.word.size() == 1 ? "-" : "--") + std::string(spelling.word);
}

// Where the option is not available, and letters and other names that are so only in a form of the command line.
std::string spelling_note(const Option& option, std::span<const Form> forms) {
  std::string note;
  if (const std::string where = where_in(option.forms, kEveryForm, forms); !where.empty())
    note = (where.starts_with("not ") ? "" : "only ") + where;
  std::optional<std::string> last;  // what holds at the same place is said together
  for (const Spelling& spelling : spellings_of(option)) {
    if (!is_in(spelling.forms, forms)) continue;
    std::string where = where_in(spelling.forms, option.forms, forms);
    if (spelling.word.size() == 1 && where.empty()) continue;  // stands before the name
    if (!where.empty()) where.insert(0, " ");
    if (last == where) {
      note.insert(note.size() - where.size(), ", " + dashed(spelling));
    } else {
      note += (note.empty() ? "" : "; ") + dashed(spelling) + where;
    }
    last = std::move(where);
  }
  return note;
}

std::string help_entry(const Option& option, std::span<const Form> forms) {
  std::string head;
  for (const Spelling& spelling : spellings_of(option)) {
    if (spelling.word.size() == 1 && is_in(spelling.forms, forms) &&
        where_in(spelling.forms, option.forms, forms).empty())
      head += dashed(spelling) + ", ";
  }
  if (head.empty()) head = "    ";
  head += "--" + std::string(option.name);
  if (!option.value.empty()) head += "=" + std::string(option.value);
  std::string help(option.help);
  std::string note = spelling_note(option, forms);
  if (const std::string value = value_note(option); !value.empty())
    note += (note.empty() ? "" : "; ") + value;
  if (!note.empty()) help += " (" + note + ")";
  return entry(2, kHelpColumn, head, help);
}

std::string markdown_cell(std::string_view text) {
  return replaced(replaced(text, "|", "\\|"), "<", "&lt;");
}

std::string code(std::string_view text) {
  return "`" + std::string(text) + "`";
}

// "`--listen=ADDRESS`"
std::string option_code(const Option& option) {
  return code("--" + std::string(option.name) + (option.value.empty() ? "" : "=") +
              std::string(option.value));
}

std::string initial_cell(const Option& option) {
  return markdown_cell(option.initial.empty() ? std::string(option.unset) : code(option.initial));
}

std::string options_by_purpose() {
  std::string text = "| option | meaning | default |\n| --- | --- | --- |\n";
  for (const Purpose& purpose : kPurposes) {
    text += "| **" + std::string(purpose.title) + "** | | |\n";
    for (const std::string_view name : purpose.options) {
      if (name.empty()) break;
      const Option& option = named_option(name);
      // The first sentence: what more there is to say is in docs/options.md.
      const std::size_t end = option.help.find(". ");
      std::string help(option.help.substr(0, end == std::string_view::npos ? end : end + 1));
      if (const auto* choice = std::get_if<Choice>(&option.kind);
          choice != nullptr && help.find(choice->words.front()) == std::string::npos)
        help.insert(help.size() - 1, ": " + accepted_values(option));
      text += "| " + option_code(option) + " | " + markdown_cell(help) + " | " +
              initial_cell(option) + " |\n";
    }
  }
  return text;
}

std::string classic_arguments() {
  std::string line;
  for (const Argument& argument : kArguments)
    line += (line.empty() ? "" : " ") + std::string(argument.name);
  return line;
}

}  // namespace

std::string usage_lines(Program program) {
  const std::string command = std::string(name_of(program)) + " [OPTION]... ";
  std::string lines = "Usage: " + command + std::string(kArguments.front().name) + "\n";
  if (program == Program::BladepsgiFcgi) return lines;
  return lines + "       " + command + classic_arguments() + "\n";
}

std::string version_text() {
  return "bladepsgi " + std::string(version()) + "\n";
}

std::string help_text(Program program) {
  const std::span<const Form> forms = forms_of(program);
  const bool is_classic_possible = is_in({Form::Classic}, forms);
  std::string text = usage_lines(program) + "\n" + wrapped(kSummary, 0, 0);
  text += is_classic_possible ? wrapped(kFormRules, 0, 0)
                              : wrapped(std::string(kScriptRules) + " " + variables(), 0, 0);
  text += "\nArguments:\n";
  for (const Argument& argument : kArguments) {
    text += entry(2, kHelpColumn, argument.name, argument.help);
    if (!is_classic_possible) break;
  }
  for (const SectionTitle& section : kSections) {
    text += "\n" + std::string(section.title) + ":\n";
    for (const Option& option : kOptions) {
      if (option.section == section.section && is_in(option.forms, forms))
        text += help_entry(option, forms);
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
      "    bladepsgi [OPTION]... " +
      std::string(kArguments.front().name) + "\n    bladepsgi [OPTION]... " + classic_arguments() +
      "\n    " + std::string(name_of(Program::BladepsgiFcgi)) + " [OPTION]... " +
      std::string(kArguments.front().name) + "\n\n" + std::string(kFormRules) + "\n\n" +
      std::string(kScriptRules) + " " + variables() + "\n";
  text += "\n| argument | meaning |\n| --- | --- |\n";
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
      std::string name = option_code(option);
      for (const Spelling& spelling : spellings_of(option)) {
        name += ", " + code(dashed(spelling));
        if (const std::string where = where_in(spelling.forms, option.forms, kForms);
            !where.empty())
          name += " (" + where + ")";
      }
      std::string help(option.help);
      if (const std::string where = where_in(option.forms, kEveryForm, kForms); !where.empty())
        help += (where.starts_with("not ") ? " (" : " (only ") + where + ")";
      text += "| " + name + " | " + markdown_cell(help) + " | " +
              markdown_cell(accepted_values(option)) + " | " + initial_cell(option) + " |\n";
    }
  }
  text += "\n## Exit codes\n\n| code | meaning |\n| --- | --- |\n";
  for (const ExitCodeMeaning& exit : kExitCodes) {
    text += "| " + std::to_string(to_int(exit.code)) + " | " + markdown_cell(exit.meaning) + " |\n";
  }
  return text;
}

Result<std::string, std::string> readme_markdown(std::string_view text) {
  constexpr std::string_view kBegin =
      "<!-- options: made by `./dev docs` from src/config/options.h -->\n";
  constexpr std::string_view kEnd = "<!-- end of options -->\n";
  const std::size_t begin = text.find(kBegin);
  const std::size_t end = text.find(kEnd);
  if (begin == std::string_view::npos || end == std::string_view::npos || end < begin) {
    return fail("no place for the table of options between the lines\n" + std::string(kBegin) +
                std::string(kEnd));
  }
  return std::string(text.substr(0, begin + kBegin.size())) + "\n" + options_by_purpose() + "\n" +
         std::string(text.substr(end));
}

std::string manual_page() {
  std::string text =
      ".TH BLADEPSGI 1 \"\" \"bladepsgi " + roff(version()) +
      "\" \"User Commands\"\n.SH NAME\nbladepsgi \\- application server for PSGI over "
      "FastCGI and HTTP\n.SH SYNOPSIS\n.B bladepsgi\n[\\fIOPTION\\fR]... \\fI" +
      roff(kArguments.front().name) + "\\fR\n.br\n.B bladepsgi\n[\\fIOPTION\\fR]...";
  for (const Argument& argument : kArguments)
    text += " \\fI" + roff(argument.name) + "\\fR";
  text += "\n.br\n.B " + roff(name_of(Program::BladepsgiFcgi)) + "\n[\\fIOPTION\\fR]... \\fI" +
          roff(kArguments.front().name) + "\\fR";
  text += "\n.SH DESCRIPTION\n" + roff(kSummary) + "\n" + roff(kFormRules) + "\n.PP\n" +
          roff(kScriptRules) + "\n" + roff(variables()) + "\n.SH ARGUMENTS\n";
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
      std::string note = spelling_note(option, kForms);
      if (const std::string value = value_note(option); !value.empty())
        note += (note.empty() ? "" : "; ") + value;
      if (!note.empty()) text += roff("(" + note + ")") + "\n";
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
