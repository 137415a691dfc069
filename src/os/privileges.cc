#include "os/privileges.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "base/text.h"
#include "os/system_error.h"

namespace bladepsgi::os {

bool is_root() {
  return ::geteuid() == 0;
}

namespace {

std::optional<unsigned> as_number(const std::string& name) {
  const auto number = parse_decimal(name);
  if (!number || *number >= UINT_MAX)
    return std::nullopt;  // (uid_t)-1 means "leave alone" to chown and setuid
  return static_cast<unsigned>(*number);
}

}  // namespace

Result<uid_t> find_user(const std::string& name) {
  if (const passwd* entry = ::getpwnam(name.c_str())) return entry->pw_uid;
  if (const auto number = as_number(name)) return *number;
  return fail(Remedy::Refuse, "there is no user '" + name + "' on this machine");
}

Result<gid_t> find_group(const std::string& name) {
  if (const group* entry = ::getgrnam(name.c_str())) return entry->gr_gid;
  if (const auto number = as_number(name)) return *number;
  return fail(Remedy::Refuse, "there is no group '" + name + "' on this machine");
}

Result<Identity> find_identity(const std::string& user, const std::string& group) {
  Identity identity{.user = ::geteuid(), .group = ::getegid(), .user_name = {}, .home = {}};
  if (!user.empty()) {
    auto uid = find_user(user);
    if (!uid) return fail(uid.error());
    identity.user = *uid;
    if (const passwd* entry = ::getpwuid(*uid)) {
      identity.user_name = entry->pw_name;
      identity.group = entry->pw_gid;
      identity.home = entry->pw_dir;
    } else if (group.empty()) {
      return fail(Remedy::Refuse,
                  "user '" + user + "' has no entry that names its group; give --group too");
    }
  }
  if (!group.empty()) {
    auto gid = find_group(group);
    if (!gid) return fail(gid.error());
    identity.group = *gid;
  }
  return identity;
}

Result<void> drop_privileges(const Identity& identity) {
  const int groups = identity.user_name.empty()
                         ? ::setgroups(0, nullptr)
                         : ::initgroups(identity.user_name.c_str(), identity.group);
  if (groups != 0)
    return fail(system_failure(errno, "set supplementary groups of user", identity.user_name));
  if (::setresgid(identity.group, identity.group, identity.group) != 0) {
    return fail(system_failure(errno, "change to group", std::to_string(identity.group)));
  }
  if (::setresuid(identity.user, identity.user, identity.user) != 0) {
    return fail(system_failure(errno, "change to user", std::to_string(identity.user)));
  }
  if (identity.user != 0 && ::setuid(0) == 0)
    return fail(Remedy::GiveUp, "root could be regained after it was given up");
  return {};
}

}  // namespace bladepsgi::os
