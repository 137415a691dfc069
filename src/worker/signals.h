// Signals of a worker: application code owns the process while a request runs, so nothing is blocked (programs that the
// application starts would inherit that) and a handler only notes what came.
//
// The flag and the pipe are true globals: a handler has no other way to reach them.
#pragma once

namespace bladepsgi::worker {

// Installs the handlers. SIGTERM: leave after the current request; its system calls are restarted. What a terminal sends to the whole
// group (SIGINT, SIGQUIT, SIGHUP) is the overseer's business and does nothing here, unless the application handles it.
void install_signal_handlers();

// Puts the SIGTERM handler back when the application has taken its place (`local $SIG{TERM}` leaves the default action
// behind). Cheap: one system call.
void keep_signal_handlers();

[[nodiscard]] bool is_leave_requested();
// As if SIGTERM had come.
void request_leave();

// Readable once leaving was requested; stays so.
[[nodiscard]] int wake_descriptor();

}  // namespace bladepsgi::worker
