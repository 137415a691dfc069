// Threads in the place of processes: ThreadSanitizer sees races between those only. shm_race_test is this file and the room under
// it; each thread has its own views, as each process has.
#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "os/clock.h"
#include "shm/lobby_board.h"
#include "shm/mapping.h"
#include "shm/objects.h"
#include "shm/scoreboard.h"

namespace bladepsgi::shm {
namespace {

constexpr std::uint32_t kThreads = 4;

class RaceTest : public ::testing::Test {
 protected:
  // All begin together.
  static void run(std::uint32_t count, const std::function<void(std::uint32_t)>& body) {
    std::atomic<std::uint32_t> waiting{count};
    std::vector<std::thread> threads;
    for (std::uint32_t number = 0; number < count; ++number) {
      threads.emplace_back([&waiting, &body, number] {
        waiting.fetch_sub(1);
        while (waiting.load() > 0)
          std::this_thread::yield();
        body(number);
      });
    }
    for (std::thread& thread : threads)
      thread.join();
  }

  Mapping mapping_ = Mapping::create({.numbers = 8, .object_bytes = 1 << 20});
};

TEST_F(RaceTest, ASemaphoreOfOneProtectsWhatIsBehindIt) {
  constexpr int kRounds = 2000;
  std::int64_t behind = 0;  // not atomic: only the semaphore keeps the threads apart
  run(kThreads, [&](std::uint32_t number) {
    Objects objects(mapping_);
    const ObjectId lock = objects.semaphore("lock", 1, OnDeath::Default, 1).value().id;
    for (int round = 0; round < kRounds; ++round) {
      while (objects.acquire(lock, number) != Acquired::Yes) {
      }
      ++behind;
      ASSERT_TRUE(objects.release(lock, number));
    }
  });
  EXPECT_EQ(behind, std::int64_t{kRounds} * kThreads);
  for (SlotIndex slot = 0; slot < kThreads; ++slot)
    EXPECT_TRUE(Objects(mapping_).give_back(slot).empty());
}

TEST_F(RaceTest, AnAtomicPublishesWhatWasWrittenBeforeIt) {
  constexpr std::int64_t kRounds = 2000;
  std::int64_t box = 0;
  run(2, [&](std::uint32_t number) {
    Objects objects(mapping_);
    const ObjectId turn = objects.atomic("turn", 0, 1).value().id;
    for (std::int64_t round = 0; round < kRounds; ++round) {
      while (objects.load(turn) % 2 != number)
        std::this_thread::yield();
      ++box;
      objects.fetch_add(turn, 1);
    }
  });
  EXPECT_EQ(box, 2 * kRounds);
}

// For a moment after an upgrade.
TEST_F(RaceTest, TwoLobbiesCountOnOneBoard) {
  constexpr std::uint64_t kRounds = 20'000;
  run(2, [&](std::uint32_t) {
    LobbyBoard board(mapping_);
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      board.count(Drop::PeerClosed);
      board.announce_ready();
    }
  });
  LobbyBoard board(mapping_);
  EXPECT_EQ(board.dropped(Drop::PeerClosed), 2 * kRounds);
  board.announce_ready();
  EXPECT_EQ(board.readies(), 2 * kRounds + 1) << "none was the same as another";
}

TEST_F(RaceTest, CreatorsOfTheSameNamesGetTheSameObjects) {
  constexpr int kNames = 300;
  std::vector<std::vector<ObjectId>> ids(kThreads);
  run(kThreads, [&](std::uint32_t number) {
    Objects objects(mapping_);
    for (int name = 0; name < kNames; ++name) {
      const auto made = objects.atomic("name " + std::to_string(name), 5, 1);
      ASSERT_TRUE(made);
      ids[number].push_back(made->id);
      objects.fetch_add(made->id, 1);
      if (name % 50 == 0) {
        EXPECT_FALSE(objects.list(0).empty());
      }
    }
  });
  for (const auto& of_one : ids)
    EXPECT_EQ(of_one, ids.front());
  const std::vector<ObjectValue> all = Objects(mapping_).list(0);
  EXPECT_EQ(all.size(), static_cast<std::size_t>(kNames));
  for (const ObjectValue& object : all)
    EXPECT_EQ(object.value, 5 + std::int64_t{kThreads}) << object.name;
}

TEST_F(RaceTest, ReadersOfTheScoreboardSeeARequestWholeOrNotAtAll) {
  Scoreboard board(mapping_);
  std::vector<SlotIndex> slots;
  for (std::uint32_t number = 0; number < 2; ++number) {
    slots.push_back(board.claim(Role::Worker, 1, number).value());
    board.assign_number(slots.back());
  }
  constexpr int kRequests = 3000;
  std::atomic<std::uint32_t> serving{2};
  std::atomic<int> seen{0};
  run(kThreads, [&](std::uint32_t number) {
    const Scoreboard view(mapping_);
    if (number < 2) {
      OwnSlot own(view, slots[number]);
      for (int request = 0; request < kRequests; ++request) {
        const std::string text = std::to_string(request);
        own.begin_request("M" + text, "/" + text + std::string(request % 100, 'x'), "id" + text,
                          os::monotonic_now());
        own.end_request(os::monotonic_now(), 10, 20);
        own.count(Event::Malformed);
        own.become_idle();
      }
      serving.fetch_sub(1);
      return;
    }
    while (serving.load() > 0) {
      for (const SlotIndex slot : slots) {
        const auto now = view.snapshot(slot);
        ASSERT_TRUE(now);
        ASSERT_LE(now->requests, static_cast<std::uint64_t>(kRequests));
        if (!now->request_known || now->method.empty()) continue;  // being written; none yet
        const std::string text = now->method.substr(1);
        ASSERT_EQ(now->uri.substr(0, text.size() + 1), "/" + text);
        ASSERT_EQ(now->request_id, "id" + text);
        seen.fetch_add(1);
      }
    }
  });
  EXPECT_GT(seen.load(), 0);
  EXPECT_EQ(board.total_requests(), 2U * kRequests);
  EXPECT_EQ(board.total_events(Event::Malformed), 2U * kRequests);
}

}  // namespace
}  // namespace bladepsgi::shm
