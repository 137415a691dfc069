#include "runtime/perl/application.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/status.h"
#include "base/text.h"
#include "runtime/perl/embedded.h"
#include "runtime/perl/error_stream.h"
#include "runtime/perl/fork_watch.h"
#include "runtime/perl/free_lists.h"
#include "runtime/perl/guard.h"
#include "runtime/perl/input.h"
#include "runtime/perl/interpreter.h"
#include "runtime/perl/magic.h"
#include "runtime/perl/objects.h"
#include "runtime/perl/raw_connection.h"
#include "runtime/perl/response.h"
#include "runtime/perl/stack.h"
#include "runtime/perl/timeout.h"
#include "runtime/perl/values.h"

namespace bladepsgi::perl {

using runtime::Next;

namespace {

// What a call in scalar context has left on the stack; a mortal of the caller's.
SV* pop_value(pTHX_ SSize_t count) {
  dSP;
  SV* value = count > 0 ? POPs : &PL_sv_undef;
  PUTBACK;
  return sv_2mortal(SvREFCNT_inc_simple_NN(value));
}

// One value from a Perl function of ours or of the application; a mortal of the caller's.
SV* call_for_value(pTHX_ SV* code, SV* argument) {
  dSP;
  PUSHMARK(SP);
  if (argument != nullptr) {
    XPUSHs(argument);
  }
  PUTBACK;
  return pop_value(aTHX_ call_sv(code, G_SCALAR));
}

SV* own_function(pTHX_ const char* name) {
  return MUTABLE_SV(get_cv(name, 0));
}

SV* text_of(pTHX_ std::string_view text) {
  return newSVpvn_flags(text.data(), text.size(), SVs_TEMP);
}

// A mortal reference to an array of them.
SV* list_of(pTHX_ const std::vector<std::string>& texts) {
  AV* list = newAV();
  SV* reference = sv_2mortal(newRV_noinc(MUTABLE_SV(list)));
  for (const std::string& text : texts)
    av_push(list, newSVpvn(text.data(), text.size()));
  return reference;
}

// PSGI keys are the server's; the loader may set extensions only.
void check_loader_keys(pTHX_ HV* hash) {
  hv_iterinit(hash);
  while (HE* entry = hv_iternext(hash)) {
    SV* key = hv_iterkeysv(entry);
    if (view(aTHX_ key).starts_with("psgi.")) {
      croak("its code returned a hash with the key '%" SVf
            "'; keys that begin with 'psgi.' are the server's\n",
            SVfARG(key));
    }
  }
}

// A complete 500, or another status, if the client has seen nothing yet; else the response is ended as what it is,
// incomplete.
void give_up(Request& request, int status = 500) {
  if (request.phase == Phase::Finished) {
    return;
  }
  runtime::Exchange& exchange = request.exchange;
  if (request.has_raw_connection && request.phase == Phase::Nothing) {
    leave_raw_connection(request);  // what it has said there does not go on with a page of ours
    return;
  }
  if (exchange.is_committed()) {
    abort(request);
    return;
  }
  if (request.phase != Phase::Nothing) {
    exchange.discard_response();
  }
  const CannedResponse& response = canned_response(status);
  const std::string length = std::to_string(response.body.size());
  const std::array<runtime::Header, 2> headers{
      {{.name = "Content-Type", .value = response.content_type},
       {.name = "Content-Length", .value = length}}};
  exchange.start_response(response.status, headers);
  exchange.write(as_bytes(response.body));
  finish(request);
}

}  // namespace

Result<Application*> Application::start() {
  if (auto fits = check_version(built_version(), found_version()); !fits) {
    return fail(fits.error());
  }
  auto started = start_interpreter();
  if (!started) {
    return fail(started.error());
  }
  watch_forks();
  auto* application = new Application(*started);  // outlives everything: Perl points to it
  if (auto booted = application->boot(); !booted) {
    return fail(booted.error());
  }
  return application;
}

Result<void> Application::boot() {
  PerlInterpreter* my_perl = perl_;
  bool booted = false;
  const Guarded guarded = run_guarded(aTHX_[&] {
    prepare_guard(aTHX);
    booted = call_protected(aTHX_[&] {
      boot_input(aTHX_ shared_);
      boot_errors(aTHX_ shared_);
      boot_response(aTHX_ shared_);
      boot_raw_connection(aTHX_ shared_);
      boot_objects(aTHX_ shared_);
      eval_pv(kLoadSource, TRUE);
      context_ = make_context(aTHX_ shared_);
    });
    if (!booted) {
      take_error(aTHX_ shared_.error);
    }
  });
  if (guarded.exited || !booted) {
    return fail(Remedy::GiveUp, "cannot start Perl: " + shared_.error);
  }
  return {};
}

void Application::set_application(CV* code) {
  PerlInterpreter* my_perl = perl_;
  SvREFCNT_dec(code_);
  code_ = newRV_inc(MUTABLE_SV(code));
  origin_.clear();
  if (SV* where = where_defined(aTHX_ code)) {
    origin_.append(" (the application is the sub at ").append(view(aTHX_ where)).append(")");
  }
}

void Application::prepare(const runtime::LoadOptions& options) {
  PerlInterpreter* my_perl = perl_;
  dSP;
  PUSHMARK(SP);
  EXTEND(SP, 3);
  PUSHs(text_of(aTHX_ options.environment_name));
  PUSHs(list_of(aTHX_ options.include_directories));
  PUSHs(list_of(aTHX_ options.modules));
  PUTBACK;
  call_sv(own_function(aTHX_ "BPSGI::Server::prepare"), G_VOID | G_DISCARD);
}

void Application::load_code(const runtime::LoadOptions& options) {
  PerlInterpreter* my_perl = perl_;
  dSP;
  PUSHMARK(SP);
  EXTEND(SP, 3);
  PUSHs(text_of(aTHX_ options.application_code));
  PUSHs(text_of(aTHX_ options.application_path));
  PUSHs(list_of(aTHX_ options.modules));
  PUTBACK;
  take_application(
      pop_value(aTHX_ call_sv(own_function(aTHX_ "BPSGI::Server::load_code"), G_SCALAR)));
}

void Application::load_file(const std::string& path) {
  PerlInterpreter* my_perl = perl_;
  take_application(
      call_for_value(aTHX_ own_function(aTHX_ "BPSGI::Server::load_file"), text_of(aTHX_ path)));
}

void Application::take_application(SV* value) {
  PerlInterpreter* my_perl = perl_;
  CV* code = code_of(aTHX_ value);  // asks an object with &{} once, not once a request
  if (code == nullptr) {
    croak("it returned %" SVf ", must be a code reference\n", SVfARG(describe(aTHX_ value)));
  }
  set_application(code);
}

void Application::load_through(const std::string& loader) {
  PerlInterpreter* my_perl = perl_;
  SV* factory =
      call_for_value(aTHX_ own_function(aTHX_ "BPSGI::Server::load_loader"), text_of(aTHX_ loader));
  if (!SvROK(factory) || SvTYPE(SvRV(factory)) != SVt_PVCV) {
    croak("the last value of its file is %" SVf ", must be a code reference\n",
          SVfARG(describe(aTHX_ factory)));
  }
  dSP;
  PUSHMARK(SP);
  XPUSHs(context_);
  PUTBACK;
  const SSize_t count = call_sv(factory, G_LIST);
  SPAGAIN;
  SP -= count;
  SV* hash = count > 0 ? sv_2mortal(SvREFCNT_inc_simple_NN(SP[1])) : nullptr;
  SV* second = count > 1 ? sv_2mortal(SvREFCNT_inc_simple_NN(SP[2])) : nullptr;
  PUTBACK;
  if (hash == nullptr || !SvROK(hash) || SvTYPE(SvRV(hash)) != SVt_PVHV) {
    croak("its code returned %" SVf " as first of %" IVdf
          " values, must return a hash reference and a code reference\n",
          SVfARG(describe(aTHX_ hash)), static_cast<IV>(count));
  }
  CV* code = second == nullptr ? nullptr : code_of(aTHX_ second);
  if (code == nullptr) {
    croak("its code returned %" SVf " as second of %" IVdf
          " values, must return a hash reference and a code reference\n",
          SVfARG(describe(aTHX_ second)), static_cast<IV>(count));
  }
  check_loader_keys(aTHX_ MUTABLE_HV(SvRV(hash)));
  loader_env_ = MUTABLE_HV(SvREFCNT_inc_simple_NN(SvRV(hash)));
  set_application(code);
}

Result<void> Application::load(runtime::Host& host, const runtime::LoadOptions& options) {
  PerlInterpreter* my_perl = perl_;
  shared_.host = &host;
  shared_.auxiliaries.clear();
  for (auto& hooks : shared_.hooks) {
    hooks.clear();
  }
  bool loaded = false;
  const Guarded guarded = run_guarded(aTHX_[&] {
    loaded = call_protected(aTHX_[&] {
      SvREFCNT_dec(MUTABLE_SV(loader_env_));
      loader_env_ = nullptr;
      env_.prepare(aTHX_ shared_, options.error_stream);
      boot_timeout(aTHX_ shared_, options.request_timeout);
      prepare(options);
      if (!options.application_code.empty()) {
        load_code(options);
      } else if (options.loader.empty()) {
        load_file(options.application_path);
      } else {
        load_through(options.loader);
      }
    });
    if (!loaded) {
      take_error(aTHX_ shared_.error);
    }
  });
  if (is_stray_child()) {
    end_stray_child(guarded.exited, guarded.status);
  }
  if (loaded && !guarded.exited) {
    order_free_lists(aTHX);
    return {};
  }
  before_fork();  // what it printed before it failed may say why
  std::string message;
  if (guarded.exited) {
    message = "it called exit(" + std::to_string(guarded.status) + ") while it was loaded";
  } else {
    message = shared_.error;
  }
  if (!message.starts_with("cannot load ")) {
    if (!options.application_code.empty()) {
      message.insert(0, "cannot load the application of -e: ");
    } else {
      message.insert(0, options.loader.empty()
                            ? "cannot load application '" + options.application_path + "': "
                            : "cannot load loader '" + options.loader + "': ");
    }
  }
  return fail(Remedy::GiveUp, std::move(message));
}

void Application::before_fork() noexcept {
  PerlInterpreter* my_perl = perl_;
  run_guarded(aTHX_[&] {
    call_protected(aTHX_[&] { PERL_FLUSHALL_FOR_CHILD; });  // a layer may be written in Perl
  });
}

void Application::enter_child(runtime::ChildRole role, runtime::Host& host) noexcept {
  PerlInterpreter* my_perl = perl_;
  if (role == runtime::ChildRole::Worker) {
    watch_timeout(aTHX_ shared_);
  }
  shared_.host = &host;
  adopt_process();
  PL_srand_called = FALSE;  // the next rand draws a seed of its own
  if (IO* out = GvIO(gv_fetchpvs("STDOUT", GV_ADD | GV_NOTQUAL, SVt_PVIO))) {
    IoFLAGS(out) |= IOf_FLUSH;  // it goes to the log, line by line
  }
}

void Application::respond(Request& request) {
  PerlInterpreter* my_perl = perl_;
  env_.build(aTHX_ request, loader_env_);
  SV* env = sv_2mortal(newRV_inc(MUTABLE_SV(request.env)));
  begin_call(shared_);
  SV* response = call_for_value(aTHX_ code_, env);
  refuse_stray_child(aTHX);
  send_response(aTHX_ request, response);
}

void Application::clean_up(Request& request) {
  PerlInterpreter* my_perl = perl_;
  SV* env = sv_2mortal(newRV_inc(MUTABLE_SV(request.env)));
  if (SV** entry = hv_fetchs(request.env, "psgix.cleanup.handlers", 0)) {
    SV* list = sv_mortalcopy(*entry);
    if (SvROK(list) && SvTYPE(SvRV(list)) == SVt_PVAV) {
      AV* handlers = MUTABLE_AV(SvRV(list));
      if (av_top_index(handlers) >= 0) {
        request.exchange.release_connection();
      }
      for (SSize_t index = 0; index <= av_top_index(handlers);
           ++index) {  // a handler may add another
        SV** handler = av_fetch(handlers, index, 0);
        if (handler == nullptr) {
          continue;
        }
        SV* code = sv_mortalcopy(*handler);
        const bool done = call_protected(aTHX_[&] {
          dSP;
          PUSHMARK(SP);
          XPUSHs(env);
          PUTBACK;
          call_sv(code, G_VOID | G_DISCARD);
        });
        if (!done) {
          take_error(aTHX_ shared_.error);
          shared_.host->log(Severity::Error,
                            title_of(request) + ": a cleanup handler died: " + shared_.error);
        }
      }
    } else if (SvOK(list)) {
      SV* what = describe(aTHX_ list);  // before there is a C++ string to jump over
      shared_.host->log(Severity::Error, title_of(request) + ": psgix.cleanup.handlers is " +
                                             std::string(view(aTHX_ what)) +
                                             ", must be an array reference");
    }
  }
  std::vector<SV*>& hooks = shared_.hooks_of(Shared::Hook::RequestEnd);
  for (std::size_t index = 0; index < hooks.size(); ++index) {  // one may add another
    SV* code = sv_mortalcopy(hooks[index]);
    const bool done = call_protected(aTHX_[&] {
      dSP;
      PUSHMARK(SP);
      EXTEND(SP, 2);
      PUSHs(context_);
      PUSHs(env);
      PUTBACK;
      call_sv(code, G_VOID | G_DISCARD);
    });
    if (!done) {
      take_error(aTHX_ shared_.error);
      shared_.host->log(Severity::Error,
                        title_of(request) + ": a hook of on_request_end died: " + shared_.error);
    }
  }
  if (SV** commit = hv_fetchs(request.env, "psgix.harakiri.commit", 0)) {
    request.harakiri = SvTRUE(*commit);
  }
}

// Calls a hook that belongs to no request.
bool Application::call_hook(SV* code, const char* name) {
  PerlInterpreter* my_perl = perl_;
  bool done = false;
  const Guarded guarded = run_guarded(aTHX_[&] {
    done = call_protected(aTHX_[&] {
      dSP;
      PUSHMARK(SP);
      XPUSHs(context_);
      PUTBACK;
      call_sv(code, G_VOID | G_DISCARD);
    });
    if (!done) {
      take_error(aTHX_ shared_.error);
    }
  });
  if (is_stray_child()) {
    end_stray_child(guarded.exited, guarded.status);
  }
  const std::string hook = std::string("a hook of ") + name;
  if (guarded.exited) {
    shared_.host->log(Severity::Error,
                      hook + " called exit(" + std::to_string(guarded.status) + ")");
  } else if (!done) {
    shared_.host->log(Severity::Error, hook + " died: " + shared_.error);
  }
  return done && !guarded.exited;
}

bool Application::start_worker() noexcept {
  const std::vector<SV*>& hooks = shared_.hooks_of(Shared::Hook::WorkerStart);
  return std::all_of(hooks.begin(), hooks.end(),
                     [this](SV* code) { return call_hook(code, "on_worker_start"); });
}

runtime::Served Application::serve(runtime::Exchange& exchange) noexcept {
  PerlInterpreter* my_perl = perl_;
  Request request{.shared = shared_, .exchange = exchange, .id = exchange.request_id()};
  shared_.request = &request;
  runtime::Served served;

  bool answered = false;
  Guarded guarded = run_guarded(aTHX_[&] {
    answered = call_protected(aTHX_[&] { respond(request); });
    end_call(shared_);
    if (!answered) {
      take_error(aTHX_ shared_.error);
    }
  });
  if (is_stray_child()) {
    end_stray_child(guarded.exited, guarded.status);
  }
  end_call(shared_);  // after an exit, too
  served.timed_out = request.timed_out;
  if (guarded.exited) {
    const bool complete = request.phase == Phase::Finished;
    shared_.host->log(complete ? Severity::Log : Severity::Error,
                      title_of(request) + ": the application called exit(" +
                          std::to_string(guarded.status) + ")" +
                          (complete                          ? " after its response"
                           : request.exchange.is_committed() ? " in the middle of its response"
                                                             : " instead of answering"));
    served.next = Next::LeaveExit;
    served.failed = !complete;
    give_up(request);
  } else if (!answered) {
    std::string message = title_of(request) + ": ";
    if (!request.wrong_response) {
      message += request.phase == Phase::Finished ? "the application died after its response: "
                                                  : "the application died: ";
    }
    message += shared_.error;
    if (request.wrong_response) {
      message += origin_;
    }
    shared_.host->log(Severity::Error, message);
    served.failed = true;
    // Whatever it made of that: this is why there is no other answer.
    give_up(request, request.timed_out ? 504 : 500);
  }

  if (!guarded.exited && request.env != nullptr &&
      (!shared_.hooks_of(Shared::Hook::RequestEnd).empty() ||
       !env_.asks_for_nothing(aTHX_ request))) {
    bool cleaned = false;
    shared_.host->cleanup_begins();
    guarded = run_guarded(aTHX_[&] {
      cleaned = call_protected(aTHX_[&] { clean_up(request); });
      if (!cleaned) {
        take_error(aTHX_ shared_.error);
      }
    });
    if (is_stray_child()) {
      end_stray_child(guarded.exited, guarded.status);
    }
    if (guarded.exited) {
      shared_.host->log(Severity::Log, title_of(request) + ": a cleanup handler called exit(" +
                                           std::to_string(guarded.status) + ")");
      served.next = Next::LeaveExit;
    } else if (!cleaned) {
      shared_.host->log(Severity::Error,
                        title_of(request) + ": cleaning up died: " + shared_.error);
    }
    if (!guarded.exited && request.harakiri) {
      served.next = Next::LeaveHarakiri;
    }
  }

  guarded = run_guarded(aTHX_[&] {
    FREETMPS;  // among them the application's own references to its env
    env_.release(aTHX_ request);
  });
  if (is_stray_child()) {
    end_stray_child(guarded.exited, guarded.status);
  }
  if (guarded.exited) {
    shared_.host->log(Severity::Log, title_of(request) + ": a destructor called exit(" +
                                         std::to_string(guarded.status) + ")");
    served.next = Next::LeaveExit;
  }
  if (request.source != nullptr) {
    request.source->release();
  }
  if (request.link != nullptr) {
    request.link->request = nullptr;
    release(*request.link);
  }
  shared_.request = nullptr;
  return served;
}

void Application::end_stray_child(bool exited, int status) {
  PerlInterpreter* my_perl = perl_;
  if (!exited) {
    shared_.host->log(Severity::Error,
                      "process " + std::to_string(::getpid()) +
                          ", which the application forked, did not end by exit: " + shared_.error);
    status = 255;
  }
  PL_statusvalue = status;
  leave();
  ::_exit(static_cast<int>(STATUS_EXIT));  // an END block may have changed it
}

void Application::interrupt() noexcept {
  interrupt_call(perl_);
}

std::size_t Application::write_stack(std::span<char> into) noexcept {
  return perl::write_stack(perl_, into);
}

int Application::run_auxiliary(std::uint32_t index) noexcept {
  PerlInterpreter* my_perl = perl_;
  runtime::Host& host = *shared_.host;
  if (index >= shared_.auxiliaries.size() || shared_.auxiliaries[index].code == nullptr) {
    host.log(Severity::Error, "there is no auxiliary process " + std::to_string(index));
    return 1;
  }
  SV* code = shared_.auxiliaries[index].code;
  const std::string title =
      "auxiliary process '" + printable(shared_.auxiliaries[index].name) + "' ";
  bool returned = false;
  const Guarded guarded = run_guarded(aTHX_[&] {
    returned = call_protected(aTHX_[&] {
      dSP;
      PUSHMARK(SP);
      XPUSHs(context_);
      PUTBACK;
      call_sv(code, G_VOID | G_DISCARD);
    });
    if (!returned) {
      take_error(aTHX_ shared_.error);
    }
  });
  if (is_stray_child()) {
    end_stray_child(guarded.exited, guarded.status);
  }
  if (guarded.exited) {
    host.log(Severity::Error, title + "called exit(" + std::to_string(guarded.status) + ")");
    return guarded.status != 0 ? guarded.status : 1;
  }
  host.log(Severity::Error, returned ? title + "returned; it should run until it is told to stop"
                                     : title + "died: " + shared_.error);
  return 1;
}

void Application::leave() noexcept {
  PerlInterpreter* my_perl = perl_;
  if (shared_.host->role() == runtime::ChildRole::Worker && !is_stray_child()) {
    // What was made last may need what was made first. None keeps the others from running.
    std::vector<SV*>& hooks = shared_.hooks_of(Shared::Hook::WorkerExit);
    while (!hooks.empty()) {
      SV* code = hooks.back();
      hooks.pop_back();
      call_hook(code, "on_worker_exit");
    }
  }
  PERL_SET_PHASE(PERL_PHASE_END);
  // As perl_destruct does: an END block that dies or calls exit does not keep the others from
  // running.
  while (PL_endav != nullptr && av_top_index(PL_endav) >= 0) {
    run_guarded(aTHX_[&] { call_list(PL_scopestack_ix, PL_endav); });
  }
  before_fork();  // flushes everything
}

std::vector<std::string> Application::unsafe_handles() noexcept {
  PerlInterpreter* my_perl = perl_;
  std::vector<std::string> found;
  run_guarded(aTHX_[&] {
    const bool done = call_protected(aTHX_[&] {
      dSP;
      PUSHMARK(SP);
      PUTBACK;
      const SSize_t count = call_sv(own_function(aTHX_ "BPSGI::Server::database_handles"), G_LIST);
      SPAGAIN;
      for (SSize_t index = count; index > 0; --index) {
        found.emplace_back(view(aTHX_ SP[1 - index]));
      }
      SP -= count;
      PUTBACK;
    });
    if (!done) {
      take_error(aTHX_ shared_.error);
    }
  });
  return found;
}

}  // namespace bladepsgi::perl
