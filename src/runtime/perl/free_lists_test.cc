#include "runtime/perl/free_lists.h"

#include <string>

#include <gtest/gtest.h>

#include "runtime/perl/testing.h"

namespace bladepsgi::perl {
namespace {

// Leaves free scalars behind: two thousand next to each other, then, to be used first, a thousand among others that stay.
const char* const kMakeHoles = R"(
  our @all = our @fresh = ();
  for my $number (1 .. 40_000) { push @all, \(my $value = $number) }
  our @together = splice @all, -2000;
  undef @together;
  undef $all[$_ * 38] for 0 .. 999;
  scalar @all)";

// On how many pages lie the next five hundred scalars?
const char* const kCountPages = R"(
  for my $number (1 .. 500) { push our @fresh, \(my $value = $number) }
  my %pages;
  $pages{ (0 + $_) >> 12 }++ for our @fresh;
  my $right = !grep { ${ $fresh[$_ - 1] } != $_ } 1 .. 500;
  $right ? scalar keys %pages : 'wrong')";

TEST(FreeLists, ScalarsOfOnePageAreUsedTogether) {
  ASSERT_EQ(evaluate(kMakeHoles), "38000");
  order_free_lists(application().interpreter());
  EXPECT_LT(std::stoi(evaluate(kCountPages)), 30);
  ASSERT_EQ(evaluate(kMakeHoles), "38000");
  EXPECT_GT(std::stoi(evaluate(kCountPages)), 100);
  evaluate("our @all = our @fresh = (); 1");
}

TEST(FreeLists, NothingIsLost) {
  const auto live_before = live_values();
  // As many of each kind as were free, and more.
  const char* const make_and_free =
      "{ my @all = map { { number => $_, text => \"text $_\", list => [$_], real => $_ / 3 } } 1 "
      ".. "
      "2_000; my $sum = 0; $sum += $_->{number} + $_->{list}[0] for @all; $sum }";
  const std::string sum = evaluate(make_and_free);
  for (int round = 0; round < 3; ++round) {
    order_free_lists(application().interpreter());
    EXPECT_EQ(evaluate(make_and_free), sum);
  }
  EXPECT_LE(live_values(), live_before + 10);
}

}  // namespace
}  // namespace bladepsgi::perl
