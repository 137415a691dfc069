#include "worker/body.h"

#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace bladepsgi::worker {
namespace {

std::string read_at(const StoredBody& body, std::uint64_t offset, std::size_t size) {
  std::vector<std::byte> into(size);
  const runtime::BodyRead got = body.read(offset, into);
  EXPECT_EQ(got.error, 0);
  return std::string(as_text(Bytes(into).first(got.size)));
}

TEST(StoredBody, StaysInMemoryWhileItFits) {
  StoredBody body(8, "/nonexistent");
  EXPECT_EQ(body.append(as_bytes("0123")), 0);
  const WritableBytes space = body.memory_space();
  ASSERT_EQ(space.size(), 4U);
  space[0] = std::byte{'4'};
  body.filled(1);
  EXPECT_EQ(as_text(body.memory()), "01234");
  EXPECT_EQ(body.size(), 5U);
  EXPECT_EQ(read_at(body, 2, 100), "234");
  EXPECT_EQ(read_at(body, 5, 100), "");
  EXPECT_EQ(read_at(body, 99, 100), "");
}

TEST(StoredBody, GoesToAFileWithoutAName) {
  const std::string directory = ::testing::TempDir() + "/stored_body_test";
  std::filesystem::create_directories(directory);
  StoredBody body(8, directory);
  EXPECT_EQ(body.append(as_bytes("01234567")), 0);
  EXPECT_EQ(body.append(as_bytes("89")), 0);
  EXPECT_EQ(body.append(as_bytes("ab")), 0);
  EXPECT_TRUE(body.memory().empty());
  EXPECT_TRUE(body.memory_space().empty());
  EXPECT_EQ(body.size(), 12U);
  EXPECT_EQ(read_at(body, 0, 100), "0123456789ab");
  EXPECT_EQ(read_at(body, 9, 2), "9a");
  EXPECT_EQ(read_at(body, 12, 2), "");
  EXPECT_TRUE(std::filesystem::is_empty(directory));
}

TEST(StoredBody, SaysWhyItCannotBeStored) {
  StoredBody body(2, "/nonexistent");
  EXPECT_EQ(body.append(as_bytes("012")), ENOENT);
}

TEST(StoredBody, ClearForgetsFileAndMemory) {
  StoredBody body(2, ::testing::TempDir());
  EXPECT_EQ(body.append(as_bytes("0123")), 0);
  body.clear();
  EXPECT_EQ(body.size(), 0U);
  EXPECT_EQ(body.append(as_bytes("x")), 0);
  EXPECT_EQ(as_text(body.memory()), "x");
}

}  // namespace
}  // namespace bladepsgi::worker
