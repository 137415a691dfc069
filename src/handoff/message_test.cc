#include "handoff/message.h"

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace bladepsgi::handoff {
namespace {

Message file_message() {
  Message message;
  message.protocol = Protocol::Http;
  message.kind = Kind::UnsentFile;
  message.flags = kKeepAfterwards | kChunked;
  message.stream_id = 0x1234;
  message.unsent_bytes = 5;
  message.bytes_before_file = 3;
  message.file_piece = 0x7fffffffffULL;
  message.file_offset = 0x123456789abcULL;
  message.file_length = 0x8000000000ULL;
  message.started = 1;
  message.progress_deadline = 0xfedcba9876543210ULL;
  message.bytes = as_bytes("headtail");
  return message;
}

Message request_message() {
  Message message;
  message.kind = Kind::PartialRequest;
  message.flags = kBodyComplete;
  message.replies = 2;
  message.bytes = as_bytes("headbody");
  return message;
}

std::vector<std::byte> encoded(const Message& message) {
  EncodedMessage buffer;
  const Bytes bytes = encode(message, buffer);
  return {bytes.begin(), bytes.end()};
}

TEST(HandoffMessage, ComesBackAsItWas) {
  Message external = request_message();
  external.bytes = {};
  external.external_bytes = 100000;
  Message idle;
  for (const Message& message : {file_message(), request_message(), external, idle}) {
    const auto bytes = encoded(message);
    EXPECT_EQ(bytes.size(), kHeadSize + message.bytes.size());
    const auto decoded = decode(bytes);
    ASSERT_TRUE(decoded) << describe(decoded.error());
    const Message& back = decoded.value();
    EXPECT_EQ(back.protocol, message.protocol);
    EXPECT_EQ(back.kind, message.kind);
    EXPECT_EQ(back.flags, message.flags);
    EXPECT_EQ(back.stream_id, message.stream_id);
    EXPECT_EQ(back.replies, message.replies);
    EXPECT_EQ(back.unsent_bytes, message.unsent_bytes);
    EXPECT_EQ(back.file_piece, message.file_piece);
    EXPECT_EQ(back.bytes_before_file, message.bytes_before_file);
    EXPECT_EQ(back.file_offset, message.file_offset);
    EXPECT_EQ(back.file_length, message.file_length);
    EXPECT_EQ(back.started, message.started);
    EXPECT_EQ(back.progress_deadline, message.progress_deadline);
    EXPECT_EQ(back.external_bytes, message.external_bytes);
    EXPECT_EQ(as_text(back.bytes), as_text(message.bytes));
    EXPECT_EQ(encoded(back), bytes);
  }
}

TEST(HandoffMessage, CountsItsDescriptors) {
  Message message;
  EXPECT_EQ(message.descriptors(), 1U);
  message.external_bytes = 5000;
  EXPECT_EQ(message.descriptors(), 2U);
  message.kind = Kind::UnsentFile;
  EXPECT_EQ(message.descriptors(), 3U);
}

TEST(HandoffMessage, EveryShorteningIsRefused) {
  const auto bytes = encoded(request_message());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const auto decoded = decode(Bytes(bytes).first(size));
    ASSERT_FALSE(decoded) << size;
    EXPECT_EQ(decoded.error(), size < kHeadSize ? DecodeError::TooShort : DecodeError::WrongLength);
  }
}

TEST(HandoffMessage, RefusesWhatItDoesNotKnowOrCannotBe) {
  struct Row {
    const char* what;
    std::size_t offset;
    std::vector<unsigned> bytes;
    DecodeError error;
  };

  const std::vector<Row> rows = {
      {"magic", 0, {'X'}, DecodeError::NotOurs},
      {"version", 5, {2}, DecodeError::UnknownVersion},
      {"version", 5, {4}, DecodeError::UnknownVersion},
      {"replies without a request",
       20,
       {0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 1},
       DecodeError::WrongRange},
      {"protocol 0", 6, {0}, DecodeError::UnknownProtocol},
      {"protocol 3", 6, {3}, DecodeError::UnknownProtocol},
      {"kind 0", 7, {0}, DecodeError::UnknownKind},
      {"kind 7", 7, {7}, DecodeError::UnknownKind},
      {"kind without bytes", 7, {1}, DecodeError::WrongLength},
      {"another kind without bytes", 7, {6}, DecodeError::WrongLength},
      {"kind without file", 7, {4}, DecodeError::WrongRange},
      {"flag", 8, {0x80}, DecodeError::UnknownFlags},
      {"flag", 9, {0x08}, DecodeError::UnknownFlags},
      {"fewer bytes", 15, {7}, DecodeError::WrongLength},
      {"more bytes", 12, {0xff, 0xff, 0xff, 0xff}, DecodeError::WrongLength},
      {"bytes in two places", 18, {0x20}, DecodeError::WrongLength},
      {"more to send than there is", 23, {9}, DecodeError::WrongRange},
      {"a piece longer than the file", 35, {0x80, 0, 0, 0, 1}, DecodeError::WrongRange},
      {"huge piece", 32, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, DecodeError::WrongRange},
      {"file behind what is to be sent", 27, {6}, DecodeError::WrongRange},
      {"file offset", 40, {0x80}, DecodeError::WrongRange},
      {"file length", 48, {0x7f, 0xff, 0xff}, DecodeError::WrongRange},
      {"no file length", 48, {0, 0, 0, 0, 0, 0, 0, 0}, DecodeError::WrongRange},
  };
  for (const Row& row : rows) {
    auto bytes = encoded(file_message());
    for (std::size_t i = 0; i < row.bytes.size(); ++i)
      bytes[row.offset + i] = static_cast<std::byte>(row.bytes[i]);
    const auto decoded = decode(bytes);
    ASSERT_FALSE(decoded) << row.what;
    EXPECT_EQ(decoded.error(), row.error) << row.what << ": " << describe(decoded.error());
  }
}

TEST(HandoffMessage, WhatIsNotToBeSentHasNothingUnsent) {
  for (const Kind kind : {Kind::Idle, Kind::PartialRequest, Kind::ReadyRequest, Kind::Closing}) {
    Message message;
    message.kind = kind;
    if (kind != Kind::Idle && kind != Kind::Closing) message.bytes = as_bytes("headbody");
    auto bytes = encoded(message);
    ASSERT_TRUE(decode(bytes));
    bytes[23] = std::byte{1};
    EXPECT_EQ(decode(bytes).error(), DecodeError::WrongRange);
  }
  Message response;
  response.kind = Kind::UnsentResponse;
  response.unsent_bytes = 3;
  response.bytes = as_bytes("endGET");
  response.replies = 1;
  auto bytes = encoded(response);
  ASSERT_TRUE(decode(bytes));
  bytes[23] = std::byte{0};
  EXPECT_EQ(decode(bytes).error(), DecodeError::WrongRange) << "nothing to send";
}

TEST(HandoffMessage, MemoryIsOnlyForWhatDoesNotFit) {
  Message message = request_message();
  message.bytes = {};
  message.external_bytes = kInlineLimit + 1;
  auto bytes = encoded(message);
  ASSERT_TRUE(decode(bytes));
  bytes[18] = std::byte{0x10};
  bytes[19] = std::byte{0x00};
  EXPECT_EQ(decode(bytes).error(), DecodeError::WrongLength);
}

TEST(HandoffMessage, LongerThanTheLimitIsRefused) {
  const std::string text(kInlineLimit + 1, 'x');
  Message message = request_message();
  message.bytes = as_bytes(text).first(kInlineLimit);
  auto bytes = encoded(message);
  ASSERT_TRUE(decode(bytes));
  bytes.push_back(std::byte{'x'});
  bytes[15] = std::byte{1};  // 4097
  EXPECT_EQ(decode(bytes).error(), DecodeError::WrongLength);
}

TEST(HandoffMessageDeathTest, NonsenseIsNotEncoded) {
  Message message;
  message.kind = Kind::PartialRequest;
  EXPECT_DEATH(encoded(message), "broken invariant");
}

}  // namespace
}  // namespace bladepsgi::handoff
