#include "http/connection.h"

#include <algorithm>
#include <string>

#include <gtest/gtest.h>

#include "http/testing.h"

namespace bladepsgi::http {
namespace {

using testing::Player;

// Feeds without ending requests, so that their state can be looked at.
Event feed(Connection& connection, std::string_view bytes) {
  const WritableBytes space = connection.receive_space();
  EXPECT_GE(space.size(), bytes.size());
  std::copy_n(as_bytes(bytes).begin(), bytes.size(), space.begin());
  connection.received(bytes.size());
  return connection.next();
}

std::string post(std::string_view fields) {
  return "POST / HTTP/1.1\r\nHost: x\r\n" + std::string(fields) + "\r\n";
}

const std::string kGet = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";  // NOLINT(cert-err58-cpp): a test

TEST(HttpConnection, WaitsIdleUntilSomethingOfARequestComes) {
  Connection connection;
  EXPECT_TRUE(connection.is_idle());
  EXPECT_FALSE(connection.is_head_started());
  EXPECT_FALSE(connection.must_close());
  EXPECT_EQ(connection.next(), Event::NeedMore);
  EXPECT_EQ(feed(connection, "\r\n"), Event::NeedMore);
  EXPECT_TRUE(connection.is_idle());
  EXPECT_FALSE(connection.is_head_started());
  EXPECT_EQ(feed(connection, "G"), Event::NeedMore);
  EXPECT_FALSE(connection.is_idle());
  EXPECT_TRUE(connection.is_head_started());
  EXPECT_FALSE(connection.has_buffered_input());
  EXPECT_EQ(feed(connection, kGet.substr(1)), Event::Request);
  EXPECT_FALSE(connection.is_head_started());
  EXPECT_FALSE(connection.is_idle());
  EXPECT_TRUE(connection.is_active());
}

TEST(HttpConnection, ARequestWithoutBodyIsCompleteAtOnce) {
  Connection connection;
  ASSERT_EQ(feed(connection, kGet), Event::Request);
  EXPECT_TRUE(connection.is_body_complete());
  EXPECT_FALSE(connection.is_body_short());
  EXPECT_TRUE(connection.is_input_finished());
  EXPECT_TRUE(connection.body().empty());
  EXPECT_EQ(connection.body_bypass(), 0U);
  EXPECT_EQ(connection.next(), Event::BodyEnd);
  EXPECT_EQ(connection.next(), Event::NeedMore);
  EXPECT_FALSE(connection.must_close());
  connection.request_ended();
  EXPECT_TRUE(connection.is_idle());
}

TEST(HttpConnection, ABodyIsHandedOverAsItArrives) {
  Connection connection;
  ASSERT_EQ(feed(connection, post("Content-Length: 10\r\n") + "0123"), Event::Request);
  EXPECT_EQ(as_text(connection.body()), "0123");
  ASSERT_EQ(connection.next(), Event::Body);
  ASSERT_EQ(connection.next(), Event::Body);
  EXPECT_EQ(connection.body_bypass(), 0U);
  connection.consume_body(3);
  EXPECT_EQ(as_text(connection.body()), "3");
  connection.consume_body(1);
  EXPECT_EQ(connection.next(), Event::NeedMore);
  EXPECT_EQ(connection.body_bypass(), 6U);
  connection.body_bypassed(2);
  EXPECT_EQ(feed(connection, "6789" + kGet), Event::Body);
  EXPECT_EQ(as_text(connection.body()), "6789");
  EXPECT_FALSE(connection.is_body_complete());
  connection.consume_body(4);
  EXPECT_TRUE(connection.is_body_complete());
  EXPECT_FALSE(connection.is_input_finished());  // the next request is here
  EXPECT_EQ(connection.next(), Event::BodyEnd);
  EXPECT_EQ(connection.next(), Event::NeedMore);
  connection.request_ended();
  EXPECT_TRUE(connection.is_head_started());
  EXPECT_EQ(connection.next(), Event::Request);
  EXPECT_EQ(connection.request().method, "GET");
}

TEST(HttpConnection, AChunkedBodyIsCompleteWithItsEnd) {
  Connection connection;
  ASSERT_EQ(feed(connection, post("Transfer-Encoding: chunked\r\n") + "3\r\nabc"), Event::Request);
  EXPECT_TRUE(connection.body().empty());
  ASSERT_EQ(connection.next(), Event::Body);
  EXPECT_EQ(as_text(connection.body()), "abc");
  connection.consume_body(3);
  EXPECT_EQ(connection.next(), Event::NeedMore);
  EXPECT_EQ(feed(connection, "\r\n400\r\n"), Event::NeedMore);
  EXPECT_EQ(connection.body_bypass(), 1024U);
  connection.body_bypassed(1024);
  EXPECT_EQ(connection.body_bypass(), 0U);
  EXPECT_EQ(feed(connection, "\r\n0\r\n"), Event::NeedMore);
  EXPECT_FALSE(connection.is_body_complete());
  EXPECT_EQ(feed(connection, "\r\n"), Event::BodyEnd);
  EXPECT_TRUE(connection.is_body_complete());
  EXPECT_TRUE(connection.is_input_finished());
}

TEST(HttpConnection, TheRequestStaysValidWhileItsBodyRunsThroughTheBuffer) {
  Limits limits;
  limits.receive_buffer = 1024;
  Connection connection(limits);
  ASSERT_EQ(feed(connection, post("Name: value\r\nContent-Length: 25000\r\n")), Event::Request);
  const Request request = connection.request();
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(feed(connection, std::string(500, 'x')), Event::Body);
    connection.consume_body(connection.body().size());
  }
  EXPECT_EQ(connection.next(), Event::BodyEnd);
  EXPECT_EQ(request.method, "POST");
  ASSERT_EQ(request.fields.size(), 3U);
  EXPECT_EQ(request.fields[1].name, "Name");
  EXPECT_EQ(request.fields[1].value, "value");
}

TEST(HttpConnection, AHeadMayBeLargerThanTheBuffer) {
  Limits limits;
  limits.receive_buffer = 1024;
  Player player(limits);
  const std::string value(5000, 'v');
  player.feed("GET / HTTP/1.1\r\nHost: x\r\nA: " + value + "\r\n\r\n");
  EXPECT_NE(player.log().find("  A: " + value + "\nbody() complete\n"), std::string::npos);
}

TEST(HttpConnection, AFullBufferIsNotReadInto) {
  Limits limits;
  limits.receive_buffer = 1024;
  Connection connection(limits);
  ASSERT_EQ(feed(connection, kGet + std::string(1024 - kGet.size(), 'x')), Event::Request);
  EXPECT_TRUE(connection.receive_space().empty());
  connection.discard_input();
  EXPECT_EQ(connection.receive_space().size(), 1024U);
}

// --- 100 Continue

TEST(HttpConnection, APeerThatWaitsIsToldOnceThatItsBodyIsWanted) {
  Connection connection;
  ASSERT_EQ(feed(connection, post("Content-Length: 4\r\nExpect: 100-continue\r\n")),
            Event::Request);
  EXPECT_TRUE(connection.pending_output().empty());
  EXPECT_TRUE(connection.must_close());
  connection.want_body();
  EXPECT_FALSE(connection.must_close());
  EXPECT_EQ(as_text(connection.pending_output()), "HTTP/1.1 100 Continue\r\n\r\n");
  connection.output_sent(9);
  EXPECT_EQ(as_text(connection.pending_output()), "100 Continue\r\n\r\n");
  connection.want_body();
  connection.output_sent(16);
  EXPECT_TRUE(connection.pending_output().empty());
  EXPECT_EQ(feed(connection, "body"), Event::Body);
  connection.consume_body(4);
  connection.want_body();
  EXPECT_TRUE(connection.pending_output().empty());
  EXPECT_EQ(connection.next(), Event::BodyEnd);
  connection.request_ended();
  EXPECT_TRUE(connection.is_idle());
  ASSERT_EQ(feed(connection, post("Content-Length: 4\r\nExpect: 100-continue\r\n")),
            Event::Request);
  connection.want_body();
  EXPECT_EQ(connection.pending_output().size(), 25U);
}

TEST(HttpConnection, APeerThatDoesNotWaitIsNotTold) {
  for (const std::string& bytes :
       {post("Content-Length: 4\r\nExpect: 100-continue\r\n") + "b",
        post("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n") + "4", kGet,
        post("Expect: 100-continue\r\n"), post("Content-Length: 0\r\nExpect: 100-continue\r\n"),
        post("Content-Length: 1\r\n"),
        std::string("POST / HTTP/1.0\r\nContent-Length: 1\r\nConnection: keep-alive\r\n"
                    "Expect: 100-continue\r\n\r\n")}) {
    Connection connection;
    ASSERT_EQ(feed(connection, bytes), Event::Request);
    connection.want_body();
    EXPECT_TRUE(connection.pending_output().empty()) << bytes;
    EXPECT_FALSE(connection.must_close()) << bytes;
  }
}

TEST(HttpConnection, ABodyThatNobodyAskedForEndsTheConnection) {
  for (const std::string_view body : {"", "bo", "body"}) {
    Connection connection;
    ASSERT_EQ(
        feed(connection, post("Content-Length: 4\r\nExpect: 100-continue\r\n") + std::string(body)),
        Event::Request);
    EXPECT_TRUE(connection.must_close());
    connection.request_ended();
    EXPECT_EQ(connection.next(), Event::Close);
    connection.want_body();
    EXPECT_TRUE(connection.pending_output().empty());
  }
}

// --- what ends a connection

TEST(HttpConnection, TheServerMayCloseAfterARequest) {
  Connection connection;
  ASSERT_EQ(feed(connection, kGet + kGet), Event::Request);
  EXPECT_FALSE(connection.must_close());
  connection.close_after_request();
  EXPECT_TRUE(connection.must_close());
  connection.request_ended();
  EXPECT_TRUE(connection.must_close());
  EXPECT_EQ(connection.next(), Event::Close);
}

TEST(HttpConnection, AnUnreadBodyIsReadAwayWhileTheNextRequestWaits) {
  Connection connection;
  ASSERT_EQ(feed(connection, post("Content-Length: 8\r\n") + "1234"), Event::Request);
  EXPECT_FALSE(connection.must_close());
  connection.request_ended();
  EXPECT_FALSE(connection.is_active());
  EXPECT_FALSE(connection.is_idle());
  EXPECT_TRUE(connection.body().empty());
  EXPECT_EQ(connection.next(), Event::NeedMore);
  EXPECT_FALSE(connection.is_head_started());
  EXPECT_FALSE(connection.is_idle());
  EXPECT_EQ(feed(connection, "5678"), Event::NeedMore);
  EXPECT_TRUE(connection.is_idle());
}

TEST(HttpConnection, ABodyTooLargeToReadAwayEndsTheConnection) {
  Limits limits;
  limits.drain_bytes = 100;
  Connection connection(limits);
  ASSERT_EQ(feed(connection, post("Content-Length: 102\r\n") + "x"), Event::Request);
  EXPECT_TRUE(connection.must_close());
  connection.consume_body(1);
  EXPECT_TRUE(connection.must_close());
  connection.body_bypassed(1);
  EXPECT_FALSE(connection.must_close());
}

TEST(HttpConnection, AMalformedBodyLeavesTheRequestAnswerable) {
  Connection connection;
  ASSERT_EQ(feed(connection, post("Transfer-Encoding: chunked\r\n") + "1\r\nax"), Event::Request);
  ASSERT_EQ(connection.next(), Event::Body);
  connection.consume_body(1);
  EXPECT_EQ(connection.next(), Event::Dropped);
  EXPECT_EQ(connection.next(), Event::Dropped);
  EXPECT_EQ(connection.drop_reason(), "a chunk is longer than its size");
  EXPECT_TRUE(connection.is_active());
  EXPECT_TRUE(connection.must_close());
  EXPECT_FALSE(connection.is_body_complete());
  EXPECT_EQ(connection.request().method, "POST");
  connection.request_ended();
  EXPECT_EQ(connection.next(), Event::Close);
}

TEST(HttpConnection, HalfCloseBehindARequestIsAnswered) {
  Connection connection;
  ASSERT_EQ(feed(connection, post("Content-Length: 4\r\n") + "body" + kGet), Event::Request);
  connection.peer_closed();
  EXPECT_EQ(connection.next(), Event::Body);
  connection.consume_body(4);
  EXPECT_EQ(connection.next(), Event::BodyEnd);
  EXPECT_EQ(connection.next(), Event::Close);
  EXPECT_TRUE(connection.is_active());
  EXPECT_FALSE(connection.is_body_short());
  connection.request_ended();
  EXPECT_EQ(connection.next(), Event::Request);
  EXPECT_EQ(connection.next(), Event::BodyEnd);
  connection.request_ended();
  EXPECT_EQ(connection.next(), Event::Close);
}

TEST(HttpConnection, AShortBodyIsSeenOnceItsBytesAreTaken) {
  Connection connection;
  ASSERT_EQ(feed(connection, post("Content-Length: 4\r\n") + "bo"), Event::Request);
  connection.peer_closed();
  EXPECT_FALSE(connection.is_body_short());
  EXPECT_EQ(connection.next(), Event::Body);
  connection.consume_body(2);
  EXPECT_TRUE(connection.is_body_short());
  EXPECT_TRUE(connection.must_close());
  EXPECT_EQ(connection.next(), Event::Close);
}

TEST(HttpConnection, ARefusalTellsWhatIsKnownOfTheRequest) {
  Connection connection;
  ASSERT_EQ(feed(connection, "PUT /x HTTP/1.0\r\nA: b\r\nB : c\r\n"), Event::Refused);
  EXPECT_EQ(connection.refusal().status, 400);
  EXPECT_EQ(connection.refusal().reason, "a header name is not a token");
  EXPECT_EQ(connection.request().method, "PUT");
  EXPECT_EQ(connection.request().target, "/x");
  EXPECT_EQ(connection.request().version_minor, 0);
  EXPECT_TRUE(connection.request().fields.empty());
  EXPECT_FALSE(connection.is_active());
  EXPECT_TRUE(connection.must_close());
  EXPECT_EQ(connection.next(), Event::Close);
  EXPECT_EQ(connection.refusal().status, 400);
  connection.reset();
  ASSERT_EQ(feed(connection, "PUT\t"), Event::NeedMore);
  ASSERT_EQ(feed(connection, "/x HTTP/1.0\n"), Event::Refused);
  EXPECT_EQ(connection.request().method, "");
}

TEST(HttpConnection, ResetForgetsEverything) {
  for (const std::string& bytes :
       {std::string("\r\n\r\nGET"), post("Content-Length: 4\r\nExpect: 100-continue\r\n"),
        kGet + "x", post("Transfer-Encoding: chunked\r\n") + "x", std::string("\x01"),
        std::string("GET /\r"), post("Transfer-Encoding: chunked\r\n") + "5\r\nab"}) {
    Connection connection;
    feed(connection, bytes);
    connection.want_body();
    static_cast<void>(connection.next());
    connection.close_after_request();
    connection.peer_closed();
    connection.reset();
    EXPECT_TRUE(connection.is_idle()) << bytes;
    EXPECT_TRUE(connection.pending_output().empty()) << bytes;
    EXPECT_FALSE(connection.has_peer_closed()) << bytes;
    ASSERT_EQ(feed(connection, post("Content-Length: 1\r\n") + "b"), Event::Request) << bytes;
    EXPECT_FALSE(connection.must_close()) << bytes;
    EXPECT_EQ(connection.next(), Event::Body) << bytes;
  }
}

// --- memory

TEST(HttpConnection, MemoryIsGivenBackToWait) {
  Connection connection;
  ASSERT_EQ(feed(connection, kGet), Event::Request);
  connection.request_ended();
  connection.release_memory();
  EXPECT_EQ(feed(connection, "GET"), Event::NeedMore);
  connection.release_memory();  // what has come of a head stays
  EXPECT_EQ(feed(connection, kGet.substr(3)), Event::Request);
}

// The log up to the end of the last request that has ended.
std::string ended_part(const std::string& log) {
  const std::size_t last = log.rfind("\nbody(");
  return last == std::string::npos ? "" : log.substr(0, log.find('\n', last + 1) + 1);
}

TEST(HttpConnection, AnotherOneGoesOnWhereThisOneIs) {
  const std::string bytes = "\r\n" + kGet + post("Content-Length: 5\r\n") + "12345\r\n" +
                            post("Transfer-Encoding: chunked\r\n") +
                            "3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nT: t\r\n\r\n" + kGet;
  Player whole;
  whole.feed(bytes);
  whole.close();
  std::size_t moved = 0;
  for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
    Player before({}, false);
    before.connection().keep_unserved();
    before.feed(std::string_view(bytes).substr(0, cut));
    const auto unserved = before.connection().unserved();
    // The player wants each body, and with that has said so.
    if (!unserved) {
      EXPECT_TRUE(before.connection().is_active()) << cut << before.log();
      continue;
    }
    ++moved;
    EXPECT_EQ(unserved->replies, 0U);
    Player after;
    after.feed(as_text(unserved->bytes));
    after.feed(std::string_view(bytes).substr(cut));
    after.close();
    EXPECT_EQ(ended_part(before.log()) + after.log(), whole.log()) << "cut at " << cut;
  }
  EXPECT_GT(moved, bytes.size() / 2);
}

TEST(HttpConnection, SaysHowMuchOfTheBodyIsHere) {
  for (const bool is_chunked : {false, true}) {
    const std::string head =
        post(is_chunked ? "Transfer-Encoding: chunked\r\n" : "Content-Length: 10\r\n");
    const std::string content = is_chunked ? "3\r\n012\r\n7\r\n3456789\r\n0\r\n\r\n" : "0123456789";
    for (std::size_t size = 0; size <= content.size(); ++size) {
      Connection connection;
      connection.keep_unserved();
      ASSERT_EQ(
          feed(connection, head + content.substr(0, size) + (size == content.size() ? kGet : "")),
          Event::Request);
      const BodyAhead ahead = connection.body_ahead();
      EXPECT_EQ(ahead.is_whole, size == content.size()) << content.substr(0, size);
      EXPECT_FALSE(ahead.needs_answer);
      EXPECT_TRUE(connection.unserved());
      std::size_t taken = 0;
      while (connection.next() == Event::Body) {
        taken += connection.body().size();
        connection.consume_body(connection.body().size());
      }
      EXPECT_EQ(ahead.bytes, taken) << content.substr(0, size);
    }
  }
}

TEST(HttpConnection, APeerThatWaitsForAWordWillNotSendMore) {
  Connection connection;
  const std::string head = post("Content-Length: 5\r\nExpect: 100-continue\r\n");
  ASSERT_EQ(feed(connection, head), Event::Request);
  EXPECT_TRUE(connection.body_ahead().needs_answer);
  EXPECT_FALSE(connection.body_ahead().is_whole);
  connection.reset();
  ASSERT_EQ(feed(connection, head + "12"), Event::Request);
  EXPECT_FALSE(connection.body_ahead().needs_answer);
}

}  // namespace
}  // namespace bladepsgi::http
