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
  for (const Form form : kForms) {
    std::set<std::string_view> words;
    for (const Option& option : kOptions) {
      if (option.forms.has(form)) {
        EXPECT_TRUE(words.insert(option.name).second) << option.name;
      }
      for (const Spelling& spelling : spellings_of(option)) {
        if (!spelling.forms.has(form)) continue;
        EXPECT_TRUE(option.forms.has(form)) << spelling.word;
        EXPECT_TRUE(words.insert(spelling.word).second) << spelling.word;
      }
    }
  }
  for (const Spelling& spelling : kSpellings)
    EXPECT_EQ(named_option(spelling.option).name, spelling.option);
}

TEST(Options, HaveAValueNameExactlyWhenTheyTakeOne) {
  for (const Option& option : kOptions) {
    if (option.section == Section::OtherServers) continue;
    const bool bare =
        std::holds_alternative<Flag>(option.kind) || std::holds_alternative<Question>(option.kind);
    EXPECT_EQ(option.value.empty(), bare) << option.name;
  }
}

// An unset option means something, and a reader has to know what.
TEST(Options, SayWhatHappensWithoutThem) {
  for (const Option& option : kOptions) {
    if (option.value.empty() || std::holds_alternative<Ignored>(option.kind) ||
        std::holds_alternative<Refused>(option.kind))
      continue;
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
  for (const std::string& text : {help_text(Program::Bladepsgi), options_markdown()}) {
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

TEST(Readme, HasTheOptionsOfEachPurposeInItsPlace) {
  const std::string begin = "<!-- options: made by `./dev docs` from src/config/options.h -->\n";
  const auto readme = readme_markdown("before\n" + begin + "old\n<!-- end of options -->\nafter\n");
  ASSERT_TRUE(readme);
  EXPECT_TRUE(readme->starts_with("before\n" + begin + "\n| option"));
  EXPECT_TRUE(readme->ends_with(" |\n\n<!-- end of options -->\nafter\n"));
  EXPECT_EQ(readme_markdown(*readme).value(), *readme);
  EXPECT_THAT(*readme, testing::Not(HasSubstr("old")));
  EXPECT_THAT(
      *readme,
      HasSubstr(
          "| **Processes** | | |\n| `--workers=NUMBER` | Number of worker processes. | one for"));
  EXPECT_THAT(*readme,
              HasSubstr("How the application gets the body: auto, stream or spool. | `auto` |"));
  EXPECT_FALSE(readme_markdown("before\n<!-- end of options -->\n"));
  EXPECT_FALSE(readme_markdown("<!-- end of options -->\n" + begin));
}

TEST(Readme, MentionsAnOptionOnce) {
  std::set<std::string_view> names;
  for (const Purpose& purpose : kPurposes) {
    for (const std::string_view name : purpose.options) {
      if (!name.empty()) {
        EXPECT_TRUE(names.insert(named_option(name).name).second) << name;
      }
    }
  }
}

TEST(Manual, HelpFitsATerminal) {
  for (const Program program : {Program::Bladepsgi, Program::BladepsgiFcgi}) {
    const std::string text = help_text(program);
    const std::string usage = usage_lines(program);  // one line each, so that they can be copied
    ASSERT_TRUE(text.starts_with(usage));
    const std::string_view rest = std::string_view(text).substr(usage.size());
    for (const std::string_view line : split(rest, '\n'))
      EXPECT_LE(line.size(), 80U) << line;
  }
}

TEST(Manual, SaysWhereALetterMeansAnOption) {
  const std::string text = help_text(Program::Bladepsgi);
  EXPECT_THAT(text, HasSubstr("-a, --app=FILE"));
  EXPECT_THAT(text, HasSubstr("titles. (-p with four"));
  EXPECT_THAT(options_markdown(), HasSubstr("`-l` (with four arguments), `-L` (not with four "));
}

TEST(Manual, SaysHowLongPingWaits) {
  EXPECT_THAT(std::string(named_option("ping").help),
              HasSubstr("within " + std::to_string(kPingLimit.count()) + " seconds"));
}

TEST(Manual, NamesRangeAndDefault) {
  EXPECT_THAT(help_text(Program::Bladepsgi), HasSubstr("(1ms to 24h; default 60s)"));
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
