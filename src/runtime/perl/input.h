// psgi.input: the request body as a Perl handle.
//
// A handle has two faces on one Source. Perl's own operators reach it through tied methods (so that
// sysread works without a descriptor); XS code and `open '<&'` reach it through its PerlIO, a layer
// of ours. Neither buffers anything of its own: the layer shows Perl the Source's window, so all
// faces and every duplicate share one position, as duplicates of a file do. No descriptor is ever
// shown (fileno is -1).
//
// A handle may outlive its request: after detach it is at the end of file for ever.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "runtime/exchange.h"
#include "runtime/perl/perl_types.h"

namespace bladepsgi::perl {

struct Shared;

// The body of one request. Counted: the request and every handle on it hold one.
class Source {
 public:
  static constexpr std::size_t kWindowSize = std::size_t{64} * 1024;

  // With a count of one. `shared` keeps the read window between requests.
  static Source* create(Shared& shared, runtime::Exchange& exchange);

  // Begins with another request's body, after detach.
  void attach(runtime::Exchange& exchange);

  void retain() { ++count_; }

  [[nodiscard]] std::uint32_t count() const { return count_; }

  void release();

  // The request is over: nothing of the exchange is touched any more.
  void detach();

  // What has been read and not yet taken.
  [[nodiscard]] const char* window() const { return base_; }

  [[nodiscard]] std::size_t window_size() const { return static_cast<std::size_t>(end_ - base_); }

  [[nodiscard]] const char* next() const { return next_; }

  [[nodiscard]] std::size_t available() const { return static_cast<std::size_t>(end_ - next_); }

  void set_available(std::size_t size) { next_ = end_ - size; }

  // Refills an empty window; waits for the peer. False: end of the body, or error() is set.
  bool fill();
  // Fills `into` as far as body and errors allow.
  std::size_t read(std::span<char> into);
  // Steps back over bytes that were just taken; false when they are not those.
  bool step_back(std::span<const char> bytes);
  // False with errno set: not seekable, or outside the body.
  bool seek(std::int64_t offset, int whence);

  [[nodiscard]] std::uint64_t position() const { return end_position_ - available(); }

  // errno of a body that broke off, once everything before the break has been taken; 0 else.
  [[nodiscard]] int error() const { return available() == 0 ? error_ : 0; }

 private:
  Source(Shared& shared, runtime::Exchange& exchange);
  ~Source() = default;
  void forget_window();
  runtime::BodyRead read_exchange(std::span<char> into);
  std::size_t read_from_peer(std::span<char> into);

  Shared& shared_;
  runtime::Exchange* exchange_ = nullptr;
  runtime::BodyInfo info_;
  std::uint32_t count_ = 1;
  const char* base_ = nullptr;
  const char* next_ = nullptr;
  const char* end_ = nullptr;
  std::uint64_t end_position_ = 0;  // of end_ in the body
  std::unique_ptr<char[]>
      buffer_;  // NOLINT(modernize-avoid-c-arrays): raw storage, made when first needed
  int error_ = 0;
};

// A new handle on `source`: a reference to a blessed glob, count one.
SV* make_input(PerlInterpreter* my_perl, Shared& shared, Source& source);

// What a handle that nobody has used looks like, down to the parts that an application might hold, change or replace.
struct InputFingerprint {
  Source* source = nullptr;
  SV* glob = nullptr;
  const void* glob_class = nullptr;
  const void* body = nullptr;  // GP
  SV* scalar = nullptr;        // of the glob
  SV* io = nullptr;
  const void* io_class = nullptr;
  const void* io_magic = nullptr;
  SV* tie_reference = nullptr;
  SV* tie = nullptr;
  const void* tie_magic = nullptr;
  const void* handle = nullptr;          // PerlIO
  const void* layer = nullptr;           // its only one
  std::array<const void*, 6> formats{};  // of the io: names and globs of its formats
  std::array<std::int64_t, 5> counts{};  // of the io: lines, pages, type
  std::uint32_t glob_flags = 0;
  std::size_t glob_own_flags = 0;
  std::uint32_t io_flags = 0;
  std::uint32_t io_own_flags = 0;
  std::uint32_t tie_reference_flags = 0;
  std::uint32_t tie_flags = 0;
  std::uint32_t layer_flags = 0;
};

// Of a reference that make_input has just returned.
InputFingerprint take_fingerprint(PerlInterpreter* my_perl, SV* reference, Source& source);

// Nobody holds a part of the handle, and it is as it was made; the reference to it is the caller's to look at. Runs no code. The
// request has released its source.
[[nodiscard]] bool is_untouched(PerlInterpreter* my_perl, const InputFingerprint& print);

// Defines the Perl side; once, below call_protected.
void boot_input(PerlInterpreter* my_perl, Shared& shared);

}  // namespace bladepsgi::perl
