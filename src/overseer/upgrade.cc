#include "overseer/upgrade.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <utility>

#include "base/text.h"
#include "config/config.h"
#include "config/exit_codes.h"
#include "os/clock.h"
#include "os/signals.h"
#include "os/socket.h"
#include "os/system_error.h"
#include "overseer/wording.h"

namespace bladepsgi::overseer {

namespace {

constexpr const char* kVariable = "BLADEPSGI_UPGRADE";
constexpr std::string_view kCheck = "check:";
constexpr std::string_view kTakeOver = "go:";

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
constexpr std::size_t kMostStateBytes = std::size_t{256} << 20;
constexpr std::size_t kMostSaidBytes = std::size_t{256} << 10;

std::string absolute(const std::string& path) {
  if (path.starts_with('/')) return path;
  std::array<char, PATH_MAX> directory{};
  if (::getcwd(directory.data(), directory.size()) == nullptr) return path;
  return std::string(directory.data()) + "/" + path;
}

// As a shell has found it.
std::string find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return absolute(name);
  const char* paths = std::getenv("PATH");
  for (const std::string_view directory : split(paths != nullptr ? paths : "", ':')) {
    std::string path = (directory.empty() ? std::string(".") : std::string(directory)) + "/" + name;
    if (::access(path.c_str(), X_OK) == 0) return absolute(path);
  }
  return {};
}

bool is_same_file(const char* left, const char* right) {
  struct stat one {};

  struct stat other {};

  return ::stat(left, &one) == 0 && ::stat(right, &other) == 0 && one.st_dev == other.st_dev &&
         one.st_ino == other.st_ino;
}

Result<os::Fd> seal(const State& state) {
  const std::string text = encode(state);
  os::Fd memory(::memfd_create("bladepsgi-state", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory.is_open()) return fail(os::system_failure(errno, "create the state record"));
  for (std::string_view rest = text; !rest.empty();) {
    const ssize_t written = ::write(memory.get(), rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return fail(os::system_failure(errno, "write the state record"));
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fcntl(memory.get(), F_ADD_SEALS, kSeals) != 0)
    return fail(os::system_failure(errno, "seal the state record"));
  return memory;
}

Result<std::string> read_sealed(const os::Fd& memory) {
  const int seals = ::fcntl(memory.get(), F_GET_SEALS);

  struct stat info {};

  if (seals < 0 || (seals & kSeals) != kSeals || ::fstat(memory.get(), &info) != 0)
    return fail(Remedy::Refuse, "it is no sealed memory");
  const auto size = static_cast<std::size_t>(info.st_size);
  if (size > kMostStateBytes) return fail(Remedy::Refuse, "it is too large");
  std::string text(size, '\0');
  for (std::size_t done = 0; done < size;) {
    const ssize_t count =
        ::pread(memory.get(), text.data() + done, size - done, static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return fail(os::system_failure(errno, "read it"));
    done += static_cast<std::size_t>(count);
  }
  return text;
}

void set_inherited(int fd, bool is_inherited) {
  ::fcntl(fd, F_SETFD, is_inherited ? 0 : FD_CLOEXEC);
}

// For execve(2), with one more variable at the end: the title of the process takes argv and environ up to the first gap.
class Words {
 public:
  explicit Words(std::vector<std::string> words) : words_(std::move(words)) {
    for (std::string& word : words_)
      pointers_.push_back(word.data());
    pointers_.push_back(nullptr);
  }

  Words(const Words&) = delete;
  Words& operator=(const Words&) = delete;
  ~Words() = default;

  [[nodiscard]] char** get() { return pointers_.data(); }

 private:
  std::vector<std::string> words_;
  std::vector<char*> pointers_;
};

std::vector<std::string> environment_with(std::string_view order, int memory) {
  std::vector<std::string> words;
  const std::string prefix = std::string(kVariable) + "=";
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    if (!std::string_view(*entry).starts_with(prefix)) words.emplace_back(*entry);
  }
  words.push_back(fmt::format("{}{}{}", prefix, order, memory));
  return words;
}

// All that a record names is there; from now on nobody inherits it by an exec.
Result<void> secure_descriptors(const State& state) {
  for (const int fd : descriptors_of(state)) {
    if (::fcntl(fd, F_GETFD) < 0) {
      return fail(Remedy::GiveUp,
                  fmt::format("the state record names descriptor {}, which is not open", fd));
    }
    set_inherited(fd, false);
  }
  return {};
}

Error no_program() {
  return {Remedy::GiveUp,
          "cannot tell from which file this program was started; only a restart changes it"};
}

}  // namespace

Invocation find_invocation(int argc, const char* const* argv) {
  Invocation invocation;
  invocation.arguments.assign(argv, argv + argc);
  std::string path = argc > 0 ? find_program(argv[0]) : std::string();
  constexpr const char* kSelf = "/proc/self/exe";
  // Whoever starts programs may call them what he likes.
  if (path.empty() || !is_same_file(path.c_str(), kSelf)) {
    std::array<char, PATH_MAX> target{};
    const ssize_t size = ::readlink(kSelf, target.data(), target.size());
    path.assign(target.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
  }
  invocation.program = std::move(path);
  return invocation;
}

Result<std::optional<UpgradeOrder>> take_upgrade_order() {
  const char* value = std::getenv(kVariable);
  if (value == nullptr) return std::optional<UpgradeOrder>();
  const std::string text = value;
  ::unsetenv(kVariable);
  const bool is_check = text.starts_with(kCheck);
  const auto refuse = [](std::string_view reason) {
    return fail(Remedy::Refuse,
                fmt::format("environment variable {}: {}; a running server sets it to be upgraded, "
                            "nobody else",
                            kVariable, reason));
  };
  if (!is_check && !text.starts_with(kTakeOver)) return refuse("it is not what a server sets");
  const auto number =
      parse_decimal(std::string_view(text).substr(is_check ? kCheck.size() : kTakeOver.size()));
  if (!number || *number > INT_MAX || ::fcntl(static_cast<int>(*number), F_GETFD) < 0)
    return refuse("it names no descriptor");
  const os::Fd memory(static_cast<int>(*number));
  set_inherited(memory.get(), false);
  const auto record = read_sealed(memory);
  if (!record) return refuse(record.error().message);
  auto state = decode(*record);
  if (!state) return fail(state.error());
  if (state->overseer != (is_check ? ::getppid() : ::getpid()) ||
      is_check != state->check.has_value())
    return refuse("it is meant for another process");
  if (!is_check) {
    if (auto secured = secure_descriptors(*state); !secured) return fail(secured.error());
  }
  return std::optional(
      UpgradeOrder{.kind = is_check ? UpgradeOrder::Kind::Check : UpgradeOrder::Kind::TakeOver,
                   .state = std::move(*state)});
}

void report_check(const State& state, const control::Outcome& outcome) {
  if (!state.check) return;
  std::string rest = control::outcome_line(outcome);
  // Its reader waits for nothing else.
  while (!rest.empty()) {
    const ssize_t written = ::write(state.check->outcome.number, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    rest.erase(0, static_cast<std::size_t>(written));
  }
}

Result<ProgramIdentity> identify(const Invocation& invocation) {
  if (invocation.program.empty()) return fail(no_program());

  struct stat file {};

  if (::stat(invocation.program.c_str(), &file) != 0)
    return fail(os::system_failure(errno, "run the new program", invocation.program));
  return ProgramIdentity{.device = file.st_dev,
                         .inode = file.st_ino,
                         .size = file.st_size,
                         .changed_seconds = file.st_mtim.tv_sec,
                         .changed_nanoseconds = file.st_mtim.tv_nsec};
}

UpgradeCheck::UpgradeCheck(Environment environment, std::chrono::milliseconds limit)
    : environment_(std::move(environment)), limit_(limit) {}

UpgradeCheck::~UpgradeCheck() {
  environment_.loop->cancel(deadline_);
  for (const os::Fd* fd : {&output_, &outcome_, &failure_}) {
    if (fd->is_open()) environment_.loop->remove(fd->get());
  }
  child_.signal(SIGKILL);
  static_cast<void>(child_.hand_on());
}

Result<std::unique_ptr<UpgradeCheck>> UpgradeCheck::start(const Invocation& invocation,
                                                          State state,
                                                          std::chrono::milliseconds limit,
                                                          Environment environment) {
  if (invocation.program.empty()) return fail(no_program());
  std::unique_ptr<UpgradeCheck> check(new UpgradeCheck(std::move(environment), limit));
  os::Pipe output = os::make_pipe();
  os::Pipe outcome = os::make_pipe();
  os::Pipe failure = os::make_pipe();
  os::Fd log(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  if (!log.is_open()) return fail(os::system_failure(errno, "duplicate the log"));
  os::set_non_blocking(output.read.get());
  os::set_non_blocking(outcome.read.get());
  os::set_non_blocking(failure.read.get());
  state.check = CheckState{.log = {log.get()}, .outcome = {outcome.write.get()}};
  auto memory = seal(state);
  if (!memory) return fail(memory.error());
  Words arguments(invocation.arguments);
  Words variables(environment_with(kCheck, memory->get()));
  const std::vector<int> inherited{memory->get(), state.pool.memory.number, log.get(),
                                   outcome.write.get()};
  const pid_t overseer = ::getpid();
  const auto pid = os::fork_role(os::Parent::Caller, [&] {
    os::die_with_parent(overseer);
    ::dup2(output.write.get(), STDOUT_FILENO);
    ::dup2(output.write.get(), STDERR_FILENO);
    for (const int fd : inherited)
      set_inherited(fd, true);
    os::reset_signal_handlers();
    os::unblock_all_signals();
    ::execve(invocation.program.c_str(), arguments.get(), variables.get());
    const int error = errno;
    [[maybe_unused]] const ssize_t written = ::write(failure.write.get(), &error, sizeof error);
    return 127;
  });
  if (!pid) return fail(pid.error());
  check->child_ = os::Child(*pid);
  failure.write.reset();
  check->output_ = std::move(output.read);
  check->outcome_ = std::move(outcome.read);
  check->failure_ = std::move(failure.read);
  check->program_ = invocation.program;
  UpgradeCheck* self = check.get();
  os::EventLoop& loop = *check->environment_.loop;
  loop.add(self->output_.get(), EPOLLIN, [self](std::uint32_t) { self->read_lines(); });
  loop.add(self->outcome_.get(), EPOLLIN, [self](std::uint32_t) { self->read_outcome(); });
  loop.add(self->failure_.get(), EPOLLIN, [self](std::uint32_t) { self->read_failure(); });
  self->deadline_ = loop.call_at(os::monotonic_now() + limit, [self] {
    self->deadline_ = {};
    self->is_overdue_ = true;
    self->child_.signal(SIGKILL);
  });
  return check;
}

void UpgradeCheck::read_lines() {
  const auto on_line = [this](std::string_view line) {
    last_line_ = line;
    environment_.on_line(line);
  };
  std::array<char, 4096> bytes{};
  // As much as a full pipe holds, so that one who says it without end keeps nobody from anything.
  for (int turn = 0; turn < 17; ++turn) {
    const ssize_t count = ::read(output_.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count > 0) {
      lines_.feed({bytes.data(), static_cast<std::size_t>(count)}, on_line);
      continue;
    }
    lines_.finish(on_line);
    environment_.loop->remove(output_.get());
    output_.reset();
    return;
  }
}

void UpgradeCheck::read_outcome() {
  std::array<char, 4096> bytes{};
  for (int turn = 0; turn < 17; ++turn) {
    const ssize_t count = ::read(outcome_.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count > 0) {
      if (said_.size() < kMostSaidBytes)
        said_.append(bytes.data(), static_cast<std::size_t>(count));
      continue;
    }
    environment_.loop->remove(outcome_.get());
    outcome_.reset();
    return;
  }
}

// What the file lies on may keep an exec waiting: that is nothing to wait for here.
void UpgradeCheck::read_failure() {
  int error = 0;
  const ssize_t size = ::read(failure_.get(), &error, sizeof error);
  if (size < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (size == static_cast<ssize_t>(sizeof error)) exec_error_ = error;
  environment_.loop->remove(failure_.get());
  failure_.reset();
}

bool UpgradeCheck::on_reaped(os::Ended ended) {
  if (ended.pid != child_.pid()) return false;
  child_.mark_reaped();
  environment_.loop->cancel(deadline_);
  if (output_.is_open()) read_lines();
  if (outcome_.is_open()) read_outcome();
  if (failure_.is_open()) read_failure();
  control::Outcome outcome;
  const auto answer = control::parse_answer(std::string_view(said_).substr(0, said_.find('\n')));
  const auto* said = answer ? std::get_if<control::Outcome>(&*answer) : nullptr;
  if (said != nullptr && (said->exit != 0 || os::is_clean_exit(ended.status))) {
    outcome = *said;
  } else if (exec_error_ != 0) {
    outcome.exit = to_int(config::ExitCode::Failure);
    outcome.error = os::system_failure(exec_error_, "run the new program", program_).message;
  } else if (is_overdue_) {
    outcome.exit = to_int(config::ExitCode::ApplicationNotLoaded);
    outcome.error =
        fmt::format("the new program has not shown within {} that it works", seconds_text(limit_));
  } else {
    outcome.exit = to_int(config::ExitCode::Failure);
    outcome.error = fmt::format("the new program ended ({}) before it had shown that it works{}{}",
                                os::describe_status(ended.status), last_line_.empty() ? "" : ": ",
                                printable(last_line_, 1024));
  }
  // A copy: who is called may be done with this object.
  const auto on_outcome = environment_.on_outcome;
  on_outcome(outcome);
  return true;
}

Error become_program(const Invocation& invocation, const State& state) {
  if (invocation.program.empty()) return no_program();
  auto memory = seal(state);
  if (!memory) return memory.error();
  Words arguments(invocation.arguments);
  Words variables(environment_with(kTakeOver, memory->get()));
  std::vector<int> inherited = descriptors_of(state);
  inherited.push_back(memory->get());
  for (const int fd : inherited)
    set_inherited(fd, true);
  ::execve(invocation.program.c_str(), arguments.get(), variables.get());
  const int error = errno;
  for (const int fd : inherited)
    set_inherited(fd, false);
  return os::system_failure(error, "run the new program", invocation.program);
}

}  // namespace bladepsgi::overseer
