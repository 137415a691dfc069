// Inheritance: everything that crosses the fork from overseer to zygote.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "os/fd.h"
#include "os/privileges.h"
#include "os/process.h"
#include "runtime/app.h"
#include "shm/mapping.h"
#include "worker/inheritance.h"

namespace bladepsgi::zygote {

struct Options {
  std::string title_prefix;
  std::string runtime_module;  // path of the shared object
  runtime::LoadOptions load;
  bool preload = true;  // false: not here, each child loads the application for itself
  worker::Options worker;
  std::optional<os::Identity> identity;  // become that before anything of the application runs
  std::string spool_directory;           // must be writable; empty: none is used
  std::size_t descriptor_limit = 0;      // the soft limit that the application gets back
};

struct Inheritance {
  pid_t overseer = 0;
  int lifeline = -1;  // of the overseer: who is tied to it dies with it, see os/lifeline.h
  int control = -1;   // SOCK_SEQPACKET, see control.h
  int output = -1;    // become descriptors 1 and 2; -1: keep those inherited
  int error = -1;
  int log_channel = -1;
  std::vector<worker::Listening> listeners;
  int parking = -1;  // see worker/inheritance.h
  int ready = -1;
  const shm::Mapping* mapping = nullptr;
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;
  os::ProcessTitle* title = nullptr;
  std::string process_title;  // of the zygote itself
  Options options;
};

// Loads the application (unless its children shall), then makes children on the overseer's word until its end of the control
// socket is closed. Returns the exit code, which is also that of a child: 3 when the application could not be loaded (the reason
// is in the log then).
int run(Inheritance& inheritance);

}  // namespace bladepsgi::zygote
