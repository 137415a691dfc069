// psgix.io: the client's connection itself, for an application that wants to speak on it (WebSocket, server push).
//
// Nothing is spent on those who do not: the value in the env becomes a BPSGI::Connection when somebody reads it, and that object a
// real handle, an IO::Socket::IP or IO::Socket::UNIX, when somebody uses it as one. Only that opens a descriptor and costs the
// client its kept connection; a copy of the env does not.
#pragma once

#include "runtime/perl/perl_types.h"

namespace bladepsgi::perl {

struct Request;
struct Shared;

// Defines the Perl side; once, below call_protected.
void boot_raw_connection(PerlInterpreter* my_perl, Shared& shared);

// The value for the env. Count one.
SV* make_raw_connection(PerlInterpreter* my_perl, Request& request);

}  // namespace bladepsgi::perl
