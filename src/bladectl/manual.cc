#include "bladectl/manual.h"

#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

#include "bladectl/commands.h"
#include "config/exit_codes.h"
#include "config/typesetting.h"

namespace bladepsgi::bladectl {

namespace {

constexpr std::string_view kUsage = "bladectl [-s PATH] COMMAND [OPTION]... [--json]";
constexpr std::string_view kSummary =
    "Asks a running bladepsgi over its control socket, waits for the outcome, prints it and ends "
    "with the exit code of that.";
constexpr std::string_view kFinding =
    "The server is the one whose control socket is named by --socket, else by the environment "
    "variable BLADECTL_SOCKET, else the only one that is found where servers put it by "
    "themselves: PID.control in a folder of RUNTIME_DIRECTORY, in bladepsgi in XDG_RUNTIME_DIR, "
    "in /run/bladepsgi, or in another folder in /run. If there are several, they are listed.";
constexpr std::string_view kOutput =
    "What a command results in goes to standard output, what happens meanwhile to standard error.";

struct Entry {
  std::string_view head;
  std::string_view help;
};

constexpr std::array kOptions{
    Entry{"-s PATH, --socket=PATH", "The server's control socket."},
    Entry{"--json", "Print the result as the server gave it, as JSON."},
    Entry{"--help", "Print this text and exit."},
    Entry{"--version", "Print the version and exit."},
};

std::string head_of(const Command& command) {
  std::string head(command.name);
  if (command.word.kind != Word::Kind::None) {
    const std::string shown(command.word.shown);
    head += command.word.is_optional ? " [" + shown + "]" : " " + shown;
  }
  return head;
}

constexpr std::size_t kColumn = 26;

}  // namespace

std::string usage_line() {
  return "Usage: " + std::string(kUsage) + "\n";
}

std::string version_text() {
  return "bladectl " BLADEPSGI_VERSION "\n";
}

std::string help_text() {
  std::string text = usage_line() + "\n" + config::wrapped(kSummary, 0, 0) +
                     config::wrapped(kFinding, 0, 0) + "\nCommands:\n";
  for (const Command& command : kCommands) {
    text += config::entry(2, kColumn, head_of(command), command.help);
    for (const Flag& flag : command.flags)
      text += config::entry(4, kColumn, "--" + std::string(flag.name), flag.help);
  }
  text += "\nOptions:\n";
  for (const Entry& option : kOptions)
    text += config::entry(2, kColumn, option.head, option.help);
  text += "\n" + config::wrapped(kOutput, 0, 0) + "\nExit codes:\n";
  for (const config::ExitCodeMeaning& exit : config::kControlExitCodes)
    text += "  " + std::to_string(to_int(exit.code)) + "  " + config::wrapped(exit.meaning, 5, 5);
  return text;
}

std::string markdown() {
  std::string text =
      "# bladectl\n\n<!-- Made by `./dev docs` from src/bladectl/commands.h; a test compares. "
      "-->\n\n"
      "    " +
      std::string(kUsage) + "\n\n" + std::string(kSummary) + " " + std::string(kOutput) + "\n\n" +
      std::string(kFinding) + "\n\n| command | |\n| --- | --- |\n";
  for (const Command& command : kCommands) {
    text += "| `" + head_of(command) + "` | " + std::string(command.help) + " |\n";
    for (const Flag& flag : command.flags)
      text += "| `" + std::string(command.name) + " --" + std::string(flag.name) + "` | " +
              std::string(flag.help) + " |\n";
  }
  text += "\n| option | |\n| --- | --- |\n";
  for (const Entry& option : kOptions)
    text += "| `" + std::string(option.head) + "` | " + std::string(option.help) + " |\n";
  text += "\n| exit code | |\n| --- | --- |\n";
  for (const config::ExitCodeMeaning& exit : config::kControlExitCodes)
    text += "| " + std::to_string(to_int(exit.code)) + " | " + std::string(exit.meaning) + " |\n";
  return text;
}

std::string manual_page() {
  std::string text =
      ".TH BLADECTL 1 \"\" \"bladectl " + config::roff(BLADEPSGI_VERSION) +
      "\" \"User Commands\"\n.SH NAME\nbladectl \\- commands a running bladepsgi\n.SH SYNOPSIS\n"
      ".B bladectl\n[\\fB\\-s\\fR \\fIPATH\\fR] \\fICOMMAND\\fR [\\fIOPTION\\fR]... "
      "[\\fB\\-\\-json\\fR]\n.SH DESCRIPTION\n" +
      config::roff(kSummary) + "\n" + config::roff(kOutput) + "\n.PP\n" + config::roff(kFinding) +
      "\n.SH COMMANDS\n";
  for (const Command& command : kCommands) {
    text += ".TP\n.B " + config::roff(head_of(command)) + "\n" + config::roff(command.help) + "\n";
    for (const Flag& flag : command.flags)
      text += ".RS\n.TP\n.B \\-\\-" + config::roff(flag.name) + "\n" + config::roff(flag.help) +
              "\n.RE\n";
  }
  text += ".SH OPTIONS\n";
  for (const Entry& option : kOptions)
    text += ".TP\n.B " + config::roff(option.head) + "\n" + config::roff(option.help) + "\n";
  text += ".SH \"EXIT STATUS\"\n";
  for (const config::ExitCodeMeaning& exit : config::kControlExitCodes)
    text +=
        ".TP\n.B " + std::to_string(to_int(exit.code)) + "\n" + config::roff(exit.meaning) + "\n";
  return text + ".SH \"SEE ALSO\"\nbladepsgi(1)\n";
}

}  // namespace bladepsgi::bladectl
