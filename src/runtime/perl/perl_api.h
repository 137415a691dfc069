// The only entrance of Perl's headers. Included last, and only by .cc files of this folder: what
// they define as macros breaks headers that come after them. Headers here name Perl types through
// perl_types.h.
#pragma once
#pragma GCC system_header  // what Perl's macros expand to is not ours to correct

#define PERL_NO_GET_CONTEXT
#define PERL_GCC_BRACE_GROUPS_FORBIDDEN  // ISO C++ has no statement expressions

extern "C" {
#include <EXTERN.h>
#include <XSUB.h>
#include <perl.h>
#include <perliol.h>
void boot_DynaLoader(pTHX_ CV* cv);
}

// Words that are too common to be macros.
#undef Copy
#undef Move
#undef New
#undef Zero
#undef do_close
#undef do_open
#undef list
#undef ref
#undef scalar
#undef seed
