#include "os/process.h"

#include <linux/close_range.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <utility>

#include "os/signals.h"
#include "os/system_error.h"

namespace bladepsgi::os {

Child::Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, 0)) {}

Child& Child::operator=(Child&& other) noexcept {
  std::swap(pid_, other.pid_);
  return *this;
}

Child::~Child() {
  if (pid_ > 0)
    broken_invariant(__FILE__, __LINE__,
                     "child " + std::to_string(pid_) + " was neither reaped nor handed on");
}

void Child::signal(int number) const noexcept {
  if (pid_ > 0) ::kill(pid_, number);
}

pid_t Child::hand_on() {
  return std::exchange(pid_, 0);
}

namespace {

[[noreturn]] void run_child(const std::function<int()>& body) noexcept {
  int code = 1;
  try {
    code = body();
  } catch (const std::exception& failure) {
    const std::string line = std::string(failure.what()) + "\n";
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
  } catch (...) {
    constexpr std::string_view kLine = "unknown exception\n";
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kLine.data(), kLine.size());
  }
  ::_exit(code);
}

}  // namespace

Result<pid_t> fork_role(Parent parent, const std::function<int()>& body) {
  const SignalBlock block;
  // The raw call: glibc's fork cannot pass CLONE_PARENT. Nothing of glibc's thread bookkeeping is in use in a process
  // with one thread; the child's cached thread id is stale, which only mutexes shared between processes would notice.
  const pid_t pid =
      parent == Parent::Caller
          ? ::fork()
          : static_cast<pid_t>(::syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0));
  if (pid < 0) return fail(system_failure(errno, "create process"));
  if (pid == 0) run_child(body);
  return pid;
}

namespace {

std::vector<int> private_descriptors;

int private_connection = -1;

void close_private_descriptors() {
  if (private_connection >= 0) ::close(private_connection);
  for (const int fd : private_descriptors)
    ::close(fd);
}

}  // namespace

void set_private_descriptors(std::vector<int> fds) {
  static const int kRegistered = ::pthread_atfork(nullptr, nullptr, close_private_descriptors);
  if (kRegistered != 0) throw SystemError(kRegistered, "watch forks");
  private_descriptors = std::move(fds);
}

void set_private_connection(int fd) noexcept {
  private_connection = fd;
}

std::size_t thread_count() {
  // The link count of a directory is the number of its subdirectories plus 2, and each thread is one.
  struct stat info {};

  if (::stat("/proc/self/task", &info) != 0 || info.st_nlink < 3) return 1;
  return static_cast<std::size_t>(info.st_nlink) - 2;
}

void die_with_parent(pid_t expected_parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != expected_parent) ::_exit(1);
}

void become_subreaper() {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
}

Ended try_reap_any() {
  Ended ended;
  do {
    ended.pid = ::waitpid(-1, &ended.status, WNOHANG);
  } while (ended.pid < 0 && errno == EINTR);
  if (ended.pid < 0) ended.pid = 0;  // ECHILD
  return ended;
}

Fd watch_process(pid_t pid) {
  // pidfd_open(2), which glibc has from 2.36 on; it is close-on-exec.
  return pid > 0 ? Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))) : Fd();
}

std::string describe_status(int status) {
  if (WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    return "signal " + std::to_string(number) + " (" + signal_name(number) +
           (WCOREDUMP(status) ? ", core dumped)" : ")");
  }
  return "exit code " + std::to_string(WEXITSTATUS(status));
}

bool is_clean_exit(int status) {
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void close_all_except(std::vector<int> keep) {
  std::sort(keep.begin(), keep.end());
  unsigned from = 3;
  for (const int fd : keep) {
    if (fd < 3) continue;
    const auto kept = static_cast<unsigned>(fd);
    if (kept > from) ::close_range(from, kept - 1, 0);
    from = std::max(from, kept + 1);
  }
  ::close_range(from, ~0U, 0);
}

std::size_t raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) throw SystemError(errno, "read descriptor limit");
  const auto before = static_cast<std::size_t>(limit.rlim_cur);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  return before;
}

void restore_descriptor_limit(std::size_t soft_limit) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(soft_limit, limit.rlim_max);
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

ProcessTitle::ProcessTitle(int argc, char** argv) {
  if (argc < 1) return;
  char* begin = argv[0];
  char* end = begin;
  // The strings of argv and then of environ lie one behind the other; take as much as really does.
  for (int i = 0; i < argc; ++i) {
    if (argv[i] == end) end += std::strlen(argv[i]) + 1;
  }
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    if (*entry == end) end += std::strlen(*entry) + 1;
  }
  std::size_t count = 0;
  while (environ != nullptr && environ[count] != nullptr)
    ++count;
  auto* moved = static_cast<char**>(
      std::calloc(count + 1, sizeof(char*)));  // NOLINT(cppcoreguidelines-no-malloc): environ
  if (moved == nullptr) return;
  for (std::size_t i = 0; i < count; ++i)
    moved[i] = ::strdup(environ[i]);
  environ = moved;  // lives as long as the process
  memory_ = {begin, static_cast<std::size_t>(end - begin)};
}

void ProcessTitle::set(std::string_view title) {
  if (memory_.size() < 2) return;
  const std::size_t length = std::min(title.size(), memory_.size() - 1);
  std::memcpy(memory_.data(), title.data(), length);
  std::memset(memory_.data() + length, 0, memory_.size() - length);
}

}  // namespace bladepsgi::os
