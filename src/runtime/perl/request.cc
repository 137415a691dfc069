#include "runtime/perl/request.h"

#include "base/text.h"
#include "runtime/perl/input.h"
#include "runtime/perl/timeout.h"

namespace bladepsgi::perl {

void retain(Link& link) {
  ++link.count;
}

void release(Link& link) {
  if (--link.count == 0) {
    delete &link;
  }
}

Link& link_of(Request& request) {
  if (request.link == nullptr) {
    request.link = new Link{.request = &request, .count = 1};
  }
  return *request.link;
}

namespace {

void leave_exchange(Request& request) {
  Shared& shared = request.shared;
  shared.method.assign(request.method);
  shared.uri.assign(request.uri);
  shared.id.assign(request.id);
  request.method = shared.method;
  request.uri = shared.uri;
  request.id = shared.id;
  if (request.source != nullptr) {
    request.source->detach();
  }
  request.phase = Phase::Finished;
}

}  // namespace

void finish(Request& request) {
  leave_exchange(request);
  const ClientsTurn turn(request.shared);
  request.exchange.finish();
}

void abort(Request& request) {
  leave_exchange(request);
  const ClientsTurn turn(request.shared);
  request.exchange.abort();
}

void leave_raw_connection(Request& request) {
  leave_exchange(request);
  request.exchange.leave_raw_connection();
}

std::string title_of(const Request& request) {
  return printable(request.method.empty() ? "(no method)" : request.method, 32) + ' ' +
         printable(request.uri) + " [" + std::string(request.id) + ']';
}

}  // namespace bladepsgi::perl
