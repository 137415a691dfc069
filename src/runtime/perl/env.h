// Env: makes the hash an application is called with, and gives it up afterwards.
//
// Contract §4: the parameters, then the loader's values, then psgi.*. To the application each request has a hash of its own, with
// values of its own. Making and freeing that is most of what Perl costs a request, so the hash and every value of it that is ours
// alone again, and as we left it, serve the next request. Who keeps, ties, blesses, locks or weakens them has them: `release` looks
// at all of it, and what it does not recognise to the last flag is freed as it would be without all this. See docs/decisions/0009.
//
// Between two requests the hash holds no bytes of the client and nothing of the application.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include "runtime/app.h"
#include "runtime/perl/input.h"
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

  // Takes the request's env and source back, or drops them. Destructors run: inside run_guarded.
  void release(PerlInterpreter* my_perl, Request& request);

  // How many hashes so far were taken back for the next request.
  [[nodiscard]] std::uint64_t times_kept() const { return times_kept_; }

 private:
  // Keys are shared by all requests: one string and one hash value a name, made the first time it is seen. Names beyond the limits
  // get a key of their own each time, so that clients that invent header names cost time and no memory.
  using KeyIndex = std::uint16_t;
  static constexpr KeyIndex kNoKey = std::numeric_limits<KeyIndex>::max();
  static constexpr std::size_t kTableSize = 2048;  // a power of two, never more than half full
  static constexpr std::size_t kMaximumNames = 512;
  static constexpr std::size_t kMaximumNameLength = 64;
  // What one large request has made grow is not kept.
  static constexpr std::size_t kMaximumValue = 4096;
  static constexpr std::size_t kMaximumBuckets = 512;
  static constexpr std::size_t kMaximumReserve = 256;
  // Applications that always keep their env shall not pay for our looking at it: after so many in a row it is only tried now and then.
  static constexpr std::uint32_t kPatience = 16;
  static constexpr std::uint32_t kRetryEvery = 64;

  // What a value is, and so how to see that it still is.
  enum class Kind : std::uint8_t {
    Text,      // a string of bytes, written anew each time
    Constant,  // true, false, or a reference to something that lives as long as we do
    Version,
    CleanupHandlers,
    Input,
    Other,  // made anew each time
  };

  struct alignas(64) Key {
    SV* sv;
    std::string_view name;
    // While it is in env_:
    HE* entry = nullptr;
    SV* value = nullptr;
    const char* content = nullptr;  // string or referent when it was placed
    std::uint32_t flags = 0;        // when it was placed
    std::uint32_t used = 0;         // bytes of the client in it
    std::uint32_t round = 0;        // of the last request that had it
    Kind kind = Kind::Other;
  };

  // The first keys.
  enum class Own : std::uint8_t {
    Version,
    UrlScheme,
    Input,
    Errors,
    Multithread,
    Multiprocess,
    RunOnce,
    Streaming,
    Nonblocking,
    Harakiri,
    Cleanup,
    CleanupHandlers,
    Logger,
    Informational,
    InputBuffered,
    Io,
    RequestId,
    HarakiriCommit,
  };

  [[nodiscard]] Key& own(Own which) { return keys_[static_cast<std::size_t>(which)]; }

  [[nodiscard]] KeyIndex find_key(std::string_view name) const;
  // kNoKey when there are too many, or it is too long.
  KeyIndex add_key(PerlInterpreter* my_perl, std::string_view name);
  [[nodiscard]] KeyIndex key_of(const HEK* hek) const;

  // Of a parameter that is not what usually stands there.
  KeyIndex learn_key(PerlInterpreter* my_perl, std::string_view name, std::size_t position);
  void mark(Key& key);
  void place(PerlInterpreter* my_perl, Key& key, SV* value, Kind kind);
  void set_text(PerlInterpreter* my_perl, Key& key, std::string_view text);
  void set_truth(PerlInterpreter* my_perl, Key& key, bool value);
  void set_reference(PerlInterpreter* my_perl, Key& key, SV* reference);
  void set_defaults(PerlInterpreter* my_perl, HV* defaults);
  void set_input(PerlInterpreter* my_perl, Request& request);
  // Deletes what this request does not have.
  void settle(PerlInterpreter* my_perl);
  // Remembers in which order the hash has its entries.
  void note_shape(PerlInterpreter* my_perl);

  [[nodiscard]] bool is_worth_keeping() const {
    return lost_in_a_row_ < kPatience || round_ % kRetryEvery == 0;
  }

  enum class Scrubbed : std::uint8_t {
    Clean,
    Again,  // something was destroyed, or is not where it was: look once more
    Lost,   // not ours alone
  };
  [[nodiscard]] Scrubbed scrub(PerlInterpreter* my_perl);
  [[nodiscard]] bool is_ours_alone(PerlInterpreter* my_perl) const;
  // Makes the value of an entry one to be used again, or puts a fresh one there.
  void clean(PerlInterpreter* my_perl, Key& key, HE* entry);
  [[nodiscard]] static bool wipe_plain_text(Key& key, SV* value);
  [[nodiscard]] static bool is_same_constant(const Key& key, const SV* value);
  [[nodiscard]] bool restore(PerlInterpreter* my_perl, Key& key, SV* value);

  std::vector<Key> keys_;
  std::vector<KeyIndex> table_;
  KeyIndex https_ = kNoKey;
  KeyIndex request_method_ = kNoKey;
  KeyIndex request_uri_ = kNoKey;
  SV* errors_ = nullptr;  // \*STDERR; null: one for each request
  SV* informational_ = nullptr;
  SV* logger_ = nullptr;

  HV* env_ = nullptr;           // counted; of the request being served, or waiting for the next one
  bool is_built_ = false;       // completely
  bool has_new_shape_ = false;  // order_ is not true any more
  std::uint32_t own_flags_ = 0;  // of env_
  std::vector<KeyIndex> order_;  // of env_'s entries, as a walk over it meets them; empty: not kept
  std::vector<KeyIndex> usual_order_;  // of the parameters as they come
  std::uint64_t usual_shape_ = 0;      // exactly of this shape of parameters; 0: of none
  std::uint32_t round_ = 0;
  std::size_t marked_ = 0;
  std::uint32_t lost_in_a_row_ = 0;
  std::uint64_t times_kept_ = 0;
  InputFingerprint input_;
  // Room for as many keys as the last request had, so that a new hash need not grow on the way.
  std::size_t last_size_ = 64;

  // Scratch of scrub: members, because what is destroyed may leave by exit.
  struct Doomed {
    SV* name;
    std::uint32_t hash;
  };

  std::vector<Doomed> doomed_;
  std::vector<SV*> replaced_;
};

}  // namespace bladepsgi::perl
