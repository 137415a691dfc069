#include "runtime/perl/fork_watch.h"

#include <pthread.h>

namespace bladepsgi::perl {

namespace {

// A global, because handlers of pthread_atfork are told nothing.
bool is_stray = false;

}  // namespace

void watch_forks() {
  ::pthread_atfork(nullptr, nullptr, [] { is_stray = true; });
}

void adopt_process() {
  is_stray = false;
}

bool is_stray_child() {
  return is_stray;
}

}  // namespace bladepsgi::perl
