#include "os/log.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
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
  std::vector<pid_t> wishes;
  LogFrames::Handler handler{
      .on_text =
          [this](Severity severity, std::string_view text) {
            texts.push_back(std::string(severity_word(severity)) + " " + std::string(text));
          },
      .on_ready = [this](pid_t pid) { ready.push_back(pid); },
      .on_wish =
          [this](pid_t pid) {
            wishes.push_back(pid);
          }};
};

TEST(LogChannel, MessagesArriveWholeUnderEveryChunking) {
  Pipe pipe = make_pipe();
  const std::string large(10000, 'x');
  {
    const LogChannel channel(pipe.write.get());
    channel.text(Severity::Warning, "short");
    channel.ready(4711);
    channel.wants_replacement(4712);
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
    EXPECT_THAT(collected.wishes, testing::ElementsAre(4712));
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

using Obstacle = LogWriter::Obstacle;

TEST(LogWriter, WhenItsReaderIsStuckKeepsOwnLinesAndCountsTheApplications) {
  Pipe pipe = make_pipe();
  LogWriter writer(pipe.write.get());
  const std::string line(1000, 'a');
  for (int i = 0; i < 1000; ++i)
    writer.write(Severity::Log, "worker", 1, line, LogWriter::Origin::Application);
  EXPECT_EQ(writer.obstacle(), Obstacle::Full);
  writer.write(Severity::Error, "overseer", 1, "ours", LogWriter::Origin::Own);

  set_non_blocking(pipe.read.get());
  std::string all;
  while (writer.obstacle() != Obstacle::None) {
    EXPECT_FALSE(writer.take_outage());
    all += read_all(pipe.read.get());
    writer.flush();
  }
  all += read_all(pipe.read.get());
  EXPECT_THAT(all, testing::HasSubstr("ERROR:  overseer[1]: ours\n"));
  const auto outage = writer.take_outage();
  ASSERT_TRUE(outage);
  EXPECT_EQ(outage->error, 0);
  EXPECT_EQ(std::count(all.begin(), all.end(), '\n') + static_cast<std::ptrdiff_t>(outage->dropped),
            1001);
  EXPECT_GT(outage->dropped, 0U);
  EXPECT_FALSE(writer.take_outage()) << "said once";
}

TEST(LogWriter, KeepsTheServersLinesUpToALimit) {
  Pipe pipe = make_pipe();
  LogWriter writer(pipe.write.get());
  const std::string line(10'000, 'a');
  for (int i = 0; i < 1000; ++i)
    writer.write(Severity::Error, "overseer", 1, line, LogWriter::Origin::Own);
  set_non_blocking(pipe.read.get());
  std::size_t size = 0;
  while (writer.obstacle() != Obstacle::None) {
    size += read_all(pipe.read.get()).size();
    writer.flush();
  }
  EXPECT_GT(size, std::size_t{1} << 20);
  EXPECT_LT(size, std::size_t{2} << 20);
}

// A file that must not grow stands for a full disk: it takes a part of a line, then nothing.
class FullDisk : public testing::Test {
 protected:
  FullDisk() : file_(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    before_handler_ = ::signal(SIGXFSZ, SIG_IGN);
  }

  ~FullDisk() override {
    allow(before_.rlim_cur);
    ::signal(SIGXFSZ, before_handler_);
  }

  void allow(rlim_t size) const {
    const rlimit limit{.rlim_cur = size, .rlim_max = before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }

  [[nodiscard]] std::string written() const {
    ::lseek(file_.get(), 0, SEEK_SET);
    return read_all(file_.get());
  }

  Fd file_;

 private:
  rlimit before_{};
  sighandler_t before_handler_ = SIG_DFL;
};

TEST_F(FullDisk, LinesWaitAndALineThatWasBegunIsEndedWhenThereIsRoom) {
  LogWriter writer(file_.get());
  allow(10);
  writer.write_line("first", LogWriter::Origin::Own);
  EXPECT_EQ(writer.obstacle(), Obstacle::None);
  EXPECT_EQ(writer.error(), 0);
  writer.write_line("second", LogWriter::Origin::Own);
  writer.write_line("third", LogWriter::Origin::Application);
  EXPECT_EQ(writer.obstacle(), Obstacle::Failing);
  EXPECT_EQ(writer.error(), EFBIG);
  writer.flush();
  EXPECT_EQ(writer.obstacle(), Obstacle::Failing);
  EXPECT_FALSE(writer.take_outage()) << "it is not over";
  EXPECT_EQ(written(), "first\nseco");

  allow(1000);
  writer.flush();
  EXPECT_EQ(writer.obstacle(), Obstacle::None);
  EXPECT_EQ(written(), "first\nsecond\nthird\n");
  const auto outage = writer.take_outage();
  ASSERT_TRUE(outage);
  EXPECT_EQ(outage->error, EFBIG);
  EXPECT_EQ(outage->dropped, 0U);
}

TEST_F(FullDisk, TheEndIsNotWaitedFor) {
  LogWriter writer(file_.get());
  allow(0);
  writer.write_line("never", LogWriter::Origin::Own);
  const Monotonic before = monotonic_now();
  writer.drain(std::chrono::minutes(1));
  EXPECT_LT(monotonic_now() - before, std::chrono::seconds(10));
  EXPECT_EQ(writer.obstacle(), Obstacle::Failing);
}

}  // namespace
}  // namespace bladepsgi::os
