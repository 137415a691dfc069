#include "monitoring/statistics.h"

#include <chrono>
#include <string>

#include <gtest/gtest.h>

namespace bladepsgi::monitoring {
namespace {

TEST(Statistics, TextIsThatOfTheContract) {
  const Statistics statistics{
      .start_time = 1700000000,
      .octets = "__W_",
      .requests = 42,
      .objects = {{.kind = shm::Kind::Atomic, .name = "hits", .value = -7},
                  {.kind = shm::Kind::Semaphore, .name = "db: lock", .value = 3},
                  {.kind = shm::Kind::Atomic, .name = "db: lock", .value = 9},
                  {.kind = shm::Kind::Semaphore, .name = "gate", .value = 0}}};
  EXPECT_EQ(format(statistics),
            "1700000000\n__W_\n42\n\n"
            "sem db: lock: 3\nsem gate: 0\natomic hits: -7\natomic db: lock: 9\n");
}

TEST(Statistics, EndsWithTheEmptyLineWhenThereAreNoObjects) {
  EXPECT_EQ(format({.start_time = 1, .octets = "_", .requests = 0, .objects = {}}), "1\n_\n0\n\n");
}

TEST(Statistics, AreCollectedFromSharedMemory) {
  const shm::Mapping mapping = shm::Mapping::create({.numbers = 3, .object_bytes = 1 << 20});
  shm::Scoreboard board(mapping);
  shm::Objects objects(mapping);
  board.set_start_time(os::WallClock(std::chrono::seconds(1234)));
  board.set_generations(2, 2);
  ASSERT_TRUE(objects.atomic("forgotten", 1, 1));
  ASSERT_TRUE(objects.atomic("hits", 5, 2));
  const auto slot = board.claim(shm::Role::Worker, 2, 1);
  board.assign_number(*slot);
  shm::OwnSlot own(board, *slot);
  own.become_idle();
  EXPECT_EQ(format(collect(board, objects)), "1234\n___\n0\n\natomic hits: 5\n");
  own.begin_request("GET", "/", "", os::monotonic_now());
  own.set_status('R');
  EXPECT_EQ(format(collect(board, objects)), "1234\n_R_\n0\n\natomic hits: 5\n");
  own.end_request(os::monotonic_now(), 0, 0);
  own.become_idle();
  board.retire(*slot);
  EXPECT_EQ(format(collect(board, objects)), "1234\n___\n1\n\natomic hits: 5\n");
  board.set_workers(1, 2);
  EXPECT_EQ(collect(board, objects).octets, "__")
      << "there is room for more, but nobody wants them";
}

}  // namespace
}  // namespace bladepsgi::monitoring
