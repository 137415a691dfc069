#include "cgi/request_start.h"

#include <array>

#include <gtest/gtest.h>

namespace bladepsgi::cgi {
namespace {

using std::chrono::microseconds;

TEST(ParseRequestStart, KnowsWhatFrontEndsWrite) {
  constexpr microseconds kTime{1'795'342'502'118'000};
  for (const char* text :
       {"t=1795342502.118", "1795342502.118", "1795342502.118000", "t=1795342502118",
        "1795342502118", "t=1795342502118000", "1795342502118000000", "1795342502.118000999"}) {
    EXPECT_EQ(parse_request_start(text), kTime) << text;
  }
  EXPECT_EQ(parse_request_start("t=1795342502"), microseconds(1'795'342'502'000'000));
  EXPECT_EQ(parse_request_start("1795342502."), microseconds(1'795'342'502'000'000));
}

TEST(ParseRequestStart, RefusesWhatIsNoTime) {
  for (const char* text :
       {"", "t=", "t", "12", "t=-1795342502", "1795342502,118", "1795342502.1x", "1795342502118.5",
        " 1795342502", "t=t=1795342502", "yesterday", "99999999999999999999999", "0x6b000000"}) {
    EXPECT_EQ(parse_request_start(text), std::nullopt) << text;
  }
}

TEST(RequestStart, IsTheEarliestThatIsTold) {
  const std::array<Parameter, 4> parameters{{{"HTTP_X_REQUEST_START", "t=1795342502.5"},
                                             {"HTTP_X_QUEUE_START", "1795342502400"},
                                             {"HTTP_X_REQUEST_START_NOT", "t=1795342500"},
                                             {"X_REQUEST_START", "t=1795342500"}}};
  EXPECT_EQ(request_start(parameters), microseconds(1'795'342'502'400'000));
  EXPECT_EQ(request_start(std::span(parameters).first(1)), microseconds(1'795'342'502'500'000));
  EXPECT_EQ(request_start(std::span(parameters).last(2)), std::nullopt);
}

}  // namespace
}  // namespace bladepsgi::cgi
