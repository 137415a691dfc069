// Env: makes the hash an application is called with, and gives it up afterwards.
//
// Contract §4: the parameters, then the loader's values, then psgi.*. Keys are shared by all
// requests (one string and one hash value a name, made the first time it is seen), everything else
// is fresh each time. Making and freeing this hash is most of what Perl costs a request, so all of
// it is in this one place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/app.h"
#include "runtime/perl/perl_types.h"

namespace bladepsgi::perl {

struct Request;
struct Shared;

class EnvBuilder {
 public:
  // Before the first request; again when the error stream changes.
  void prepare(PerlInterpreter* my_perl, Shared& shared, runtime::ErrorStream error_stream);

  // `defaults` (the loader's hash) may be null. Fills in request.env and request.source. May run
  // Perl code when `defaults` is tied, and so may die: below call_protected.
  void build(PerlInterpreter* my_perl, Request& request, HV* defaults);

  // True when the application certainly left no cleanup handler and no wish to end the worker; runs
  // no code.
  [[nodiscard]] bool asks_for_nothing(PerlInterpreter* my_perl, const Request& request) const;

  // Drops the request's env. Destructors run: inside run_guarded.
  static void release(PerlInterpreter* my_perl, Request& request);

 private:
  // Open addressing; a power of two, never more than half full. Names beyond the limits get a key
  // of their own each time, so that a client that invents header names costs itself time and us no
  // memory.
  static constexpr std::size_t kTableSize = 1024;
  static constexpr std::size_t kMaximumNames = 512;
  static constexpr std::size_t kMaximumNameLength = 64;

  SV* key_for(PerlInterpreter* my_perl, std::string_view name);

  std::vector<SV*> table_;
  std::size_t names_ = 0;

  struct Keys;
  Keys* keys_ = nullptr;  // never freed, like everything that Perl's end would have to wait for
  SV* errors_ = nullptr;  // \*STDERR; null: one for each request
  SV* informational_ = nullptr;
  SV* logger_ = nullptr;

  // Room for as many keys as the last request had, so that the hash need not grow on the way.
  static constexpr std::size_t kMaximumReserve = 256;
  std::size_t last_size_ = 64;
};

}  // namespace bladepsgi::perl
