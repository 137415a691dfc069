// Host: what a language adapter may ask of the server.
//
// Implemented by zygote while the application loads and by worker afterwards; both stand on shm. Nothing here throws
// and nothing here runs application code.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "base/severity.h"

namespace bladepsgi::runtime {

using bladepsgi::Severity;

// A semaphore or an atomic of the pool; the same value in every process of the pool and in every generation.
using ObjectId = std::uint32_t;

// What becomes of permits that a dead process still held (contract §3). Default: Return, but Keep for initial value 0.
enum class OnDeath : std::uint8_t { Default, Return, Keep };

enum class Acquired { Yes, Interrupted };

enum class ChildRole : std::uint8_t { Zygote, Worker, Auxiliary };

class Host {
 public:
  Host() = default;
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;
  virtual ~Host() = default;

  [[nodiscard]] virtual ChildRole role() const noexcept = 0;
  [[nodiscard]] virtual std::string_view application_path()
      const noexcept = 0;  // as given on the command line
  [[nodiscard]] virtual std::optional<std::string_view> loader() const noexcept = 0;  // --loader
  [[nodiscard]] virtual int listen_descriptor() const noexcept = 0;

  // One line, or several separated by newlines, in the server's log. Written at once.
  virtual void log(Severity severity, std::string_view text) noexcept = 0;

  // The octet of this worker on the statistics socket. False outside a worker.
  virtual bool set_worker_status(char octet) noexcept = 0;

  // Objects are found by kind and name. `is_loading` objects of the same name twice in one run of the loader are an error
  // (the Host knows the run). Names are 1 … 255 bytes without newline or NUL.
  virtual Result<ObjectId> new_semaphore(std::string_view name,
                                         std::int64_t initial,
                                         OnDeath on_death) noexcept = 0;
  virtual Result<ObjectId> new_atomic(std::string_view name, std::int64_t initial) noexcept = 0;

  // Waits while the value is zero, without using CPU. Interrupted: a signal arrived (or a second has passed); run pending
  // signal handlers of the language and call again.
  virtual Acquired acquire(ObjectId semaphore) noexcept = 0;
  virtual bool try_acquire(ObjectId semaphore) noexcept = 0;
  virtual Result<void> release(ObjectId semaphore) noexcept = 0;  // error: the value is 2147483647

  // 64 bit, wrap at overflow, sequentially consistent. fetch_add returns the value before.
  virtual std::int64_t fetch_add(ObjectId atomic, std::int64_t operand) noexcept = 0;
  virtual std::int64_t load(ObjectId atomic) noexcept = 0;
  virtual void store(ObjectId atomic, std::int64_t value) noexcept = 0;

  // A request's time limit counts while the application has the request (a worker's, where there is one): from call_begins to
  // call_ends, but for what lies between call_pauses and call_resumes, where the client is waited for. call_ends also when nothing
  // has begun.
  virtual void call_begins() noexcept {}

  virtual void call_pauses() noexcept {}

  virtual void call_resumes() noexcept {}

  virtual void call_ends() noexcept {}

  // How long that has been so far.
  [[nodiscard]] virtual std::chrono::nanoseconds call_age() const noexcept { return {}; }

  // The response is out, and what follows it (cleanup handlers, hooks) is no part of the request's time.
  virtual void cleanup_begins() noexcept {}

  // While loading: one more auxiliary process of that title; the adapter runs it when App::run_auxiliary is called with
  // the index returned (counting from 0). Error: not while loading, or an unusable name.
  virtual Result<std::uint32_t> request_auxiliary(std::string_view name) noexcept = 0;
};

}  // namespace bladepsgi::runtime
