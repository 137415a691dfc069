#include "worker/time_limit.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "os/signals.h"
#include "os/system_error.h"
#include "worker/protocol_exchange.h"
#include "worker/signal_message.h"

namespace bladepsgi::worker {

namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::chrono::seconds kAgain{1};
constexpr milliseconds kMostSlack{1000};
constexpr int kSlackShare = 10;  // of the limit

std::atomic<TimeLimit*> the_limit{nullptr};

static_assert(std::atomic<TimeLimit*>::is_always_lock_free &&
              std::atomic<std::int64_t>::is_always_lock_free);

// Of those that programs hardly use; not the last one, which is what comes to mind first.
int time_signal() {
  return SIGRTMAX - 1;
}

void forget_in_forked_child() {
  the_limit.store(nullptr, kRelaxed);
}

std::int64_t count(os::Monotonic time) {
  return duration_cast<nanoseconds>(time.time_since_epoch()).count();
}

os::Monotonic as_time(std::int64_t time) {
  return os::Monotonic(duration_cast<os::Monotonic::duration>(nanoseconds(time)));
}

}  // namespace

TimeLimit::TimeLimit(const TimeLimitOptions& options,
                     runtime::App& app,
                     shm::OwnSlot& slot,
                     os::LogChannel channel,
                     std::uint32_t number)
    : options_(options),
      slack_(std::min({nanoseconds(options.limit / kSlackShare + milliseconds(1)),
                       nanoseconds(options.grace) / 2, nanoseconds(kMostSlack)})),
      app_(app),
      slot_(slot),
      channel_(channel),
      number_(number),
      timer_(time_signal()) {
  if (const int error = ::pthread_atfork(nullptr, nullptr, forget_in_forked_child); error != 0)
    throw os::SystemError(error, "watch forks");
  the_limit = this;
  os::set_signal_handler(time_signal(), on_signal, 0);
}

TimeLimit::~TimeLimit() {
  os::set_signal_handler(time_signal(), SIG_IGN, 0);
  the_limit = nullptr;
}

void TimeLimit::begin() noexcept {
  was_interrupted_.store(false, kRelaxed);
  count_from(os::monotonic_now());
}

void TimeLimit::pause() noexcept {
  if (!counts_.load(kRelaxed)) return;
  counts_.store(false, kRelaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  paused_ = os::monotonic_now();
  slot_.set_call_deadline({});
}

void TimeLimit::resume() noexcept {
  if (counts_.load(kRelaxed) || paused_ == os::Monotonic{}) return;
  count_from(as_time(start_.load(kRelaxed)) + (os::monotonic_now() - paused_));
}

void TimeLimit::end() noexcept {
  counts_.store(false, kRelaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  paused_ = {};
  slot_.set_call_deadline({});
}

nanoseconds TimeLimit::age() const noexcept {
  return os::monotonic_now() - as_time(start_.load(kRelaxed));
}

// The timer is right for whom it fires neither before the limit nor long after it.
void TimeLimit::count_from(os::Monotonic start) noexcept {
  paused_ = {};
  start_.store(count(start), kRelaxed);
  const os::Monotonic end = start + options_.limit + options_.grace;
  slot_.set_call_deadline(end + kOverseerPatience);
  os::Monotonic due = start + options_.limit;
  os::Monotonic latest = due + slack_;
  if (was_interrupted_.load(kRelaxed))
    latest = due = std::min(std::max(due, as_time(next_interrupt_.load(kRelaxed))), end);
  const std::int64_t armed = armed_.load(kRelaxed);
  if (armed < count(due) || armed > count(latest)) arm(latest);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  counts_.store(true, kRelaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  // It has fired just now, with nobody there.
  if (armed_.load(kRelaxed) == 0) arm(latest);
}

void TimeLimit::arm(os::Monotonic when) noexcept {
  armed_.store(count(when), kRelaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  timer_.set(when);
}

void TimeLimit::on_signal(int) {
  TimeLimit* limit = the_limit.load(kRelaxed);
  if (limit == nullptr) return;
  const int saved = errno;
  limit->on_time();
  errno = saved;
}

void TimeLimit::on_time() noexcept {
  armed_.store(0, kRelaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (!counts_.load(kRelaxed)) return;
  const os::Monotonic now = os::monotonic_now();
  const os::Monotonic start = as_time(start_.load(kRelaxed));
  const nanoseconds age = now - start;
  const os::Monotonic end = start + options_.limit + options_.grace;
  if (age < options_.limit) {
    arm(start + options_.limit);
    return;
  }
  if (now >= end) end_process(age);
  app_.interrupt();
  const bool is_first = !was_interrupted_.exchange(true, kRelaxed);
  next_interrupt_.store(count(now + kAgain), kRelaxed);
  arm(std::min(now + kAgain, end));
  if (is_first) say(false, false, age);
}

void TimeLimit::end_process(nanoseconds age) noexcept {
  slot_.note_timed_out();
  // First of all, so that the client has it whatever happens to the log.
  const bool is_answered = exchange_ != nullptr && exchange_->answer_timed_out();
  say(true, is_answered, age);
  ::_exit(1);
}

void TimeLimit::say(bool is_end, bool is_answered, nanoseconds age) noexcept {
  SignalMessage message;
  message.added(slot_.write_title(message.room()));
  message.add(is_end ? ": still runs after " : ": has run for ");
  message.add(age);
  message.add(is_end ? " (--request-timeout-grace); " : ", longer than --request-timeout; ");
  if (is_end) {
    message.add(is_answered ? "its client is answered with status 504, and worker "
                            : "its response stays as it is, and worker ");
    message.add_number(number_);
    message.add(" ends. It was at\n");
  } else {
    message.add("the application is interrupted, in worker ");
    message.add_number(number_);
    message.add(". It was at\n");
  }
  message.added(app_.write_stack(message.room()));
  channel_.text(is_end ? Severity::Error : Severity::Warning, message.text());
}

}  // namespace bladepsgi::worker
