// Monitoring: the process that answers on the statistics socket.
//
// Each connection is answered at once and closed. Nothing a client does or leaves undone delays another one: answers that a
// client does not read wait beside those of the others, for a bounded time and in a bounded number; what a client sends is
// ignored, and does not destroy its answer. Reading shared memory disturbs no worker.
#pragma once

#include "monitoring/inheritance.h"

namespace bladepsgi::monitoring {

// The body of the process; all signals are blocked when it is called and stay so. Returns the exit code: 0 after SIGTERM, or when the
// parent has gone, or after SIGUSR2, which says that another one is there, when those who are here have their answers. Other signals (a
// terminal's Ctrl-C reaches every process) mean nothing to it.
int run(Inheritance inheritance);

}  // namespace bladepsgi::monitoring
