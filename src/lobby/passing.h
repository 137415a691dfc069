// Passing: what one lobby tells the one that takes its place about a connection, so that this goes on with it where it was.
#pragma once

#include "base/result.h"
#include "handoff/transfer.h"
#include "lobby/guest.h"
#include "os/clock.h"
#include "shm/lobby_board.h"

namespace bladepsgi::lobby {

// As handoff::send. `holding`, `deadline`: of this guest, which is not Ready. Error: what is unsent of its response cannot be read.
[[nodiscard]] Result<handoff::SendOutcome> pass_on(int channel,
                                                   const Guest& guest,
                                                   shm::Holding holding,
                                                   os::Monotonic deadline,
                                                   os::Monotonic now);

}  // namespace bladepsgi::lobby
