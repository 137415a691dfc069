#include "supervise/ending.h"

#include <gtest/gtest.h>

namespace bladepsgi::supervise {
namespace {

TEST(Ending, NobodyEndsUnasked) {
  EXPECT_FALSE(is_expected({}));
  EXPECT_FALSE(is_expected({.was_clean = true})) << "an exit code 0 is no reason";
  EXPECT_FALSE(is_expected({.was_terminated = true, .may_die_of_sigterm = true}))
      << "somebody else's SIGTERM";
  EXPECT_FALSE(is_expected({.was_clean = true, .goes_its_own_way = true}));
}

TEST(Ending, WhoSaysGoodbyeAndExitsCleanlyHasLeft) {
  EXPECT_TRUE(is_expected({.was_clean = true, .said_goodbye = true}));
  EXPECT_TRUE(has_left_by_itself({.was_clean = true, .said_goodbye = true}));
  EXPECT_FALSE(is_expected({.said_goodbye = true})) << "it crashed on its way out";
}

TEST(Ending, WhoIsToldMustGoInOrder) {
  EXPECT_TRUE(is_expected({.was_clean = true, .was_told = true}));
  EXPECT_FALSE(is_expected({.was_told = true}));
  EXPECT_FALSE(is_expected({.was_terminated = true, .was_told = true}))
      << "a worker that serves has a handler";
  EXPECT_TRUE(is_expected({.was_terminated = true, .was_told = true, .may_die_of_sigterm = true}));
  EXPECT_FALSE(is_expected({.was_told = true, .may_die_of_sigterm = true}))
      << "of something else than SIGTERM";
}

TEST(Ending, HowAnAuxiliaryProcessObeysIsItsOwnAffair) {
  EXPECT_TRUE(is_expected({.was_told = true, .goes_its_own_way = true}));
  EXPECT_FALSE(is_expected({.is_stopping = true, .goes_its_own_way = true}))
      << "it has not been told yet";
}

TEST(Ending, WhoStopsTheServerMayTellAllOfUs) {
  EXPECT_TRUE(is_expected({.was_clean = true, .is_stopping = true}));
  EXPECT_TRUE(
      is_expected({.was_terminated = true, .is_stopping = true, .may_die_of_sigterm = true}));
  EXPECT_FALSE(is_expected({.is_stopping = true}));
}

TEST(Ending, WhatWeKillIsNoCrash) {
  EXPECT_TRUE(is_expected({.was_killed = true}));
}

}  // namespace
}  // namespace bladepsgi::supervise
