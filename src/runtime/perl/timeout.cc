#include "runtime/perl/timeout.h"

#include <atomic>

#include "runtime/perl/embedded.h"
#include "runtime/perl/fork_watch.h"

#include "runtime/perl/perl_api.h"

namespace bladepsgi::perl {

namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

// A global, because Perl calls the hook with nothing of ours. The first two are for a signal handler, too.
struct Watch {
  std::atomic<bool> is_open = false;  // the application has a request
  std::atomic<bool> is_due = false;   // it shall be thrown into it
  Shared* shared = nullptr;
  double limit = 0;  // seconds
  despatch_signals_proc_t others = nullptr;
};

Watch watch;

SV* text_or_undef(pTHX_ std::string_view text) {
  return text.data() == nullptr ? newSV(0) : newSVpvn(text.data(), text.size());
}

[[noreturn]] void throw_timeout(pTHX_ Request& request) {
  request.timed_out = true;
  HV* fields = newHV();
  SV* object = sv_2mortal(newRV_noinc(MUTABLE_SV(fields)));
  const auto age = std::chrono::duration<double>(request.shared.host->call_age());
  hv_stores(fields, "limit", newSVnv(watch.limit));
  hv_stores(fields, "elapsed", newSVnv(age.count()));
  hv_stores(fields, "method", text_or_undef(aTHX_ request.method));
  hv_stores(fields, "uri", text_or_undef(aTHX_ request.uri));
  hv_stores(fields, "request_id", text_or_undef(aTHX_ request.id));
  const char* file = CopFILE(PL_curcop);
  hv_stores(fields, "file", newSVpv(file != nullptr ? file : "(unknown)", 0));
  hv_stores(fields, "line", newSVuv(CopLINE(PL_curcop)));
  sv_bless(object, gv_stashpvs("BPSGI::Timeout", GV_ADD));
  croak_sv(object);
}

// Instead of Perl's own, which it calls for the rest.
void on_pending(pTHX) {
  Request* request = watch.shared->request;
  if (watch.is_due.load(kRelaxed) && watch.is_open.load(kRelaxed) && request != nullptr &&
      !is_stray_child()) {
    watch.is_due.store(false, kRelaxed);
    // Signals of the application stay pending, for the next occasion.
    throw_timeout(aTHX_ * request);
  }
  watch.others(aTHX);
  if (watch.is_due.load(kRelaxed)) {
    PL_sig_pending = 1;  // came while they were looked at
  }
}

}  // namespace

void boot_timeout(pTHX_ Shared& shared, std::chrono::milliseconds limit) {
  shared.is_limited = limit > std::chrono::milliseconds::zero();
  if (!shared.is_limited) {
    return;
  }
  watch.limit = std::chrono::duration<double>(limit).count();
  eval_pv(kTimeoutSource, TRUE);
  // `use BPSGI::Timeout` finds this one.
  eval_pv("$INC{'BPSGI/Timeout.pm'} = '(bladepsgi)/BPSGI/Timeout.pm'", TRUE);
}

void watch_timeout(pTHX_ Shared& shared) {
  watch.shared = &shared;
  if (!shared.is_limited || PL_signalhook == on_pending) {
    return;
  }
  watch.others = PL_signalhook;
  PL_signalhook = on_pending;
}

void begin_call(Shared& shared) {
  if (!shared.is_limited) {
    return;
  }
  watch.is_due.store(false, kRelaxed);
  watch.is_open.store(true, kRelaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  shared.host->call_begins();
}

void end_call(Shared& shared) {
  if (!shared.is_limited) {
    return;
  }
  shared.host->call_ends();
  watch.is_open.store(false, kRelaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  watch.is_due.store(false, kRelaxed);
}

void interrupt_call(pTHX) noexcept {
  if (!watch.is_open.load(kRelaxed)) {
    return;
  }
  watch.is_due.store(true, kRelaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  PL_sig_pending = 1;
}

}  // namespace bladepsgi::perl
