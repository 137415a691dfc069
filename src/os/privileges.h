// Privileges: users and groups by name, and giving root up for good.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "base/result.h"

namespace bladepsgi::os {

struct Identity {
  uid_t user = 0;
  gid_t group = 0;
  std::string user_name;  // for supplementary groups; empty: none
  std::string home;
};

[[nodiscard]] bool is_root();

// By name or number. The error names what was not found.
Result<uid_t> find_user(const std::string& name);
Result<gid_t> find_group(const std::string& name);

// `user` with its primary group, or `group` instead when it is not empty.
Result<Identity> find_identity(const std::string& user, const std::string& group);

// Becomes `identity` with its supplementary groups, and checks that there is no way back.
Result<void> drop_privileges(const Identity& identity);

}  // namespace bladepsgi::os
