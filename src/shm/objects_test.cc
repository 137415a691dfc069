#include "shm/objects.h"

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/process.h"
#include "shm/layout.h"

namespace bladepsgi::shm {
namespace {

using ::testing::HasSubstr;

class ObjectsTest : public ::testing::Test {
 protected:
  static std::string message(const Result<Created>& result) {
    return result ? std::string("created") : result.error().message;
  }

  ObjectId make_semaphore(std::string_view name, std::int64_t initial) {
    return objects_.semaphore(name, initial, OnDeath::Default, 1).value().id;
  }

  ObjectId make_atomic(std::string_view name, std::int64_t initial) {
    return objects_.atomic(name, initial, 1).value().id;
  }

  [[nodiscard]] std::string listed(std::uint32_t oldest_generation = 0) {
    std::string text;
    for (const ObjectValue& object : objects_.list(oldest_generation)) {
      text += object.kind == Kind::Semaphore ? "s " : "a ";
      text += object.name + "=" + std::to_string(object.value) + " ";
    }
    return text;
  }

  [[nodiscard]] std::byte* area() const {
    return mapping_.base() + mapping_.layout().objects_offset;
  }

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

  Mapping mapping_ = Mapping::create({.numbers = 4, .object_bytes = 64 << 20});
  Objects objects_{mapping_};
};

TEST_F(ObjectsTest, AreListedInOrderOfCreationWithTheirValues) {
  make_semaphore("lock", 2);
  make_atomic("hits", -5);
  make_semaphore("gate", 0);
  make_atomic("lock", std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(listed(), "s lock=2 a hits=-5 s gate=0 a lock=-9223372036854775808 ");
}

TEST_F(ObjectsTest, AreFoundAgainAndKeepTheirValue) {
  const ObjectId id = make_atomic("hits", 5);
  objects_.fetch_add(id, 10);
  auto again = objects_.atomic("hits", 5, 2);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->id, id);
  EXPECT_TRUE(again->existed);
  EXPECT_FALSE(again->initial_differs);
  EXPECT_EQ(objects_.load(id), 15);

  again = objects_.atomic("hits", 6, 2);
  EXPECT_TRUE(again->initial_differs);
  EXPECT_EQ(again->existing_initial, 5);
  EXPECT_EQ(objects_.load(id), 15);
}

TEST_F(ObjectsTest, NotesAnotherOnDeath) {
  EXPECT_FALSE(objects_.semaphore("lock", 1, OnDeath::Default, 1)->existed);
  EXPECT_FALSE(objects_.semaphore("lock", 1, OnDeath::Return, 1)->on_death_differs);
  EXPECT_TRUE(objects_.semaphore("lock", 1, OnDeath::Keep, 1)->on_death_differs);
  EXPECT_FALSE(objects_.semaphore("gate", 0, OnDeath::Default, 1)->existed);
  EXPECT_FALSE(objects_.semaphore("gate", 0, OnDeath::Keep, 1)->on_death_differs);
  EXPECT_TRUE(objects_.semaphore("gate", 0, OnDeath::Return, 1)->on_death_differs);
}

TEST_F(ObjectsTest, UnusableNamesAndValuesNameObjectAndCause) {
  EXPECT_EQ(message(objects_.atomic("", 0, 1)), "cannot create atomic '': the name is empty");
  EXPECT_EQ(message(objects_.semaphore("a\nb", 1, OnDeath::Default, 1)),
            "cannot create semaphore 'a\\x0ab': the name contains a newline or a NUL");
  EXPECT_THAT(message(objects_.atomic(std::string_view("a\0b", 3), 1, 1)), HasSubstr("a NUL"));
  EXPECT_THAT(message(objects_.atomic(std::string(256, 'x'), 1, 1)),
              HasSubstr("longer than 255 bytes"));
  EXPECT_TRUE(objects_.atomic(std::string(255, 'x'), 1, 1));
  EXPECT_EQ(message(objects_.semaphore("s", -1, OnDeath::Default, 1)),
            "cannot create semaphore 's': initial value -1 is out of range (0 to 2147483647)");
  EXPECT_THAT(message(objects_.semaphore("s", 2147483648, OnDeath::Default, 1)),
              HasSubstr("out of range"));
  EXPECT_THAT(message(objects_.semaphore("s", 4294967297, OnDeath::Default, 1)),
              HasSubstr("out of range"));
  EXPECT_TRUE(objects_.semaphore("s", 2147483647, OnDeath::Default, 1));
}

TEST_F(ObjectsTest, ExhaustedMemoryNamesObjectAndCause) {
  const Mapping mapping = Mapping::create({.numbers = 4, .object_bytes = kMinObjectBytes});
  Objects objects(mapping);
  std::string error;
  int made = 0;
  while (error.empty()) {
    const auto result = objects.semaphore("lock " + std::to_string(made), 1, OnDeath::Default, 1);
    if (result) {
      ++made;
    } else {
      error = result.error().message;
    }
  }
  EXPECT_EQ(made, 1);  // 272 slots of 8 bytes each
  EXPECT_EQ(error,
            "cannot create semaphore 'lock 1': shared memory is exhausted (4096 bytes; see "
            "--shared-memory)");
  EXPECT_TRUE(objects.semaphore("lock 0", 1, OnDeath::Default, 1));
  EXPECT_TRUE(objects.atomic("small", 1, 1));
}

TEST_F(ObjectsTest, NeighboursDoNotTouchEachOther) {
  const ObjectId first = make_semaphore(std::string(255, 'f'), 1);
  const ObjectId second = make_semaphore(std::string(32, 's'), 2);
  const ObjectId third = make_semaphore(std::string(33, 't'), 3);
  const ObjectId last = make_atomic("last", 7);
  const SlotIndex slots = mapping_.layout().slots;
  for (const ObjectId id : {first, second, third})
    EXPECT_TRUE(objects_.try_acquire(id, slots - 1));
  EXPECT_TRUE(objects_.try_acquire(second, 0));
  EXPECT_EQ(objects_.load(last), 7);
  EXPECT_EQ(listed(), "s " + std::string(255, 'f') + "=0 s " + std::string(32, 's') + "=0 s " +
                          std::string(33, 't') + "=2 a last=7 ");
  EXPECT_EQ(objects_.give_back(slots - 1).size(), 3U);
  EXPECT_EQ(objects_.give_back(0).size(), 1U);
}

TEST_F(ObjectsTest, OnlyThoseOfLivingGenerationsAreListed) {
  EXPECT_TRUE(objects_.atomic("old", 1, 1));
  EXPECT_TRUE(objects_.atomic("kept", 2, 1));
  EXPECT_TRUE(objects_.atomic("new", 3, 2));
  EXPECT_TRUE(objects_.atomic("kept", 2, 2));
  EXPECT_TRUE(objects_.atomic("kept", 2, 1));  // a late worker of the old one
  EXPECT_EQ(listed(1), "a old=1 a kept=2 a new=3 ");
  EXPECT_EQ(listed(2), "a kept=2 a new=3 ");
  EXPECT_EQ(listed(3), "");
  EXPECT_TRUE(objects_.atomic("old", 1, 3));
  EXPECT_EQ(listed(3), "a old=1 ");
}

TEST_F(ObjectsTest, AtomicsAreWholeAndWrap) {
  constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
  constexpr auto kMin = std::numeric_limits<std::int64_t>::min();
  const ObjectId id = make_atomic("counter", kMax);
  EXPECT_EQ(objects_.fetch_add(id, 1), kMax);
  EXPECT_EQ(objects_.load(id), kMin);
  EXPECT_EQ(objects_.fetch_add(id, -1), kMin);
  EXPECT_EQ(objects_.load(id), kMax);
  objects_.store(id, -42);
  EXPECT_EQ(objects_.load(id), -42);
}

TEST_F(ObjectsTest, AtomicsCountFromAllProcesses) {
  const ObjectId id = make_atomic("counter", 0);
  std::vector<pid_t> children;
  for (int child = 0; child < 4; ++child) {
    children.push_back(in_child([&] {
      for (int i = 0; i < 20000; ++i)
        objects_.fetch_add(id, 3);
      return 0;
    }));
  }
  for (const pid_t child : children)
    EXPECT_EQ(status_of(child), 0);
  EXPECT_EQ(objects_.load(id), 4 * 20000 * 3);
}

TEST_F(ObjectsTest, ObjectMadeInOneProcessIsUsedInAnotherByItsId) {
  make_atomic("first", 1);
  const pid_t child = in_child([&] { return static_cast<int>(make_semaphore("second", 1)); });
  const int status = status_of(child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_TRUE(objects_.try_acquire(static_cast<ObjectId>(WEXITSTATUS(status)), 2));
  EXPECT_EQ(listed(), "a first=1 s second=0 ");
}

TEST_F(ObjectsTest, PermitsOfTheDeadAreGivenBackUnlessKept) {
  const ObjectId lock = make_semaphore("lock", 2);
  const ObjectId gate = make_semaphore("gate", 0);
  const ObjectId kept = objects_.semaphore("kept", 3, OnDeath::Keep, 1)->id;
  const ObjectId forced = objects_.semaphore("forced", 0, OnDeath::Return, 1)->id;
  const pid_t child = in_child([&] {
    for (const ObjectId id : {gate, forced}) {
      if (!objects_.release(id, 5) || !objects_.try_acquire(id, 5)) return 1;
    }
    if (!objects_.try_acquire(lock, 5) || !objects_.try_acquire(lock, 5)) return 1;
    if (!objects_.try_acquire(kept, 5)) return 1;
    ::kill(::getpid(), SIGKILL);
    return 0;
  });
  EXPECT_TRUE(WIFSIGNALED(status_of(child)));
  EXPECT_EQ(listed(), "s lock=0 s gate=0 s kept=2 s forced=0 ");
  std::string given;
  for (const GivenBack& back : objects_.give_back(5))
    given += back.name + ":" + std::to_string(back.permits) + " ";
  EXPECT_EQ(given, "lock:2 forced:1 ");
  EXPECT_EQ(listed(), "s lock=2 s gate=0 s kept=2 s forced=1 ");
  EXPECT_TRUE(objects_.give_back(5).empty());
}

TEST_F(ObjectsTest, ReleaseBeyondTheLargestValueIsAnErrorThatNamesIt) {
  const ObjectId id = make_semaphore("full", 2147483646);
  EXPECT_TRUE(objects_.release(id, 0));
  const auto result = objects_.release(id, 0);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message,
            "cannot release semaphore 'full': its value is 2147483647 already");
}

// The children meet before each name and then all want it at once.
TEST_F(ObjectsTest, RacingCreatorsEndWithOneObjectEach) {
  constexpr std::int64_t kChildren = 2;
  constexpr std::int64_t kNames = 5000;
  const ObjectId arrived = make_atomic("arrived", 0);
  const ObjectId errors = make_atomic("errors", 0);
  std::vector<pid_t> children;
  for (std::int64_t child = 0; child < kChildren; ++child) {
    children.push_back(in_child([&, child] {
      cpu_set_t own_processor;
      CPU_ZERO(&own_processor);
      CPU_SET(static_cast<std::size_t>(child), &own_processor);
      (void)::sched_setaffinity(0, sizeof own_processor, &own_processor);
      for (std::int64_t i = 0; i < kNames; ++i) {
        // Long ones in between, so that given back room is used by another layout.
        const std::string name = std::to_string(i) + std::string(i % 2 == 0 ? 200 : 0, 'x');
        objects_.fetch_add(arrived, 1);
        for (int spins = 0; objects_.load(arrived) < (i + 1) * kChildren; ++spins) {
          if (spins > 10000) std::this_thread::yield();
        }
        const auto made = objects_.semaphore(name, 0, OnDeath::Return, 1);
        if (!made || !objects_.release(made->id, static_cast<SlotIndex>(child)))
          objects_.fetch_add(errors, 1);
      }
      return 0;
    }));
  }
  for (const pid_t child : children)
    EXPECT_EQ(status_of(child), 0);
  EXPECT_EQ(objects_.load(errors), 0);
  std::set<std::string> names;
  for (const ObjectValue& object : objects_.list(0)) {
    if (object.kind != Kind::Semaphore) continue;
    EXPECT_TRUE(names.insert(object.name).second) << object.name;
    EXPECT_EQ(object.value, kChildren) << object.name;
  }
  EXPECT_EQ(names.size(), static_cast<std::size_t>(kNames));
  // A loser cleans the room it gives back: records that come to lie there begin with nothing.
  for (SlotIndex slot = 0; slot < 64; ++slot)
    EXPECT_TRUE(objects_.give_back(slot).empty());
}

TEST_F(ObjectsTest, KilledCreatorsBlockNobodyAndLeaveNothingHalf) {
  const ObjectId progress = make_atomic("progress", 0);
  std::mt19937 random(20261122);  // NOLINT(cert-msc51-cpp): a storm that can be repeated
  for (int i = 0; i < 150; ++i) {
    std::array<pid_t, 2> children{};
    const std::int64_t wanted = objects_.load(progress) + static_cast<std::int64_t>(random() % 400);
    for (pid_t& child : children) {
      child = in_child([&] {
        for (int name = 0; name < 500; ++name) {
          if (!objects_.atomic(std::to_string(i * 100000 + name), 77, 1)) return 1;
          objects_.fetch_add(progress, 1);
        }
        for (;;)
          ::pause();
        return 0;
      });
    }
    while (objects_.load(progress) < wanted)
      std::this_thread::yield();
    for (const pid_t child : children) {
      ::kill(child, SIGKILL);
      EXPECT_TRUE(WIFSIGNALED(status_of(child)));
    }
    ASSERT_FALSE(objects_.list(0).empty());  // follows the chain as far as it goes now
  }
  ASSERT_TRUE(objects_.atomic("afterwards", 77, 1));
  std::set<std::string> names;
  for (const ObjectValue& object : objects_.list(0)) {
    EXPECT_TRUE(names.insert(object.name).second) << object.name;
    if (object.name == "progress") continue;
    EXPECT_EQ(object.value, 77) << object.name;
  }
  EXPECT_GT(names.size(), 150U);
}

TEST_F(ObjectsTest, ChainThatLeadsNowhereIsNotFollowed) {
  make_atomic("good", 1);
  make_atomic("bad", 2);
  auto* header = reinterpret_cast<AreaHeader*>(area());
  auto* good = reinterpret_cast<Entry*>(area() + header->first.load());
  const std::uint64_t bad_offset = good->next.load();
  auto* bad = reinterpret_cast<Entry*>(area() + bad_offset);
  const auto fresh_list = [&] {
    return Objects(mapping_).list(0).size();
  };
  ASSERT_EQ(fresh_list(), 2U);

  const std::uint64_t size = mapping_.layout().object_bytes;
  for (const std::uint64_t offset : {std::uint64_t{1}, std::uint64_t{65}, size, size - kCacheLine,
                                     UINT64_MAX - 63, bad_offset + 32}) {
    good->next.store(offset);
    EXPECT_EQ(fresh_list(), 1U) << offset;
    Objects damaged(mapping_);
    EXPECT_THAT(message(damaged.atomic("new", 1, 1)), HasSubstr("damaged"));
  }
  good->next.store(bad_offset);
  for (const std::uint64_t circle : {bad_offset, header->first.load()}) {
    bad->next.store(circle);
    EXPECT_EQ(fresh_list(), 2U);
  }
  bad->next.store(0);
  bad->kind = 3;
  EXPECT_EQ(fresh_list(), 1U);
  bad->kind = static_cast<std::uint8_t>(Kind::Atomic);
  for (const unsigned length : {0U, 256U, 65535U}) {
    bad->name_length = static_cast<std::uint16_t>(length);
    EXPECT_EQ(fresh_list(), 1U);
  }
  for (const std::uint64_t claimed : {std::uint64_t{0}, std::uint64_t{100}, UINT64_MAX}) {
    header->claimed.store(claimed);
    EXPECT_FALSE(Objects(mapping_).atomic("new", 1, 1));
  }
}

TEST_F(ObjectsTest, ReadersSurviveAnyBytes) {
  std::mt19937 random(20261122);  // NOLINT(cert-msc51-cpp): the same bytes every time
  for (int i = 0; i < 20; ++i)
    make_semaphore(std::to_string(i), 1);
  std::vector<std::byte> good(area(), area() + 60000);
  for (int round = 0; round < 3000; ++round) {
    std::memcpy(area(), good.data(), good.size());
    for (int change = 0; change < 20; ++change)
      area()[random() % (change < 10 ? 4096 : good.size())] = static_cast<std::byte>(random());
    Objects reader(mapping_);
    for (const ObjectValue& object : reader.list(0))
      ASSERT_LE(object.name.size(), kNameLimit);
    (void)reader.give_back(3);
    (void)reader.atomic("new", 1, 1);
  }
}

TEST(LoaderNames, RefusesTheSecondOfAKind) {
  LoaderNames names;
  EXPECT_TRUE(names.add(Kind::Semaphore, "a"));
  EXPECT_TRUE(names.add(Kind::Atomic, "a"));
  EXPECT_FALSE(names.add(Kind::Semaphore, "a"));
  EXPECT_TRUE(names.add(Kind::Semaphore, "b"));
}

}  // namespace
}  // namespace bladepsgi::shm
