// Interpreter: is it the one we were built for, and starting it.
#pragma once

#include <string>

#include "base/result.h"
#include "runtime/perl/perl_types.h"

namespace bladepsgi::perl {

struct Version {
  unsigned revision = 0;
  unsigned version = 0;
  unsigned subversion = 0;
  // Of the interpreter's state: differs between builds of one version (threads, debugging).
  unsigned interpreter_size = 0;
};

[[nodiscard]] Version built_version();
[[nodiscard]] Version found_version();  // of the libperl that is mapped

// One clear line naming both when this module cannot work with what was found. Nothing of Perl has
// been touched yet.
[[nodiscard]] Result<void> check_version(const Version& built, const Version& found);

// Starts Perl with an argv of its own and an empty program. At most once a process. Assigning to $0
// changes neither the process's title nor its name, and END blocks wait for whoever runs them. The
// environment is Perl's from now on: setenv in C++ would free what Perl has allocated.
[[nodiscard]] Result<PerlInterpreter*> start_interpreter();

}  // namespace bladepsgi::perl
