// bladectl: asks a running server, waits for the outcome, and ends with its exit code.

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>

#include "bladectl/client.h"
#include "bladectl/command_line.h"
#include "bladectl/finder.h"
#include "bladectl/manual.h"
#include "bladectl/tables.h"
#include "config/exit_codes.h"
#include "control/place.h"
#include "control/protocol.h"
#include "os/privileges.h"

namespace bladepsgi::bladectl {

namespace {

using config::ExitCode;

// For an answer that takes no time, of a server that has much to do.
constexpr std::chrono::seconds kQuick{30};
// When several servers are there, of each.
constexpr std::chrono::seconds kIntroduction{2};
// From the last word of a server to the end of its process.
constexpr std::chrono::seconds kEnd{30};

bool print(std::FILE* stream, const std::string& text) {
  return std::fwrite(text.data(), 1, text.size(), stream) == text.size() &&
         std::fflush(stream) == 0;
}

void complain(const std::string& text) {
  static_cast<void>(print(stderr, "bladectl: " + line_text(text) + "\n"));
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

// "pid 812, /srv/app/app.psgi"
std::string introduce(const std::string& path) {
  auto client = Client::connect(path);
  if (!client) return client.error().message;
  auto status =
      client->ask({.command = "status", .arguments = {}}, kIntroduction, [](const std::string&) {});
  if (!status) return status.error().message;
  if (!status->error.empty()) return status->error;
  const json::Value* pid = status->result.find("pid");
  const json::Value* application = status->result.find("application");
  const bool is_named = application != nullptr && application->as_string() != nullptr;
  return "pid " + (pid != nullptr ? pid->text() : "?") + ", " +
         (is_named ? *application->as_string() : "?");
}

std::optional<std::string> find_socket() {
  if (std::string named = variable("BLADECTL_SOCKET"); !named.empty()) return named;
  const Found found = find_servers({.runtime_directory = variable("RUNTIME_DIRECTORY"),
                                    .user_runtime_directory = variable("XDG_RUNTIME_DIR"),
                                    .is_root = os::is_root()});
  if (found.sockets.size() == 1) return found.sockets.front();
  if (found.sockets.empty()) {
    std::string folders;
    for (const std::string& folder : found.folders)
      folders += (folders.empty() ? "" : ", ") + folder;
    complain("there is no server whose control socket is in " + folders +
             "; name one with --socket=PATH");
    for (const std::string& one : found.unreachable)
      complain("cannot ask " + one);
    return std::nullopt;
  }
  complain("there are several servers; choose one with --socket=PATH:");
  for (const std::string& socket : found.sockets)
    complain("  " + socket + " (" + introduce(socket) + ")");
  return std::nullopt;
}

int carry_out(const CommandLine& line, const std::string& socket) {
  const Command& command = *line.command;
  auto client = Client::connect(socket);
  if (!client) {
    complain(client.error().message);
    return to_int(ExitCode::Failure);
  }
  const auto outcome = client->ask(
      {.command = std::string(command.name), .arguments = line.arguments},
      command.is_quick ? std::optional<std::chrono::milliseconds>(kQuick) : std::nullopt,
      [](const std::string& text) { complain(text); });
  if (!outcome) {
    complain(outcome.error().message);
    return to_int(ExitCode::Failure);
  }
  if (command.ends_server && outcome->error.empty() && !client->wait_for_end(kEnd)) {
    complain("the server says that it has stopped, but its process is still there");
    return to_int(ExitCode::Failure);
  }
  bool is_printed = true;
  if (line.is_json && !outcome->result.is_null()) {
    is_printed = print(stdout, outcome->result.pretty());
  } else if (outcome->error.empty() && command.show != nullptr) {
    is_printed = print(stdout, command.show(outcome->result));
  }
  if (!outcome->error.empty()) {
    complain(outcome->error);
    return outcome->exit;
  }
  if (is_printed) return to_int(ExitCode::Success);
  complain("cannot write to standard output");
  return to_int(ExitCode::Failure);
}

int run(std::span<const char* const> words) {
  const Parsed parsed = parse(words);
  if (const auto* information = std::get_if<Information>(&parsed))
    return to_int(print(stdout, information->text) ? ExitCode::Success : ExitCode::Failure);
  if (const auto* error = std::get_if<UsageError>(&parsed)) {
    complain(error->message);
    static_cast<void>(print(stderr, usage_line() + "Try 'bladectl --help'.\n"));
    return to_int(ExitCode::Usage);
  }
  const auto& line = std::get<CommandLine>(parsed);
  const auto socket = !line.socket.empty() ? std::optional(line.socket) : find_socket();
  return socket ? carry_out(line, *socket) : to_int(ExitCode::Usage);
}

}  // namespace

}  // namespace bladepsgi::bladectl

int main(int argc, const char* const* argv) {
  try {
    const std::span<const char* const> words(argv, static_cast<std::size_t>(argc > 0 ? argc : 0));
    return bladepsgi::bladectl::run(words.empty() ? words : words.subspan(1));
  } catch (const std::exception& failure) {
    bladepsgi::bladectl::complain(failure.what());
  }
  return to_int(bladepsgi::config::ExitCode::Failure);
}
