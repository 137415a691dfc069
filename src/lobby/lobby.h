// Lobby: the process that holds connections on which there is nothing to do for a worker.
//
// Connections outlive workers, and only a request that is there occupies one: idle kept connections, requests that have come in part
// and requests with too little of their body wait here, thousands of them, at the cost of a descriptor each. What has become ready goes
// into the ready queue, which free workers watch beside the listeners; its bytes go with it, and the worker receives them as if
// they had just come. Nothing here answers a peer, and nothing here waits for anybody: what cannot be sent now is sent later.
#pragma once

#include "lobby/inheritance.h"

namespace bladepsgi::lobby {

// The body of the process; all signals are blocked when it is called and stay so. Returns the exit code: 0 after SIGTERM or when
// the parent has gone. While the whole server stops, SIGTERM means: close what is idle, and go on until what has begun to come has gone to a worker; SIGUSR1, when the last
// worker has gone: end when every response that is here has been sent.
// SIGUSR2: another lobby is there. What is here is passed on to it, the responses that are half sent, too; then this one ends.
int run(const Inheritance& inheritance);

}  // namespace bladepsgi::lobby
