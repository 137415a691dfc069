// Shared: what all parts of the adapter know of the running interpreter; Request: one request in
// progress.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/app.h"
#include "runtime/exchange.h"
#include "runtime/host.h"
#include "runtime/perl/perl_types.h"

namespace bladepsgi::perl {

using runtime::BodyInfo;
using runtime::BodyRead;
using runtime::Exchange;
using runtime::Host;

class Source;
struct Request;

// What handles and objects of a request that may outlive it hold instead of the request: counted,
// emptied at its end.
struct Link {
  Request* request;
  std::uint32_t count;
};

void retain(Link& link);
void release(Link& link);

// One a process, reachable from every XSUB of ours (CvXSUBANY). Never destroyed: a Perl object may
// outlive anything.
struct Shared {
  Host* host = nullptr;
  Request* request = nullptr;  // the one being served
  bool is_limited = false;     // there is a time limit for requests

  HV* input_class = nullptr;
  HV* input_tie_class = nullptr;
  HV* errors_class = nullptr;
  HV* errors_tie_class = nullptr;
  HV* writer_class = nullptr;
  CV* io_getline = nullptr;

  std::unique_ptr<char[]>
      spare_window;  // NOLINT(modernize-avoid-c-arrays): Source's, between requests
  std::vector<runtime::Header> headers;  // scratch of a response, kept for its storage
  std::string error;                     // text of the last exception
  std::string method, uri, id;           // of a request whose exchange has ended, for messages

  // Names of the objects handed out, for messages; nodes stay where they are.
  struct Named {
    runtime::ObjectId id = 0;
    std::string name;
  };

  std::map<runtime::ObjectId, Named> semaphores;
  std::map<runtime::ObjectId, Named> atomics;

  struct Auxiliary {
    std::string name;
    SV* code = nullptr;
  };

  std::vector<Auxiliary> auxiliaries;

  // What the application wants to be called for: code references, counted, in the order in which they came.
  enum class Hook : std::uint8_t { WorkerStart, WorkerExit, RequestEnd };
  std::array<std::vector<SV*>, 3> hooks;

  [[nodiscard]] std::vector<SV*>& hooks_of(Hook hook) {
    return hooks[static_cast<std::size_t>(hook)];
  }
};

enum class Phase : std::uint8_t {
  Nothing,    // no response yet
  Sending,    // start_response has been called, a body is on its way
  Streaming,  // the application has a writer
  Finished,   // finish has been called
};

// Plain data and pointers: frames that a longjmp may leave work on it.
struct Request {
  Shared& shared;
  Exchange& exchange;
  HV* env = nullptr;         // owned
  Source* source = nullptr;  // counted
  Link* link = nullptr;      // counted; made when first needed
  Phase phase = Phase::Nothing;
  bool in_responder = false;    // messages then say where in the application
  bool wrong_response = false;  // what was returned is wrong; nothing died
  bool peer_gone = false;
  bool has_raw_connection = false;  // the application has asked for psgix.io
  bool harakiri = false;
  bool timed_out = false;  // a BPSGI::Timeout was thrown
  std::uint64_t chunks = 0;
  // For messages; in the exchange's memory while it lasts, then in `shared`.
  std::string_view method = {};
  std::string_view uri = {};
  std::string_view id = {};
};

// The link of a request, made on first use; the caller retains it for what it makes.
Link& link_of(Request& request);

// End the exchange: from here on nothing touches its memory, and psgi.input is at its end.
void finish(Request& request);
void abort(Request& request);
// The application answers by itself on the raw connection.
void leave_raw_connection(Request& request);

// "GET /path [id]", for log lines.
[[nodiscard]] std::string title_of(const Request& request);

}  // namespace bladepsgi::perl
