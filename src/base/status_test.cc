#include "base/status.h"

#include <string>

#include <gtest/gtest.h>

namespace bladepsgi {
namespace {

TEST(ReasonPhrase, KnowsFirstMiddleAndLast) {
  EXPECT_EQ(reason_phrase(100), "Continue");
  EXPECT_EQ(reason_phrase(200), "OK");
  EXPECT_EQ(reason_phrase(404), "Not Found");
  EXPECT_EQ(reason_phrase(511), "Network Authentication Required");
}

TEST(ReasonPhrase, IsNeverEmpty) {
  for (int status = 0; status < 1100; ++status)
    EXPECT_FALSE(reason_phrase(status).empty());
  EXPECT_EQ(reason_phrase(299), "Unassigned");
  EXPECT_EQ(reason_phrase(999), "Unassigned");
}

TEST(CannedResponse, NamesItsStatusAndPhrase) {
  for (const int status : {400, 408, 413, 414, 417, 431, 500, 501, 502, 503, 504, 505, 507}) {
    const CannedResponse& response = canned_response(status);
    EXPECT_EQ(response.status, status);
    const std::string title = std::to_string(status) + " " + std::string(reason_phrase(status));
    EXPECT_NE(response.body.find("<title>" + title + "</title>"), std::string_view::npos) << title;
  }
}

TEST(CannedResponse, AnythingElseIsAnInternalError) {
  EXPECT_EQ(canned_response(418).status, 500);
  EXPECT_EQ(canned_response(0).status, 500);
}

TEST(StatusAllowsBody, FollowsHttp) {
  EXPECT_TRUE(status_allows_body(200));
  EXPECT_TRUE(status_allows_body(404));
  EXPECT_FALSE(status_allows_body(101));
  EXPECT_FALSE(status_allows_body(204));
  EXPECT_FALSE(status_allows_body(304));
}

}  // namespace
}  // namespace bladepsgi
