// Application: the Perl adapter's runtime::App.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "runtime/app.h"
#include "runtime/perl/env.h"
#include "runtime/perl/perl_types.h"
#include "runtime/perl/request.h"

namespace bladepsgi::perl {

class Application final : public runtime::App {
 public:
  // Checks versions, starts the interpreter and defines our classes. At most once a process; never
  // destroyed.
  static Result<Application*> start();

  // Loads what `options` name. Again replaces the former application (tests do that; a zygote loads
  // once).
  Result<void> load(runtime::Host& host, const runtime::LoadOptions& options);

  void before_fork() noexcept override;
  void enter_child(runtime::ChildRole role, runtime::Host& host) noexcept override;
  bool start_worker() noexcept override;
  runtime::Served serve(runtime::Exchange& exchange) noexcept override;
  void interrupt() noexcept override;
  std::size_t write_stack(std::span<char> into) noexcept override;
  int run_auxiliary(std::uint32_t index) noexcept override;
  void leave() noexcept override;
  [[nodiscard]] std::vector<std::string> unsafe_handles() noexcept override;

  [[nodiscard]] PerlInterpreter* interpreter() const { return perl_; }

  [[nodiscard]] const EnvBuilder& env() const { return env_; }

 private:
  explicit Application(PerlInterpreter* interpreter) : perl_(interpreter) {}

  Result<void> boot();
  void prepare(const runtime::LoadOptions& options);
  void load_code(const runtime::LoadOptions& options);
  void load_file(const std::string& path);
  void take_application(SV* value);
  void load_through(const std::string& loader);
  void set_application(CV* code);
  void respond(Request& request);
  void clean_up(Request& request);
  // False: it died or called exit, which is in the log.
  bool call_hook(SV* code, const char* name);
  // As Perl ends a process: END blocks, then what is buffered.
  [[noreturn]] void end_stray_child(bool exited, int status);

  PerlInterpreter* perl_;
  Shared shared_;
  EnvBuilder env_;
  SV* context_ = nullptr;     // BPSGI::Context
  SV* code_ = nullptr;        // the application: a code reference
  HV* loader_env_ = nullptr;  // the loader's hash, or null
  std::string origin_;        // " (the application is the sub at app.psgi line 3)"
};

}  // namespace bladepsgi::perl
