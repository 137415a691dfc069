#include "config/manual.h"

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"
#include "config/exit_codes.h"
#include "config/options.h"

namespace bladepsgi::config {
namespace {

using testing::HasSubstr;

TEST(Options, AreDeclaredOnce) {
  std::set<std::string_view> names;
  std::set<char> letters;
  for (const Option& option : kOptions) {
    EXPECT_TRUE(names.insert(option.name).second) << option.name;
    for (const char letter : option.letters)
      EXPECT_TRUE(letters.insert(letter).second) << letter;
  }
}

TEST(Options, HaveAValueNameExactlyWhenTheyTakeOne) {
  for (const Option& option : kOptions) {
    const bool bare =
        std::holds_alternative<Flag>(option.kind) || std::holds_alternative<Question>(option.kind);
    EXPECT_EQ(option.value.empty(), bare) << option.name;
  }
}

// An unset option means something, and a reader has to know what.
TEST(Options, SayWhatHappensWithoutThem) {
  for (const Option& option : kOptions) {
    if (option.value.empty()) continue;
    EXPECT_NE(option.initial.empty(), option.unset.empty()) << option.name;
  }
}

TEST(Options, SayWhatEachWordOfAChoiceDoes) {
  for (const Option& option : kOptions) {
    if (const auto* choice = std::get_if<Choice>(&option.kind)) {
      for (const std::string_view word : choice->words) {
        EXPECT_THAT(std::string(option.help), HasSubstr(std::string(word))) << option.name;
      }
    }
  }
}

TEST(Manual, ShowsEveryOptionAndExitCodeEverywhere) {
  for (const std::string& text : {help_text(), options_markdown()}) {
    for (const Option& option : kOptions) {
      EXPECT_THAT(text, HasSubstr("--" + std::string(option.name)));
    }
    for (const Argument& argument : kArguments)
      EXPECT_THAT(text, HasSubstr(argument.name));
    for (const SectionTitle& section : kSections)
      EXPECT_THAT(text, HasSubstr(section.title));
  }
  for (const Option& option : kOptions) {
    std::string name = "\\fB\\-\\-";
    for (const char c : option.name)
      name += c == '-' ? "\\-" : std::string(1, c);
    EXPECT_THAT(manual_page(), HasSubstr(name + "\\fR"));
  }
  for (const ExitCodeMeaning& exit : kExitCodes) {
    EXPECT_THAT(options_markdown(), HasSubstr("| " + std::to_string(to_int(exit.code)) + " | "));
    EXPECT_THAT(manual_page(), HasSubstr(".B " + std::to_string(to_int(exit.code)) + "\n"));
  }
}

TEST(Manual, HelpFitsATerminal) {
  const std::string text = help_text();
  for (const std::string_view line : split(text, '\n')) {
    if (line.starts_with("Usage:")) continue;  // one line, so that it can be copied
    EXPECT_LE(line.size(), 80U) << line;
  }
}

TEST(Manual, NamesRangeAndDefault) {
  EXPECT_THAT(help_text(), HasSubstr("(1ms to 24h; default 60s)"));
  EXPECT_THAT(options_markdown(), HasSubstr("| 1ms to 24h | `75s` |"));
}

TEST(Manual, EscapesWhatRoffWouldInterpret) {
  const std::string page = manual_page();
  for (const std::string_view line : split(page, '\n')) {
    EXPECT_FALSE(line.starts_with("'")) << line;
    EXPECT_EQ(line.find(" --"), std::string_view::npos) << line;
  }
}

TEST(ExitCodes, AreTheDocumentedNumbers) {
  EXPECT_EQ(to_int(ExitCode::Success), 0);
  EXPECT_EQ(to_int(ExitCode::Failure), 1);
  EXPECT_EQ(to_int(ExitCode::Usage), 2);
  EXPECT_EQ(to_int(ExitCode::ApplicationNotLoaded), 3);
  EXPECT_EQ(to_int(ExitCode::ImmediateStop), 4);
}

}  // namespace
}  // namespace bladepsgi::config
