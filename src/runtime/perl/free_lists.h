// Free lists: Perl's, put in order before workers are forked.
//
// Loading an application leaves freed scalars, bodies and hash entries all over the heap, and Perl hands them out again in the order in
// which they were freed, each from another page. A process that writes to a page that it shares gets one of its own: a worker that
// makes a few thousand values would copy as many pages. In order, those that share a page with the most others come first.
#pragma once

#include "runtime/perl/perl_types.h"

namespace bladepsgi::perl {

// Changes nothing but the order in which memory is used again. Allocates nothing on the heap: that would leave holes of its own.
void order_free_lists(PerlInterpreter* my_perl);

}  // namespace bladepsgi::perl
