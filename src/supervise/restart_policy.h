// RestartPolicy: when a process that died is replaced.
//
// One for each thing that is kept running: a worker number, the zygote, monitoring, an auxiliary process. A process that had
// served a request, or lived long enough, is replaced at once. Earlier deaths are a loop and are slowed down exponentially,
// until a process has served a request again. Pure: time and chance are arguments.
#pragma once

#include <chrono>
#include <cstdint>

namespace bladepsgi::supervise {

using Time = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

// What an unexpected end means for the server: --on-crash.
enum class CrashAction : std::uint8_t {
  Restart,
  Stop,  // as 1.0: everything ends and the exit code is 1
};

struct RestartOptions {
  Duration first_delay = std::chrono::milliseconds(100);
  Duration longest_delay = std::chrono::seconds(30);
  Duration settled_after = std::chrono::seconds(10);
};

// The life that has just ended.
struct Life {
  Time started;
  Time died;
  bool served = false;  // for what serves no requests: it did what it is for (a zygote loaded, …)
};

class RestartPolicy {
 public:
  explicit RestartPolicy(const RestartOptions& options = {}) : options_(options) {}

  // How long to wait before the replacement starts; zero: at once. `chance` is 0 … 1 and spreads the restarts of things
  // that died together: a delay lies between half and the whole of a ceiling that doubles with every early death.
  [[nodiscard]] Duration delay_after(const Life& life, double chance);

  // The running process has served a request: the loop, if there was one, is over.
  void served() { early_deaths_ = 0; }

  // Early deaths in a row, for the log.
  [[nodiscard]] std::uint32_t early_deaths() const { return early_deaths_; }

 private:
  RestartOptions options_;
  std::uint32_t early_deaths_ = 0;
};

}  // namespace bladepsgi::supervise
