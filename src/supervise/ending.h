// Ending: whether the end of a process was to be expected, or is a crash.
#pragma once

namespace bladepsgi::supervise {

// What is known of a process that has ended.
struct Ending {
  bool was_clean = false;       // exit code 0
  bool was_terminated = false;  // by SIGTERM
  bool said_goodbye = false;    // it said that it goes of its own accord, having cleaned up
  bool was_told = false;        // we had told it to leave
  bool is_stopping =
      false;  // the whole server stops; whoever stops us may have signalled all of us at once
  bool was_killed = false;  // by us: it had no choice
  // How it ends when told is the application's affair: an auxiliary process.
  bool goes_its_own_way = false;
  // SIGTERM finds no handler of ours: an auxiliary process, or one that still loads.
  bool may_die_of_sigterm = false;
};

[[nodiscard]] constexpr bool has_left_by_itself(const Ending& ending) {
  return ending.said_goodbye && ending.was_clean;
}

[[nodiscard]] constexpr bool is_expected(const Ending& ending) {
  if (ending.was_killed || has_left_by_itself(ending)) return true;
  if (ending.was_told && ending.goes_its_own_way) return true;
  if (!ending.was_told && !ending.is_stopping) return false;
  return ending.was_clean || (ending.may_die_of_sigterm && ending.was_terminated);
}

}  // namespace bladepsgi::supervise
