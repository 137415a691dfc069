// The objects of the loader API (contract §3): BPSGI::Context, BPSGI::Semaphore,
// BPSGI::AtomicInt64.
//
// They hold no state of their own beyond which object of the pool they are, so they mean the same
// in every process.
#pragma once

#include "runtime/perl/perl_types.h"

namespace bladepsgi::perl {

struct Shared;

// Defines the classes; once, below call_protected.
void boot_objects(PerlInterpreter* my_perl, Shared& shared);

// A new BPSGI::Context; a reference, count one.
SV* make_context(PerlInterpreter* my_perl, Shared& shared);

}  // namespace bladepsgi::perl
