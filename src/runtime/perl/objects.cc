#include "runtime/perl/objects.h"

#include <string>
#include <string_view>

#include "runtime/perl/embedded.h"
#include "runtime/perl/magic.h"
#include "runtime/perl/request.h"
#include "runtime/perl/values.h"

namespace bladepsgi::perl {

namespace {

// What an object carries: nodes in Shared, which live for ever, so nothing is counted.
const MGVTBL kContextMagic = {nullptr, nullptr, nullptr, nullptr,
                              nullptr, nullptr, nullptr, nullptr};
const MGVTBL kSemaphoreMagic = {nullptr, nullptr, nullptr, nullptr,
                                nullptr, nullptr, nullptr, nullptr};
const MGVTBL kAtomicMagic = {nullptr, nullptr, nullptr, nullptr,
                             nullptr, nullptr, nullptr, nullptr};

SV* make_object(pTHX_ const char* type, const MGVTBL& table, void* node, std::string_view name) {
  SV* body = newSVpvn(name.data(), name.size());
  SV* reference = sv_bless(newRV_noinc(body), gv_stashpv(type, GV_ADD));
  attach(aTHX_ body, table, node);
  SvREADONLY_on(body);
  return reference;
}

template <class T>
T& self(pTHX_ SV* value, const MGVTBL& table, const char* type) {
  T* found = attached<T>(aTHX_ value, table);
  if (found == nullptr) {
    croak("not a %s object: %" SVf, type, SVfARG(describe(aTHX_ value)));
  }
  return *found;
}

// The name of an object as the bytes it goes by: text with characters above 255 is UTF-8.
SV* read_name(pTHX_ SV* value, const char* what) {
  SvGETMAGIC(value);
  if (!SvOK(value) || (SvROK(value) && !SvAMAGIC(value))) {
    croak("cannot create %s: its name is %" SVf, what, SVfARG(describe(aTHX_ value)));
  }
  WideCharacter wide;
  SV* name = as_byte_string(aTHX_ value, &wide);
  if (name == nullptr) {
    name = sv_2mortal(newSVsv(value));
    sv_utf8_encode(name);
  }
  const std::string_view text = view(aTHX_ name);
  const char* fault = nullptr;
  if (text.empty()) {
    fault = "the name is empty";
  } else if (text.size() > 255) {
    fault = "the name is longer than 255 bytes";
  } else if (text.find('\n') != std::string_view::npos) {
    fault = "the name has a newline";
  } else if (text.find('\0') != std::string_view::npos) {
    fault = "the name has a NUL";
  }
  if (fault != nullptr) {
    croak("cannot create %s %" SVf ": %s", what, SVfARG(describe(aTHX_ name)), fault);
  }
  return name;
}

std::int64_t read_value(pTHX_ SV* value, const char* action, const char* name, const char* role) {
  std::int64_t number = 0;
  switch (read_integer(aTHX_ value, &number)) {
    case Integer::Ok:
      return number;
    case Integer::NotInteger:
      croak("%s '%s': %s is %" SVf ", not a whole number", action, name, role,
            SVfARG(describe(aTHX_ value)));
    case Integer::OutOfRange:
      croak("%s '%s': %s %" SVf " does not fit 64 bits signed", action, name, role,
            SVfARG(describe(aTHX_ value)));
  }
  return 0;
}

// The host's reason, with the object's name if the host did not say it. A mortal, to croak with
// when all that owns something has gone.
SV* reason(pTHX_ const char* action, std::string_view name, std::string_view message) {
  if (message.find(name) != std::string_view::npos) {
    return newSVpvn_flags(message.data(), message.size(), SVs_TEMP);
  }
  SV* text = sv_2mortal(newSVpvf("%s '", action));
  sv_catpvn(text, name.data(), name.size());
  sv_catpvs(text, "': ");
  sv_catpvn(text, message.data(), message.size());
  return text;
}

// All objects of one id share a node, which stays where it is.
Shared::Named* remember(std::map<runtime::ObjectId, Shared::Named>& known,
                        runtime::ObjectId id,
                        std::string_view name) {
  Shared::Named& node = known[id];
  node.id = id;
  node.name = name;
  return &node;
}

runtime::OnDeath read_on_death(pTHX_ SV* options, const char* name) {
  if (!SvROK(options) || SvTYPE(SvRV(options)) != SVt_PVHV) {
    croak("cannot create semaphore '%s': the options are %" SVf ", not a hash reference", name,
          SVfARG(describe(aTHX_ options)));
  }
  HV* hash = MUTABLE_HV(SvRV(options));
  auto found = runtime::OnDeath::Default;
  hv_iterinit(hash);
  while (HE* entry = hv_iternext(hash)) {
    SV* key = hv_iterkeysv(entry);
    if (view(aTHX_ key) != "on_death") {
      croak("cannot create semaphore '%s': unknown option %" SVf, name,
            SVfARG(describe(aTHX_ key)));
    }
    SV* value = sv_mortalcopy(hv_iterval(hash, entry));
    const std::string_view text = SvOK(value) ? view(aTHX_ value) : std::string_view{};
    if (text == "return") {
      found = runtime::OnDeath::Return;
    } else if (text == "keep") {
      found = runtime::OnDeath::Keep;
    } else {
      croak("cannot create semaphore '%s': on_death is %" SVf ", must be 'return' or 'keep'", name,
            SVfARG(describe(aTHX_ value)));
    }
  }
  return found;
}

// $context->new_semaphore($name, $initial, { on_death => 'return' | 'keep' })
void xs_new_semaphore(pTHX_ CV* cv) {
  dXSARGS;
  if (items < 3 || items > 4) {
    croak_xs_usage(cv, "context, name, initial, [options]");
  }
  Shared& shared = self<Shared>(aTHX_ ST(0), kContextMagic, "BPSGI::Context");
  SV* name = read_name(aTHX_ ST(1), "semaphore");
  const char* c_name = SvPV_nolen(name);
  const std::int64_t initial =
      read_value(aTHX_ ST(2), "cannot create semaphore", c_name, "its initial value");
  if (initial < 0 || initial > INT32_MAX) {
    croak("cannot create semaphore '%s': its initial value %" IVdf
          " is not between 0 and 2147483647",
          c_name, static_cast<IV>(initial));
  }
  const auto on_death =
      items == 4 && SvOK(ST(3)) ? read_on_death(aTHX_ ST(3), c_name) : runtime::OnDeath::Default;
  Shared::Named* node = nullptr;
  SV* failure = nullptr;
  {
    const std::string_view text = view(aTHX_ name);
    const auto made = shared.host->new_semaphore(text, initial, on_death);
    if (made) {
      node = remember(shared.semaphores, *made, text);
    } else {
      failure = reason(aTHX_ "cannot create semaphore", text, made.error().message);
    }
  }
  if (failure != nullptr) {
    croak_sv(failure);
  }
  ST(0) = sv_2mortal(make_object(aTHX_ "BPSGI::Semaphore", kSemaphoreMagic, node, node->name));
  XSRETURN(1);
}

// $context->new_atomic_int64($name, $initial)
void xs_new_atomic(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 3) {
    croak_xs_usage(cv, "context, name, initial");
  }
  Shared& shared = self<Shared>(aTHX_ ST(0), kContextMagic, "BPSGI::Context");
  SV* name = read_name(aTHX_ ST(1), "atomic");
  const std::int64_t initial =
      read_value(aTHX_ ST(2), "cannot create atomic", SvPV_nolen(name), "its initial value");
  Shared::Named* node = nullptr;
  SV* failure = nullptr;
  {
    const std::string_view text = view(aTHX_ name);
    const auto made = shared.host->new_atomic(text, initial);
    if (made) {
      node = remember(shared.atomics, *made, text);
    } else {
      failure = reason(aTHX_ "cannot create atomic", text, made.error().message);
    }
  }
  if (failure != nullptr) {
    croak_sv(failure);
  }
  ST(0) = sv_2mortal(make_object(aTHX_ "BPSGI::AtomicInt64", kAtomicMagic, node, node->name));
  XSRETURN(1);
}

// $context->request_auxiliary_process($name, $code)
void xs_request_auxiliary(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 3) {
    croak_xs_usage(cv, "context, name, code");
  }
  Shared& shared = self<Shared>(aTHX_ ST(0), kContextMagic, "BPSGI::Context");
  SV* name = read_name(aTHX_ ST(1), "auxiliary process");
  CV* code = code_of(aTHX_ ST(2));
  if (code == nullptr) {
    croak("cannot create auxiliary process '%s': its code is %" SVf ", not a code reference",
          SvPV_nolen(name), SVfARG(describe(aTHX_ ST(2))));
  }
  SV* failure = nullptr;
  {
    const std::string_view text = view(aTHX_ name);
    const auto index = shared.host->request_auxiliary(text);
    if (index) {
      if (shared.auxiliaries.size() <= *index) {
        shared.auxiliaries.resize(*index + 1);
      }
      shared.auxiliaries[*index] = {.name = std::string(text), .code = newRV_inc(MUTABLE_SV(code))};
    } else {
      failure = reason(aTHX_ "cannot create auxiliary process", text, index.error().message);
    }
  }
  if (failure != nullptr) {
    croak_sv(failure);
  }
  XSRETURN_YES;
}

void add_hook(pTHX_ Shared& shared, Shared::Hook hook, const char* name, SV* value) {
  CV* code = code_of(aTHX_ value);
  if (code == nullptr) {
    croak("%s: its code is %" SVf ", not a code reference", name, SVfARG(describe(aTHX_ value)));
  }
  // Until it has become something, a process loads.
  if (hook == Shared::Hook::WorkerStart && shared.host->role() != runtime::ChildRole::Zygote) {
    croak("%s: only while the application loads", name);
  }
  shared.hooks_of(hook).push_back(newRV_inc(MUTABLE_SV(code)));
}

// $context->on_worker_start($code), and as a function of package BPSGI on_worker_start($code).
template <Shared::Hook Which>
void xs_hook(pTHX_ CV* cv) {
  dXSARGS;
  constexpr const char* kName = Which == Shared::Hook::WorkerStart  ? "on_worker_start"
                                : Which == Shared::Hook::WorkerExit ? "on_worker_exit"
                                                                    : "on_request_end";
  const bool is_method = items == 2;
  if (items < 1 || items > 2) {
    croak_xs_usage(cv, "[context], code");
  }
  Shared& shared =
      is_method ? self<Shared>(aTHX_ ST(0), kContextMagic, "BPSGI::Context") : shared_of(cv);
  add_hook(aTHX_ shared, Which, kName, ST(items - 1));
  XSRETURN_YES;
}

// $context->set_worker_status($octet)
void xs_set_worker_status(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 2) {
    croak_xs_usage(cv, "context, octet");
  }
  Shared& shared = self<Shared>(aTHX_ ST(0), kContextMagic, "BPSGI::Context");
  SvGETMAGIC(ST(1));
  WideCharacter wide;
  SV* octets = SvOK(ST(1)) ? as_byte_string(aTHX_ ST(1), &wide) : nullptr;
  if (octets == nullptr || view(aTHX_ octets).empty()) {
    croak("cannot set worker status: %" SVf " has no octet", SVfARG(describe(aTHX_ ST(1))));
  }
  if (!shared.host->set_worker_status(view(aTHX_ octets).front())) {
    croak("cannot set worker status: this is not a worker process");
  }
  XSRETURN_YES;
}

void xs_application_path(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 1) {
    croak_xs_usage(cv, "context");
  }
  const std::string_view path =
      self<Shared>(aTHX_ ST(0), kContextMagic, "BPSGI::Context").host->application_path();
  ST(0) = newSVpvn_flags(path.data(), path.size(), SVs_TEMP);
  XSRETURN(1);
}

void xs_application_loader(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 1) {
    croak_xs_usage(cv, "context");
  }
  const auto loader = self<Shared>(aTHX_ ST(0), kContextMagic, "BPSGI::Context").host->loader();
  ST(0) = loader ? newSVpvn_flags(loader->data(), loader->size(), SVs_TEMP) : &PL_sv_undef;
  XSRETURN(1);
}

void xs_listen_descriptor(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 1) {
    croak_xs_usage(cv, "context");
  }
  const int fd =
      self<Shared>(aTHX_ ST(0), kContextMagic, "BPSGI::Context").host->listen_descriptor();
  ST(0) = sv_2mortal(newSViv(fd));
  XSRETURN(1);
}

void xs_is_worker(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 1) {
    croak_xs_usage(cv, "context");
  }
  const auto role = self<Shared>(aTHX_ ST(0), kContextMagic, "BPSGI::Context").host->role();
  ST(0) = boolSV(role == runtime::ChildRole::Worker);
  XSRETURN(1);
}

// $semaphore->acquire: between waits the application's signal handlers run, and may die.
void xs_acquire(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 1) {
    croak_xs_usage(cv, "semaphore");
  }
  const auto& semaphore = self<Shared::Named>(aTHX_ ST(0), kSemaphoreMagic, "BPSGI::Semaphore");
  const Shared& shared = shared_of(cv);
  PERL_ASYNC_CHECK();
  while (shared.host->acquire(semaphore.id) == runtime::Acquired::Interrupted) {
    PERL_ASYNC_CHECK();
  }
  XSRETURN_YES;
}

void xs_try_acquire(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 1) {
    croak_xs_usage(cv, "semaphore");
  }
  const auto& semaphore = self<Shared::Named>(aTHX_ ST(0), kSemaphoreMagic, "BPSGI::Semaphore");
  ST(0) = boolSV(shared_of(cv).host->try_acquire(semaphore.id));
  XSRETURN(1);
}

void xs_release(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 1) {
    croak_xs_usage(cv, "semaphore");
  }
  const auto& semaphore = self<Shared::Named>(aTHX_ ST(0), kSemaphoreMagic, "BPSGI::Semaphore");
  SV* failure = nullptr;
  {
    const auto released = shared_of(cv).host->release(semaphore.id);
    if (!released) {
      failure = reason(aTHX_ "cannot release semaphore", semaphore.name, released.error().message);
    }
  }
  if (failure != nullptr) {
    croak_sv(failure);
  }
  XSRETURN_YES;
}

void xs_incr(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 1) {
    croak_xs_usage(cv, "atomic");
  }
  const auto& atomic = self<Shared::Named>(aTHX_ ST(0), kAtomicMagic, "BPSGI::AtomicInt64");
  shared_of(cv).host->fetch_add(atomic.id, 1);
  XSRETURN_YES;
}

void xs_fetch_add(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 2) {
    croak_xs_usage(cv, "atomic, operand");
  }
  const auto& atomic = self<Shared::Named>(aTHX_ ST(0), kAtomicMagic, "BPSGI::AtomicInt64");
  const std::int64_t operand =
      read_value(aTHX_ ST(1), "cannot add to atomic", atomic.name.c_str(), "the operand");
  ST(0) = sv_2mortal(newSViv(shared_of(cv).host->fetch_add(atomic.id, operand)));
  XSRETURN(1);
}

void xs_load(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 1) {
    croak_xs_usage(cv, "atomic");
  }
  const auto& atomic = self<Shared::Named>(aTHX_ ST(0), kAtomicMagic, "BPSGI::AtomicInt64");
  ST(0) = sv_2mortal(newSViv(shared_of(cv).host->load(atomic.id)));
  XSRETURN(1);
}

void xs_store(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 2) {
    croak_xs_usage(cv, "atomic, value");
  }
  const auto& atomic = self<Shared::Named>(aTHX_ ST(0), kAtomicMagic, "BPSGI::AtomicInt64");
  const std::int64_t value =
      read_value(aTHX_ ST(1), "cannot store to atomic", atomic.name.c_str(), "the value");
  shared_of(cv).host->store(atomic.id, value);
  XSRETURN_YES;
}

}  // namespace

void boot_objects(pTHX_ Shared& shared) {
  define(aTHX_ shared, "BPSGI::Context::set_worker_status", xs_set_worker_status);
  define(aTHX_ shared, "BPSGI::Context::psgi_application_path", xs_application_path);
  define(aTHX_ shared, "BPSGI::Context::psgi_application_loader", xs_application_loader);
  define(aTHX_ shared, "BPSGI::Context::fastcgi_listen_sockfd", xs_listen_descriptor);
  define(aTHX_ shared, "BPSGI::Context::is_worker", xs_is_worker);
  define(aTHX_ shared, "BPSGI::Context::request_auxiliary_process", xs_request_auxiliary);
  define(aTHX_ shared, "BPSGI::Context::new_semaphore", xs_new_semaphore);
  define(aTHX_ shared, "BPSGI::Context::new_atomic_int64", xs_new_atomic);
  for (const char* package : {"BPSGI::Context::", "BPSGI::"}) {
    const auto define_hook = [&](const char* name, XSUBADDR_t body) {
      define(aTHX_ shared, SvPV_nolen(sv_2mortal(newSVpvf("%s%s", package, name))), body);
    };
    define_hook("on_worker_start", xs_hook<Shared::Hook::WorkerStart>);
    define_hook("on_worker_exit", xs_hook<Shared::Hook::WorkerExit>);
    define_hook("on_request_end", xs_hook<Shared::Hook::RequestEnd>);
  }
  define(aTHX_ shared, "BPSGI::Semaphore::acquire", xs_acquire);
  define(aTHX_ shared, "BPSGI::Semaphore::tryacquire", xs_try_acquire);
  define(aTHX_ shared, "BPSGI::Semaphore::release", xs_release);
  define(aTHX_ shared, "BPSGI::AtomicInt64::incr", xs_incr);
  define(aTHX_ shared, "BPSGI::AtomicInt64::fetch_add", xs_fetch_add);
  define(aTHX_ shared, "BPSGI::AtomicInt64::load", xs_load);
  define(aTHX_ shared, "BPSGI::AtomicInt64::store", xs_store);
  eval_pv(kClassSource, TRUE);
}

SV* make_context(pTHX_ Shared& shared) {
  return make_object(aTHX_ "BPSGI::Context", kContextMagic, &shared, "context");
}

}  // namespace bladepsgi::perl
