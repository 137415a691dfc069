#include "os/pid_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bladepsgi::os {
namespace {

class PidFiles : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "bladepsgi-pid-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }

  void TearDown() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] std::string path() const { return folder_ + "/server.pid"; }

  [[nodiscard]] std::string text() const {
    std::ifstream in(path());
    return {std::istreambuf_iterator<char>(in), {}};
  }

  std::string folder_;
};

TEST_F(PidFiles, AppearWhenPublishedAndGoWithTheirOwner) {
  std::ofstream(path()) << "old";
  {
    auto file = PidFile::create(path());
    ASSERT_TRUE(file);
    EXPECT_EQ(text(), "old");
    ASSERT_TRUE(file->publish());
    EXPECT_EQ(text(), std::to_string(::getpid()) + "\n");
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(PidFiles, LeaveThatOfAnotherAlone) {
  std::ofstream(path()) << "old";
  { ASSERT_TRUE(PidFile::create(path())); }  // a start that failed
  EXPECT_EQ(text(), "old");
  {
    auto file = PidFile::create(path());
    ASSERT_TRUE(file && file->publish());
    std::ofstream(folder_ + "/new") << "newer";
    std::filesystem::rename(folder_ + "/new", path());
  }
  EXPECT_EQ(text(), "newer");
}

TEST_F(PidFiles, SayWhyTheyCannotBe) {
  const auto file = PidFile::create(folder_ + "/no/where.pid");
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error().message, testing::HasSubstr("/no/where.pid': No such file"));
}

}  // namespace
}  // namespace bladepsgi::os
