#include "fcgi/connection.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fcgi/testing.h"

namespace bladepsgi::fcgi {
namespace {

using testing::begin;
using testing::body;
using testing::encode;
using testing::pair;
using testing::params;
using testing::Player;
using testing::record;
using testing::Replies;
using testing::stream;
using testing::whole_request;

struct Played {
  std::string log;
  std::string output;
};

Played play(std::string_view bytes, const Limits& limits = {}, bool closes = true) {
  Player player(limits);
  player.feed(bytes);
  if (closes) player.close();
  return {player.log(), player.output()};
}

// Feeds without ending requests, so that their state can be looked at.
Event feed(Connection& connection, std::string_view bytes) {
  const WritableBytes space = connection.receive_space();
  EXPECT_GE(space.size(), bytes.size());
  std::copy_n(as_bytes(bytes).begin(), bytes.size(), space.begin());
  connection.received(bytes.size());
  return connection.next();
}

std::string get_values(std::initializer_list<std::string> names, std::size_t padding = 0) {
  std::string content;
  for (const std::string& name : names)
    content += pair(name, "");
  return record(RecordType::GetValues, 0, content, padding);
}

std::string take_output(Connection& connection) {
  const std::string out(as_text(connection.pending_output()));
  connection.output_sent(out.size());
  return out;
}

// --- what is sent every day

TEST(Connection, NginxRequestWithoutBody) {
  const std::string bytes = begin(1) +
                            record(RecordType::Params, 1, encode({{"A", "1"}, {"B", ""}}), 7) +
                            record(RecordType::Params, 1) + record(RecordType::Stdin, 1);
  EXPECT_EQ(play(bytes).log, "request 1 role 1\n  A=1\n  B=\nbody() complete\nclose\n");
}

TEST(Connection, BodyIsHandedOverAsItArrives) {
  Connection connection;
  ASSERT_EQ(feed(connection, begin(1) + params(1, {{"A", "1"}})), Event::Request);
  const std::string whole = record(RecordType::Stdin, 1, "0123456789", 3);
  ASSERT_EQ(feed(connection, whole.substr(0, 8 + 4)), Event::Body);
  EXPECT_EQ(as_text(connection.body()), "0123");
  connection.consume_body(4);
  EXPECT_EQ(connection.next(), Event::NeedMore);
  EXPECT_EQ(connection.body_bypass(), 6U);
}

TEST(Connection, ParametersStayValidWhileTheBodyRunsThroughTheBuffer) {
  Limits limits;
  limits.receive_buffer = 1024;
  Connection connection(limits);
  ASSERT_EQ(feed(connection, begin(1) + params(1, {{"NAME", "value"}})), Event::Request);
  const auto parameters = connection.request().parameters;
  for (int i = 0; i < 50; ++i) {
    Event event = feed(connection, record(RecordType::Stdin, 1, std::string(500, 'x')));
    while (event == Event::Body) {
      connection.consume_body(connection.body().size());
      event = connection.next();
    }
  }
  ASSERT_EQ(parameters.size(), 1U);
  EXPECT_EQ(parameters[0].name, "NAME");
  EXPECT_EQ(parameters[0].value, "value");
}

TEST(Connection, EmptyParametersAndEmptyBodyAreARequest) {
  EXPECT_EQ(play(begin(9) + record(RecordType::Params, 9) + record(RecordType::Stdin, 9)).log,
            "request 9 role 1\nbody() complete\nclose\n");
}

TEST(Connection, KeptConnectionServesOneRequestAfterAnother) {
  const Played played =
      play(whole_request(1, true, {{"N", "1"}}, "one") + whole_request(1, true, {{"N", "2"}}) +
           whole_request(2, false, {{"N", "3"}}, "three"));
  EXPECT_EQ(played.log,
            "request 1 role 1 keep\n  N=1\nbody(one) complete\n"
            "request 1 role 1 keep\n  N=2\nbody() complete\n"
            "request 2 role 1\n  N=3\nbody(three) complete\nclose\n");
}

TEST(Connection, WithoutKeepConnectionNothingFollowsTheRequest) {
  EXPECT_EQ(play(whole_request(1, false, {}) + whole_request(1, false, {})).log,
            "request 1 role 1\nbody() complete\nclose\n");
}

TEST(Connection, HalfCloseAfterTheRequestIsAnswered) {
  Connection connection;
  ASSERT_EQ(feed(connection, whole_request(1, true, {{"A", "1"}}, "body")), Event::Request);
  connection.peer_closed();
  EXPECT_EQ(connection.next(), Event::Body);
  connection.consume_body(4);
  EXPECT_EQ(connection.next(), Event::BodyEnd);
  EXPECT_TRUE(connection.is_body_complete());
  EXPECT_EQ(connection.next(), Event::Close);
  EXPECT_TRUE(connection.is_active());
  connection.request_ended();
  EXPECT_EQ(connection.next(), Event::Close);
}

TEST(Connection, ClosingInTheMiddleOfABodyBreaksIt) {
  EXPECT_EQ(play(begin(1) + params(1, {}) + record(RecordType::Stdin, 1, "half")).log,
            "request 1 role 1\nbody(half) broken\nclose\n");
}

TEST(Connection, ClosingInTheMiddleOfAHeadIsNoRequest) {
  EXPECT_EQ(play(begin(1) + record(RecordType::Params, 1, pair("A", "1"))).log, "close\n");
  EXPECT_EQ(play("").log, "close\n");
  EXPECT_EQ(play(std::string("\x01\x01\x00", 3)).log, "close\n");
}

// --- framing

TEST(Connection, PaddingOfEveryLengthOnEveryRecordIsSteppedOver) {
  for (const std::size_t padding : std::initializer_list<std::size_t>{0, 1, 7, 8, 255}) {
    const std::string bytes =
        begin(1, true, 1, padding) + get_values({"FCGI_MAX_REQS"}, padding) +
        record(RecordType::Params, 1, pair("A", "1"), padding) + record(99, 0, "what", padding) +
        record(RecordType::Params, 1, {}, padding) + record(RecordType::Stdin, 1, "body", padding) +
        record(RecordType::Params, 77, "x", padding) + record(RecordType::Stdin, 1, {}, padding) +
        record(RecordType::AbortRequest, 5, {}, padding) + whole_request(1, false, {{"B", "2"}});
    EXPECT_EQ(play(bytes).log,
              "request 1 role 1 keep\n  A=1\nbody(body) complete\n"
              "request 1 role 1\n  B=2\nbody() complete\nclose\n")
        << padding;
  }
}

TEST(Connection, LargestRecordsPassThroughASmallBuffer) {
  Limits limits;
  limits.receive_buffer = 1024;
  const std::string value(60000, 'v');
  const std::string big(65535, 'b');
  const std::string bytes = begin(1) + stream(RecordType::Params, 1, pair("A", value), 65535, 255) +
                            stream(RecordType::Stdin, 1, big, 65535, 255);
  EXPECT_EQ(play(bytes, limits).log,
            "request 1 role 1\n  A=" + value + "\nbody(" + big + ") complete\nclose\n");
}

TEST(Connection, ParametersMayBeCutOverRecordsAnywhere) {
  const std::string pairs =
      pair("NAME", "value") + pair("LONG", std::string(300, 'x')) + pair("LAST", "");
  const std::string expected =
      play(begin(1) + stream(RecordType::Params, 1, pairs) + body(1, "b")).log;
  for (std::size_t piece = 1; piece < pairs.size(); ++piece) {
    ASSERT_EQ(play(begin(1) + stream(RecordType::Params, 1, pairs, piece) + body(1, "b", 1)).log,
              expected)
        << piece;
  }
}

// One stream with everything in it.
std::string rich_stream() {
  const std::string pairs =
      encode({{"REQUEST_METHOD", "POST"}, {"X", std::string(140, 'x')}, {"E", ""}});
  return get_values({"FCGI_MPXS_CONNS", "FCGI_MAX_REQS"}, 3) + begin(1, true, 1, 2) +
         record(RecordType::Params, 1, pairs.substr(0, 19), 1) + record(40, 0, "unknown", 4) +
         begin(2) + record(RecordType::Params, 2, "ignored") +
         record(RecordType::Params, 1, pairs.substr(19), 2) + record(RecordType::Params, 1, {}, 9) +
         record(RecordType::Stdin, 1, "first ", 1) + get_values({}) + record(RecordType::Stdin, 2) +
         record(RecordType::Stdin, 1, "second") + record(RecordType::Stdin, 1, {}, 5) +
         begin(3, true, 7) + record(RecordType::Params, 3) + begin(4, true, 2) +
         record(RecordType::Params, 4, pair("A", "auth")) + record(RecordType::Params, 4) +
         record(RecordType::Stdin, 4) + begin(5, true) + record(RecordType::Params, 5, "xx") +
         record(RecordType::AbortRequest, 5) + record(RecordType::Stdin, 5, "late") +
         begin(6, true, 3) + params(6, {{"F", "1"}}) + body(6, "filtered") + body(6, "") +
         whole_request(7, false, {{"LAST", "1"}}, "end");
}

TEST(Connection, EveryCutOfTheStreamGivesTheSameEvents) {
  const std::string bytes = rich_stream();
  Player whole;
  whole.feed(bytes);
  whole.close();
  ASSERT_NE(whole.log().find("LAST=1\nbody(end) complete\nclose\n"), std::string::npos)
      << whole.log();
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    Player player;
    player.feed(std::string_view(bytes).substr(0, cut));
    player.feed(std::string_view(bytes).substr(cut));
    player.close();
    ASSERT_EQ(player.log(), whole.log()) << cut;
    ASSERT_EQ(player.output(), whole.output()) << cut;
  }
  for (const std::size_t piece : std::initializer_list<std::size_t>{1, 2, 3, 7, 8, 9, 64}) {
    Player player;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      player.feed(std::string_view(bytes).substr(at, piece));
    }
    player.close();
    ASSERT_EQ(player.log(), whole.log()) << piece;
    ASSERT_EQ(player.output(), whole.output()) << piece;
  }
}

TEST(Connection, BodyPastTheBufferIsTheSameBody) {
  const std::string bytes = begin(1, true) + params(1, {{"A", "1"}}) +
                            stream(RecordType::Stdin, 1, std::string(3000, 'b'), 700, 3) +
                            whole_request(2, false, {}, "second");
  Player whole;
  whole.feed(bytes);
  whole.close();
  Player direct;
  direct.feed_bypassing(bytes);
  direct.close();
  EXPECT_EQ(direct.log(), whole.log());
}

// --- management

TEST(Connection, GetValuesIsAnsweredWithWhatIsKnown) {
  Connection connection({}, {.max_connections = 12, .max_requests = 34});
  EXPECT_EQ(
      feed(connection, get_values({"FCGI_MPXS_CONNS", "WHAT", "FCGI_MAX_CONNS", "FCGI_MAX_REQS"})),
      Event::NeedMore);
  EXPECT_EQ(take_output(connection),
            record(RecordType::GetValuesResult, 0,
                   pair("FCGI_MPXS_CONNS", "0") + pair("FCGI_MAX_CONNS", "12") +
                       pair("FCGI_MAX_REQS", "34")));
}

TEST(Connection, GetValuesOfNothingKnownHasAnEmptyResult) {
  for (const std::string& bytes : {get_values({}), get_values({"WHAT", "EVER"})}) {
    Connection connection;
    EXPECT_EQ(feed(connection, bytes), Event::NeedMore);
    EXPECT_EQ(take_output(connection), record(RecordType::GetValuesResult, 0));
  }
}

TEST(Connection, MalformedGetValuesDropsTheConnection) {
  EXPECT_EQ(play(record(RecordType::GetValues, 0, std::string("\x05", 1))).log,
            "dropped: malformed GET_VALUES record\n");
}

TEST(Connection, EveryOtherManagementTypeIsUnknown) {
  for (int type = 9; type < 256; ++type) {
    if (type == static_cast<int>(RecordType::GetValues)) continue;
    Connection connection;
    EXPECT_EQ(feed(connection, record(static_cast<std::uint8_t>(type), 0, "content", 3)),
              Event::NeedMore);
    EXPECT_EQ(take_output(connection),
              record(RecordType::UnknownType, 0,
                     std::string(1, static_cast<char>(type)) + std::string(7, '\0')));
    EXPECT_TRUE(connection.is_idle());
  }
}

TEST(Connection, ApplicationRecordsWithIdZeroDropTheConnection) {
  for (std::uint8_t type = 1; type <= 8; ++type) {
    EXPECT_EQ(play(record(type, 0, "12345678")).log,
              "dropped: application record with request id 0\n")
        << int{type};
  }
}

TEST(Connection, ManagementRecordsAreAnsweredInEveryState) {
  const std::string question = get_values({"FCGI_MAX_CONNS"}, 1) + record(200, 0, "x");
  const std::string reply = record(RecordType::GetValuesResult, 0, pair("FCGI_MAX_CONNS", "1")) +
                            record(RecordType::UnknownType, 0, "\xC8" + std::string(7, '\0'));
  const std::vector<std::string> parts = {begin(1, true),
                                          record(RecordType::Params, 1, pair("A", "1")),
                                          record(RecordType::Params, 1),
                                          record(RecordType::Stdin, 1, "b1"),
                                          record(RecordType::Stdin, 1, "b2"),
                                          record(RecordType::Stdin, 1)};
  for (std::size_t where = 0; where <= parts.size(); ++where) {
    std::string bytes;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (i == where) bytes += question;
      bytes += parts[i];
    }
    if (where == parts.size()) bytes += question;
    const Played played = play(bytes);
    EXPECT_EQ(played.log, "request 1 role 1 keep\n  A=1\nbody(b1b2) complete\nclose\n") << where;
    EXPECT_EQ(played.output, reply) << where;
  }
}

TEST(Connection, ManagementRecordsAreAnsweredWhileTheApplicationRuns) {
  Connection connection;
  ASSERT_EQ(feed(connection, whole_request(1, true, {})), Event::Request);
  ASSERT_EQ(connection.next(), Event::BodyEnd);
  EXPECT_EQ(feed(connection, get_values({})), Event::NeedMore);
  EXPECT_EQ(take_output(connection), record(RecordType::GetValuesResult, 0));
}

TEST(Connection, APeerThatAsksAndDoesNotReadIsDropped) {
  Connection connection;
  Event event = Event::NeedMore;
  int asked = 0;
  while (event == Event::NeedMore && asked < 100000) {
    event = feed(connection, get_values({"FCGI_MAX_CONNS"}));
    ++asked;
  }
  EXPECT_EQ(event, Event::Dropped);
  EXPECT_EQ(connection.error(), ProtocolError::TooManyRepliesUnread);
  EXPECT_LE(connection.pending_output().size(), Limits{}.pending_output);
  EXPECT_GT(asked, 100);
}

TEST(Connection, APeerThatOnlyAsksIsDroppedInTheEnd) {
  Limits limits;
  limits.drain_bytes = 1000;
  std::string bytes;
  for (int i = 0; i < 200; ++i)
    bytes += get_values({});
  const Played played = play(bytes, limits);
  EXPECT_EQ(played.log, "dropped: too much input that belongs to no request\n");
}

// --- roles and refusals

TEST(Connection, UnknownRoleIsRefusedAndItsRecordsIgnored) {
  for (const std::uint16_t role : std::initializer_list<std::uint16_t>{0, 4, 255, 256, 65535}) {
    const Played played = play(begin(5, true, role) + params(5, {{"A", "1"}}) + body(5, "body") +
                               whole_request(6, true, {{"B", "2"}}));
    EXPECT_EQ(played.log, "request 6 role 1 keep\n  B=2\nbody() complete\nclose\n") << role;
    const Replies replies = Replies::parse(played.output);
    EXPECT_EQ(replies.by_id.at(5).ends, 1);
    EXPECT_EQ(replies.by_id.at(5).protocol_status, 3);
    EXPECT_EQ(replies.by_id.at(5).out_ends, 0);
  }
}

TEST(Connection, UnknownRoleWithoutKeepConnectionCloses) {
  const Played played = play(begin(5, false, 9) + whole_request(6, true, {}));
  EXPECT_EQ(played.log, "close\n");
  EXPECT_EQ(Replies::parse(played.output).by_id.at(5).protocol_status, 3);
}

TEST(Connection, SecondRequestBeforeTheInputOfTheFirstIsCompleteIsRefused) {
  const std::string second = begin(2, true) + params(2, {{"B", "2"}}) + body(2, "ignored");
  for (const std::string& bytes :
       {begin(1, true) + second + params(1, {{"A", "1"}}) + body(1, "body"),
        begin(1, true) + params(1, {{"A", "1"}}) + second + body(1, "body"),
        begin(1, true) + params(1, {{"A", "1"}}) + record(RecordType::Stdin, 1, "bo") + second +
            body(1, "dy")}) {
    const Played played = play(bytes);
    EXPECT_EQ(played.log, "request 1 role 1 keep\n  A=1\nbody(body) complete\nclose\n");
    const Replies replies = Replies::parse(played.output);
    EXPECT_EQ(replies.by_id.at(2).ends, 1);
    EXPECT_EQ(replies.by_id.at(2).protocol_status, 1);
    EXPECT_EQ(replies.by_id.count(1), 0U);
  }
}

TEST(Connection, RequestBehindACompleteOneWaitsForItsTurn) {
  for (const std::uint16_t id : std::initializer_list<std::uint16_t>{1, 2}) {
    Connection connection;
    ASSERT_EQ(feed(connection,
                   whole_request(1, true, {{"A", "1"}}) + whole_request(id, true, {{"B", "2"}})),
              Event::Request);
    EXPECT_EQ(connection.next(), Event::BodyEnd);
    EXPECT_EQ(connection.next(), Event::NeedMore);
    EXPECT_TRUE(connection.pending_output().empty());
    EXPECT_EQ(connection.request().parameters[0].name, "A");
    connection.request_ended();
    EXPECT_TRUE(connection.has_buffered_input());
    ASSERT_EQ(connection.next(), Event::Request);
    EXPECT_EQ(connection.request().id, id);
    EXPECT_EQ(connection.request().parameters[0].name, "B");
  }
}

TEST(Connection, RequestBehindOneThatClosesIsRefused) {
  Connection connection;
  ASSERT_EQ(feed(connection, whole_request(1, false, {}) + whole_request(2, false, {})),
            Event::Request);
  EXPECT_EQ(connection.next(), Event::BodyEnd);
  EXPECT_EQ(connection.next(), Event::NeedMore);
  EXPECT_EQ(Replies::parse(take_output(connection)).by_id.at(2).protocol_status, 1);
}

TEST(Connection, AuthorizerStartsWithoutStdinAndIgnoresAnEmptyOne) {
  Connection connection;
  ASSERT_EQ(feed(connection, begin(1, true, 2) + params(1, {{"A", "1"}})), Event::Request);
  EXPECT_TRUE(connection.is_body_complete());
  EXPECT_FALSE(connection.is_input_finished());  // lighttpd sends an empty STDIN, mod_fcgid none
  EXPECT_EQ(feed(connection, record(RecordType::Stdin, 1)), Event::NeedMore);
  EXPECT_TRUE(connection.is_input_finished());
  EXPECT_TRUE(connection.body().empty());
  connection.request_ended();
  EXPECT_EQ(feed(connection, whole_request(1, true, {{"B", "2"}})), Event::Request);
}

TEST(Connection, AuthorizersLateEmptyStdinIsIgnored) {
  Connection connection;
  ASSERT_EQ(feed(connection, begin(1, true, 2) + params(1, {})), Event::Request);
  connection.request_ended();
  EXPECT_EQ(feed(connection, record(RecordType::Stdin, 1) + whole_request(1, true, {})),
            Event::Request);
}

TEST(Connection, FiltersBodyIsItsStdinAndItsDataIsForgotten) {
  Connection connection;
  ASSERT_EQ(feed(connection, begin(1, true, 3) + params(1, {}) + body(1, "in")), Event::Request);
  EXPECT_EQ(connection.next(), Event::Body);
  EXPECT_EQ(as_text(connection.body()), "in");
  connection.consume_body(2);
  EXPECT_EQ(connection.next(), Event::BodyEnd);
  EXPECT_FALSE(connection.is_input_finished());
  EXPECT_EQ(feed(connection, stream(RecordType::Data, 1, "the file")), Event::NeedMore);
  EXPECT_TRUE(connection.is_input_finished());
  connection.request_ended();
  EXPECT_EQ(feed(connection, whole_request(2, false, {})), Event::Request);
}

TEST(Connection, FiltersDataIsBounded) {
  Limits limits;
  limits.drain_bytes = 100;
  EXPECT_EQ(play(begin(1, false, 3) + params(1, {}), limits, false).log, "request 1 role 3\n");
  Connection connection(limits);
  ASSERT_EQ(feed(connection, begin(1, true, 3) + params(1, {}) + body(1, "")), Event::Request);
  EXPECT_EQ(connection.next(), Event::BodyEnd);
  EXPECT_EQ(feed(connection, stream(RecordType::Data, 1, std::string(200, 'x'))), Event::Dropped);
}

// --- abort

TEST(Connection, AbortBeforeTheParametersAreCompleteIsAnsweredAtOnce) {
  const Played played = play(
      begin(1, true) + record(RecordType::Params, 1, "\x01") + record(RecordType::AbortRequest, 1) +
      record(RecordType::Stdin, 1, "late") + whole_request(1, true, {{"B", "2"}}));
  EXPECT_EQ(played.log, "request 1 role 1 keep\n  B=2\nbody() complete\nclose\n");
  const Replies replies = Replies::parse(played.output);
  EXPECT_EQ(replies.by_id.at(1).ends, 1);
  EXPECT_EQ(replies.by_id.at(1).protocol_status, 0);
}

TEST(Connection, AbortWithoutKeepConnectionCloses) {
  const Played played = play(begin(1, false) + record(RecordType::AbortRequest, 1), {}, false);
  EXPECT_EQ(played.log, "close\n");
  EXPECT_EQ(Replies::parse(played.output).by_id.at(1).ends, 1);
}

TEST(Connection, AbortOfARunningRequestIsToldOnceAndLeftToTheWorker) {
  Connection connection;
  ASSERT_EQ(feed(connection, begin(1, true) + params(1, {})), Event::Request);
  EXPECT_EQ(feed(connection, record(RecordType::AbortRequest, 1)), Event::Aborted);
  EXPECT_TRUE(connection.is_aborted());
  EXPECT_EQ(feed(connection, record(RecordType::AbortRequest, 1)), Event::NeedMore);
  EXPECT_FALSE(connection.is_body_complete());
  EXPECT_EQ(feed(connection, record(RecordType::Stdin, 1, "late") + begin(2, true)),
            Event::NeedMore);
  EXPECT_TRUE(connection.pending_output().empty());
  EXPECT_TRUE(connection.is_active());
  connection.request_ended();
  EXPECT_FALSE(connection.is_aborted());
  EXPECT_EQ(feed(connection, params(2, {})), Event::Request);
}

TEST(Connection, AbortOfAnInactiveIdIsIgnored) {
  EXPECT_EQ(
      play(record(RecordType::AbortRequest, 1) + begin(1) + record(RecordType::AbortRequest, 2) +
           params(1, {}) + record(RecordType::AbortRequest, 3) + body(1, "b"))
          .log,
      "request 1 role 1\nbody(b) complete\nclose\n");
}

TEST(Connection, AbortBehindAnUnreadBodyIsSeen) {
  Connection connection;
  ASSERT_EQ(
      feed(connection, begin(1, true) + params(1, {}) + record(RecordType::Stdin, 1, "part", 3)),
      Event::Request);
  EXPECT_EQ(connection.next(), Event::Body);
  EXPECT_FALSE(connection.is_abort_ahead());
  feed(connection, record(RecordType::Stdin, 1, "more") + record(RecordType::AbortRequest, 2));
  EXPECT_FALSE(connection.is_abort_ahead());
  feed(connection, record(RecordType::AbortRequest, 1));
  EXPECT_TRUE(connection.is_abort_ahead());
}

TEST(Connection, AbortOfTheNextRequestIsNotOurs) {
  Connection connection;
  ASSERT_EQ(feed(connection, whole_request(1, true, {}, "body") + begin(1, true) +
                                 record(RecordType::AbortRequest, 1)),
            Event::Request);
  EXPECT_EQ(connection.next(), Event::Body);
  EXPECT_FALSE(connection.is_abort_ahead());
}

// --- the body and its length

TEST(Connection, BodyLongerThanContentLengthIsCutAndTheRestSwallowed) {
  Connection connection;
  ASSERT_EQ(feed(connection,
                 whole_request(1, true, {}, "0123456789") + whole_request(1, true, {{"B", "2"}})),
            Event::Request);
  connection.set_body_length(4);
  EXPECT_EQ(connection.next(), Event::Body);
  EXPECT_EQ(as_text(connection.body()), "0123");
  connection.consume_body(4);
  EXPECT_TRUE(connection.is_body_complete());
  EXPECT_TRUE(connection.body().empty());
  EXPECT_EQ(connection.next(), Event::BodyEnd);
  EXPECT_FALSE(connection.is_body_short());
  connection.request_ended();
  EXPECT_EQ(connection.next(), Event::Request);
}

TEST(Connection, BodyShorterThanContentLengthIsShort) {
  Connection connection;
  ASSERT_EQ(feed(connection, whole_request(1, true, {}, "0123")), Event::Request);
  connection.set_body_length(10);
  EXPECT_EQ(connection.next(), Event::Body);
  connection.consume_body(4);
  EXPECT_FALSE(connection.is_body_short());
  EXPECT_EQ(connection.next(), Event::BodyEnd);
  EXPECT_TRUE(connection.is_body_short());
  EXPECT_FALSE(connection.is_body_complete());
}

TEST(Connection, BodyOfLengthZeroIsCompleteAtOnce) {
  Connection connection;
  ASSERT_EQ(feed(connection, begin(1, true) + params(1, {})), Event::Request);
  EXPECT_FALSE(connection.is_body_complete());
  connection.set_body_length(0);
  EXPECT_TRUE(connection.is_body_complete());
}

TEST(Connection, BodyWithoutLengthEndsWithTheStream) {
  Connection connection;
  ASSERT_EQ(feed(connection, whole_request(1, true, {}, "abc")), Event::Request);
  connection.set_body_length(std::nullopt);
  EXPECT_EQ(connection.next(), Event::Body);
  connection.consume_body(3);
  EXPECT_FALSE(connection.is_body_complete());
  EXPECT_EQ(connection.next(), Event::BodyEnd);
  EXPECT_TRUE(connection.is_body_complete());
}

TEST(Connection, UnreadBodyDoesNotCostTheKeptConnection) {
  Connection connection;
  ASSERT_EQ(
      feed(connection, begin(1, true) + params(1, {}) + record(RecordType::Stdin, 1, "unread")),
      Event::Request);
  EXPECT_EQ(connection.next(), Event::Body);
  connection.request_ended();
  EXPECT_EQ(connection.next(), Event::NeedMore);
  EXPECT_FALSE(connection.is_head_started());
  EXPECT_EQ(feed(connection, body(1, "more of it") + whole_request(1, true, {{"B", "2"}})),
            Event::Request);
  EXPECT_EQ(connection.request().parameters[0].name, "B");
}

TEST(Connection, UnreadBodyBeyondTheDrainLimitDropsTheConnection) {
  Limits limits;
  limits.drain_bytes = 5000;
  const auto after_unread = [&](std::size_t size) {
    Connection connection(limits);
    EXPECT_EQ(feed(connection, begin(1, true) + params(1, {})), Event::Request);
    connection.request_ended();
    return feed(connection, body(1, std::string(size, 'x'), 1000) + whole_request(2, true, {}));
  };
  EXPECT_EQ(after_unread(4000), Event::Request);
  EXPECT_EQ(after_unread(6000), Event::Dropped);
}

TEST(Connection, ManyUnreadBodiesEachHaveTheirOwnDrainLimit) {
  Limits limits;
  limits.drain_bytes = 1000;
  Connection connection(limits);
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(feed(connection, whole_request(1, true, {}, std::string(500, 'x'))), Event::Request);
    EXPECT_EQ(connection.next(), Event::Body);
    connection.request_ended();
    EXPECT_EQ(connection.next(), Event::NeedMore);
  }
}

TEST(Connection, WhatWasIgnoredDuringARequestDoesNotCountAfterIt) {
  Limits limits;
  limits.drain_bytes = 1000;
  Connection connection(limits);
  const std::string stray = record(RecordType::Stdin, 9, std::string(600, 'x'));
  ASSERT_EQ(feed(connection, whole_request(1, true, {}) + stray), Event::Request);
  EXPECT_EQ(connection.next(), Event::BodyEnd);
  EXPECT_EQ(connection.next(), Event::NeedMore);
  connection.request_ended();
  EXPECT_EQ(feed(connection, stray), Event::NeedMore);
  EXPECT_EQ(feed(connection, stray), Event::Dropped);
}

// --- limits

TEST(Connection, ParametersOverTheLimitAreTakenAndTold) {
  Limits limits;
  limits.parameter_bytes = 1000;
  const auto with = [&](std::size_t size) {
    return play(
               begin(1) + stream(RecordType::Params, 1, std::string(size, 'x'), 100) + body(1, "b"),
               limits)
        .log;
  };
  EXPECT_EQ(with(1001), "too large 1 role 1\nbody(b) complete\nclose\n");
  EXPECT_EQ(with(4000), "too large 1 role 1\nbody(b) complete\nclose\n");
  EXPECT_EQ(with(4001), "dropped: parameters far over the limit\n");
}

TEST(Connection, ParametersOfExactlyTheLimitAreFine) {
  Limits limits;
  limits.parameter_bytes = 2 + 1 + 97;
  EXPECT_EQ(play(begin(1) + params(1, {{"A", std::string(97, 'v')}}), limits).log,
            "request 1 role 1\n  A=" + std::string(97, 'v') + "\nbody() broken\nclose\n");
}

TEST(Connection, TooManyParametersAreTold) {
  Limits limits;
  limits.parameter_count = 3;
  const std::string three = encode({{"A", ""}, {"B", ""}, {"C", ""}});
  EXPECT_EQ(play(begin(1) + stream(RecordType::Params, 1, three) + body(1, ""), limits).log,
            "request 1 role 1\n  A=\n  B=\n  C=\nbody() complete\nclose\n");
  EXPECT_EQ(
      play(begin(1) + stream(RecordType::Params, 1, three + pair("D", "")) + body(1, ""), limits)
          .log,
      "too large 1 role 1\nbody() complete\nclose\n");
}

TEST(Connection, AFullBufferAsksForNothing) {
  Limits limits;
  limits.receive_buffer = 1024;
  Connection connection(limits);
  ASSERT_EQ(feed(connection, begin(1) + params(1, {})), Event::Request);
  const std::string much = body(1, std::string(5000, 'x'));
  std::string_view rest = much;
  for (int i = 0; i < 10; ++i) {
    const WritableBytes space = connection.receive_space();
    const std::size_t size = std::min(space.size(), rest.size());
    std::copy_n(as_bytes(rest).begin(), size, space.begin());
    connection.received(size);
    rest.remove_prefix(size);
    EXPECT_EQ(connection.next(), Event::Body);
  }
  EXPECT_TRUE(connection.receive_space().empty());
  EXPECT_FALSE(rest.empty());
  connection.consume_body(connection.body().size());
  EXPECT_FALSE(connection.receive_space().empty());
}

TEST(Connection, MemoryCanBeGivenBackWhileIdle) {
  Connection connection;
  EXPECT_EQ(feed(connection, whole_request(1, true, {})), Event::Request);
  EXPECT_EQ(connection.next(), Event::BodyEnd);
  connection.request_ended();
  EXPECT_TRUE(connection.is_idle());
  connection.release_memory();
  EXPECT_EQ(feed(connection, whole_request(1, true, {{"A", "1"}})), Event::Request);
}

TEST(Connection, ResetForgetsThePeerBefore) {
  Connection connection;
  feed(connection,
       begin(1, true) + record(RecordType::Params, 1, "half") + get_values({}) + "rest");
  connection.peer_closed();
  connection.reset();
  EXPECT_TRUE(connection.is_idle());
  EXPECT_TRUE(connection.pending_output().empty());
  EXPECT_EQ(feed(connection, whole_request(3, false, {{"A", "1"}})), Event::Request);
  EXPECT_EQ(connection.request().id, 3);
}

// --- state × event

TEST(Connection, StateKnowsHeadIdleAndInput) {
  Connection connection;
  EXPECT_TRUE(connection.is_idle());
  EXPECT_FALSE(connection.is_head_started());
  feed(connection, begin(1, true).substr(0, 3));
  EXPECT_FALSE(connection.is_idle());
  EXPECT_TRUE(connection.is_head_started());
  feed(connection, begin(1, true).substr(3));
  EXPECT_TRUE(connection.is_head_started());
  EXPECT_EQ(feed(connection, params(1, {})), Event::Request);
  EXPECT_FALSE(connection.is_head_started());
  EXPECT_FALSE(connection.is_input_finished());
  EXPECT_EQ(feed(connection, body(1, "")), Event::BodyEnd);
  EXPECT_TRUE(connection.is_input_finished());
  EXPECT_FALSE(connection.is_idle());
  connection.request_ended();
  EXPECT_TRUE(connection.is_idle());
}

enum class State {
  Fresh,
  Parameters,
  OpenBody,
  CompleteBody,
  Between,
  Authorizer,
  FilterData,
  Aborted
};

void reach(Connection& connection, State state) {
  switch (state) {
    case State::Fresh:
      return;
    case State::Parameters:
      feed(connection, begin(1, true));
      return;
    case State::OpenBody:
      feed(connection, begin(1, true) + params(1, {}));
      static_cast<void>(connection.next());
      return;
    case State::CompleteBody:
      feed(connection, whole_request(1, true, {}));
      static_cast<void>(connection.next());
      return;
    case State::Between:
      feed(connection, whole_request(1, true, {}));
      static_cast<void>(connection.next());
      connection.request_ended();
      return;
    case State::Authorizer:
      feed(connection, begin(1, true, 2) + params(1, {}));
      return;
    case State::FilterData:
      feed(connection, begin(1, true, 3) + params(1, {}) + body(1, ""));
      static_cast<void>(connection.next());
      return;
    case State::Aborted:
      feed(connection, begin(1, true) + params(1, {}));
      feed(connection, record(RecordType::AbortRequest, 1));
      return;
  }
}

struct GridRow {
  const char* name;
  std::string bytes;
  // Fresh, Parameters, OpenBody, CompleteBody, Between, Authorizer, FilterData, Aborted
  Event expected[8];
};

TEST(Connection, EveryRecordInEveryState) {
  constexpr Event N = Event::NeedMore;
  constexpr Event D = Event::Dropped;
  constexpr Event R = Event::Request;
  constexpr Event B = Event::Body;
  constexpr Event E = Event::BodyEnd;
  constexpr Event A = Event::Aborted;
  const std::vector<GridRow> grid = {
      {"BEGIN same id", begin(1), {N, D, D, N, N, N, D, N}},
      {"BEGIN other id", begin(2), {N, N, N, N, N, N, N, N}},
      {"BEGIN too short", record(RecordType::BeginRequest, 2, "1234567"), {D, D, D, D, D, D, D, D}},
      {"BEGIN too long",
       record(RecordType::BeginRequest, 2, "123456789"),
       {D, D, D, D, D, D, D, D}},
      {"PARAMS", record(RecordType::Params, 1, pair("A", "1")), {N, N, D, D, N, D, D, D}},
      {"PARAMS end", record(RecordType::Params, 1), {N, R, D, D, N, D, D, D}},
      {"PARAMS other id", record(RecordType::Params, 9, "x"), {N, N, N, N, N, N, N, N}},
      {"STDIN", record(RecordType::Stdin, 1, "x"), {N, D, B, D, N, N, D, N}},
      {"STDIN end", record(RecordType::Stdin, 1), {N, D, E, N, N, N, N, N}},
      {"STDIN other id", record(RecordType::Stdin, 9, "x"), {N, N, N, N, N, N, N, N}},
      {"DATA", record(RecordType::Data, 1, "x"), {N, D, D, D, N, D, N, D}},
      {"DATA end", record(RecordType::Data, 1), {N, D, D, D, N, D, N, D}},
      {"ABORT", record(RecordType::AbortRequest, 1), {N, N, A, A, N, A, A, N}},
      {"ABORT other id", record(RecordType::AbortRequest, 9), {N, N, N, N, N, N, N, N}},
      {"END_REQUEST", record(RecordType::EndRequest, 1, "12345678"), {N, D, D, D, N, D, D, D}},
      {"STDOUT", record(RecordType::Stdout, 1, "x"), {N, D, D, D, N, D, D, D}},
      {"STDERR", record(RecordType::Stderr, 1, "x"), {N, D, D, D, N, D, D, D}},
      {"GET_VALUES with id", record(RecordType::GetValues, 1), {N, D, D, D, N, D, D, D}},
      {"unknown type", record(77, 1, "x"), {N, D, D, D, N, D, D, D}},
      {"unknown type, other id", record(77, 9, "x"), {N, N, N, N, N, N, N, N}},
      {"GET_VALUES", get_values({}), {N, N, N, N, N, N, N, N}},
      {"unknown management", record(77, 0, "x"), {N, N, N, N, N, N, N, N}},
      {"other version", std::string("\x02\x09\0\0\0\0\0\0", 8), {D, D, D, D, D, D, D, D}},
  };
  for (const GridRow& row : grid) {
    for (int state = 0; state < 8; ++state) {
      Connection connection;
      reach(connection, static_cast<State>(state));
      EXPECT_EQ(static_cast<int>(feed(connection, row.bytes)),
                static_cast<int>(row.expected[state]))
          << row.name << " in state " << state << ": " << describe(connection.error());
    }
  }
}

TEST(Connection, DroppedStaysDropped) {
  Connection connection;
  EXPECT_EQ(feed(connection, record(RecordType::Stdin, 0)), Event::Dropped);
  EXPECT_EQ(feed(connection, whole_request(1, true, {})), Event::Dropped);
  connection.request_ended();
  EXPECT_EQ(connection.next(), Event::Dropped);
}

// --- bugs that others had (design/fastcgi.md §3), each by its name

TEST(OthersBugs, LibfcgiLengthSumOverflowIsRefusedBeforeAnythingIsAllocated) {
  for (const std::string& lengths :
       {std::string("\xC0\0\0\0\xC0\0\0\0", 8), std::string("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 8),
        std::string("\xFF\xFF\xFF\xFE\0", 5)}) {
    EXPECT_EQ(play(begin(1) + stream(RecordType::Params, 1, lengths + "abc") + body(1, "")).log,
              "dropped: malformed parameters\n");
  }
}

TEST(OthersBugs, MemoryFollowsBytesReceivedNotLengthsAnnounced) {
  // A pair of 2 GiB announced, 5 bytes sent, and the peer waits.
  Connection connection;
  EXPECT_EQ(feed(connection,
                 begin(1) + record(RecordType::Params, 1, std::string("\xFF\xFF\xFF\xFF\x01", 5))),
            Event::NeedMore);
  EXPECT_TRUE(connection.is_head_started());
}

TEST(OthersBugs, NameThatBeginsWithNulIsAnOrdinaryName) {
  const std::string name("\0X", 2);
  Connection connection;
  ASSERT_EQ(feed(connection, begin(1) + params(1, {{name, "v"}})), Event::Request);
  EXPECT_EQ(connection.request().parameters[0].name, name);
}

TEST(OthersBugs, ValuesAreNotCutAtNul) {
  const std::string value("a\0b", 3);
  Connection connection;
  ASSERT_EQ(feed(connection, begin(1) + params(1, {{"A", value}})), Event::Request);
  EXPECT_EQ(connection.request().parameters[0].value, value);
}

TEST(OthersBugs, NothingOfOneRequestIsVisibleInTheNext) {
  Connection connection;
  ASSERT_EQ(feed(connection, whole_request(1, true, {{"SECRET", "1"}, {"B", "2"}}, "body")),
            Event::Request);
  connection.request_ended();
  ASSERT_EQ(feed(connection, whole_request(1, true, {{"C", "3"}})), Event::Request);
  ASSERT_EQ(connection.request().parameters.size(), 1U);
  EXPECT_EQ(connection.request().parameters[0].name, "C");
}

TEST(OthersBugs, PaddingOfBeginRequestAndOfEmptyParamsIsSkipped) {
  EXPECT_EQ(play(begin(1, false, 1, 200) + record(RecordType::Params, 1, pair("A", "1"), 3) +
                 record(RecordType::Params, 1, {}, 200) + body(1, "body"))
                .log,
            "request 1 role 1\n  A=1\nbody(body) complete\nclose\n");
}

TEST(OthersBugs, GetValuesIsAnsweredWithoutAnyByteBehindIt) {
  Connection connection;
  EXPECT_EQ(feed(connection, get_values({"FCGI_MPXS_CONNS"})), Event::NeedMore);
  EXPECT_FALSE(connection.pending_output().empty());
}

TEST(OthersBugs, ContentOfUnknownManagementRecordIsSkipped) {
  const Played played =
      play(record(123, 0, std::string(3000, '\x01'), 77) + whole_request(1, false, {{"A", "1"}}));
  EXPECT_EQ(played.log, "request 1 role 1\n  A=1\nbody() complete\nclose\n");
}

TEST(OthersBugs, GetValuesNamesRepeatedAreAnsweredOnce) {
  std::string names;
  for (int i = 0; i < 3000; ++i)
    names += pair("FCGI_MAX_CONNS", "");
  Connection connection;
  EXPECT_EQ(feed(connection, record(RecordType::GetValues, 0, names)), Event::NeedMore);
  EXPECT_EQ(take_output(connection),
            record(RecordType::GetValuesResult, 0, pair("FCGI_MAX_CONNS", "1")));
}

TEST(OthersBugs, VersionErrorInsideParamsIsNoEndOfParameters) {
  std::string bad = record(RecordType::Params, 1, pair("B", "2"));
  bad[0] = 2;
  EXPECT_EQ(play(begin(1) + record(RecordType::Params, 1, pair("A", "1")) + bad + body(1, "")).log,
            "dropped: record of an unsupported protocol version\n");
}

TEST(OthersBugs, BrokenBodyIsNotAnEmptyOrCompleteBody) {
  Connection connection;
  ASSERT_EQ(feed(connection, begin(1) + params(1, {})), Event::Request);
  connection.peer_closed();
  EXPECT_EQ(connection.next(), Event::Close);
  EXPECT_FALSE(connection.is_body_complete());
}

TEST(OthersBugs, BytesReadAheadOfTheNextRequestAreKept) {
  EXPECT_EQ(play(whole_request(1, true, {{"N", "1"}}, "one") +
                 whole_request(1, false, {{"N", "2"}}, "two"))
                .log,
            "request 1 role 1 keep\n  N=1\nbody(one) complete\n"
            "request 1 role 1\n  N=2\nbody(two) complete\nclose\n");
}

TEST(OthersBugs, UnknownTypeForTheActiveIdDoesNotEndItsStream) {
  EXPECT_EQ(
      play(begin(1) + params(1, {}) + record(RecordType::Stdin, 1, "half") + record(99, 1)).log,
      "request 1 role 1\ndropped: record of a type that does not belong to the request\n");
}

TEST(OthersBugs, PairCutOverTwoRecordsIsOnePair) {
  const std::string pairs = pair("NAME", std::string(500, 'v'));
  EXPECT_EQ(play(begin(1) + record(RecordType::Params, 1, pairs.substr(0, 3)) +
                 record(RecordType::Params, 1, pairs.substr(3)) + record(RecordType::Params, 1) +
                 body(1, ""))
                .log,
            "request 1 role 1\n  NAME=" + std::string(500, 'v') + "\nbody() complete\nclose\n");
}

TEST(OthersBugs, ParametersOfAnotherIdAreNotTaken) {
  EXPECT_EQ(play(begin(1) + record(RecordType::Params, 2, pair("EVIL", "1")) +
                 params(1, {{"A", "1"}}) + body(1, ""))
                .log,
            "request 1 role 1\n  A=1\nbody() complete\nclose\n");
}

TEST(OthersBugs, LateParametersAreRefused) {
  EXPECT_EQ(play(begin(1) + params(1, {}) + record(RecordType::Params, 1, pair("LATE", "1"))).log,
            "request 1 role 1\ndropped: PARAMS record after the end of the parameters\n");
}

TEST(OthersBugs, StdinDoesNotStartARequest) {
  EXPECT_EQ(
      play(begin(1) + record(RecordType::Params, 1, pair("A", "1")) + record(RecordType::Stdin, 1))
          .log,
      "dropped: STDIN record before the end of the parameters\n");
}

TEST(OthersBugs, MegabytesOfParametersAreNotSwallowed) {
  Player player;
  const std::string chunk = record(RecordType::Params, 1, std::string(65535, 'x'));
  player.feed(begin(1));
  int sent = 0;
  while (!player.is_over() && sent < 1000) {
    player.feed(chunk);
    ++sent;
  }
  EXPECT_EQ(player.log(), "dropped: parameters far over the limit\n");
  EXPECT_LT(sent, 70);
}

TEST(OthersBugs, StaleBytesInReservedFieldsAreNoMatter) {
  std::string bytes = whole_request(1, false, {{"A", "1"}}, "b");  // testing::begin fills them
  bytes[7] = '\x55';
  EXPECT_EQ(play(bytes).log, "request 1 role 1\n  A=1\nbody(b) complete\nclose\n");
}

// --- moving to another engine

// The log up to the end of the last request that has ended.
std::string ended_part(const std::string& log) {
  const std::size_t last = log.rfind("\nbody(");
  return last == std::string::npos ? "" : log.substr(0, log.find('\n', last + 1) + 1);
}

TEST(Connection, AnotherOneGoesOnWhereThisOneIs) {
  const std::string bytes =
      whole_request(1, true, {{"A", "1"}}, "first body") + record(RecordType::Stdin, 1) +
      get_values({"FCGI_MAX_CONNS"}, 3) + begin(7, true) +
      record(RecordType::Params, 7, encode({{"B", "2"}}), 5) + get_values({"FCGI_MAX_REQS"}) +
      begin(8, true) + record(RecordType::Params, 7, encode({{"C", "3"}})) +
      record(RecordType::Params, 7) + body(7, "second", 4) + begin(9, true) +
      params(9, {{"D", "4"}}) + record(RecordType::AbortRequest, 9) +
      whole_request(10, false, {{"E", "5"}}, "last");
  const Played whole = play(bytes);
  std::size_t moved = 0;
  for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
    Player before;
    before.connection().keep_unserved();
    before.feed(std::string_view(bytes).substr(0, cut));
    const auto unserved = before.connection().unserved();
    if (!unserved) continue;
    ++moved;
    Player after;
    after.feed(as_text(unserved->bytes));
    after.feed(std::string_view(bytes).substr(cut));
    after.close();
    EXPECT_EQ(ended_part(before.log()) + after.log(), whole.log) << "cut at " << cut;
    ASSERT_LE(unserved->replies, before.output().size());
    EXPECT_EQ(
        before.output().substr(0, before.output().size() - unserved->replies) + after.output(),
        whole.output)
        << "cut at " << cut;
  }
  EXPECT_EQ(moved, bytes.size());
}

TEST(Connection, InTheMiddleOfARecordThatNobodyReadsThereIsNothingToMove) {
  Connection connection;
  connection.keep_unserved();
  const std::string bytes = begin(1, true) + params(1, {}) + body(1, "a body");
  ASSERT_EQ(feed(connection, bytes.substr(0, bytes.size() - 10)), Event::Request);
  EXPECT_EQ(connection.next(), Event::Body);
  connection.forget_unserved();
  EXPECT_FALSE(connection.unserved());
  connection.request_ended();
  EXPECT_EQ(connection.next(), Event::NeedMore);
  EXPECT_FALSE(connection.unserved());
  EXPECT_EQ(feed(connection, bytes.substr(bytes.size() - 10)), Event::NeedMore);
  ASSERT_TRUE(connection.unserved());
  EXPECT_TRUE(connection.unserved()->bytes.empty());
}

TEST(Connection, SaysHowMuchOfTheBodyIsHere) {
  const std::string head = begin(1) + params(1, {});
  const std::string content = body(1, "0123456789", 4);
  for (std::size_t size = 0; size <= content.size(); ++size) {
    Connection connection;
    ASSERT_EQ(feed(connection, head + content.substr(0, size)), Event::Request);
    const BodyAhead ahead = connection.body_ahead();
    EXPECT_EQ(ahead.is_whole, size == content.size()) << size;
    EXPECT_FALSE(ahead.needs_answer);
    std::size_t taken = 0;
    while (connection.next() == Event::Body) {
      taken += connection.body().size();
      connection.consume_body(connection.body().size());
    }
    EXPECT_EQ(ahead.bytes, taken) << size;
  }
}

TEST(Connection, ABodyIsWholeWhenItsLengthIsHereOrNothingMoreCanCome) {
  const auto ahead = [](std::string_view bytes, std::optional<std::uint64_t> length) {
    Connection connection;
    EXPECT_EQ(feed(connection, begin(1) + params(1, {}) + std::string(bytes)), Event::Request);
    connection.set_body_length(length);
    return connection.body_ahead();
  };
  EXPECT_FALSE(ahead(record(RecordType::Stdin, 1, "four"), 5).is_whole);
  EXPECT_TRUE(ahead(record(RecordType::Stdin, 1, "four"), 4).is_whole);
  EXPECT_TRUE(ahead("", 0).is_whole);
  EXPECT_FALSE(ahead("", std::nullopt).is_whole);
  EXPECT_TRUE(ahead(record(RecordType::AbortRequest, 1), std::nullopt).is_whole);
  EXPECT_TRUE(ahead(std::string(8, '\x7f'), std::nullopt).is_whole) << "what breaks the protocol";
  const BodyAhead asked = ahead(get_values({"FCGI_MAX_CONNS"}), std::nullopt);
  EXPECT_FALSE(asked.is_whole);
  EXPECT_TRUE(asked.needs_answer);
  EXPECT_TRUE(ahead(begin(2), std::nullopt).needs_answer);
}

}  // namespace
}  // namespace bladepsgi::fcgi
