#include "shm/lobby_board.h"

#include <gtest/gtest.h>

namespace bladepsgi::shm {
namespace {

Mapping small_mapping() {
  return Mapping::create({.numbers = 2, .object_bytes = kMinObjectBytes});
}

TEST(LobbyBoard, SaysNothingAtFirst) {
  const Mapping mapping = small_mapping();
  const LobbyBoard board(mapping);
  EXPECT_EQ(board.readies(), 0U);
  EXPECT_FALSE(board.is_there());
  EXPECT_FALSE(board.is_stopping());
  EXPECT_EQ(board.held(Holding::Idle), 0U);
  EXPECT_EQ(board.slow_bodies().value(), 0U);
}

TEST(LobbyBoard, AHintIsWithdrawnByWhoFoundTheQueueEmpty) {
  const Mapping mapping = small_mapping();
  LobbyBoard lobby(mapping);
  LobbyBoard worker(mapping);
  lobby.announce_ready();
  const std::uint64_t seen = worker.readies();
  EXPECT_NE(seen, 0U);
  worker.found_empty(seen);
  EXPECT_EQ(worker.readies(), 0U);
  worker.found_empty(seen);
  EXPECT_EQ(worker.readies(), 0U);
}

TEST(LobbyBoard, AHintThatCameMeanwhileStays) {
  const Mapping mapping = small_mapping();
  LobbyBoard lobby(mapping);
  LobbyBoard worker(mapping);
  lobby.announce_ready();
  const std::uint64_t seen = worker.readies();
  lobby.announce_ready();
  worker.found_empty(seen);
  EXPECT_NE(worker.readies(), 0U);
}

TEST(LobbyBoard, APermitOfADeadWorkerIsGivenBack) {
  const Mapping mapping = small_mapping();
  LobbyBoard board(mapping);
  board.prepare(1);
  EXPECT_TRUE(board.slow_bodies().try_acquire(7));
  EXPECT_FALSE(board.slow_bodies().try_acquire(8));
  EXPECT_EQ(board.slow_bodies().give_back(7, true), 1U);
  EXPECT_TRUE(board.slow_bodies().try_acquire(8));
}

TEST(LobbyBoard, CountsEachCause) {
  const Mapping mapping = small_mapping();
  LobbyBoard board(mapping);
  board.count(Drop::GaveWay);
  board.count(Drop::GaveWay);
  board.count(Drop::Malformed);
  EXPECT_EQ(board.dropped(Drop::GaveWay), 2U);
  EXPECT_EQ(board.dropped(Drop::Malformed), 1U);
  EXPECT_EQ(board.dropped(Drop::Memory), 0U);
}

}  // namespace
}  // namespace bladepsgi::shm
