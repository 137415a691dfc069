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

  void retain() { ++count_; }

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
  std::size_t read_from_peer(std::span<char> into);

  Shared& shared_;
  runtime::Exchange* exchange_;
  runtime::BodyInfo info_;
  std::uint32_t count_ = 1;
  const char* base_;
  const char* next_;
  const char* end_;
  std::uint64_t end_position_ = 0;  // of end_ in the body
  std::unique_ptr<char[]>
      buffer_;  // NOLINT(modernize-avoid-c-arrays): raw storage, made when first needed
  int error_ = 0;
};

// A new handle on `source`: a reference to a blessed glob, count one.
SV* make_input(PerlInterpreter* my_perl, Shared& shared, Source& source);

// Defines the Perl side; once, below call_protected.
void boot_input(PerlInterpreter* my_perl, Shared& shared);

}  // namespace bladepsgi::perl
