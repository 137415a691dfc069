// psgi.errors when it goes to the web server, and psgix.logger, which goes to our log.
#pragma once

#include "runtime/perl/perl_types.h"

namespace bladepsgi::perl {

struct Request;
struct Shared;

// Defines the Perl side; once, below call_protected.
void boot_errors(PerlInterpreter* my_perl, Shared& shared);

// A handle whose output goes to the web server's error log until its request ends, and to STDERR
// from then on. A reference, count one.
SV* make_errors(PerlInterpreter* my_perl, Request& request);

// The code reference for psgix.logger, the same for all requests: it names the request that is
// being served.
SV* make_logger(PerlInterpreter* my_perl, Shared& shared);

}  // namespace bladepsgi::perl
