// Perl's types by name only, for headers that must not include Perl's.
#pragma once

// NOLINTBEGIN(readability-identifier-naming): Perl's own tags
struct interpreter;
struct sv;
struct hv;
struct av;
struct cv;
struct he;
struct hek;
// NOLINTEND(readability-identifier-naming)
using PerlInterpreter = struct interpreter;
using SV = struct sv;
using HV = struct hv;
using AV = struct av;
using CV = struct cv;
using HE = struct he;
using HEK = struct hek;
