#include "fcgi/record.h"

#include <string>

#include <gtest/gtest.h>

#include "fcgi/testing.h"

namespace bladepsgi::fcgi {
namespace {

using testing::record;

TEST(DecodeRecord, ReadsEveryFieldOfTheHeader) {
  const std::string bytes("\x01\x06\x12\x34\x00\x03\x02\xFFxyzPP", 13);
  const auto decoded = decode_record(as_bytes(bytes));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->consumed, 13U);
  const Record& found = *decoded->record;
  EXPECT_TRUE(found.header.is(RecordType::Stdout));
  EXPECT_EQ(found.header.request_id, 0x1234);
  EXPECT_EQ(found.header.padding_length, 2);
  EXPECT_EQ(as_text(found.content), "xyz");
}

TEST(DecodeRecord, WaitsForPaddingAtEveryLength) {
  const std::string bytes = record(RecordType::Params, 1, "abc", 5);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const auto decoded = decode_record(as_bytes(bytes).first(size));
    ASSERT_TRUE(decoded);
    EXPECT_EQ(decoded->consumed, 0U) << size;
    EXPECT_FALSE(decoded->record);
  }
  EXPECT_EQ(decode_record(as_bytes(bytes))->consumed, bytes.size());
}

TEST(DecodeRecord, TakesTheLargestRecordThereIs) {
  const std::string bytes = record(RecordType::Stdin, 65535, std::string(65535, 'x'), 255) + "next";
  const auto decoded = decode_record(as_bytes(bytes));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->consumed, 8U + 65535U + 255U);
  EXPECT_EQ(decoded->record->content.size(), 65535U);
}

TEST(DecodeRecord, RefusesEveryOtherVersion) {
  for (int version = 0; version < 256; ++version) {
    std::string bytes = record(RecordType::Stdin, 1);
    bytes[0] = static_cast<char>(version);
    const auto decoded = decode_record(as_bytes(bytes));
    EXPECT_EQ(decoded.has_value(), version == 1) << version;
    if (!decoded) {
      EXPECT_EQ(decoded.error(), ProtocolError::UnsupportedVersion);
    }
  }
}

TEST(EncodeEndRequest, IsOneWholeRecord) {
  const auto bytes = encode_end_request(7, 0x01020304, ProtocolStatus::Overloaded);
  EXPECT_EQ(as_text(bytes),
            std::string_view("\x01\x03\x00\x07\x00\x08\x00\x00\x01\x02\x03\x04\x02\0\0\0", 16));
}

TEST(Describe, HasWordsForEveryError) {
  for (int error = 0; error <= static_cast<int>(ProtocolError::TooManyRepliesUnread); ++error) {
    EXPECT_NE(describe(static_cast<ProtocolError>(error)), "unknown error") << error;
  }
}

}  // namespace
}  // namespace bladepsgi::fcgi
