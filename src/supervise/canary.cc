#include "supervise/canary.h"

#include <algorithm>
#include <chrono>
#include <string>

namespace bladepsgi::supervise {

namespace {

using Verdict = Judgement::Verdict;

constexpr std::uint64_t kLeastFailed = 3;
constexpr double kTolerance = 2;                   // times the old ones' share
constexpr std::uint64_t kLeastToTime = 20;         // requests, for an average of how long they take
constexpr std::chrono::milliseconds kMargin{250};  // between two averages
constexpr double kMost = 0.5;                      // a share

double failed_share(const Tally& tally) {
  return tally.requests == 0
             ? 0
             : static_cast<double>(tally.failed) / static_cast<double>(tally.requests);
}

double usual_share(const Trial& trial) {
  const double now = failed_share(trial.others);
  if (trial.others.requests >= trial.canaries.requests) return now;
  return std::max(now, failed_share(trial.others_before));
}

// There are requests.
Duration average(const Tally& tally) {
  return tally.took / static_cast<Duration::rep>(tally.requests);
}

// Those to compare with: of the same period, if they are enough.
Tally timed(const Trial& trial) {
  Tally all = trial.others;
  if (all.requests < kLeastToTime) all += trial.others_before;
  return all;
}

bool fails_too_often(const Trial& trial) {
  const auto failed = static_cast<double>(trial.canaries.failed);
  const double expected =
      kTolerance * usual_share(trial) * static_cast<double>(trial.canaries.requests);
  return failed >= static_cast<double>(kLeastFailed) + expected;
}

bool is_too_slow(const CanaryOptions& options, const Trial& trial) {
  const Tally others = timed(trial);
  if (options.slowness == 0 || trial.canaries.requests < kLeastToTime ||
      others.requests < kLeastToTime) {
    return false;
  }
  const Duration now = average(trial.canaries);
  const Duration usual = average(others);
  return now >= usual * options.slowness && now - usual >= kMargin;
}

// "250 ms", "1.2 s"
std::string duration_text(Duration duration) {
  const auto all = std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
  if (all < 1000) return std::to_string(all) + " ms";
  return std::to_string(all / 1000) + "." + std::to_string(all / 100 % 10) + " s";
}

std::string compared(const Trial& trial) {
  std::string text = "of the new workers' " + describe(trial.canaries) + "; of the old ones' " +
                     describe(trial.others);
  if (trial.others.requests < trial.canaries.requests && trial.others_before.requests > 0)
    text += ", and before that of " + describe(trial.others_before);
  return text;
}

}  // namespace

std::string describe(const Tally& tally) {
  std::string text =
      std::to_string(tally.requests) + (tally.requests == 1 ? " request" : " requests");
  if (tally.requests == 0) return text;
  return text + ", " + (tally.failed == 0 ? "none" : std::to_string(tally.failed)) + " failed";
}

Judgement judge(const CanaryOptions& options, const Trial& trial) {
  const Tally& canaries = trial.canaries;
  const bool is_over = trial.elapsed >= options.time;
  if (fails_too_often(trial)) return {Verdict::Bad, "too many requests fail: " + compared(trial)};
  if (is_too_slow(options, trial)) {
    return {Verdict::Bad, "requests take too long: " + duration_text(average(canaries)) +
                              " on the average, with the old workers " +
                              duration_text(average(timed(trial)))};
  }
  if (is_over && canaries.requests > 0 && canaries.failed == canaries.requests &&
      usual_share(trial) < kMost) {
    return {Verdict::Bad, "all requests fail: " + compared(trial)};
  }
  if (is_over && canaries.requests == 0 && trial.longest_running >= options.time / 2 &&
      trial.others.requests > 0) {
    return {Verdict::Bad, "the new workers have answered nothing, and have had a request for " +
                              duration_text(trial.longest_running) + "; of the old ones' " +
                              describe(trial.others)};
  }
  if (canaries.requests >= options.requests) return {Verdict::Good, compared(trial)};
  if (!is_over) return {};
  if (canaries.requests == 0)
    return {Verdict::Good, "no request has come to the new workers: nothing is known of them"};
  return {Verdict::Good, compared(trial)};
}

std::uint32_t share_of(std::uint32_t workers, std::uint32_t percent) {
  constexpr std::uint64_t kWhole = 100;
  const auto share = static_cast<std::uint32_t>(std::uint64_t{workers} * percent / kWhole);
  return std::clamp(share, std::min(workers, 1U), workers);
}

}  // namespace bladepsgi::supervise
