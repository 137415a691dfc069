// Timeout: the time limit of a request, as the application meets it: a BPSGI::Timeout, thrown where Perl also runs the handlers of
// %SIG, between two ops or in a system call that was interrupted.
//
// It is thrown only while the application has the request (begin_call to end_call), whenever the signal came. Who catches and goes on
// meets the next one when the worker says so again. No entry of %SIG is used, so nothing that the application does to its handlers
// matters.
#pragma once

#include <chrono>

#include "runtime/perl/perl_types.h"
#include "runtime/perl/request.h"

namespace bladepsgi::perl {

// Defines the class; below call_protected.
void boot_timeout(PerlInterpreter* my_perl, Shared& shared, std::chrono::milliseconds limit);

// In a worker, before its first request.
void watch_timeout(PerlInterpreter* my_perl, Shared& shared);

void begin_call(Shared& shared);
// Nothing is thrown any more. Also when nothing has begun.
void end_call(Shared& shared);

// Async-signal-safe.
void interrupt_call(PerlInterpreter* my_perl) noexcept;

// The client is waited for, or may be: that is not the application's time. No code of the application runs meanwhile.
class ClientsTurn {
 public:
  explicit ClientsTurn(const Shared& shared) : host_(shared.is_limited ? shared.host : nullptr) {
    if (host_ != nullptr) {
      host_->call_pauses();
    }
  }

  ClientsTurn(const ClientsTurn&) = delete;
  ClientsTurn& operator=(const ClientsTurn&) = delete;

  ~ClientsTurn() {
    if (host_ != nullptr) {
      host_->call_resumes();
    }
  }

 private:
  Host* host_;
};

}  // namespace bladepsgi::perl
