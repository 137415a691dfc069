// Guard: the one way from C++ into code that Perl may leave by longjmp.
//
// `die` jumps to the nearest eval; `exit` unwinds everything and jumps to the nearest JMPENV, past
// every eval of the application. So there are two layers, and both are needed: run_guarded puts a
// JMPENV around a body, and inside the body call_protected puts an eval around a call. Bodies and
// XSUBs hold plain data only: a jump runs no destructor.
//
// run_guarded is for the outermost entry (nothing of Perl below it on the C stack): exit tears down
// all of Perl's stacks, so a guard inside an XSUB would return into frames that are gone. Inside,
// exit simply passes through call_protected.
#pragma once

#include <string>
#include <type_traits>

#include "runtime/perl/perl_types.h"

namespace bladepsgi::perl {

struct Guarded {
  bool exited = false;  // the code called exit (or a die outside every eval ended the program)
  int status = 0;       // of exit
};

using Body = void (*)(PerlInterpreter* my_perl, void* data);

// Runs `body`. Returns with Perl's stacks as they were before.
Guarded run_guarded(PerlInterpreter* my_perl, Body body, void* data) noexcept;

// The same for a callable with nothing to destroy in it: `run_guarded(aTHX_ [&] {…})`.
template <class F>
Guarded run_guarded(PerlInterpreter* my_perl, F&& body) noexcept {
  return run_guarded(
      my_perl,
      [](PerlInterpreter*, void* data) { (*static_cast<std::remove_reference_t<F>*>(data))(); },
      &body);
}

// Calls back into `body` below an eval. False: it died; the reason is in Perl's $@ until take_error
// fetches it. Only inside run_guarded. What `body` makes mortal is freed before this returns.
bool call_protected(PerlInterpreter* my_perl, Body body, void* data);

template <class F>
bool call_protected(PerlInterpreter* my_perl, F&& body) {
  return call_protected(
      my_perl,
      [](PerlInterpreter*, void* data) { (*static_cast<std::remove_reference_t<F>*>(data))(); },
      &body);
}

// The text of $@ without the newline at its end; $@ is empty afterwards. An exception object is
// asked for its string under another eval. Only inside run_guarded.
void take_error(PerlInterpreter* my_perl, std::string& into);

// Makes what call_protected needs; once, after the interpreter has started.
void prepare_guard(PerlInterpreter* my_perl);

}  // namespace bladepsgi::perl
