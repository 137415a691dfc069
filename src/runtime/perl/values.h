// Values: questions about single Perl values. All of these may run Perl code (overloads, ties) and
// may die: call them below call_protected or from an XSUB that Perl called.
#pragma once

#include <cstdint>
#include <string_view>

#include "runtime/perl/perl_types.h"

namespace bladepsgi::perl {

// What a value is, for a message: "undef", "'text'", "a HASH reference", "an object of class Foo".
// A mortal.
SV* describe(PerlInterpreter* my_perl, SV* value);

// True for what reads as a string without running any code and without surprises.
bool is_plain(SV* value);

// Where the first character above 255 is, counting from 1; 0 when there is none.
struct WideCharacter {
  std::uint64_t position = 0;
  std::uint64_t code_point = 0;
};

// The value as a string of bytes: itself, or a mortal copy. Null when it has a character above 255,
// which is in `wide`.
SV* as_byte_string(PerlInterpreter* my_perl, SV* value, WideCharacter* wide);

// The bytes of a byte string; valid while the value is unchanged.
std::string_view view(PerlInterpreter* my_perl, SV* value);

// A whole number that fits 64 bits signed, from a number, a decimal string or an object that reads
// as one.
enum class Integer { Ok, NotInteger, OutOfRange };
Integer read_integer(PerlInterpreter* my_perl, SV* value, std::int64_t* into);

// A reference to code, or an object that acts as one by overloading &{}: the code behind it, else
// null.
CV* code_of(PerlInterpreter* my_perl, SV* value);

// "FILE line N" of the first statement of a sub, or where it was compiled; null for an XSUB. A
// mortal.
SV* where_defined(PerlInterpreter* my_perl, CV* code);

}  // namespace bladepsgi::perl
