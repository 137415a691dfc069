// Fork watch: is this process one that the application forked off?
//
// Such a process has everything the worker has, the client's connection included. When its code
// comes back to us, by exit as a rule, it must end there and then: it would answer the same request
// a second time and then go on serving.
#pragma once

namespace bladepsgi::perl {

// Once a process image, before any application code runs.
void watch_forks();

// This process is meant to serve: of forks from here on, the children are strays.
void adopt_process();

// True in a child of fork(2) made since. Children of the server itself are made by clone(2),
// unseen.
[[nodiscard]] bool is_stray_child();

}  // namespace bladepsgi::perl
