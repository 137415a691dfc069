#include "worker/pool_host.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bladepsgi::worker {
namespace {

class PoolHostTest : public testing::Test {
 protected:
  PoolHost make_host() {
    PoolHost::Setup setup;
    setup.mapping = &mapping_;
    setup.generation = 1;
    setup.application_path = "app.psgi";
    setup.on_auxiliary = [this](std::string_view name, std::uint32_t index) -> Result<void> {
      auxiliaries_.push_back(std::string(name) + " " + std::to_string(index));
      return {};
    };
    return PoolHost(std::move(setup));
  }

  shm::Mapping mapping_ = shm::Mapping::create({.numbers = 2});
  std::vector<std::string> auxiliaries_;
};

TEST_F(PoolHostTest, TheLoaderMayAskForANameOnceAndAnybodyAgainAfterwards) {
  PoolHost host = make_host();
  const auto first = host.new_semaphore("lock", 1, runtime::OnDeath::Default);
  ASSERT_TRUE(first);
  ASSERT_TRUE(host.new_atomic("lock", 5)) << "names of semaphores and atomics are independent";
  const auto second = host.new_semaphore("lock", 1, runtime::OnDeath::Default);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, testing::HasSubstr("semaphore 'lock'"));

  host.end_loading();
  const auto later = host.new_semaphore("lock", 1, runtime::OnDeath::Default);
  ASSERT_TRUE(later);
  EXPECT_EQ(*later, *first);
}

TEST_F(PoolHostTest, AuxiliaryProcessesAreCountedWhileLoadingOnly) {
  PoolHost host = make_host();
  EXPECT_EQ(*host.request_auxiliary("a"), 0U);
  EXPECT_EQ(*host.request_auxiliary("a"), 1U);
  EXPECT_FALSE(host.request_auxiliary(""));
  EXPECT_FALSE(host.request_auxiliary("two\nlines"));
  host.end_loading();
  EXPECT_FALSE(host.request_auxiliary("b"));
  EXPECT_THAT(auxiliaries_, testing::ElementsAre("a 0", "a 1"));
}

TEST_F(PoolHostTest, OnlyAWorkerHasAStatus) {
  PoolHost host = make_host();
  EXPECT_FALSE(host.set_worker_status('x'));
  shm::Scoreboard board(mapping_);
  const auto slot = board.claim(shm::Role::Worker, 1, 0);
  ASSERT_TRUE(slot);
  shm::OwnSlot own(board, *slot);
  host.become(runtime::ChildRole::Worker, *slot, -1, &own);
  EXPECT_TRUE(host.set_worker_status('x'));
  EXPECT_EQ(board.snapshot(*slot)->status, 'x');
}

}  // namespace
}  // namespace bladepsgi::worker
