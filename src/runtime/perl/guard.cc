#include "runtime/perl/guard.h"

#include "runtime/perl/perl_api.h"

namespace bladepsgi::perl {

namespace {

// Where call_protected's trampoline finds its job. A global because the trampoline's CV is shared
// and nested calls each bring their own job: it is read first thing in the call, before anything
// else can run.
struct Job {
  Body body;
  void* data;
  bool finished;
};

Job* next_job = nullptr;
CV* trampoline = nullptr;

void run_job(pTHX_ CV* cv) {
  dXSARGS;
  PERL_UNUSED_VAR(cv);
  PERL_UNUSED_VAR(items);
  Job* job = next_job;
  next_job = nullptr;
  job->body(aTHX_ job->data);
  job->finished = true;
  XSRETURN_EMPTY;
}

// Back to the depths at which the guard was entered. May run destructors, which may call exit
// again: the caller's JMPENV is still in place and brings them back here.
void unwind(pTHX_ I32 scope) {
  while (PL_scopestack_ix > scope) {
    LEAVE;
  }
  FREETMPS;
}

}  // namespace

void prepare_guard(pTHX) {
  trampoline = newXS(nullptr, run_job, __FILE__);
}

Guarded run_guarded(pTHX_ Body body, void* data) noexcept {
  const I32 scope = PL_scopestack_ix;
  const I32 context = cxstack_ix;
  const SSize_t stack_depth = PL_stack_sp - PL_stack_base;
  const SSize_t mark_depth = PL_markstack_ptr - PL_markstack;
  COP* const curcop = PL_curcop;
  OP* const op = PL_op;
  dJMPENV;
  int how = 0;
  JMPENV_PUSH(how);
  if (how == 0) {
    body(aTHX_ data);
  } else {
    PL_curcop = curcop;
    PL_stack_sp = PL_stack_base + stack_depth;
    PL_markstack_ptr = PL_markstack + mark_depth;
    PL_op = op;
    PL_restartop = nullptr;
    PL_restartjmpenv = nullptr;
    if (cxstack_ix > context) {
      dounwind(context);
    }
    unwind(aTHX_ scope);
  }
  JMPENV_POP;
  if (how == 0) {
    return {};
  }
  return {.exited = true, .status = static_cast<int>(STATUS_EXIT)};
}

bool call_protected(pTHX_ Body body, void* data) {
  Job job{.body = body, .data = data, .finished = false};
  dSP;
  ENTER;
  SAVETMPS;
  PUSHMARK(SP);
  PUTBACK;
  next_job = &job;
  call_sv(MUTABLE_SV(trampoline), G_VOID | G_DISCARD | G_EVAL);
  next_job = nullptr;  // if it was never reached
  FREETMPS;
  LEAVE;
  return job.finished;
}

namespace {

// ": {code => 42}", as far as it can be had.
void append_content(pTHX_ SV* exception, std::string& into) {
  CV* dump = get_cv("BPSGI::Server::dump_exception", 0);
  if (dump == nullptr) {
    return;  // Perl itself could not be set up
  }
  call_protected(aTHX_[&] {
    dSP;
    PUSHMARK(SP);
    XPUSHs(exception);
    PUTBACK;
    const SSize_t count = call_sv(MUTABLE_SV(dump), G_SCALAR);
    SPAGAIN;
    if (count > 0 && SvOK(TOPs)) {
      STRLEN length = 0;
      const char* text = SvPV(TOPs, length);
      into.append(": ").append(text, length);
    }
    SP -= count;
    PUTBACK;
  });
}

}  // namespace

void take_error(pTHX_ std::string& into) {
  into.clear();
  SV* error = ERRSV;
  if (SvROK(error)) {
    // A copy: asking the object for its text runs code that sets $@.
    SV* exception = newSVsv(error);
    const bool has_text = SvAMAGIC(exception);
    bool asked = true;
    if (has_text) {
      asked = call_protected(aTHX_[&] {
        STRLEN length = 0;
        const char* text = SvPV(exception, length);
        into.assign(text, length);
      });
    }
    if (!has_text || !asked) {
      const char* type = sv_reftype(SvRV(exception), 1);
      into.assign(sv_isobject(exception) != 0 ? "an object of class " : "a reference to ")
          .append(type);
      if (!asked) {
        into.append(" whose conversion to a string died");
      } else {
        append_content(aTHX_ exception, into);
      }
    }
    SvREFCNT_dec_NN(exception);
  } else {
    STRLEN length = 0;
    const char* text = SvPV(error, length);
    into.assign(text, length);
  }
  CLEAR_ERRSV();
  while (!into.empty() && into.back() == '\n') {
    into.pop_back();
  }
  if (into.empty()) {
    into = "(an empty message)";
  }
}

}  // namespace bladepsgi::perl
