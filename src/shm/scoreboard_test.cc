#include "shm/scoreboard.h"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "os/process.h"
#include "shm/layout.h"

namespace bladepsgi::shm {
namespace {

using std::chrono::milliseconds;

constexpr os::Monotonic kStart{std::chrono::hours(5)};

class ScoreboardTest : public ::testing::Test {
 protected:
  SlotIndex ready_worker(std::uint32_t number, std::uint32_t generation = 1) {
    const auto slot = board_.claim(Role::Worker, generation, number);
    EXPECT_TRUE(slot);
    board_.set_pid(*slot, 1000 + static_cast<pid_t>(*slot));
    board_.assign_number(*slot);
    OwnSlot(board_, *slot).become_idle();
    return *slot;
  }

  [[nodiscard]] SlotSnapshot see(SlotIndex slot) const { return board_.snapshot(slot).value(); }

  void serve(SlotIndex slot, int requests) {
    OwnSlot own(board_, slot);
    for (int i = 0; i < requests; ++i) {
      own.begin_request("GET", "/", "id", kStart);
      own.end_request(kStart + milliseconds(3), 10, 20);
      own.become_idle();
    }
  }

  [[nodiscard]] Slot& raw(SlotIndex slot) const {
    return reinterpret_cast<Slot*>(mapping_.base() + mapping_.layout().slots_offset)[slot];
  }

  Mapping mapping_ = Mapping::create({.numbers = 4, .object_bytes = kMinObjectBytes});
  Scoreboard board_{mapping_};
};

TEST_F(ScoreboardTest, SaysHowManyWorkersThereShallBe) {
  EXPECT_EQ(board_.shown_numbers(), 4U) << "all, until somebody has said it";
  board_.set_workers(0, 3);
  EXPECT_EQ(board_.wanted_workers(), 0U);
  EXPECT_EQ(board_.shown_numbers(), 3U);
  board_.set_workers(9, 9);
  EXPECT_EQ(board_.wanted_workers(), 4U);
  EXPECT_EQ(board_.shown_numbers(), 4U);
}

TEST_F(ScoreboardTest, IsEmptyAtFirst) {
  EXPECT_EQ(board_.numbers(), 4U);
  EXPECT_EQ(board_.used_slots(), 0U);
  EXPECT_EQ(board_.start_time(), 0);
  EXPECT_EQ(board_.total_requests(), 0U);
  EXPECT_EQ(board_.slot_of(0), std::nullopt);
  EXPECT_EQ(board_.status_of(3), '_');
  EXPECT_EQ(board_.status_of(4), '_');
  EXPECT_EQ(see(0).state, State::Free);
  EXPECT_EQ(board_.snapshot(board_.slots()), std::nullopt);
}

TEST_F(ScoreboardTest, ShowsTheLifeOfARequest) {
  const auto slot = board_.claim(Role::Worker, 7, 2);
  ASSERT_EQ(slot, 0U);
  EXPECT_EQ(see(*slot).state, State::Starting);
  EXPECT_EQ(see(*slot).pid, 0);
  board_.set_pid(*slot, 4711);
  EXPECT_EQ(board_.slot_of(2), std::nullopt);
  board_.assign_number(*slot);
  EXPECT_EQ(board_.slot_of(2), *slot);

  OwnSlot own(board_, *slot);
  own.become_idle();
  EXPECT_EQ(see(*slot).state, State::Idle);
  own.begin_request("POST", "/form?a=1", "r-1", kStart);
  own.set_status('W');
  SlotSnapshot now = see(*slot);
  EXPECT_EQ(now.state, State::Busy);
  EXPECT_EQ(now.role, Role::Worker);
  EXPECT_EQ(now.pid, 4711);
  EXPECT_EQ(now.generation, 7U);
  EXPECT_EQ(now.number, 2U);
  EXPECT_EQ(now.status, 'W');
  EXPECT_EQ(now.requests, 0U);
  EXPECT_EQ(now.request_started, kStart);
  EXPECT_TRUE(now.request_known);
  EXPECT_EQ(now.method, "POST");
  EXPECT_EQ(now.uri, "/form?a=1");
  EXPECT_EQ(now.request_id, "r-1");
  EXPECT_EQ(board_.status_of(2), 'W');

  own.end_request(kStart + milliseconds(250), 100, 2000);
  EXPECT_EQ(see(*slot).state, State::Cleanup);
  EXPECT_EQ(board_.status_of(2), 'W');
  own.become_idle();
  now = see(*slot);
  EXPECT_EQ(now.requests, 1U);
  EXPECT_EQ(now.bytes_in, 100U);
  EXPECT_EQ(now.bytes_out, 2000U);
  EXPECT_EQ(now.last_duration, milliseconds(250));
  EXPECT_EQ(now.uri, "/form?a=1");
  EXPECT_EQ(board_.status_of(2), '_');
  EXPECT_EQ(board_.total_requests(), 1U);
}

TEST_F(ScoreboardTest, CountsFailuresAndTimes) {
  const SlotIndex slot = ready_worker(0);
  OwnSlot own(board_, slot);
  const auto serve = [&](milliseconds took, bool has_failed) {
    own.begin_request("GET", "/", "", kStart);
    own.end_request(kStart + took, 0, 0, has_failed);
  };
  serve(milliseconds(100), false);
  serve(milliseconds(250), true);
  EXPECT_EQ(see(slot).requests, 2U);
  EXPECT_EQ(see(slot).failures, 1U);
  EXPECT_EQ(see(slot).took, milliseconds(350));
  board_.retire(slot);
  const auto next = board_.claim(Role::Worker, 1, 0);
  ASSERT_EQ(next, slot);
  EXPECT_EQ(see(slot).failures, 0U) << "of this process alone";
  EXPECT_EQ(see(slot).took, milliseconds(0));
  serve(milliseconds(5), true);
  EXPECT_EQ(see(slot).failures, 1U);
  EXPECT_EQ(see(slot).took, milliseconds(5));
  EXPECT_EQ(board_.total_failures(), 2U);
}

TEST_F(ScoreboardTest, TellsAWorkerToStepBackAsOftenAsAsked) {
  const SlotIndex slot = ready_worker(0);
  OwnSlot own(board_, slot);
  EXPECT_EQ(own.times_told_to_step_back(), 0U);
  for (unsigned times = 1; times <= 300; ++times) {
    const auto before = own.times_told_to_step_back();
    board_.tell_to_step_back(slot);
    EXPECT_NE(own.times_told_to_step_back(), before);
  }
  board_.retire(slot);
  ASSERT_EQ(board_.claim(Role::Worker, 1, 0), slot);
  EXPECT_EQ(own.times_told_to_step_back(), 0U) << "the next one begins anew";
}

TEST_F(ScoreboardTest, CutsWhatIsTooLong) {
  const SlotIndex slot = ready_worker(0);
  OwnSlot own(board_, slot);
  own.begin_request(std::string(1000, 'M'), std::string(kUriLimit, 'u'), std::string(1000, 'i'),
                    kStart);
  EXPECT_EQ(see(slot).method, std::string(kMethodLimit, 'M'));
  EXPECT_EQ(see(slot).uri, std::string(kUriLimit, 'u'));
  EXPECT_FALSE(see(slot).uri_is_cut);
  EXPECT_EQ(see(slot).request_id, std::string(kRequestIdLimit, 'i'));
  own.begin_request("GET", std::string(70000, 'x'), "", kStart);
  EXPECT_EQ(see(slot).uri, std::string(kUriLimit, 'x'));
  EXPECT_TRUE(see(slot).uri_is_cut);
  own.begin_request("GET", "/", "", kStart);
  EXPECT_EQ(see(slot).uri, "/");
  EXPECT_FALSE(see(slot).uri_is_cut);
}

TEST_F(ScoreboardTest, NumberBelongsToTheNewestReadyWorker) {
  const SlotIndex old_slot = ready_worker(1, 1);
  const auto new_slot = board_.claim(Role::Worker, 2, 1);
  EXPECT_EQ(board_.slot_of(1), old_slot);
  board_.assign_number(*new_slot);
  EXPECT_EQ(board_.slot_of(1), *new_slot);
  EXPECT_EQ(board_.retire(old_slot).generation, 1U);
  EXPECT_EQ(board_.slot_of(1), *new_slot);
  board_.retire(*new_slot);
  EXPECT_EQ(board_.slot_of(1), std::nullopt);
}

TEST_F(ScoreboardTest, AnotherOfARoleIsThereUntilItIsRetired) {
  const SlotIndex one = *board_.claim(Role::Lobby, 0, std::nullopt);
  ready_worker(0);
  EXPECT_FALSE(board_.has_other(Role::Lobby, one));
  const SlotIndex other = *board_.claim(Role::Lobby, 0, std::nullopt);
  EXPECT_TRUE(board_.has_other(Role::Lobby, one));
  EXPECT_TRUE(board_.has_other(Role::Lobby, other));
  board_.retire(one);
  EXPECT_FALSE(board_.has_other(Role::Lobby, other));
}

TEST_F(ScoreboardTest, RetiringKeepsTheTotalAndTheNextOwnerStartsAtZero) {
  const SlotIndex slot = ready_worker(0);
  serve(slot, 5);
  OwnSlot(board_, slot).count(Event::ClientGone);
  OwnSlot(board_, slot).begin_request("GET", "/deadly", "", kStart);
  OwnSlot(board_, slot).set_status('x');
  const SlotSnapshot last = board_.retire(slot);
  EXPECT_EQ(last.state, State::Busy);
  EXPECT_EQ(last.requests, 5U);
  EXPECT_EQ(last.uri, "/deadly");
  EXPECT_EQ(see(slot).state, State::Free);
  EXPECT_EQ(board_.total_requests(), 5U);

  ASSERT_EQ(ready_worker(0), slot);
  EXPECT_EQ(see(slot).requests, 0U);
  EXPECT_EQ(see(slot).bytes_out, 0U);
  EXPECT_EQ(see(slot).uri, "");
  EXPECT_EQ(see(slot).request_started, os::Monotonic());
  EXPECT_EQ(board_.status_of(0), '_');
  serve(slot, 2);
  EXPECT_EQ(see(slot).requests, 2U);
  EXPECT_EQ(board_.total_requests(), 7U);
  EXPECT_EQ(board_.total_events(Event::ClientGone), 1U);
  EXPECT_EQ(board_.total_events(Event::Malformed), 0U);
}

TEST_F(ScoreboardTest, ClaimsTheLowestFreeSlotUntilThereIsNone) {
  for (SlotIndex slot = 0; slot < board_.slots(); ++slot)
    ASSERT_EQ(board_.claim(Role::Auxiliary, 1, std::nullopt), slot);
  EXPECT_EQ(board_.claim(Role::Auxiliary, 1, std::nullopt), std::nullopt);
  EXPECT_EQ(board_.used_slots(), board_.slots());
  board_.retire(9);
  board_.retire(3);
  EXPECT_EQ(board_.claim(Role::Zygote, 1, std::nullopt), 3U);
  EXPECT_EQ(board_.claim(Role::Zygote, 1, std::nullopt), 9U);
  EXPECT_EQ(board_.claim(Role::Zygote, 1, std::nullopt), std::nullopt);
  EXPECT_EQ(see(9).role, Role::Zygote);
  EXPECT_EQ(see(9).number, std::nullopt);
}

TEST_F(ScoreboardTest, KeepsStartTimeAndGenerations) {
  board_.set_start_time(os::WallClock(milliseconds(1700000000999)));
  board_.set_generations(8, 7);
  const Scoreboard other(mapping_);
  EXPECT_EQ(other.start_time(), 1700000000);
  EXPECT_EQ(other.generation(), 8U);
  EXPECT_EQ(other.oldest_generation(), 7U);
}

TEST_F(ScoreboardTest, ReaderNeverSeesHalfOfARequest) {
  const SlotIndex slot = ready_worker(0);
  const pid_t test = ::getpid();
  const pid_t writer = ::fork();
  if (writer == 0) {
    os::die_with_parent(test);
    OwnSlot own(board_, slot);
    for (unsigned round = 0;; ++round) {
      const char letter = static_cast<char>('a' + round % 26);
      const std::size_t length = 20 + round % 13 * 15;
      own.begin_request(std::string(3, letter), std::string(length, letter),
                        std::string(length / 2, letter), kStart);
    }
  }
  int known = 0;
  int different = 0;
  std::string before;
  const os::Monotonic deadline = os::monotonic_now() + std::chrono::seconds(60);
  while ((known < 50000 || different < 1000) && os::monotonic_now() < deadline) {
    const SlotSnapshot now = see(slot);
    if (!now.request_known || now.uri.empty()) continue;
    ++known;
    if (now.uri != before) ++different;
    before = now.uri;
    ASSERT_EQ(now.method, std::string(3, now.uri[0]));
    ASSERT_EQ(now.uri, std::string(now.uri.size(), now.uri[0]));
    ASSERT_EQ(now.request_id, std::string(now.uri.size() / 2, now.uri[0]));
  }
  ::kill(writer, SIGKILL);
  ::waitpid(writer, nullptr, 0);
  EXPECT_GE(different, 1000);
}

TEST_F(ScoreboardTest, WriterThatDiedWhileWritingLeavesAnUnknownRequest) {
  const SlotIndex slot = ready_worker(0);
  OwnSlot(board_, slot).begin_request("GET", "/a", "id", kStart);
  raw(slot).sequence.fetch_add(1);
  EXPECT_FALSE(see(slot).request_known);
  EXPECT_EQ(see(slot).uri, "");
  EXPECT_EQ(see(slot).state, State::Busy);
  EXPECT_FALSE(board_.retire(slot).request_known);
  ASSERT_EQ(ready_worker(0), slot);
  OwnSlot(board_, slot).begin_request("GET", "/b", "id", kStart);
  EXPECT_EQ(see(slot).uri, "/b");
}

TEST_F(ScoreboardTest, TotalNeverGoesBackWhileWorkersDieAndAreReplaced) {
  constexpr std::uint64_t kLives = 20000;
  board_.set_generations(0, 0);
  const pid_t test = ::getpid();
  const pid_t reader = ::fork();
  if (reader == 0) {
    os::die_with_parent(test);
    board_.set_generations(1, 1);  // tells the parent that reading has begun
    std::uint64_t before = 0;
    for (;;) {
      const std::uint64_t total = board_.total_requests();
      if (total < before) ::_exit(1);
      before = total;
      if (total >= 3 * kLives) ::_exit(total == 3 * kLives ? 0 : 2);
    }
  }
  while (board_.generation() == 0)
    std::this_thread::yield();
  for (std::uint64_t life = 0; life < kLives; ++life) {
    const SlotIndex slot = ready_worker(static_cast<std::uint32_t>(life % 4));
    serve(slot, 3);
    board_.retire(slot);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(reader, &status, 0), reader);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(board_.total_requests(), 3 * kLives);
}

TEST_F(ScoreboardTest, ReadersSurviveAnyBytes) {
  std::mt19937 random(20261122);  // NOLINT(cert-msc51-cpp): the same bytes every time
  const Layout& layout = mapping_.layout();
  for (int round = 0; round < 200; ++round) {
    for (std::uint64_t at = layout.board_offset; at < layout.objects_offset; at += 4) {
      const auto word = round == 0 ? UINT32_MAX : static_cast<std::uint32_t>(random());
      std::memcpy(mapping_.base() + at, &word, sizeof word);
    }
    ASSERT_LE(board_.used_slots(), board_.slots());
    (void)board_.total_requests();
    (void)board_.total_events(static_cast<Event>(200));
    for (std::uint32_t number = 0; number < board_.numbers(); ++number) {
      (void)board_.status_of(number);
      const auto slot = board_.slot_of(number);
      ASSERT_LT(slot.value_or(0), board_.slots());
    }
    for (SlotIndex slot = 0; slot < board_.slots(); ++slot) {
      const SlotSnapshot seen = see(slot);
      ASSERT_LE(seen.state, State::Gone);
      ASSERT_LE(seen.role, Role::Lobby);
      ASSERT_LE(seen.uri.size(), kUriLimit);
      ASSERT_LE(seen.method.size(), kMethodLimit);
      ASSERT_LE(seen.request_id.size(), kRequestIdLimit);
      ASSERT_LT(seen.number.value_or(0), board_.numbers());
    }
    board_.retire(static_cast<SlotIndex>(random() % board_.slots()));
    (void)board_.claim(Role::Worker, 1, 3);
  }
}

}  // namespace
}  // namespace bladepsgi::shm
