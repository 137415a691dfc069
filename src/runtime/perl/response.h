// Response: reads what an application returned and sends it.
//
// Everything here runs below call_protected and dies with the reason when the response is wrong.
// Nothing is sent before all that can be checked beforehand has been checked, so that most mistakes
// still give a clean 500.
#pragma once

#include "runtime/perl/perl_types.h"

namespace bladepsgi::perl {

struct Request;
struct Shared;

// Defines BPSGI::Writer; once, below call_protected.
// The code of psgix.informational, for the request that is being served.
SV* make_informational(PerlInterpreter* my_perl, Shared& shared);

void boot_response(PerlInterpreter* my_perl, Shared& shared);

// Dies in a process that the application forked and that has come back out of it.
void refuse_stray_child(PerlInterpreter* my_perl);

// Sends the response and finishes it: an array, or code that is called with a responder.
void send_response(PerlInterpreter* my_perl, Request& request, SV* response);

}  // namespace bladepsgi::perl
