#include "monitoring/statistics.h"

#include <string_view>

namespace bladepsgi::monitoring {
namespace {

void append_objects(std::string& text,
                    const std::vector<shm::ObjectValue>& objects,
                    shm::Kind kind,
                    std::string_view word) {
  for (const shm::ObjectValue& object : objects) {
    if (object.kind != kind) continue;
    text += word;
    text += object.name;
    text += ": ";
    text += std::to_string(object.value);
    text += '\n';
  }
}

}  // namespace

Statistics collect(const shm::Scoreboard& scoreboard, shm::Objects& objects) {
  Statistics statistics;
  statistics.start_time = scoreboard.start_time();
  const std::uint32_t shown = scoreboard.shown_numbers();
  statistics.octets.reserve(shown);
  for (std::uint32_t number = 0; number < shown; ++number)
    statistics.octets += scoreboard.status_of(number);
  statistics.requests = scoreboard.total_requests();
  statistics.objects = objects.list(scoreboard.oldest_generation());
  return statistics;
}

std::string format(const Statistics& statistics) {
  std::string text = std::to_string(statistics.start_time) + "\n" + statistics.octets + "\n" +
                     std::to_string(statistics.requests) + "\n\n";
  append_objects(text, statistics.objects, shm::Kind::Semaphore, "sem ");
  append_objects(text, statistics.objects, shm::Kind::Atomic, "atomic ");
  return text;
}

}  // namespace bladepsgi::monitoring
