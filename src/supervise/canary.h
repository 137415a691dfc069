// Canary: whether the first workers of a new generation do as well as those of the old one do meanwhile.
//
// Few requests must fool nobody, in either direction. The new ones are bad
//
//   - when at least three of their requests have failed, and three more than twice as many as the old ones' share of failed requests would
//     make of so many. That share is the one of the same period; when the old ones have served fewer requests in it than the new ones, which is
//     the rule while there is little to do, and have failed more often before, the one of before;
//   - when they have had at least twenty requests that took, on the average, `slowness` times as long as those of the old ones,
//     and a quarter of a second longer;
//   - when the time is over and everything that they have answered has failed, but not most of what the old ones have;
//   - when the time is over and they have answered nothing, though they have had a request for half of it, and the old ones have answered.
//
// This is looked at again and again, so that what is bad enough does not last. They are good when they have served enough requests, or when
// the time is over, on what there is; also if that is nothing, which is said then. A crash needs no judgement. Pure: counts and times are arguments.
#pragma once

#include <cstdint>
#include <string>

#include "supervise/restart_policy.h"

namespace bladepsgi::supervise {

struct CanaryOptions {
  std::uint64_t requests = 100;
  Duration time = std::chrono::seconds(30);
  std::uint32_t slowness = 4;  // 0: however long they take
};

// What some workers have done.
struct Tally {
  std::uint64_t requests = 0;  // that have ended
  std::uint64_t failed =
      0;            // of those: a status of 5xx, an exception, a time-out, the death of the worker
  Duration took{};  // all of them together

  Tally& operator+=(const Tally& other) {
    requests += other.requests;
    failed += other.failed;
    took += other.took;
    return *this;
  }

  bool operator==(const Tally&) const = default;
};

struct Trial {
  Tally canaries;
  Duration longest_running{};  // of what they have not ended yet
  Tally others;                // in the same period
  Tally others_before;         // since they began
  Duration elapsed{};
};

struct Judgement {
  enum class Verdict : std::uint8_t { NotYet, Good, Bad };

  Verdict verdict = Verdict::NotYet;
  std::string reason;  // for people; why it is bad, or on what it is good
};

[[nodiscard]] Judgement judge(const CanaryOptions& options, const Trial& trial);

// "37 requests, none failed"
[[nodiscard]] std::string describe(const Tally& tally);

// How many of so many workers a share is, in percent: at least one, if there is any.
[[nodiscard]] std::uint32_t share_of(std::uint32_t workers, std::uint32_t percent);

}  // namespace bladepsgi::supervise
