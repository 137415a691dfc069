#include "worker/pool_host.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "base/text.h"
#include "worker/time_limit.h"

namespace bladepsgi::worker {

PoolHost::PoolHost(Setup setup)
    : setup_(std::move(setup)),
      objects_(*setup_.mapping),
      slot_(setup_.slot),
      channel_(setup_.log_channel) {}

void PoolHost::end_loading() {
  is_loading_ = false;
}

void PoolHost::become(runtime::ChildRole role,
                      shm::SlotIndex slot,
                      int log_channel,
                      shm::OwnSlot* own_slot) {
  role_ = role;
  slot_ = slot;
  channel_ = os::LogChannel(log_channel);
  own_slot_ = own_slot;
}

std::optional<std::string_view> PoolHost::loader() const noexcept {
  if (setup_.loader.empty()) return std::nullopt;
  return setup_.loader;
}

void PoolHost::call_begins() noexcept {
  if (time_limit_ != nullptr) time_limit_->begin();
}

void PoolHost::call_pauses() noexcept {
  if (time_limit_ != nullptr) time_limit_->pause();
}

void PoolHost::call_resumes() noexcept {
  if (time_limit_ != nullptr) time_limit_->resume();
}

void PoolHost::call_ends() noexcept {
  if (time_limit_ != nullptr) time_limit_->end();
}

std::chrono::nanoseconds PoolHost::call_age() const noexcept {
  return time_limit_ != nullptr ? time_limit_->age() : std::chrono::nanoseconds{};
}

void PoolHost::cleanup_begins() noexcept {
  if (own_slot_ != nullptr && role_ == runtime::ChildRole::Worker)
    own_slot_->begin_cleanup(os::monotonic_now());
}

void PoolHost::log(Severity severity, std::string_view text) noexcept {
  channel_.text(severity, text);
}

bool PoolHost::set_worker_status(char octet) noexcept {
  if (role_ != runtime::ChildRole::Worker || own_slot_ == nullptr) return false;
  own_slot_->set_status(octet);
  return true;
}

Result<void> PoolHost::check_name(shm::Kind kind, std::string_view name) {
  if (!is_loading_ || names_.add(kind, name)) return {};
  return fail(Remedy::Refuse, std::string(kind == shm::Kind::Semaphore ? "semaphore" : "atomic") +
                                  " '" + printable(name) +
                                  "' exists already: the loader asked for that name twice");
}

Result<runtime::ObjectId> PoolHost::created(shm::Kind kind,
                                            std::string_view name,
                                            Result<shm::Created> result) {
  if (!result) return fail(result.error());
  const std::string object = std::string(kind == shm::Kind::Semaphore ? "semaphore" : "atomic") +
                             " '" + printable(name) + "'";
  if (result->initial_differs) {
    log(Severity::Warning,
        object + " was created with initial value " + std::to_string(result->existing_initial) +
            " and keeps its value; the other initial value asked for now has no effect");
  }
  if (result->on_death_differs) {
    log(Severity::Warning,
        object + " was created with another on_death; the one asked for now has no effect");
  }
  return result->id;
}

// No exception (of memory) may enter the language's frames.
Result<runtime::ObjectId> PoolHost::new_semaphore(std::string_view name,
                                                  std::int64_t initial,
                                                  runtime::OnDeath on_death) noexcept {
  try {
    if (auto checked = check_name(shm::Kind::Semaphore, name); !checked)
      return fail(checked.error());
    const auto mapped = on_death == runtime::OnDeath::Default  ? shm::OnDeath::Default
                        : on_death == runtime::OnDeath::Return ? shm::OnDeath::Return
                                                               : shm::OnDeath::Keep;
    return created(shm::Kind::Semaphore, name,
                   objects_.semaphore(name, initial, mapped, setup_.generation));
  } catch (const std::exception& failure) {
    return fail(Remedy::Retry, failure.what());
  }
}

Result<runtime::ObjectId> PoolHost::new_atomic(std::string_view name,
                                               std::int64_t initial) noexcept {
  try {
    if (auto checked = check_name(shm::Kind::Atomic, name); !checked) return fail(checked.error());
    return created(shm::Kind::Atomic, name, objects_.atomic(name, initial, setup_.generation));
  } catch (const std::exception& failure) {
    return fail(Remedy::Retry, failure.what());
  }
}

runtime::Acquired PoolHost::acquire(runtime::ObjectId semaphore) noexcept {
  return objects_.acquire(semaphore, slot_) == shm::Acquired::Yes ? runtime::Acquired::Yes
                                                                  : runtime::Acquired::Interrupted;
}

bool PoolHost::try_acquire(runtime::ObjectId semaphore) noexcept {
  return objects_.try_acquire(semaphore, slot_);
}

Result<void> PoolHost::release(runtime::ObjectId semaphore) noexcept {
  return objects_.release(semaphore, slot_);
}

std::int64_t PoolHost::fetch_add(runtime::ObjectId atomic, std::int64_t operand) noexcept {
  return objects_.fetch_add(atomic, operand);
}

std::int64_t PoolHost::load(runtime::ObjectId atomic) noexcept {
  return objects_.load(atomic);
}

void PoolHost::store(runtime::ObjectId atomic, std::int64_t value) noexcept {
  objects_.store(atomic, value);
}

// "monitoring", and also "worker 3": what stands in the title of a process of ours.
bool PoolHost::is_role_title(std::string_view name) const {
  const std::size_t space = name.find(' ');
  const bool has_number =
      space != std::string_view::npos && parse_decimal(name.substr(space + 1)).has_value();
  const std::string_view word = has_number ? name.substr(0, space) : name;
  return std::find(setup_.role_words.begin(), setup_.role_words.end(), word) !=
         setup_.role_words.end();
}

Result<std::uint32_t> PoolHost::request_auxiliary(std::string_view name) noexcept {
  if (!is_loading_) {
    return fail(Remedy::Refuse, "auxiliary process '" + printable(name) +
                                    "' can be requested only while the application loads");
  }
  if (name.empty() || name.size() > shm::kNameLimit ||
      name.find_first_of(std::string_view("\n\0", 2)) != std::string_view::npos) {
    return fail(Remedy::Refuse, "name of auxiliary process '" + printable(name) +
                                    "' must have 1 to 255 bytes, without newline and NUL");
  }
  // Half of what is left beside the workers: during a changeover old and new stand beside each other.
  const shm::Layout& layout = setup_.mapping->layout();
  const std::uint32_t most = std::max(layout.slots - 2 * layout.numbers, 16U) / 2 - 2;
  if (auxiliaries_ >= most) {
    return fail(Remedy::Refuse, "auxiliary process '" + printable(name) +
                                    "' is one too many: there can be " + std::to_string(most));
  }
  if (is_role_title(name)) {
    log(Severity::Warning,
        "auxiliary process '" + std::string(name) +
            "' has the name of one of the server's own processes; ps will not tell them apart");
  }
  if (auto told = setup_.on_auxiliary(name, auxiliaries_); !told) return fail(told.error());
  return auxiliaries_++;
}

}  // namespace bladepsgi::worker
