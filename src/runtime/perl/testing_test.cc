// The tests' main and what testing.h declares. The interpreter is started once, before any test
// runs.
#include "runtime/perl/testing.h"

#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include <gtest/gtest.h>

#include "runtime/perl/fork_watch.h"
#include "runtime/perl/guard.h"

#include "runtime/perl/perl_api.h"

namespace bladepsgi::perl {

std::int64_t FakeExchange::send_file(int fd,
                                     off_t offset,
                                     std::uint64_t length,
                                     bool /*is_last*/) noexcept {
  note("file " + std::to_string(offset) + " " + std::to_string(length));
  if (script_.send_file_error != 0) {
    errno = script_.send_file_error;
    return -1;
  }
  send_queue();
  std::string content(length, '\0');
  const ssize_t got = ::pread(fd, content.data(), length, offset);
  sent += content.substr(0, static_cast<std::size_t>(got));
  return got;
}

Application& application() {
  static Application* const started = [] {
    auto result = Application::start();
    if (!result) {
      ADD_FAILURE() << result.error().message;
      std::abort();
    }
    return *result;
  }();
  return *started;
}

Scratch::Scratch() {
  std::string pattern = (std::filesystem::temp_directory_path() / "bladepsgi-perl-XXXXXX").string();
  path_ = ::mkdtemp(pattern.data());
}

Scratch::~Scratch() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string Scratch::write(const std::string& name, std::string_view content) const {
  const std::filesystem::path file = path_ / name;
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << content;
  return file.string();
}

std::string Server::load(std::string_view code, runtime::ErrorStream errors) {
  runtime::LoadOptions options;
  options.application_path = scratch.write("app.psgi", code);
  options.error_stream = errors;
  auto loaded = application().load(host, options);
  return loaded ? "" : loaded.error().message;
}

Server::Server(std::string_view code, runtime::ErrorStream errors) {
  const std::string failure = load(code, errors);
  EXPECT_EQ(failure, "");
  host.current_role = runtime::ChildRole::Worker;
}

Played Server::play(Script script) {
  FakeExchange exchange(std::move(script));
  Played played;
  played.served = application().serve(exchange);
  played.status = exchange.status;
  played.headers = exchange.headers;
  played.body = exchange.sent;
  for (const std::string& event : exchange.events) {
    played.events += (played.events.empty() ? "" : ",") + event;
  }
  played.finished = exchange.finished;
  played.aborted = exchange.aborted;
  played.touched_after_end = exchange.touched_after_end;
  played.error_text = exchange.error_text;
  played.largest_read = exchange.largest_read;
  return played;
}

std::string evaluate(const std::string& code) {
  PerlInterpreter* my_perl = application().interpreter();
  std::string answer;
  run_guarded(aTHX_[&] {
    const bool done = call_protected(aTHX_[&] {
      STRLEN length = 0;
      SV* value = eval_pv(code.c_str(), TRUE);
      const char* text = SvPV(value, length);
      answer.assign(text, length);
    });
    if (!done) {
      take_error(aTHX_ answer);
    }
  });
  return answer;
}

std::int64_t live_values() {
  PerlInterpreter* my_perl = application().interpreter();
  return PL_sv_count;
}

namespace {

std::string read_all(int fd) {
  std::string all;
  char text[4096];
  for (ssize_t size = 0; (size = ::read(fd, text, sizeof text)) > 0;) {
    all.append(text, static_cast<std::size_t>(size));
  }
  return all;
}

void tear_down_interpreter() {
  PerlInterpreter* my_perl = application().interpreter();
  PL_perl_destruct_level = 2;
  perl_destruct(my_perl);
  perl_free(my_perl);
}

// Bytes that are allocated. Of each small size malloc keeps up to seven freed blocks at hand and counts them as allocated: here it has
// seven of each.
std::size_t allocated_bytes() {
  constexpr std::size_t kLargest = 1032;
  constexpr std::size_t kStep = 16;
  constexpr int kKept = 7;
  std::array<void*, 2 * kKept*(kLargest / kStep)> blocks;
  std::size_t count = 0;
  for (std::size_t size = 24; size <= kLargest; size += kStep) {
    for (int number = 0; number < 2 * kKept; ++number)
      blocks.at(count++) = std::malloc(size);
  }
  for (std::size_t number = 0; number < count; ++number)
    std::free(blocks.at(number));
  return ::mallinfo2().uordblks;
}

}  // namespace

Remains remains_of_child(const std::function<void()>& body) {
  struct Figures {
    std::int64_t values;
    std::size_t bytes;
  };

  const int complaints = ::memfd_create("complaints", MFD_CLOEXEC);
  int ends[2];
  EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  application().before_fork();
  const pid_t pid = ::fork();
  if (pid == 0) {
    adopt_process();
    body();
    Figures figures{.values = live_values(), .bytes = 0};
    ::dup2(complaints, STDERR_FILENO);
    tear_down_interpreter();
#ifdef __SANITIZE_ADDRESS__
    if (__lsan_do_recoverable_leak_check() != 0) ::_exit(2);  // nothing is held by Perl any more
#endif
    figures.bytes = allocated_bytes();
    ::_exit(::write(ends[1], &figures, sizeof figures) == sizeof figures ? 0 : 1);
  }
  ::close(ends[1]);
  Figures figures{};
  const ssize_t got = ::read(ends[0], &figures, sizeof figures);
  ::close(ends[0]);
  int status = 0;
  ::waitpid(pid, &status, 0);
  ::lseek(complaints, 0, SEEK_SET);
  Remains remains{
      .values = figures.values, .bytes = figures.bytes, .complaints = read_all(complaints)};
  ::close(complaints);
  EXPECT_EQ(got, static_cast<ssize_t>(sizeof figures)) << remains.complaints;
  EXPECT_EQ(status, 0);
  return remains;
}

}  // namespace bladepsgi::perl

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  bladepsgi::perl::application();
  return RUN_ALL_TESTS();
}
