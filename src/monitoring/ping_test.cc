#include "monitoring/ping.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bladepsgi::monitoring {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Diagnose, SaysWhatTheOtherSideSeemsToBe) {
  EXPECT_THAT(diagnose("", true), HasSubstr("as a FastCGI socket does"));
  EXPECT_THAT(diagnose("", false), HasSubstr("says nothing"));
  EXPECT_THAT(diagnose("1795342502\n__R_\n80912\n\nsem lock: 1\n", true),
              HasSubstr("statistics socket"));
  EXPECT_THAT(diagnose("HTTP/1.1 404 Not Found\r\n\r\n", true), HasSubstr("with status 404,"));
  EXPECT_THAT(diagnose("220 mail.example\r\n", false), HasSubstr("'220 mail.example\\x0d\\x0a'"));
}

TEST(Diagnose, QuotesNoMoreThanALine) {
  const std::string text = diagnose(std::string(10'000, 'x') + "\n", true);
  EXPECT_LT(text.size(), 200U);
  EXPECT_THAT(text, Not(HasSubstr("\n")));
}

TEST(Diagnose, OtherNumbersAreNoStatistics) {
  for (const char* text : {"1\n", "1\n2\n", "1\n\n3\n\n", "a\n_\n3\n\n", "1\n_\n3\nx\n"})
    EXPECT_THAT(diagnose(text, true), HasSubstr("is not HTTP")) << text;
}

}  // namespace
}  // namespace bladepsgi::monitoring
