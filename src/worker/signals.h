// Signals of a worker: application code owns the process while a request runs, so nothing is blocked (programs that the
// application starts would inherit that) and a handler only notes what came.
//
// The overseer does not use signals to end a worker (scoreboard and wake pipe, see inheritance.h): they would cut short what
// SA_RESTART does not restart, sleep and select. SIGTERM comes from elsewhere.
//
// The flag and the pipe are true globals: a handler has no other way to reach them.
#pragma once

namespace bladepsgi::worker {

// Installs the handlers. SIGTERM: leave after the current request; its system calls are restarted. What a terminal sends to the whole
// group (SIGINT, SIGQUIT, SIGHUP) is the overseer's business and does nothing here, unless the application handles it.
//
// `wake_write` is the writing end of the pipe that wakes a waiting worker. A process that the application forks gets the
// default actions back: it is none of ours.
void install_signal_handlers(int wake_write);

// Puts the SIGTERM handler back when the application has taken its place (`local $SIG{TERM}` leaves the default action
// behind). Cheap: one system call.
void keep_signal_handlers();

[[nodiscard]] bool is_leave_requested();
// As if SIGTERM had come.
void request_leave();

}  // namespace bladepsgi::worker
