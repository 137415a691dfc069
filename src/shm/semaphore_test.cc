#include "shm/semaphore.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "os/process.h"
#include "shm/layout.h"

namespace bladepsgi::shm {
namespace {

using std::chrono::seconds;
using Change = Semaphore::Change;
using Operation = Semaphore::Operation;

constexpr std::size_t kSlots = 8;
constexpr auto kLong = seconds(60);  // a wait that nobody ends
constexpr auto kSoon = seconds(30);  // what is too late for a wake-up

struct Shared {
  alignas(kCacheLine) SemaphoreCell cell;
  alignas(kCacheLine) std::array<HoldRecord, kSlots> records;
  std::atomic<std::uint64_t> operations;
};

// A semaphore in memory that forked children share.
class SemaphoreTest : public ::testing::Test {
 protected:
  SemaphoreTest()
      : shared_(static_cast<Shared*>(::mmap(nullptr,
                                            sizeof(Shared),
                                            PROT_READ | PROT_WRITE,
                                            MAP_SHARED | MAP_ANONYMOUS,
                                            -1,
                                            0))) {
    Semaphore::initialize(shared_->cell, 3);
  }

  ~SemaphoreTest() override { ::munmap(shared_, sizeof(Shared)); }

  void set_value(std::uint32_t value) { Semaphore::initialize(shared_->cell, value); }

  static pid_t in_child(const std::function<int()>& body) {
    const pid_t test = ::getpid();
    const pid_t pid = ::fork();
    if (pid == 0) {
      os::die_with_parent(test);  // so that a failed test leaves nothing running
      ::_exit(body());
    }
    return pid;
  }

  static int status_of(pid_t pid) {
    int status = -1;
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    return status;
  }

  void await_waiters(std::uint32_t count) const {
    while (shared_->cell.waiters.load() < count)
      std::this_thread::yield();
  }

  Shared* shared_;
  Semaphore semaphore_{shared_->cell, shared_->records};
};

TEST_F(SemaphoreTest, CountsPermitsAndWhoHoldsThem) {
  EXPECT_TRUE(semaphore_.try_acquire(1));
  EXPECT_TRUE(semaphore_.try_acquire(1));
  EXPECT_TRUE(semaphore_.try_acquire(2));
  EXPECT_FALSE(semaphore_.try_acquire(3));
  EXPECT_EQ(semaphore_.value(), 0U);
  EXPECT_EQ(semaphore_.held_by(1), 2U);
  EXPECT_EQ(semaphore_.held_by(2), 1U);
  EXPECT_EQ(semaphore_.held_by(3), 0U);
  EXPECT_TRUE(semaphore_.release(1));
  EXPECT_EQ(semaphore_.held_by(1), 1U);
  EXPECT_EQ(semaphore_.value(), 1U);
}

TEST_F(SemaphoreTest, ReleaseOfWhatIsNotHeldOwesNothing) {
  EXPECT_TRUE(semaphore_.release(1));
  EXPECT_EQ(semaphore_.value(), 4U);
  EXPECT_EQ(semaphore_.held_by(1), 0U);
  EXPECT_TRUE(semaphore_.try_acquire(1));
  EXPECT_EQ(semaphore_.held_by(1), 1U);
}

TEST_F(SemaphoreTest, ReleaseAtTheLargestValueFails) {
  set_value(kMaxSemaphoreValue - 1);
  EXPECT_TRUE(semaphore_.release(0));
  EXPECT_FALSE(semaphore_.release(0));
  EXPECT_EQ(semaphore_.value(), kMaxSemaphoreValue);
}

TEST_F(SemaphoreTest, BooksStayRightWhenTheSequenceInTheWordWraps) {
  ASSERT_TRUE(semaphore_.try_acquire(7));
  for (int i = 0; i < 100000; ++i) {
    ASSERT_TRUE(semaphore_.try_acquire(5));
    ASSERT_TRUE(semaphore_.release(5));
  }
  EXPECT_EQ(semaphore_.held_by(5), 0U);
  EXPECT_EQ(semaphore_.held_by(7), 1U);
  EXPECT_EQ(semaphore_.value(), 2U);
}

TEST_F(SemaphoreTest, LargestSlotFitsTheWord) {
  std::vector<HoldRecord> records(kMaxSlots);
  Semaphore semaphore(shared_->cell, records);
  ASSERT_EQ(semaphore.commit(kMaxSlots - 1, Operation::Acquire), Change::Done);
  EXPECT_EQ(semaphore.value(), 2U);
  EXPECT_EQ(semaphore.held_by(kMaxSlots - 1), 1U);
}

// A process can die before the word changes (nothing happened), between the two steps, and after the second. `settle`
// or another process's operation completes the books in the second case.
TEST_F(SemaphoreTest, DeathBetweenTheStepsOfAnAcquireLosesNothing) {
  ASSERT_EQ(semaphore_.commit(1, Operation::Acquire), Change::Done);
  EXPECT_EQ(semaphore_.value(), 2U);
  EXPECT_EQ(semaphore_.give_back(1, true), 1U);
  EXPECT_EQ(semaphore_.value(), 3U);
  EXPECT_EQ(semaphore_.give_back(1, true), 0U);
  EXPECT_EQ(semaphore_.value(), 3U);
}

TEST_F(SemaphoreTest, DeathBetweenTheStepsOfAReleaseOwesNothing) {
  ASSERT_TRUE(semaphore_.try_acquire(1));
  ASSERT_EQ(semaphore_.commit(1, Operation::Release), Change::Done);
  EXPECT_EQ(semaphore_.value(), 3U);
  EXPECT_EQ(semaphore_.give_back(1, true), 0U);
  EXPECT_EQ(semaphore_.value(), 3U);
}

TEST_F(SemaphoreTest, TheNextOperationSettlesThatOfTheDead) {
  ASSERT_EQ(semaphore_.commit(1, Operation::Acquire), Change::Done);
  ASSERT_EQ(semaphore_.commit(2, Operation::Acquire), Change::Done);
  ASSERT_EQ(semaphore_.commit(3, Operation::Release), Change::Done);
  EXPECT_EQ(semaphore_.give_back(2, true), 1U);
  EXPECT_EQ(semaphore_.give_back(1, true), 1U);
  EXPECT_EQ(semaphore_.give_back(3, true), 0U);
  EXPECT_EQ(semaphore_.value(), 4U);
}

TEST_F(SemaphoreTest, SettlingTwiceIsOnce) {
  ASSERT_EQ(semaphore_.commit(1, Operation::Acquire), Change::Done);
  for (int i = 0; i < 3; ++i)
    semaphore_.settle();
  EXPECT_EQ(semaphore_.held_by(1), 1U);
}

TEST_F(SemaphoreTest, NextOwnerOfASlotStartsWithNothing) {
  ASSERT_EQ(semaphore_.commit(1, Operation::Acquire), Change::Done);
  ASSERT_EQ(semaphore_.give_back(1, true), 1U);
  EXPECT_EQ(semaphore_.held_by(1), 0U);
  ASSERT_TRUE(semaphore_.try_acquire(1));
  EXPECT_EQ(semaphore_.held_by(1), 1U);
  EXPECT_EQ(semaphore_.give_back(1, true), 1U);
  EXPECT_EQ(semaphore_.value(), 3U);
}

TEST_F(SemaphoreTest, GivingBackNothingButEmptyingTheRecord) {
  ASSERT_TRUE(semaphore_.try_acquire(1));
  EXPECT_EQ(semaphore_.give_back(1, false), 0U);
  EXPECT_EQ(semaphore_.value(), 2U);
  EXPECT_EQ(semaphore_.held_by(1), 0U);
}

TEST_F(SemaphoreTest, GivingBackStopsAtTheLargestValue) {
  ASSERT_TRUE(semaphore_.try_acquire(1));
  ASSERT_TRUE(semaphore_.try_acquire(1));
  shared_->cell.word.fetch_add(kMaxSemaphoreValue - 2);
  EXPECT_EQ(semaphore_.give_back(1, true), 2U);
  EXPECT_EQ(semaphore_.value(), kMaxSemaphoreValue);
}

TEST_F(SemaphoreTest, WordOfAnUnknownSlotIsNobodysBusiness) {
  shared_->cell.word.store(UINT64_MAX);
  EXPECT_TRUE(semaphore_.try_acquire(1));
  EXPECT_EQ(semaphore_.held_by(1), 1U);
  EXPECT_EQ(semaphore_.held_by(kSlots), 0U);
}

TEST_F(SemaphoreTest, WaitEndsByItself) {
  set_value(0);
  EXPECT_EQ(semaphore_.acquire(1, std::chrono::milliseconds(1)), Acquired::Interrupted);
  EXPECT_EQ(shared_->cell.waiters.load(), 0U);
}

TEST_F(SemaphoreTest, ReleaseWakesAWaiter) {
  set_value(0);
  const os::Monotonic begin = os::monotonic_now();
  for (int i = 0; i < 100; ++i) {
    const pid_t child =
        in_child([&] { return semaphore_.acquire(1, kLong) == Acquired::Yes ? 0 : 1; });
    await_waiters(1);
    ASSERT_TRUE(semaphore_.release(2));
    ASSERT_EQ(status_of(child), 0);
  }
  EXPECT_LT(os::monotonic_now() - begin, kSoon);
  EXPECT_EQ(semaphore_.value(), 0U);
  EXPECT_EQ(semaphore_.held_by(1), 100U);
}

TEST_F(SemaphoreTest, SignalInterruptsAWait) {
  set_value(0);
  const os::Monotonic begin = os::monotonic_now();
  const pid_t child = in_child([&] {
    struct sigaction action {};
    action.sa_handler = [](int) {
    };
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGUSR1, &action, nullptr);
    return semaphore_.acquire(1, kLong) == Acquired::Interrupted ? 0 : 1;
  });
  await_waiters(1);
  int status = -1;
  // Until it ends: the first one may come just before the wait.
  while (::waitpid(child, &status, WNOHANG) == 0) {
    ::kill(child, SIGUSR1);
    std::this_thread::yield();
  }
  EXPECT_EQ(status, 0);
  EXPECT_LT(os::monotonic_now() - begin, kSoon);
}

TEST_F(SemaphoreTest, GivingBackWakesWaiters) {
  set_value(1);
  ASSERT_TRUE(semaphore_.try_acquire(1));
  const auto wait = [&](SlotIndex slot) {
    return in_child(
        [this, slot] { return semaphore_.acquire(slot, kLong) == Acquired::Yes ? 0 : 1; });
  };
  const os::Monotonic begin = os::monotonic_now();
  pid_t child = wait(2);
  await_waiters(1);
  EXPECT_EQ(semaphore_.give_back(1, true), 1U);
  EXPECT_EQ(status_of(child), 0);

  // Somebody released and died before its wake-up call, or was woken and died before it took the permit.
  child = wait(3);
  await_waiters(1);
  ASSERT_EQ(semaphore_.commit(2, Operation::Release), Change::Done);
  EXPECT_EQ(semaphore_.give_back(2, true), 0U);
  EXPECT_EQ(status_of(child), 0);
  EXPECT_LT(os::monotonic_now() - begin, kSoon);
}

TEST_F(SemaphoreTest, KilledWaiterHarmsNobody) {
  set_value(0);
  const pid_t killed = in_child([&] { return semaphore_.acquire(1, kLong) == Acquired::Yes; });
  await_waiters(1);
  ::kill(killed, SIGKILL);
  status_of(killed);
  EXPECT_EQ(semaphore_.give_back(1, true), 0U);
  const pid_t child =
      in_child([&] { return semaphore_.acquire(2, kLong) == Acquired::Yes ? 0 : 1; });
  await_waiters(2);
  const os::Monotonic begin = os::monotonic_now();
  ASSERT_TRUE(semaphore_.release(3));
  EXPECT_EQ(status_of(child), 0);
  EXPECT_LT(os::monotonic_now() - begin, kSoon);
}

// Children acquire and release as fast as they can and are killed at any instruction, thousands of times. Every permit must
// come back, and none twice.
TEST_F(SemaphoreTest, KillStormLosesNoPermit) {
  constexpr std::uint32_t kInitial = 5;
  constexpr int kMostKills = 3000;
  constexpr int kFewestKills = 100;     // on a machine that is busy with other things
  constexpr std::size_t kChildren = 4;  // more of them leave the killer little of a small machine
  set_value(kInitial);
  std::mt19937 random(20261122);  // NOLINT(cert-msc51-cpp): a storm that can be repeated
  std::array<pid_t, kChildren> children{};
  const auto start = [&](SlotIndex slot) {
    const auto seed = random();
    children[slot] = in_child([this, slot, seed] {
      std::minstd_rand choice(seed);
      int held = 0;
      for (;;) {
        if (held < 2 && choice() % 2 == 0) {
          if (choice() % 4 == 0) {
            if (semaphore_.acquire(slot, std::chrono::milliseconds(1)) == Acquired::Yes) ++held;
          } else if (semaphore_.try_acquire(slot)) {
            ++held;
          }
        } else if (held > 0) {
          if (!semaphore_.release(slot)) ::_exit(1);
          --held;
        }
        shared_->operations.fetch_add(1);
      }
      return 0;
    });
  };
  const auto end = [&](SlotIndex slot) {
    ::kill(children[slot], SIGKILL);
    const int status = status_of(children[slot]);
    ASSERT_TRUE(WIFSIGNALED(status));
    ASSERT_LE(semaphore_.give_back(slot, true), 2U);
  };
  for (SlotIndex slot = 0; slot < kChildren; ++slot)
    start(slot);
  const os::Monotonic enough = os::monotonic_now() + seconds(4);
  for (int i = 0; i < kMostKills && (i < kFewestKills || os::monotonic_now() < enough); ++i) {
    const auto until = shared_->operations.load() + 1 + random() % 50;
    while (shared_->operations.load() < until)
      std::this_thread::yield();
    const auto slot = static_cast<SlotIndex>(random() % kChildren);
    end(slot);
    ASSERT_LE(semaphore_.value(), kInitial);
    start(slot);
  }
  for (SlotIndex slot = 0; slot < kChildren; ++slot)
    end(slot);
  EXPECT_EQ(semaphore_.value(), kInitial);
  for (SlotIndex slot = 0; slot < kSlots; ++slot)
    EXPECT_EQ(semaphore_.held_by(slot), 0U);
}

}  // namespace
}  // namespace bladepsgi::shm
