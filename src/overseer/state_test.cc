#include "overseer/state.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "json/value.h"

namespace bladepsgi::overseer {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

State example() {
  State state;
  state.program_version = "2.0.0";
  state.overseer = 812;
  state.formats = {.memory = 4, .handover = 3, .log = 1, .zygote = 1};
  state.started = 1'795'342'502'000'000'000;
  state.started_monotonic = -5;
  state.descriptor_limit = 1024;
  state.web_server_addresses = "127.0.0.1";
  state.lifeline = {.read = {3}, .held = {4}};
  state.access_log = AccessLogState{.file = {5}, .path = "/var/log/access log"};
  state.pid_file = PidFileState{
      .path = "/run/app.pid", .file = {.path = "/run/app.pid", .device = 7, .inode = 1ULL << 63U}};
  ControlState control;
  control.listener.kind = os::ListenerRecord::Kind::Unix;
  control.listener.fd = 6;
  control.listener.transport = os::Transport::Unix;
  control.listener.name = "/run/812.control";
  control.directory = "/run/bladepsgi";
  control.clients.push_back({.socket = {7},
                             .pid = 90,
                             .user = 1000,
                             .received = "{\"comm",
                             .has_asked = true,
                             .is_answered = false,
                             .unsent = std::string("\0\n%\xff", 4),
                             .waits_for_upgrade = true});
  state.control = control;
  SourceState& orphan = state.orphans.emplace_back();
  orphan.role = "worker";
  orphan.is_dead = true;
  orphan.pipes[1] = {8};
  PoolState& pool = state.pool;
  ListenerState listener;
  listener.record.fd = 9;
  listener.record.name = "/run/app.sock";
  listener.record.kind = os::ListenerRecord::Kind::Unix;
  listener.record.is_published = true;
  listener.is_http = true;
  pool.listeners.push_back(listener);
  listener.record.fd = 10;
  pool.health.push_back(listener);
  pool.statistics = listener.record;
  pool.statistics->fd = 11;
  pool.memory = {12};
  pool.parking = {.lobby = {13}, .workers = {14}};
  pool.ready = {.lobby = {15}, .workers = {16}};
  pool.passing = {.lobby = {20}, .workers = {21}};
  pool.generation = 7;
  pool.next_generation = 9;
  pool.zygote = {22};
  pool.least_workers = 2;
  pool.most_workers = 4;
  pool.wanted = {0, 2};
  pool.scaling_to = 4;
  pool.load_time = 1500;
  pool.nobody_serves = true;
  pool.auxiliaries.push_back({.name = "mailer", .was_started = true});
  ProcessState worker;
  worker.role = "worker";
  worker.pid = 900;
  worker.slot = 3;
  worker.number = 2;
  worker.generation = 7;
  worker.is_ready = true;
  worker.started = 123'456'789;
  worker.wake = {17};
  worker.source.role = "worker";
  worker.source.pid = 900;
  worker.source.is_reading = true;
  worker.source.pipes = {{{18}, {-1}, {19}}};
  worker.source.lines = {"half a line", "\xc3\xa4"};
  worker.source.frames = std::string("\x1eT\0\0", 4);
  pool.processes.push_back(worker);
  ProcessState lobby;
  lobby.kind = ProcessState::Kind::Lobby;
  lobby.role = "lobby";
  lobby.pid = 901;
  pool.processes.push_back(lobby);
  return state;
}

TEST(State, ComesBackAsItWas) {
  const std::string text = encode(example());
  const auto decoded = decode(text);
  ASSERT_TRUE(decoded) << decoded.error().message;
  // Every member that is written is read again: the same text comes of it.
  EXPECT_EQ(encode(*decoded), text);
  EXPECT_EQ(decoded->started_monotonic, -5);
  EXPECT_EQ(decoded->pid_file->file.inode, 1ULL << 63U);
  EXPECT_EQ(decoded->control->clients.at(0).unsent, std::string("\0\n%\xff", 4));
  EXPECT_FALSE(decoded->check);
  const ProcessState& worker = decoded->pool.processes.at(0);
  EXPECT_EQ(worker.slot, 3U);
  EXPECT_EQ(worker.source.lines[1], "\xc3\xa4");
  EXPECT_EQ(worker.source.frames, std::string("\x1eT\0\0", 4));
  EXPECT_EQ(decoded->pool.processes.at(1).kind, ProcessState::Kind::Lobby);
  EXPECT_FALSE(decoded->pool.processes.at(1).slot);
}

TEST(State, IsTextThatAPersonCanRead) {
  const std::string text = encode(example());
  EXPECT_TRUE(std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c < '\x7f'; }));
  EXPECT_THAT(text, HasSubstr("/run/app.sock"));
}

TEST(State, EveryDescriptorIsFound) {
  EXPECT_THAT(descriptors_of(example()), UnorderedElementsAre(3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
                                                              14, 15, 16, 17, 18, 19, 20, 21, 22));
}

TEST(State, OfOneThatIsCutShortNothingIsTaken) {
  const std::string text = encode(example());
  for (std::size_t size = 0; size < text.size(); ++size)
    ASSERT_FALSE(decode(std::string_view(text).substr(0, size))) << size;
}

TEST(State, NoByteThatIsChangedDoesAnyHarm) {
  const std::string text = encode(example());
  constexpr std::size_t kStep = 7;
  for (std::size_t i = 0; i < text.size(); i += kStep) {
    for (const char c : {'\0', '"', '{', '-', '9', '%', '\xff'}) {
      std::string changed = text;
      changed[i] = c;
      const auto decoded = decode(changed);
      // What is taken can be written again; what is not has a reason.
      if (decoded) {
        ASSERT_TRUE(decode(encode(*decoded)));
      } else {
        ASSERT_THAT(decoded.error().message, HasSubstr("the state record cannot be read: "));
      }
    }
  }
}

// As example(), with the first of these texts in the place of the second.
std::string refusal(std::string_view what, std::string_view instead) {
  std::string text = encode(example());
  const std::size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  text.replace(at, what.size(), instead);
  const auto decoded = decode(text);
  return decoded ? "taken" : decoded.error().message;
}

TEST(State, AnotherVersionIsRefused) {
  EXPECT_THAT(
      refusal("\"version\":1", "\"version\":2"),
      HasSubstr("it has version 2, this program knows version 1; this upgrade needs a restart"));
  EXPECT_THAT(refusal("\"version\":1", "\"version\":\"x\""), HasSubstr("does not say its version"));
}

TEST(State, WhatIsWrongIsNamed) {
  EXPECT_THAT(refusal("\"pid\":900", "\"pid\":true"),
              HasSubstr("'pool.processes[0].pid' is no number"));
  EXPECT_THAT(refusal("\"pid\":900", "\"pid\":4294967296"),
              HasSubstr("'pool.processes[0].pid' is out of range"));
  EXPECT_THAT(refusal("\"pid\":900,", ""), HasSubstr("'pool.processes[0].pid' is missing"));
  EXPECT_THAT(refusal("\"memory\":12", "\"memory\":-2"),
              HasSubstr("'pool.memory' is no descriptor"));
  EXPECT_THAT(refusal("\"kind\":\"lobby\"", "\"kind\":\"hall\""),
              HasSubstr("'pool.processes[1].kind' is none of the words"));
  EXPECT_THAT(refusal("\"nobody_serves\":true", "\"nobody_serves\":1"),
              HasSubstr("'pool.nobody_serves' is neither true nor false"));
  EXPECT_THAT(refusal("\"pipes\":[18,-1,19]", "\"pipes\":[18,-1]"),
              HasSubstr("'pool.processes[0].source.pipes' is no list of 3"));
  EXPECT_THAT(refusal("half%20a", "half%2"),
              HasSubstr("'pool.processes[0].source.lines[0]' is no text"));
}

TEST(State, WhatAnotherVersionHasAddedIsLeftAlone) {
  EXPECT_EQ(refusal("\"version\":1", "\"version\":1,\"novelty\":{\"fd\":99}"), "taken");
}

TEST(State, FormatsHaveToBeTheSame) {
  const Formats ours = Formats::ours();
  EXPECT_TRUE(check_formats(ours, ours));
  Formats theirs = ours;
  ++theirs.memory;
  EXPECT_THAT(check_formats(theirs, ours).error().message, HasSubstr("shared memory has format"));
  theirs = ours;
  ++theirs.handover;
  EXPECT_THAT(check_formats(theirs, ours).error().message, HasSubstr("needs a restart"));
  theirs = ours;
  ++theirs.log;
  EXPECT_THAT(check_formats(theirs, ours).error().message, HasSubstr("the log channel"));
}

}  // namespace
}  // namespace bladepsgi::overseer
