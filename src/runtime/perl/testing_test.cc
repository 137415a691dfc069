// The tests' main and what testing.h declares. The interpreter is started once, before any test
// runs.
#include "runtime/perl/testing.h"

#include <stdlib.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "runtime/perl/guard.h"

#include "runtime/perl/perl_api.h"

namespace bladepsgi::perl {

std::int64_t FakeExchange::send_file(int fd, off_t offset, std::uint64_t length) noexcept {
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
  host.role_ = runtime::ChildRole::Worker;
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

}  // namespace bladepsgi::perl

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  bladepsgi::perl::application();
  return RUN_ALL_TESTS();
}
