// A server for the adapter's tests: an Exchange that plays a request from a script and records what
// is sent, and a Host that keeps its objects in maps.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/app.h"
#include "runtime/exchange.h"
#include "runtime/host.h"
#include "runtime/perl/application.h"

namespace bladepsgi::perl {

struct Script {
  std::vector<std::pair<std::string, std::string>> parameters = {
      {"REQUEST_METHOD", "GET"}, {"REQUEST_URI", "/here?a=b"},
      {"PATH_INFO", "/here"},    {"QUERY_STRING", "a=b"},
      {"SCRIPT_NAME", ""},       {"SERVER_NAME", "localhost"},
      {"SERVER_PORT", "80"},     {"SERVER_PROTOCOL", "HTTP/1.1"}};
  std::uint64_t shape = 0;  // of the parameters
  enum class Body { Memory, Buffered, Streamed } mode = Body::Memory;
  std::string body = {};
  std::size_t piece = 1000;  // at most so much a read
  int error = 0;             // after the body
  bool wants_body = true;
  int writes_until_gone = -1;  // then the peer has gone
  int send_file_error = 0;
};

class FakeExchange final : public runtime::Exchange {
 public:
  explicit FakeExchange(Script script) : script_(std::move(script)) {
    for (const auto& [name, value] : script_.parameters) {
      parameters_.push_back({name, value});
    }
  }

  [[nodiscard]] std::span<const Parameter> parameters() const noexcept override {
    return parameters_;
  }

  [[nodiscard]] std::uint64_t parameter_shape() const noexcept override { return script_.shape; }

  [[nodiscard]] std::string_view request_id() const noexcept override { return "id-1"; }

  [[nodiscard]] runtime::BodyInfo body() const noexcept override {
    switch (script_.mode) {
      case Script::Body::Memory:
        return {.buffered = true, .length = script_.body.size(), .memory = as_bytes(script_.body)};
      case Script::Body::Buffered:
        return {.buffered = true, .length = script_.body.size(), .memory = {}};
      case Script::Body::Streamed:
        return {.buffered = false, .length = {}, .memory = {}};
    }
    return {};
  }

  runtime::BodyRead read_body(WritableBytes into) noexcept override {
    ++reads;
    touched_after_end |= ended();
    const std::size_t size =
        std::min({into.size(), script_.piece, script_.body.size() - position_});
    if (size == 0) {
      return {.size = 0, .error = script_.error};
    }
    largest_read = std::max(largest_read, into.size());
    std::copy_n(as_bytes(script_.body).data() + position_, size, into.data());
    position_ += size;
    return {.size = size, .error = 0};
  }

  bool seek_body(std::uint64_t offset) noexcept override {
    position_ = offset;
    return true;
  }

  void start_response(int code, std::span<const runtime::Header> list) noexcept override {
    status = code;
    headers.clear();
    for (const runtime::Header& header : list) {
      headers.emplace_back(header.name, header.value);
    }
    note("start " + std::to_string(code));
  }

  [[nodiscard]] bool wants_body() const noexcept override { return script_.wants_body; }

  bool write(Bytes bytes) noexcept override {
    touched_after_end |= ended();
    note("write");
    if (script_.writes_until_gone == 0) {
      return false;
    }
    script_.writes_until_gone -= script_.writes_until_gone > 0 ? 1 : 0;
    queue_.push_back(bytes);
    return true;
  }

  std::int64_t send_file(int fd,
                         off_t offset,
                         std::uint64_t length,
                         bool is_last) noexcept override;

  bool flush() noexcept override {
    note("flush");
    send_queue();
    return true;
  }

  void write_error(Bytes bytes) noexcept override { error_text += as_text(bytes); }

  [[nodiscard]] bool is_committed() const noexcept override { return committed_; }

  void discard_response() noexcept override {
    note("discard");
    queue_.clear();
    status = 0;
    headers.clear();
  }

  void finish() noexcept override {
    send_queue();
    note("finish");
    finished = true;
    wipe();
  }

  void abort() noexcept override {
    queue_.clear();
    note("abort");
    aborted = true;
    wipe();
  }

  void release_connection() noexcept override { note("release"); }

  int status = 0;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string sent;
  std::string error_text;
  std::vector<std::string> events;
  bool finished = false;
  bool aborted = false;
  bool touched_after_end = false;
  int reads = 0;
  std::size_t largest_read = 0;
  std::function<void(std::string_view)> on_event;

 private:
  [[nodiscard]] bool ended() const { return finished || aborted; }

  void note(std::string event) {
    events.push_back(std::move(event));
    if (on_event) {
      on_event(events.back());
    }
  }

  void send_queue() {
    committed_ = true;
    for (const Bytes bytes : queue_) {
      sent += as_text(bytes);
    }
    queue_.clear();
  }

  // What the seam says may be gone is gone.
  void wipe() {
    for (auto& [name, value] : script_.parameters) {
      name.assign(name.size(), '?');
      value.assign(value.size(), '?');
    }
    script_.body.assign(script_.body.size(), '?');
    position_ = script_.body.size();
  }

  Script script_;
  std::vector<Parameter> parameters_;
  std::size_t position_ = 0;
  std::vector<Bytes> queue_;
  bool committed_ = false;
};

class FakeHost final : public runtime::Host {
 public:
  [[nodiscard]] runtime::ChildRole role() const noexcept override { return current_role; }

  [[nodiscard]] std::string_view application_path() const noexcept override { return path; }

  [[nodiscard]] std::optional<std::string_view> loader() const noexcept override {
    return loader_name.empty() ? std::nullopt : std::optional<std::string_view>(loader_name);
  }

  [[nodiscard]] int listen_descriptor() const noexcept override { return 7; }

  void log(Severity severity, std::string_view text) noexcept override {
    lines.push_back(std::string(severity_word(severity)) + " " + std::string(text));
  }

  bool set_worker_status(char octet) noexcept override {
    status = octet;
    return current_role == runtime::ChildRole::Worker;
  }

  Result<runtime::ObjectId> new_semaphore(std::string_view name,
                                          std::int64_t initial,
                                          runtime::OnDeath on_death) noexcept override {
    for (const auto& known : semaphores) {
      if (known.name == name) {
        return fail(Remedy::Refuse, "the name is taken");
      }
    }
    semaphores.push_back({std::string(name), initial, on_death});
    return static_cast<runtime::ObjectId>(semaphores.size() - 1);
  }

  Result<runtime::ObjectId> new_atomic(std::string_view name,
                                       std::int64_t initial) noexcept override {
    atomics.push_back({std::string(name), initial, runtime::OnDeath::Default});
    return static_cast<runtime::ObjectId>(atomics.size() - 1);
  }

  runtime::Acquired acquire(runtime::ObjectId semaphore) noexcept override {
    ++acquires;
    if (on_acquire) {
      on_acquire();
    }
    return try_acquire(semaphore) ? runtime::Acquired::Yes : runtime::Acquired::Interrupted;
  }

  bool try_acquire(runtime::ObjectId semaphore) noexcept override {
    if (semaphores.at(semaphore).value == 0) {
      return false;
    }
    --semaphores.at(semaphore).value;
    return true;
  }

  Result<void> release(runtime::ObjectId semaphore) noexcept override {
    if (semaphores.at(semaphore).value == INT32_MAX) {
      return fail(Remedy::Refuse, "its value is 2147483647");
    }
    ++semaphores.at(semaphore).value;
    return {};
  }

  std::int64_t fetch_add(runtime::ObjectId atomic, std::int64_t operand) noexcept override {
    const std::int64_t before = atomics.at(atomic).value;
    atomics.at(atomic).value = static_cast<std::int64_t>(static_cast<std::uint64_t>(before) +
                                                         static_cast<std::uint64_t>(operand));
    return before;
  }

  std::int64_t load(runtime::ObjectId atomic) noexcept override { return atomics.at(atomic).value; }

  void store(runtime::ObjectId atomic, std::int64_t value) noexcept override {
    atomics.at(atomic).value = value;
  }

  Result<std::uint32_t> request_auxiliary(std::string_view name) noexcept override {
    if (current_role != runtime::ChildRole::Zygote) {
      return fail(Remedy::Refuse, "not while loading");
    }
    auxiliaries.emplace_back(name);
    return static_cast<std::uint32_t>(auxiliaries.size() - 1);
  }

  // All lines, for messages and searches.
  [[nodiscard]] std::string text() const {
    std::string all;
    for (const std::string& line : lines) {
      all += line + "\n";
    }
    return all;
  }

  struct Object {
    std::string name;
    std::int64_t value;
    runtime::OnDeath on_death;
  };

  runtime::ChildRole current_role = runtime::ChildRole::Zygote;
  std::string path = "app.psgi";
  std::string loader_name;
  std::vector<std::string> lines;
  char status = '_';
  std::vector<Object> semaphores;
  std::vector<Object> atomics;
  std::vector<std::string> auxiliaries;
  int acquires = 0;
  std::function<void()> on_acquire;
};

// The process's one interpreter.
Application& application();

// A directory of its own for files of a test, removed at the end.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  // Writes a file and returns its path.
  // NOLINTNEXTLINE(modernize-use-nodiscard): the path is often known
  std::string write(const std::string& name, std::string_view content) const;

  [[nodiscard]] std::string path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Everything that became of one request.
struct Played {
  runtime::Served served;
  int status = 0;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::string events;  // joined by commas
  bool finished = false;
  bool aborted = false;
  bool touched_after_end = false;
  std::string error_text;
  std::size_t largest_read = 0;
};

// A server with one application at a time.
class Server {
 public:
  // Loads a PSGI file with that text; the reason when it does not load.
  std::string load(std::string_view code, runtime::ErrorStream errors = runtime::ErrorStream::Log);
  // The same, which must work.
  explicit Server(std::string_view code, runtime::ErrorStream errors = runtime::ErrorStream::Log);
  Server() = default;

  Played play(Script script = {});

  FakeHost host;
  Scratch scratch;
};

// Evaluates Perl, for questions about the interpreter's state.
std::string evaluate(const std::string& code);
// The number of live Perl values.
std::int64_t live_values();

// What is left of a process at its end.
struct Remains {
  std::int64_t values = 0;      // that were live when `body` was done
  std::size_t bytes = 0;        // still allocated when the interpreter was gone
  std::string complaints = {};  // of Perl about what it found when it was torn down
};

// Runs `body` in a child, and tears the interpreter down there to the last value (PL_perl_destruct_level 2, which Debian's perl does
// not take from the environment). What a run of more rounds leaves more of was lost in them: values that nobody freed, or memory
// that was no value's any more.
Remains remains_of_child(const std::function<void()>& body);

}  // namespace bladepsgi::perl
