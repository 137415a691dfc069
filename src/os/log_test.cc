#include "os/log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/socket.h"

namespace bladepsgi::os {
namespace {

std::string read_all(int fd) {
  std::string all;
  std::array<char, 65536> piece{};
  ssize_t size = 0;
  while ((size = ::read(fd, piece.data(), piece.size())) > 0)
    all.append(piece.data(), static_cast<std::size_t>(size));
  return all;
}

struct Collected {
  std::vector<std::string> texts;
  std::vector<pid_t> ready;
  LogFrames::Handler handler{
      [this](Severity severity, std::string_view text) {
        texts.push_back(std::string(severity_word(severity)) + " " + std::string(text));
      },
      [this](pid_t pid) {
        ready.push_back(pid);
      }};
};

TEST(LogChannel, MessagesArriveWholeUnderEveryChunking) {
  Pipe pipe = make_pipe();
  const std::string large(10000, 'x');
  {
    const LogChannel channel(pipe.write.get());
    channel.text(Severity::Warning, "short");
    channel.ready(4711);
    channel.text(Severity::Error, large);
    channel.text(Severity::Log, "");
  }
  pipe.write.reset();
  const std::string bytes = read_all(pipe.read.get());
  for (const std::size_t chunk :
       {std::size_t{1}, std::size_t{7}, std::size_t{4096}, bytes.size()}) {
    Collected collected;
    LogFrames frames;
    for (std::size_t at = 0; at < bytes.size(); at += chunk) {
      EXPECT_TRUE(frames.feed(std::string_view(bytes).substr(at, chunk), collected.handler));
    }
    EXPECT_THAT(collected.texts, testing::ElementsAre("WARNING short", "ERROR " + large, "LOG "));
    EXPECT_THAT(collected.ready, testing::ElementsAre(4711));
  }
}

TEST(LogFrames, SaysThatForeignBytesAreNoFrames) {
  Collected collected;
  LogFrames frames;
  EXPECT_FALSE(frames.feed("print from somewhere else\n", collected.handler));
  EXPECT_TRUE(collected.texts.empty());
}

TEST(LineSplitter, JoinsPiecesAndCutsEndlessLines) {
  std::vector<std::string> lines;
  const auto keep = [&lines](std::string_view line) {
    lines.emplace_back(line);
  };
  LineSplitter splitter;
  splitter.feed("one\ntw", keep);
  splitter.feed("o\n\nlast", keep);
  splitter.finish(keep);
  EXPECT_THAT(lines, testing::ElementsAre("one", "two", "", "last"));

  lines.clear();
  splitter.feed(std::string(LineSplitter::kMaxLine + 10, 'a'), keep);
  splitter.feed("\n", keep);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0].size(), LineSplitter::kMaxLine);
  EXPECT_EQ(lines[1].size(), 10U);
}

TEST(LogWriter, WritesTheContractsLineForEachLineOfText) {
  Pipe pipe = make_pipe();
  {
    LogWriter writer(pipe.write.get());
    writer.write(Severity::Error, "worker", 12, "first\nsecond\n", LogWriter::Origin::Own);
    writer.write(Severity::Log, {}, 0, "plain", LogWriter::Origin::Own);
  }
  pipe.write.reset();
  const std::string stamp =
      "20[0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9]\\.[0-9][0-9][0-9] ";
  EXPECT_THAT(read_all(pipe.read.get()),
              testing::MatchesRegex(stamp + "ERROR:  worker\\[12\\]: first\n" + stamp +
                                    "ERROR:  worker\\[12\\]: second\n" + stamp + "LOG:  plain\n"));
}

TEST(LogWriter, WhenItsReaderIsStuckKeepsOwnLinesAndCountsTheApplications) {
  Pipe pipe = make_pipe();
  LogWriter writer(pipe.write.get());
  const std::string line(1000, 'a');
  for (int i = 0; i < 1000; ++i)
    writer.write(Severity::Log, "worker", 1, line, LogWriter::Origin::Application);
  EXPECT_TRUE(writer.has_backlog());
  writer.write(Severity::Error, "overseer", 1, "ours", LogWriter::Origin::Own);

  set_non_blocking(pipe.read.get());
  std::string all;
  while (writer.has_backlog()) {
    all += read_all(pipe.read.get());
    writer.flush();
  }
  all += read_all(pipe.read.get());
  EXPECT_THAT(all, testing::HasSubstr("ERROR:  overseer[1]: ours\n"));
  EXPECT_THAT(all, testing::ContainsRegex("[0-9]+ lines of the application were dropped"));
  EXPECT_LT(std::count(all.begin(), all.end(), '\n'), 1000);
}

}  // namespace
}  // namespace bladepsgi::os
