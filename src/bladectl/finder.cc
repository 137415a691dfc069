#include "bladectl/finder.h"

#include <dirent.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <set>

#include "os/connect.h"

namespace bladepsgi::bladectl {

namespace {

constexpr std::string_view kRun = "/run";
constexpr std::chrono::milliseconds kLimit{1000};

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(folder.c_str()), &::closedir);
  if (!entries) return names;
  while (const dirent* entry = ::readdir(entries.get()))
    names.emplace_back(entry->d_name);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

Found find_servers(const control::Surroundings& surroundings) {
  Found found;
  found.folders = control::places_of_client(surroundings);
  std::vector<std::string> folders = found.folders;
  for (const std::string& name : names_in(std::string(kRun))) {
    if (!name.starts_with('.')) folders.push_back(std::string(kRun) + "/" + name);
  }
  found.folders.push_back(std::string(kRun) + "/*");
  std::set<std::string> seen;
  for (const std::string& folder : folders) {
    if (!seen.insert(folder).second) continue;
    for (const std::string& name : names_in(folder)) {
      if (!control::pid_of(name)) continue;
      std::string path = folder + "/" + name;
      const auto connected = os::connect_to_path(path, os::monotonic_now() + kLimit);
      if (connected) {
        found.sockets.push_back(std::move(path));
      } else if (connected.error().error != ECONNREFUSED && connected.error().error != ENOENT) {
        found.unreachable.push_back(path + ": " + connected.error().reason);
      }
    }
  }
  return found;
}

}  // namespace bladepsgi::bladectl
