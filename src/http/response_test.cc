#include "http/response.h"

#include <array>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace bladepsgi::http {
namespace {

using Kind = Framing::Kind;
using Fields = std::vector<Field>;

std::string describe(const Framing& framing) {
  constexpr std::array<std::string_view, 4> kKinds = {"none", "length", "chunked", "until close"};
  std::string text(kKinds.at(static_cast<std::size_t>(framing.kind)));
  if (framing.kind == Kind::Length) text += " " + std::to_string(framing.length);
  return text + (framing.keeps_connection ? ", keeps" : ", closes");
}

// The head without its status line and last line, and behind it what follows.
std::string made(int status, const Fields& fields, const ResponseContext& context = {}) {
  std::string out;
  const Framing framing = append_response_head(out, status, fields, context);
  EXPECT_TRUE(out.starts_with("HTTP/1.1 " + std::to_string(status) + " ")) << out;
  EXPECT_TRUE(out.ends_with("\r\n\r\n")) << out;
  std::string lines = out.substr(out.find("\r\n") + 2);
  lines.resize(lines.size() - 2);
  return lines + describe(framing);
}

TEST(ResponseHead, AWholeHead) {
  std::string out = "before";
  const Fields fields{
      {"Content-Type", "text/html"}, {"X-A", ""}, {"Set-Cookie", "a"}, {"Set-Cookie", "b"}};
  const Framing framing = append_response_head(
      out, 404, fields, {.date = "Sun, 06 Nov 1994 08:49:37 GMT", .known_length = 5});
  EXPECT_EQ(out,
            "beforeHTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nX-A: \r\nSet-Cookie: a\r\n"
            "Set-Cookie: b\r\nContent-Length: 5\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n");
  EXPECT_EQ(describe(framing), "length 5, keeps");
}

TEST(ResponseHead, HowTheEndOfTheBodyIsSeen) {
  const Fields none;
  const Fields five{{"content-length", "5"}};
  const std::string chunked = "Transfer-Encoding: chunked\r\n";
  const std::string length = "Content-Length: 5\r\n";
  const std::string close = "Connection: close\r\n";
  const std::string keep = "Connection: keep-alive\r\n";

  EXPECT_EQ(made(200, none), chunked + "chunked, keeps");
  EXPECT_EQ(made(200, none, {.keeps_connection = false}), chunked + close + "chunked, closes");
  EXPECT_EQ(made(200, none, {.known_length = 5}), length + "length 5, keeps");
  EXPECT_EQ(made(200, none, {.known_length = 0}), "Content-Length: 0\r\nlength 0, keeps");
  EXPECT_EQ(made(200, five), length + "length 5, keeps");
  EXPECT_EQ(made(200, five, {.known_length = 7}), length + "length 5, keeps");
  EXPECT_EQ(made(200, five, {.keeps_connection = false}), length + close + "length 5, closes");

  EXPECT_EQ(made(200, none, {.version_minor = 0}), close + "until close, closes");
  EXPECT_EQ(made(200, five, {.version_minor = 0}), length + keep + "length 5, keeps");
  EXPECT_EQ(made(200, five, {.version_minor = 0, .keeps_connection = false}),
            length + close + "length 5, closes");
}

TEST(ResponseHead, ResponsesWithoutBody) {
  const Fields none;
  const Fields five{{"Content-Length", "5"}, {"Transfer-Encoding", "gzip"}};
  const Fields encoded{{"Content-Length", "5"}, {"Transfer-Encoding", "chunked"}};
  for (const int status : {204, 304, 200}) {
    const ResponseContext context{.is_head_request = status == 200, .known_length = 7};
    const std::string told = status == 204 ? "" : "Content-Length: 5\r\n";
    EXPECT_EQ(made(status, none, context), "none, keeps") << status;
    EXPECT_EQ(made(status, five, context), told + "none, keeps") << status;
    EXPECT_EQ(made(status, encoded, context), "none, keeps") << status;
  }
  EXPECT_EQ(made(204, none, {.version_minor = 0}), "Connection: keep-alive\r\nnone, keeps");
  // No client could make anything of it: another response would have to follow.
  EXPECT_EQ(made(102, five), "Connection: close\r\nnone, closes");
}

TEST(ResponseHead, AfterASwitchTheConnectionIsNotOurs) {
  const Fields switching{{"Upgrade", "websocket"},
                         {"Connection", "Upgrade"},
                         {"Content-Length", "5"},
                         {"Transfer-Encoding", "chunked"}};
  const std::string upgraded = "Upgrade: websocket\r\nConnection: Upgrade\r\nuntil close, closes";
  EXPECT_EQ(made(101, switching), upgraded);
  EXPECT_EQ(made(101, switching, {.known_length = 5}), upgraded);
  EXPECT_EQ(made(101, switching, {.version_minor = 0}),
            "Upgrade: websocket\r\nConnection: close\r\nnone, closes");
}

TEST(ResponseHead, AnUnusableLengthIsNotUsed) {
  for (const std::string_view bad :
       {"", "-1", "+1", "1x", "1,1", "0x1", "99999999999999999999", "1 1"}) {
    EXPECT_EQ(made(200, {{"Content-Length", bad}}), "Transfer-Encoding: chunked\r\nchunked, keeps")
        << bad;
    EXPECT_EQ(made(200, {{"Content-Length", bad}}, {.known_length = 3}),
              "Content-Length: 3\r\nlength 3, keeps");
  }
  EXPECT_EQ(made(200, {{"Content-Length", "5"}, {"Content-Length", "5"}}),
            "Transfer-Encoding: chunked\r\nchunked, keeps");
  EXPECT_EQ(made(200, {{"Content-Length", " 5 "}}), "Content-Length: 5\r\nlength 5, keeps");
}

TEST(ResponseHead, WhatConcernsTheConnectionIsTheServers) {
  EXPECT_EQ(made(200,
                 {{"Status", "500"},
                  {"Keep-Alive", "timeout=5"},
                  {"Upgrade", "h2c"},
                  {"Trailer", "X"},
                  {"te", "trailers"},
                  {"Proxy-Connection", "keep-alive"},
                  {"Connection", "keep-alive, Upgrade"},
                  {"Transfer-Encoding", "gzip"},
                  {"X-Status", "1"}},
                 {.known_length = 1}),
            "X-Status: 1\r\nContent-Length: 1\r\nlength 1, keeps");
  EXPECT_EQ(made(200, {{"connection", "x, CLOSE"}}, {.known_length = 1}),
            "Content-Length: 1\r\nConnection: close\r\nlength 1, closes");
  EXPECT_EQ(made(200, {{"Connection", "keep-alive"}}, {.version_minor = 0}),
            "Connection: close\r\nuntil close, closes");
}

TEST(ResponseHead, AnApplicationThatMakesItsOwnChunks) {
  const std::string raw = "Transfer-Encoding: chunked\r\nConnection: close\r\nuntil close, closes";
  EXPECT_EQ(made(200, {{"Transfer-Encoding", "chunked"}}), raw);
  EXPECT_EQ(made(200, {{"Transfer-Encoding", " Chunked"}, {"Content-Length", "5"}}), raw);
  EXPECT_EQ(made(200, {{"Transfer-Encoding", "chunked"}}, {.known_length = 5}), raw);
  EXPECT_EQ(made(200, {{"Transfer-Encoding", "chunked"}}, {.version_minor = 0}), raw);
}

TEST(ResponseHead, DateIsAddedOnce) {
  EXPECT_EQ(made(204, {}, {.date = "now"}), "Date: now\r\nnone, keeps");
  EXPECT_EQ(made(204, {{"date", "then"}}, {.date = "now"}), "date: then\r\nnone, keeps");
}

TEST(ResponseHead, NothingBreaksTheHeadApart) {
  EXPECT_EQ(made(204, {{"A", "b\r\nC: d"},
                       {"A", "b\nC: d"},
                       {"A", std::string_view("b\0", 2)},
                       {"A: b\r\nC", "d"},
                       {"", "x"},
                       {"A B", "x"},
                       {"Good", "\xff\t"}}),
            "Good: \xff\t\r\nnone, keeps");
}

TEST(ResponseHead, Reasons) {
  const auto line = [](int status, std::string_view reason) {
    std::string out;
    ResponseHead().start(out, status, reason);
    return out;
  };
  EXPECT_EQ(line(200, ""), "HTTP/1.1 200 OK\r\n");
  EXPECT_EQ(line(200, "Fine"), "HTTP/1.1 200 Fine\r\n");
  EXPECT_EQ(line(200, "Fine\r\nA: b"), "HTTP/1.1 200 OK\r\n");
  EXPECT_EQ(line(299, ""), "HTTP/1.1 299 Unassigned\r\n");
}

TEST(ResponseHead, StartForgetsTheResponseBefore) {
  ResponseHead head;
  std::string out;
  head.start(out, 204);
  head.add(out, "Content-Length", "5");
  head.add(out, "Connection", "close");
  head.add(out, "Date", "x");
  head.add(out, "Transfer-Encoding", "chunked");
  static_cast<void>(head.finish(out, {}));
  out.clear();
  head.start(out, 200);
  EXPECT_EQ(describe(head.finish(out, {.date = "y"})), "chunked, keeps");
  EXPECT_EQ(out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nDate: y\r\n\r\n");
}

TEST(Response, Informational) {
  std::string out;
  const Fields fields{
      {"Link", "</a.css>"}, {"Content-Length", "5"}, {"Connection", "close"}, {"A", "\n"}};
  append_informational(out, 103, fields);
  EXPECT_EQ(out, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
}

TEST(Response, ChunkHeaders) {
  std::array<char, kChunkHeaderSize> into{};
  EXPECT_EQ(encode_chunk_header(into, 1), "1\r\n");
  EXPECT_EQ(encode_chunk_header(into, 0xabc), "abc\r\n");
  EXPECT_EQ(encode_chunk_header(into, ~std::uint64_t{0}), "ffffffffffffffff\r\n");
}

TEST(Response, Dates) {
  std::array<char, kDateSize> into{};
  const std::vector<std::pair<std::int64_t, std::string_view>> cases = {
      {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"},
      {0, "Thu, 01 Jan 1970 00:00:00 GMT"},
      {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
      {951868799, "Tue, 29 Feb 2000 23:59:59 GMT"},
      {951868800, "Wed, 01 Mar 2000 00:00:00 GMT"},
      {4107542399, "Sun, 28 Feb 2100 23:59:59 GMT"},
      {4107542400, "Mon, 01 Mar 2100 00:00:00 GMT"},
      {-1, "Wed, 31 Dec 1969 23:59:59 GMT"},
      {2147483648, "Tue, 19 Jan 2038 03:14:08 GMT"},
      {253402300799, "Fri, 31 Dec 9999 23:59:59 GMT"},
      {253402300800, "Fri, 31 Dec 9999 23:59:59 GMT"},
  };
  for (const auto& [seconds, text] : cases)
    EXPECT_EQ(format_date(into, seconds), text);
}

}  // namespace
}  // namespace bladepsgi::http
