// App: a loaded application behind a language adapter; Module: how a zygote gets one.
//
// A runtime is a shared object that only a zygote maps (dlopen with RTLD_GLOBAL: with RTLD_LOCAL the first XS module
// fails to find the interpreter's symbols). It exports one function, kModuleSymbol, that returns its Module.
//
// Life: load (zygote) → before_fork (zygote, before each fork) → enter_child (in the child) → serve … | run_auxiliary →
// leave. The zygote runs none of the application's code after load. The App is never destroyed: its interpreter's memory
// is shared with every sibling, and tearing it down would run destructors of objects that siblings still use.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runtime/exchange.h"
#include "runtime/host.h"

namespace bladepsgi::runtime {

enum class ErrorStream : std::uint8_t {
  Log,       // psgi.errors is the process's standard error, which the overseer writes to the log
  Protocol,  // psgi.errors goes to the web server (FCGI_STDERR)
};

struct LoadOptions {
  std::string application_path;  // as given; relative to the working directory
  std::string loader;            // module name; empty: application_path is a PSGI file
  std::string application_code;  // evaluated for the application; may wrap that of application_path
  std::vector<std::string> include_directories;  // searched first for modules
  std::vector<std::string> modules;              // used before the application is loaded
  std::string
      environment_name;  // "development", for the application to know; empty: as in the environment
  ErrorStream error_stream = ErrorStream::Log;
  // How long the application may have a request: Host::call_begins and its kin are called, App::interrupt may come. Zero: for ever.
  std::chrono::milliseconds request_timeout{};
};

// What the worker does after a request.
enum class Next : std::uint8_t {
  Continue,
  LeaveHarakiri,  // psgix.harakiri.commit
  LeaveExit,      // the application called exit
};

struct Served {
  Next next = Next::Continue;
  bool failed =
      false;  // the application died or returned nonsense; the reason is in the log already
  bool timed_out = false;  // App::interrupt has had an effect
};

class App {
 public:
  App() = default;
  App(const App&) = delete;
  App& operator=(const App&) = delete;
  virtual ~App() = default;

  // In the zygote, before every fork: nothing may be left in a buffer that both sides would write.
  virtual void before_fork() noexcept = 0;

  // In the child, once, before anything else: reseeds, sets handles up.
  virtual void enter_child(ChildRole role, Host& host) noexcept = 0;

  // In a worker, after that, with signals let in: runs what the application wants run before the first request. False: this process
  // cannot serve, and why is in the log.
  virtual bool start_worker() noexcept { return true; }

  // Answers one request completely (finish or abort has been called when this returns), then runs cleanup handlers.
  virtual Served serve(Exchange& exchange) noexcept = 0;

  // The request being served has used up its time: throws something into the application as soon as its language allows that, if it
  // still has the request by then. From a signal handler; again and again until serve returns.
  virtual void interrupt() noexcept {}

  // What the language is doing at this moment: lines, the innermost first; never empty. From a signal handler. Returns the size.
  virtual std::size_t write_stack(std::span<char> into) noexcept = 0;

  // Runs auxiliary process `index`. Returns when its code returned, died or called exit, after logging which: the exit code.
  virtual int run_auxiliary(std::uint32_t index) noexcept = 0;

  // Runs the application's exit hooks (END blocks) and flushes its handles. The caller then leaves by _exit.
  virtual void leave() noexcept = 0;

  // What the application opened while loading that children should not share, one sentence each ("socket 7 connected to
  // 127.0.0.1:5432", "DBI handle dbi:Pg:…"). Language level only: sockets and threads are found by the zygote.
  [[nodiscard]] virtual std::vector<std::string> unsafe_handles() noexcept = 0;
};

// One more with every change of Exchange, Host, App or what they use.
inline constexpr std::uint32_t kModuleAbi = 7;
inline constexpr const char* kModuleSymbol = "bladepsgi_runtime_module";

struct Module {
  std::uint32_t abi = kModuleAbi;
  const char* language = nullptr;   // "Perl"
  const char* built_for = nullptr;  // "5.36.0"
  // Checks that the interpreter found is the one it was built for, starts it and loads the application. At most once a
  // process. Called with `argv_title` untouched: the interpreter gets an argv of its own.
  Result<App*> (*load)(Host& host, const LoadOptions& options) = nullptr;
};

using ModuleFunction = const Module* (*)();

}  // namespace bladepsgi::runtime
