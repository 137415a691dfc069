#include "runtime/perl/raw_connection.h"

#include <sys/socket.h>

#include <cerrno>

#include "runtime/perl/embedded.h"
#include "runtime/perl/magic.h"
#include "runtime/perl/request.h"
#include "runtime/perl/timeout.h"

namespace bladepsgi::perl {

namespace {

// In MAGIC::mg_private of an env's value.
constexpr U16 kUntouched = 0;
constexpr U16 kTouched = 1;

const MGVTBL kConnectionMagic = counted_table<Link>();

// A BPSGI::Connection, still closed. A mortal; null when that failed, and Perl has warned.
SV* make_handle(pTHX_ Link& link) {
  SV* handle = nullptr;
  dSP;
  ENTER;  // or the call's own notes would be undone at the end of the application's block
  PUSHSTACKi(PERLSI_MAGIC);
  PUSHMARK(SP);
  PUTBACK;
  if (call_sv(MUTABLE_SV(get_cv("BPSGI::Connection::make", 0)), G_SCALAR | G_EVAL | G_KEEPERR) >
      0) {
    SPAGAIN;
    handle = POPs;
    PUTBACK;
  }
  POPSTACK;
  LEAVE;
  if (handle == nullptr || !SvROK(handle)) {
    return nullptr;
  }
  retain(link);
  attach(aTHX_ SvRV(handle), kConnectionMagic, &link);
  return handle;
}

int get(pTHX_ SV* value, MAGIC* magic) {
  if (magic->mg_private != kUntouched) {
    return 0;
  }
  magic->mg_private = kTouched;
  Link& link = *reinterpret_cast<Link*>(magic->mg_ptr);
  if (link.request == nullptr || link.request->phase == Phase::Finished) {
    return 0;
  }
  if (SV* handle = make_handle(aTHX_ link)) {
    sv_setsv(value, handle);
  }
  return 0;
}

int set(pTHX_ SV* value, MAGIC* magic) {
  PERL_UNUSED_VAR(value);
  if (PL_localizing == 0) {
    magic->mg_private = kTouched;  // what the application puts here is what it finds here
  }
  return 0;
}

// The value that takes this one's place under `local` is an ordinary one.
int localize(pTHX_ SV* value, MAGIC* magic) {
  PERL_UNUSED_CONTEXT;
  PERL_UNUSED_VAR(value);
  PERL_UNUSED_VAR(magic);
  return 0;
}

const MGVTBL kRawMagic = {.svt_get = get,
                          .svt_set = set,
                          .svt_len = nullptr,
                          .svt_clear = nullptr,
                          .svt_free = free_counted<Link>,
                          .svt_copy = nullptr,
                          .svt_dup = dup_counted<Link>,
                          .svt_local = localize};

// BPSGI::Connection::descriptor($handle): (descriptor, class) for the caller to open it on; empty with $! when the request has
// ended.
void xs_descriptor(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 1) {
    croak_xs_usage(cv, "handle");
  }
  const Link* link = attached<Link>(aTHX_ ST(0), kConnectionMagic);
  SP -= items;
  errno = EBADF;
  if (link == nullptr || link->request == nullptr || link->request->phase == Phase::Finished) {
    PUTBACK;
    return;
  }
  const int fd = link->request->exchange.open_raw_connection();
  if (fd < 0) {
    PUTBACK;
    return;
  }
  link->request->has_raw_connection = true;
  end_call(link->request->shared);  // from now on it may take as long as the two of them like
  int domain = AF_UNIX;
  socklen_t size = sizeof domain;
  ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
  EXTEND(SP, 2);
  mPUSHi(fd);
  mPUSHs(newSVpv(domain == AF_UNIX ? "IO::Socket::UNIX" : "IO::Socket::IP", 0));
  PUTBACK;
}

}  // namespace

void boot_raw_connection(pTHX_ Shared& shared) {
  eval_pv(kConnectionSource, TRUE);
  define(aTHX_ shared, "BPSGI::Connection::descriptor", xs_descriptor);
}

SV* make_raw_connection(pTHX_ Request& request) {
  SV* value = newSV_type(SVt_PVMG);
  Link& link = link_of(request);
  retain(link);
  attach(aTHX_ value, kRawMagic, &link);
  SvMAGIC(value)->mg_flags |= MGf_LOCAL;
  return value;
}

}  // namespace bladepsgi::perl
