#include "lobby/table.h"

#include <gtest/gtest.h>

namespace bladepsgi::lobby {
namespace {

using shm::Holding;
using std::chrono::seconds;

os::Monotonic at(int second) {
  return os::Monotonic(seconds(second));
}

TEST(Table, TheFirstDeadlineOfAllIsNext) {
  Table table;
  EXPECT_FALSE(table.next_deadline());
  const GuestId idle = table.add(Holding::Idle, at(75));
  const GuestId head = table.add(Holding::Idle, at(80));
  table.change(head, Holding::Head, at(10));
  table.add(Holding::Ready, Table::kNever);
  EXPECT_EQ(table.next_deadline(), at(10));
  EXPECT_FALSE(table.find_due(at(9)));
  EXPECT_EQ(table.find_due(at(10)), head);
  table.remove(head);
  EXPECT_EQ(table.next_deadline(), at(75));
  EXPECT_EQ(table.find_due(at(100)), idle);
  table.remove(idle);
  EXPECT_FALSE(table.next_deadline()) << "who is ready has none";
  EXPECT_EQ(table.size(), 1U);
}

TEST(Table, TheOldestIdleOneGivesWayFirst) {
  Table table;
  const GuestId ready = table.add(Holding::Ready, Table::kNever);
  const GuestId body = table.add(Holding::Body, at(1));
  const GuestId head = table.add(Holding::Head, at(1));
  const GuestId later = table.add(Holding::Idle, at(20));
  const GuestId earlier = table.add(Holding::Idle, at(10));
  const GuestId closing = table.add(Holding::Closing, at(50));
  for (const GuestId expected : {closing, earlier, later, head, body}) {
    ASSERT_EQ(table.find_oldest(), expected);
    table.remove(expected);
  }
  EXPECT_FALSE(table.find_oldest());
  EXPECT_EQ(table.count(Holding::Ready), 1U);
  table.remove(ready);
  EXPECT_EQ(table.size(), 0U);
}

TEST(Table, TheLargestIsFoundAndBytesAreCountedExactly) {
  Table table;
  const GuestId small = table.add(Holding::Head, at(1));
  const GuestId large = table.add(Holding::Body, at(1));
  const GuestId ready = table.add(Holding::Ready, Table::kNever);
  EXPECT_FALSE(table.find_largest());
  table.set_bytes(small, 10);
  table.set_bytes(large, 1000);
  table.set_bytes(ready, 100000);
  EXPECT_EQ(table.ready_bytes(), 100000U);
  EXPECT_EQ(table.find_largest(), large);
  table.set_bytes(large, 5);
  EXPECT_EQ(table.find_largest(), small);
  EXPECT_EQ(table.bytes(), 100015U);
  table.remove(ready);
  table.remove(ready);
  EXPECT_EQ(table.bytes(), 15U);
}

}  // namespace
}  // namespace bladepsgi::lobby
