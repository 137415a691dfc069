// Processes: forks that keep running our code, the death of children, titles, and what a child drops.
//
// Nobody else calls fork(2). A role is forked with all signals blocked; its body runs in the child, which never returns
// into the caller's frames and leaves by _exit, so that neither atexit handlers nor destructors of the parent's objects
// run twice.
#pragma once

#include <sys/types.h>

#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "os/fd.h"

namespace bladepsgi::os {

// A child process of this process. A pid is signalled only through it and never after it was reaped.
class Child {
 public:
  Child() = default;

  explicit Child(pid_t pid) : pid_(pid) {}

  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  Child(Child&& other) noexcept;
  Child& operator=(Child&& other) noexcept;
  ~Child();  // aborts when a living child was neither reaped nor handed on

  [[nodiscard]] pid_t pid() const { return pid_; }

  [[nodiscard]] bool is_alive() const { return pid_ > 0; }

  void signal(int number) const noexcept;  // nothing after mark_reaped

  void mark_reaped() { pid_ = 0; }

  [[nodiscard]] pid_t hand_on();  // somebody else reaps it

 private:
  pid_t pid_ = 0;
};

enum class Parent {
  Caller,  // an ordinary fork
  CallersParent,  // clone(CLONE_PARENT): the child is a sibling of the caller, reaped by the caller's parent
};

// Runs `body` in a new process, with every signal blocked, and ends that process by _exit with the value returned; an
// exception is written to standard error and ends it with 1. Returns the pid in the caller. CallersParent skips glibc's atfork
// handlers, so the caller must have one thread (see thread_count).
Result<pid_t> fork_role(Parent parent, const std::function<int()>& body);

// Descriptors of ours that a process forked by somebody else (the application, by fork(2)) shall not hold: a listening socket that
// lives on in it would look alive after the server has gone. Replaces the list given before; roles made by fork_role with
// CallersParent keep them. A true global.
void set_private_descriptors(std::vector<int> fds);

// One more of them, which changes with every connection; -1: none.
void set_private_connection(int fd) noexcept;

// Threads of this process.
[[nodiscard]] std::size_t thread_count();

// Asks the kernel for SIGKILL when the parent dies, and ends this process if `expected_parent` is not the parent any
// more. The kernel forgets the request at a change of credentials: call it again then.
void die_with_parent(pid_t expected_parent);

// Adopts orphans: processes whose parent dies become children of this one.
void become_subreaper();

struct Ended {
  pid_t pid = 0;
  int status = 0;  // as waitpid(2) gives it
};

// One ended child, whichever; pid 0 when none has ended.
[[nodiscard]] Ended try_reap_any();

// A descriptor that is readable when the process, whoever's child it is, has ended: another one of the same pid is not meant. Closed: there is no
// such process.
[[nodiscard]] Fd watch_process(pid_t pid);

// "signal 11 (SIGSEGV, core dumped)", "exit code 3".
[[nodiscard]] std::string describe_status(int status);
[[nodiscard]] bool is_clean_exit(int status);

// Closes every descriptor above 2 but those of `keep`.
void close_all_except(std::vector<int> keep);

// Raises the limit of open descriptors to the hard limit; returns the soft limit as it was. restore sets it again.
std::size_t raise_descriptor_limit();
void restore_descriptor_limit(std::size_t soft_limit);

// The title that ps shows. Must be set up by main before anything keeps a pointer into argv or environ: environ is moved
// to the heap, and the memory of both then holds the title.
class ProcessTitle {
 public:
  ProcessTitle(int argc, char** argv);
  void set(std::string_view title);

 private:
  std::span<char> memory_;
};

}  // namespace bladepsgi::os
