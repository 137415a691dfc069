#include "supervise/restart_policy.h"

#include <algorithm>

namespace bladepsgi::supervise {

Duration RestartPolicy::delay_after(const Life& life, double chance) {
  if (life.served) {
    early_deaths_ = 0;
    return Duration::zero();
  }
  // A long life proves nothing about the next one, so it does not end a loop.
  if (life.died - life.started >= options_.settled_after) return Duration::zero();

  ++early_deaths_;
  Duration ceiling = 2 * options_.first_delay;
  for (std::uint32_t death = 1; death < early_deaths_ && ceiling < options_.longest_delay;
       ++death) {
    ceiling *= 2;
  }
  ceiling = std::min(ceiling, options_.longest_delay);
  const double spread = static_cast<double>((ceiling / 2).count()) * std::clamp(chance, 0.0, 1.0);
  return ceiling / 2 + Duration(static_cast<Duration::rep>(spread));
}

}  // namespace bladepsgi::supervise
