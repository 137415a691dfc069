#include "lobby/waiting.h"

#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "fcgi/testing.h"

namespace bladepsgi::lobby {
namespace {

using fcgi::RecordType;
using fcgi::testing::begin;
using fcgi::testing::body;
using fcgi::testing::params;
using fcgi::testing::record;
using fcgi::testing::whole_request;
using handoff::Protocol;
using Stage = Waiting::Stage;

const Limits kLimits;

Stage stage_of(Protocol protocol, std::string_view bytes, const Limits& limits = kLimits) {
  Waiting waiting(protocol, limits);
  return waiting.take(as_bytes(bytes));
}

std::string post(std::string_view fields) {
  return "POST / HTTP/1.1\r\nHost: x\r\n" + std::string(fields) + "\r\n";
}

TEST(Waiting, FindsHowFarARequestIs) {
  const std::string head = begin(1, true) + params(1, {{"CONTENT_LENGTH", "10"}});
  const std::string chunked = post("Transfer-Encoding: chunked\r\n");

  struct Row {
    Protocol protocol;
    std::string bytes;
    Stage stage;
  };

  const std::vector<Row> rows = {
      {Protocol::FastCgi, "\1", Stage::Head},
      {Protocol::FastCgi, begin(1), Stage::Head},
      {Protocol::FastCgi, head.substr(0, head.size() - 1), Stage::Head},
      {Protocol::FastCgi, head, Stage::Body},
      {Protocol::FastCgi, head + record(RecordType::Stdin, 1, "123456789"), Stage::Body},
      {Protocol::FastCgi, head + record(RecordType::Stdin, 1, "1234567890"), Stage::Whole},
      {Protocol::FastCgi, head + record(RecordType::Stdin, 1, ""), Stage::Whole},
      {Protocol::FastCgi, begin(1) + params(1, {{"CONTENT_LENGTH", ""}}), Stage::Body},
      {Protocol::FastCgi, begin(1) + params(1, {{"CONTENT_LENGTH", "0"}}), Stage::Whole},
      {Protocol::FastCgi, begin(1) + params(1, {{"CONTENT_LENGTH", "x"}}), Stage::Decided},
      // As the worker sees it.
      {Protocol::FastCgi, begin(1) + params(1, {{"CONTENT_LENGTH", "-1"}}), Stage::Body},
      {Protocol::FastCgi, begin(1) + params(1, {{"CONTENT_LENGTH", "x"}, {"CONTENT_LENGTH", "5"}}),
       Stage::Body},
      {Protocol::FastCgi, begin(1) + params(1, {{"CONTENT_LENGTH", "0"}, {"CONTENT_LENGTH", ""}}),
       Stage::Body},
      {Protocol::FastCgi, begin(1, false, 2) + params(1, {{"CONTENT_LENGTH", "5"}}), Stage::Whole},
      {Protocol::FastCgi, whole_request(1, false, {}), Stage::Whole},
      {Protocol::FastCgi, std::string(8, '\x7f'), Stage::Decided},
      {Protocol::FastCgi, record(RecordType::GetValues, 0), Stage::Decided},
      {Protocol::FastCgi, head + record(RecordType::AbortRequest, 1), Stage::Decided},
      {Protocol::FastCgi, begin(1) + begin(2), Stage::Decided},
      // The end of a body whose request somebody else has answered.
      {Protocol::FastCgi, record(RecordType::Stdin, 1, "rest") + record(RecordType::Stdin, 1),
       Stage::Idle},
      {Protocol::Http, "\r\n", Stage::Idle},
      {Protocol::Http, "G", Stage::Head},
      {Protocol::Http, "GET / HTTP/1.1\r\nHost: x\r\n", Stage::Head},
      {Protocol::Http, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", Stage::Whole},
      {Protocol::Http, "GET / HTTP/9.1\r\nHost: x\r\n\r\n", Stage::Decided},
      {Protocol::Http, post("Content-Length: 5\r\n"), Stage::Body},
      {Protocol::Http, post("Content-Length: 5\r\n") + "1234", Stage::Body},
      {Protocol::Http, post("Content-Length: 5\r\n") + "12345GET", Stage::Whole},
      {Protocol::Http, post("Content-Length: 5\r\nExpect: 100-continue\r\n"), Stage::Enough},
      {Protocol::Http, chunked + "5\r\nab", Stage::Body},
      {Protocol::Http, chunked + "2\r\nab\r\n0\r\n\r\n", Stage::Whole},
      {Protocol::Http, chunked + "x\r\n", Stage::Decided},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(stage_of(row.protocol, row.bytes), row.stage) << row.bytes;
    // However it is cut.
    Waiting waiting(row.protocol, kLimits);
    for (const char& byte : row.bytes)
      waiting.take(as_bytes(std::string_view(&byte, 1)));
    EXPECT_EQ(waiting.stage(), row.stage) << row.bytes << ", byte by byte";
    if (row.stage != Stage::Idle) {
      EXPECT_EQ(as_text(waiting.bytes()), row.bytes);
    }
  }
}

TEST(Waiting, AMuchAsIsWorthAWorkerIsEnough) {
  Limits limits;
  limits.body_ahead = 100;
  const std::string head = post("Content-Length: 1000\r\n");
  EXPECT_EQ(stage_of(Protocol::Http, head + std::string(99, 'x'), limits), Stage::Body);
  EXPECT_EQ(stage_of(Protocol::Http, head + std::string(100, 'x'), limits), Stage::Enough);
  limits.body_ahead = 0;
  EXPECT_EQ(stage_of(Protocol::Http, head, limits), Stage::Enough);
}

TEST(Waiting, KeepsNothingBetweenTwoRequests) {
  Waiting waiting(Protocol::FastCgi, kLimits);
  const std::string rest =
      record(RecordType::Stdin, 3, std::string(60000, 'x')) + record(RecordType::Stdin, 3);
  EXPECT_EQ(waiting.take(as_bytes(rest).first(30000)), Stage::Idle);
  EXPECT_EQ(waiting.take(as_bytes(rest).subspan(30000)), Stage::Idle);
  EXPECT_TRUE(waiting.bytes().empty());
  // What comes behind it is kept from its start.
  const std::string next = begin(4, true);
  EXPECT_EQ(waiting.take(as_bytes(next)), Stage::Head);
  EXPECT_EQ(as_text(waiting.bytes()), next);
}

TEST(Waiting, AHeadLongerThanTheReceiveBufferIsKeptWhole) {
  const std::string bytes =
      begin(1) + params(1, {{"LONG", std::string(300'000, 'x')}}) + record(RecordType::Stdin, 1);
  Waiting waiting(Protocol::FastCgi, kLimits);
  Bytes left = as_bytes(bytes);
  while (left.size() > 7777) {
    EXPECT_EQ(waiting.take(left.first(7777)), Stage::Head);
    left = left.subspan(7777);
  }
  EXPECT_EQ(waiting.take(left), Stage::Whole);
  EXPECT_EQ(as_text(waiting.bytes()), bytes);
}

TEST(Waiting, WhatWasAnsweredNeedsNoAnswer) {
  const std::string bytes =
      begin(1, true) + record(RecordType::GetValues, 0) + record(RecordType::Params, 1);
  Waiting before(Protocol::FastCgi, kLimits);
  EXPECT_EQ(before.take(as_bytes(bytes)), Stage::Enough) << "who answers waits for the body";
  fcgi::Connection worker;
  std::copy_n(as_bytes(bytes).begin(), bytes.size(), worker.receive_space().begin());
  worker.keep_unserved();
  worker.received(bytes.size());
  EXPECT_EQ(worker.next(), Event::Request);
  const auto unserved = worker.unserved();
  ASSERT_TRUE(unserved);
  EXPECT_GT(unserved->replies, 0U);
  Waiting after(Protocol::FastCgi, kLimits, unserved->replies);
  EXPECT_EQ(after.take(unserved->bytes), Stage::Body);
  EXPECT_EQ(after.replies(), unserved->replies);
  EXPECT_EQ(after.take(as_bytes(record(RecordType::GetValues, 0))), Stage::Enough);
}

TEST(Waiting, APeerThatClosesIsGoneUnlessItMayWantAnAnswer) {
  Waiting idle(Protocol::Http, kLimits);
  EXPECT_EQ(idle.end(), Stage::Gone);
  Waiting head(Protocol::Http, kLimits);
  head.take(as_bytes(std::string_view("GET")));
  EXPECT_EQ(head.end(), Stage::Gone);
  Waiting half(Protocol::Http, kLimits);
  half.take(as_bytes(post("Content-Length: 5\r\n")));
  EXPECT_EQ(half.end(), Stage::Decided);
}

}  // namespace
}  // namespace bladepsgi::lobby
