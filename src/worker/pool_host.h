// PoolHost: the Host of an application, over the shared memory of its pool.
//
// One object a process: made by the zygote before the application loads (the application's semaphores and atomics point to it),
// copied into every child by the fork, and told there what it has become.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "os/log.h"
#include "runtime/host.h"
#include "shm/objects.h"
#include "shm/scoreboard.h"

namespace bladepsgi::worker {

class TimeLimit;

class PoolHost final : public runtime::Host {
 public:
  struct Setup {
    const shm::Mapping* mapping = nullptr;
    std::uint32_t generation = 0;
    std::string application_path;
    std::string loader;  // empty: none
    int listen_descriptor = -1;
    int log_channel = -1;
    shm::SlotIndex slot = 0;  // of the zygote
    // Called for each auxiliary process that the loader asks for.
    std::function<Result<void>(std::string_view name, std::uint32_t index)> on_auxiliary;
    std::vector<std::string>
        role_words;  // names of auxiliary processes that would be taken for a role
  };

  explicit PoolHost(Setup setup);

  // The loader has returned: no more auxiliary processes, and names may be asked for again.
  void end_loading();
  // In a child, before the application learns of it.
  void become(runtime::ChildRole role,
              shm::SlotIndex slot,
              int log_channel,
              shm::OwnSlot* own_slot);

  [[nodiscard]] runtime::ChildRole role() const noexcept override { return role_; }

  [[nodiscard]] std::string_view application_path() const noexcept override {
    return setup_.application_path;
  }

  [[nodiscard]] std::optional<std::string_view> loader() const noexcept override;

  [[nodiscard]] int listen_descriptor() const noexcept override { return setup_.listen_descriptor; }

  void log(Severity severity, std::string_view text) noexcept override;
  bool set_worker_status(char octet) noexcept override;
  Result<runtime::ObjectId> new_semaphore(std::string_view name,
                                          std::int64_t initial,
                                          runtime::OnDeath on_death) noexcept override;
  Result<runtime::ObjectId> new_atomic(std::string_view name,
                                       std::int64_t initial) noexcept override;
  runtime::Acquired acquire(runtime::ObjectId semaphore) noexcept override;
  bool try_acquire(runtime::ObjectId semaphore) noexcept override;
  Result<void> release(runtime::ObjectId semaphore) noexcept override;
  std::int64_t fetch_add(runtime::ObjectId atomic, std::int64_t operand) noexcept override;
  std::int64_t load(runtime::ObjectId atomic) noexcept override;
  void store(runtime::ObjectId atomic, std::int64_t value) noexcept override;
  Result<std::uint32_t> request_auxiliary(std::string_view name) noexcept override;

  // Of a worker, for requests from now on; null: there is none.
  void set_time_limit(TimeLimit* limit) { time_limit_ = limit; }

  void call_begins() noexcept override;
  void call_pauses() noexcept override;
  void call_resumes() noexcept override;
  void call_ends() noexcept override;
  [[nodiscard]] std::chrono::nanoseconds call_age() const noexcept override;
  void cleanup_begins() noexcept override;

 private:
  Result<runtime::ObjectId> created(shm::Kind kind,
                                    std::string_view name,
                                    Result<shm::Created> result);
  [[nodiscard]] bool is_role_title(std::string_view name) const;
  [[nodiscard]] Result<void> check_name(shm::Kind kind, std::string_view name);

  Setup setup_;
  shm::Objects objects_;
  shm::LoaderNames names_;
  runtime::ChildRole role_ = runtime::ChildRole::Zygote;
  bool is_loading_ = true;
  shm::SlotIndex slot_;
  os::LogChannel channel_;
  shm::OwnSlot* own_slot_ = nullptr;
  std::uint32_t auxiliaries_ = 0;
  TimeLimit* time_limit_ = nullptr;
};

}  // namespace bladepsgi::worker
