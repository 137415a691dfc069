#include "bladectl/command_line.h"

#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bladectl/manual.h"

namespace bladepsgi::bladectl {
namespace {

using ::testing::HasSubstr;

// "command {arguments} socket json"
std::string read(const std::vector<const char*>& words) {
  const Parsed parsed = parse(words);
  if (const auto* information = std::get_if<Information>(&parsed)) return information->text;
  if (const auto* error = std::get_if<UsageError>(&parsed)) return "error: " + error->message;
  const auto& line = std::get<CommandLine>(parsed);
  return std::string(line.command->name) + " " + json::Value(line.arguments).text() +
         (line.socket.empty() ? "" : " " + line.socket) + (line.is_json ? " json" : "");
}

TEST(BladectlCommandLine, IsACommandAndItsOptions) {
  const std::vector<std::pair<std::vector<const char*>, std::string_view>> cases = {
      {{"status"}, "status {}"},
      {{"--json", "status"}, "status {} json"},
      {{"status", "--json", "-s", "/x"}, "status {} /x json"},
      {{"-s/x", "workers"}, "workers {} /x"},
      {{"--socket=/x", "stop", "--fast"}, "stop {\"fast\":true} /x"},
      {{"--socket", "--", "stop"}, "stop {} --"},
      {{"--fast", "stop", "--fast"}, "stop {\"fast\":true}"},
      {{"--", "status"}, "status {}"},
  };
  for (const auto& [words, expected] : cases)
    EXPECT_EQ(read(words), expected);
}

TEST(BladectlCommandLine, IsRefusedWithTheReason) {
  const std::vector<std::pair<std::vector<const char*>, std::string_view>> cases = {
      {{}, "A command is missing"},
      {{"--json"}, "A command is missing"},
      {{"--fast"}, "unknown option '--fast'"},
      {{"dance"}, "unknown command 'dance'"},
      {{"\x1b[2J"}, "unknown command '\\x1b[2J'"},
      {{"status", "--fast"}, "command 'status': unknown option '--fast'"},
      {{"stop", "now"}, "too many arguments, 'now' is one"},
      {{"status", "-x"}, "unknown option '-x'"},
      {{"status", "-s"}, "option '-s' lacks its value"},
      {{"status", "--socket="}, "the path is empty"},
      {{"--", "--json"}, "unknown command '--json'"},
  };
  for (const auto& [words, reason] : cases)
    EXPECT_THAT(read(words), HasSubstr("error: ")) << reason;
  for (const auto& [words, reason] : cases)
    EXPECT_THAT(read(words), HasSubstr(reason));
}

TEST(BladectlManual, NamesEveryCommandFlagAndExitCode) {
  for (const std::string& text : {read({"--help"}), markdown()}) {
    for (const Command& command : kCommands) {
      EXPECT_THAT(text, HasSubstr(command.name));
      for (const Flag& flag : command.flags)
        EXPECT_THAT(text, HasSubstr("--" + std::string(flag.name)));
    }
  }
  EXPECT_THAT(manual_page(), HasSubstr("\\-\\-immediate"));
  EXPECT_THAT(read({"--version", "--nonsense"}), HasSubstr("bladectl "));
}

}  // namespace
}  // namespace bladepsgi::bladectl
