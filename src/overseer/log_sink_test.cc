#include "overseer/log_sink.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/socket.h"

namespace bladepsgi::overseer {
namespace {

// Standard error of this process becomes a pipe while a test runs.
class LogSinkTest : public testing::Test {
 protected:
  void SetUp() override {
    saved_ = os::Fd(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
    log_ = os::make_pipe();
    ::dup2(log_.write.get(), STDERR_FILENO);
    os::set_non_blocking(log_.read.get());
  }

  void TearDown() override { ::dup2(saved_.get(), STDERR_FILENO); }

  std::string logged() {
    std::string all;
    std::array<char, 65536> piece{};
    ssize_t size = 0;
    while ((size = ::read(log_.read.get(), piece.data(), piece.size())) > 0) {
      all.append(piece.data(), static_cast<std::size_t>(size));
    }
    return all;
  }

  static void print(const os::Fd& end, std::string_view text) {
    ASSERT_EQ(::write(end.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }

  os::Fd saved_;
  os::Pipe log_;
  os::EventLoop loop_;
};

TEST_F(LogSinkTest, LinesOfSeveralProcessesNeverMix) {
  LogSink sink(loop_, false);
  auto first = sink.open("worker", {});
  auto second = sink.open("heartbeat", {});
  sink.start_reading(first.source, 11);
  sink.start_reading(second.source, 12);
  print(first.ends.output, "half of ");
  loop_.run_once();
  print(second.ends.error, "from another\n");
  loop_.run_once();
  print(first.ends.output, "a line\n");
  loop_.run_once();
  EXPECT_THAT(logged(), testing::MatchesRegex(".* LOG:  heartbeat\\[12\\]: from another\n"
                                              ".* LOG:  worker\\[11\\]: half of a line\n"));
}

TEST_F(LogSinkTest, NothingIsReadBeforeThePidIsKnown) {
  LogSink sink(loop_, false);
  auto opened = sink.open("worker", {});
  print(opened.ends.output, "early\n");
  sink.start_reading(opened.source, 4711);
  loop_.run_once();
  EXPECT_THAT(logged(), testing::HasSubstr("worker[4711]: early\n"));
}

TEST_F(LogSinkTest, LastWordsOfTheDeadAreKeptAlsoWithoutANewline) {
  LogSink sink(loop_, false);
  auto opened = sink.open("worker", {});
  sink.start_reading(opened.source, 5);
  print(opened.ends.error, "last words");
  os::LogChannel(opened.ends.channel.get()).text(Severity::Error, "and a report");
  opened.ends = {};
  sink.finish(opened.source);
  EXPECT_THAT(logged(), testing::AllOf(testing::HasSubstr("ERROR:  worker[5]: and a report\n"),
                                       testing::HasSubstr("LOG:  worker[5]: last words\n")));
}

TEST_F(LogSinkTest, ReadyComesThroughTheChannelAndItsEndIsSeen) {
  LogSink sink(loop_, false);
  pid_t ready = 0;
  bool is_closed = false;
  auto opened = sink.open(
      "worker", [&ready](pid_t pid) { ready = pid; }, [&is_closed] { is_closed = true; });
  sink.start_reading(opened.source, 0);
  os::LogChannel(opened.ends.channel.get()).ready(77);
  loop_.run_once();
  EXPECT_EQ(ready, 77);
  opened.ends.channel.reset();
  loop_.run_once();
  EXPECT_TRUE(is_closed);
}

TEST_F(LogSinkTest, AnAccessLogThatFailsIsSaidOnceInTheLog) {
  const os::Fd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  LogSink sink(loop_, false);
  sink.write_access_to(full.get(), "the access log 'here'");
  auto opened = sink.open("worker", {});
  sink.start_reading(opened.source, 5);
  for (int i = 0; i < 3; ++i) {
    os::LogChannel(opened.ends.channel.get()).access("GET /");
    loop_.run_once();
  }
  EXPECT_THAT(logged(),
              testing::MatchesRegex(
                  ".* ERROR:  overseer\\[[0-9]+\\]: cannot write the access log 'here': No "
                  "space left on device \\(ENOSPC\\); [^\n]*every second\n"));
}

TEST_F(LogSinkTest, RawOutputHasAChannelOnly) {
  LogSink sink(loop_, true);
  const auto opened = sink.open("worker", {});
  EXPECT_FALSE(opened.ends.output.is_open());
  EXPECT_FALSE(opened.ends.error.is_open());
  EXPECT_TRUE(opened.ends.channel.is_open());
}

}  // namespace
}  // namespace bladepsgi::overseer
