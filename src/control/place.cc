#include "control/place.h"

#include <algorithm>
#include <limits>

#include "base/text.h"

namespace bladepsgi::control {

namespace {

constexpr std::string_view kOfSystem = "/run/bladepsgi";

std::string of_user(const Surroundings& surroundings) {
  return surroundings.user_runtime_directory + "/bladepsgi";
}

}  // namespace

std::optional<Place> place_of_server(const Surroundings& surroundings) {
  if (const std::string_view first = split(surroundings.runtime_directory, ':').front();
      first.starts_with('/'))
    return Place{std::string(first), false};
  if (surroundings.user_runtime_directory.starts_with('/'))
    return Place{of_user(surroundings), true};
  if (surroundings.is_root) return Place{std::string(kOfSystem), true};
  return std::nullopt;
}

std::vector<std::string> places_of_client(const Surroundings& surroundings) {
  std::vector<std::string> places;
  const auto add = [&places](std::string place) {
    if (std::find(places.begin(), places.end(), place) == places.end())
      places.push_back(std::move(place));
  };
  for (const std::string_view one : split(surroundings.runtime_directory, ':')) {
    if (one.starts_with('/')) add(std::string(one));
  }
  if (surroundings.user_runtime_directory.starts_with('/')) add(of_user(surroundings));
  add(std::string(kOfSystem));
  return places;
}

std::string socket_name(pid_t pid) {
  return std::to_string(pid) + std::string(kSuffix);
}

std::optional<pid_t> pid_of(std::string_view name) {
  if (!name.ends_with(kSuffix)) return std::nullopt;
  name.remove_suffix(kSuffix.size());
  const auto pid = parse_decimal(name);
  if (!pid || *pid == 0 || *pid > std::numeric_limits<pid_t>::max()) return std::nullopt;
  return static_cast<pid_t>(*pid);
}

}  // namespace bladepsgi::control
