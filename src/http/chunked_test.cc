#include "http/chunked.h"

#include <string>

#include <gtest/gtest.h>

namespace bladepsgi::http {
namespace {

using Progress = ChunkDecoder::Progress;

TEST(ChunkDecoder, TakesWhatIsBetweenTheData) {
  ChunkDecoder decoder{Limits{}};
  auto taken = decoder.take("3;x\r\nabc\r\n");
  EXPECT_EQ(taken.progress, Progress::Data);
  EXPECT_EQ(taken.consumed, 5U);
  EXPECT_EQ(decoder.data_left(), 3U);
  decoder.consume(2);
  decoder.consume(1);
  taken = decoder.take("\r\n0\r\nA: b\r\n");
  EXPECT_EQ(taken.progress, Progress::NeedMore);
  EXPECT_EQ(taken.consumed, 11U);
  taken = decoder.take("\r\nGET /");
  EXPECT_EQ(taken.progress, Progress::End);
  EXPECT_EQ(taken.consumed, 2U);
  taken = decoder.take("GET /");
  EXPECT_EQ(taken.progress, Progress::End);
  EXPECT_EQ(taken.consumed, 0U);
}

TEST(ChunkDecoder, TheLargestChunk) {
  ChunkDecoder decoder{Limits{}};
  EXPECT_EQ(decoder.take("4000000000000000\r\n").progress, Progress::Data);
  EXPECT_EQ(decoder.data_left(), std::uint64_t{1} << 62);
}

TEST(ChunkDecoder, StaysMalformed) {
  ChunkDecoder decoder{Limits{}};
  const auto taken = decoder.take("1x");
  EXPECT_EQ(taken.progress, Progress::Malformed);
  EXPECT_EQ(taken.consumed, 1U);
  EXPECT_EQ(decoder.take("0").progress, Progress::Malformed);
  EXPECT_EQ(decoder.error(), "a malformed chunk size");
  decoder.clear();
  EXPECT_EQ(decoder.take("0\r\n\r\n").progress, Progress::End);
}

TEST(ChunkDecoder, LimitsAreOfTheWholeBody) {
  Limits limits;
  limits.chunk_extension_bytes = 100;
  ChunkDecoder decoder(limits);
  std::string bytes = "1;";
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(decoder.take("1;\r\n").progress, Progress::Data) << i;
    decoder.consume(1);
    ASSERT_EQ(decoder.take("\r\n").progress, Progress::NeedMore);
    ASSERT_EQ(decoder.take("1;\r\n").progress, Progress::Data) << i;
    decoder.consume(1);
    ASSERT_EQ(decoder.take("\r\n").progress, Progress::NeedMore);
  }
  EXPECT_EQ(decoder.take("1;").progress, Progress::Malformed);
}

}  // namespace
}  // namespace bladepsgi::http
