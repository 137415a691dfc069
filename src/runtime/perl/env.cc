#include "runtime/perl/env.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/text.h"
#include "runtime/perl/error_stream.h"
#include "runtime/perl/input.h"
#include "runtime/perl/raw_connection.h"
#include "runtime/perl/request.h"
#include "runtime/perl/response.h"

#include "runtime/perl/perl_api.h"

namespace bladepsgi::perl {

namespace {

// In the order of EnvBuilder::Own.
constexpr std::string_view kOwnNames[] = {
    "psgi.version",     "psgi.url_scheme",       "psgi.input",           "psgi.errors",
    "psgi.multithread", "psgi.multiprocess",     "psgi.run_once",        "psgi.streaming",
    "psgi.nonblocking", "psgix.harakiri",        "psgix.cleanup",        "psgix.cleanup.handlers",
    "psgix.logger",     "psgix.informational",   "psgix.input.buffered", "psgix.io",
    "psgix.request_id", "psgix.harakiri.commit",
};

// What the usual web servers send with every request; others are learned as they come.
constexpr std::string_view kUsualNames[] = {
    "AUTH_TYPE",
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "CONTEXT_DOCUMENT_ROOT",
    "CONTEXT_PREFIX",
    "DOCUMENT_ROOT",
    "DOCUMENT_URI",
    "FCGI_ROLE",
    "GATEWAY_INTERFACE",
    "HTTPS",
    "HTTP_ACCEPT",
    "HTTP_ACCEPT_CHARSET",
    "HTTP_ACCEPT_ENCODING",
    "HTTP_ACCEPT_LANGUAGE",
    "HTTP_AUTHORIZATION",
    "HTTP_CACHE_CONTROL",
    "HTTP_CONNECTION",
    "HTTP_COOKIE",
    "HTTP_DNT",
    "HTTP_FORWARDED",
    "HTTP_HOST",
    "HTTP_IF_MATCH",
    "HTTP_IF_MODIFIED_SINCE",
    "HTTP_IF_NONE_MATCH",
    "HTTP_IF_UNMODIFIED_SINCE",
    "HTTP_KEEP_ALIVE",
    "HTTP_ORIGIN",
    "HTTP_PRAGMA",
    "HTTP_RANGE",
    "HTTP_REFERER",
    "HTTP_SEC_CH_UA",
    "HTTP_SEC_CH_UA_MOBILE",
    "HTTP_SEC_CH_UA_PLATFORM",
    "HTTP_SEC_FETCH_DEST",
    "HTTP_SEC_FETCH_MODE",
    "HTTP_SEC_FETCH_SITE",
    "HTTP_SEC_FETCH_USER",
    "HTTP_TE",
    "HTTP_UPGRADE_INSECURE_REQUESTS",
    "HTTP_USER_AGENT",
    "HTTP_VIA",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_REAL_IP",
    "HTTP_X_REQUESTED_WITH",
    "HTTP_X_REQUEST_ID",
    "PATH",
    "PATH_INFO",
    "PATH_TRANSLATED",
    "QUERY_STRING",
    "REDIRECT_STATUS",
    "REMOTE_ADDR",
    "REMOTE_HOST",
    "REMOTE_IDENT",
    "REMOTE_PORT",
    "REMOTE_USER",
    "REQUEST_METHOD",
    "REQUEST_SCHEME",
    "REQUEST_URI",
    "SCRIPT_FILENAME",
    "SCRIPT_NAME",
    "SERVER_ADDR",
    "SERVER_ADMIN",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "SERVER_SIGNATURE",
    "SERVER_SOFTWARE",
    "SSL_PROTOCOL",
    "UNIQUE_ID",
};

std::uint64_t load_word(const char* at) {
  std::uint64_t word = 0;
  std::memcpy(&word, at, sizeof word);
  return word;
}

// Length and both ends tell the names of meta-variables apart; what collides is compared.
std::size_t slot_of(std::string_view name) {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  if (name.size() >= sizeof first) {
    first = load_word(name.data());
    last = load_word(name.data() + name.size() - sizeof last);
    if (name.size() > 16) {
      first ^= load_word(name.data() + name.size() / 2 - 4) << 1;
    }
  } else {
    std::memcpy(&first, name.data(), name.size());
  }
  std::uint64_t mixed = (first ^ (last * 0x9e3779b97f4a7c15ULL)) + name.size();
  mixed *= 0xd6e8feb86659fd93ULL;
  return static_cast<std::size_t>(mixed >> 40);
}

SV* shared_key(pTHX_ std::string_view name) {
  return newSVpvn_share(name.data(), static_cast<I32>(name.size()), 0);
}

bool is_https(std::string_view value) {
  return value == "1" || equals_ignoring_case(value, "on");
}

// An empty view may have no address, and that would make undef.
SV* new_string(pTHX_ std::string_view text) {
  return text.empty() ? newSVpvs("") : newSVpvn(text.data(), text.size());
}

// Its bytes are those of the key.
HEK* hek_of(SV* shared_key) {
  return SvSHARED_HEK_FROM_PV(SvPVX_const(shared_key));
}

bool is_key(const HE* entry, std::string_view name) {
  return HEK_KEY(HeKEY_hek(entry)) == name.data();
}

// One version of PSGI for all: 1.1.
SV* psgi_version(pTHX) {
  AV* version = newAV();
  av_extend(version, 1);
  av_push(version, newSViv(1));
  av_push(version, newSViv(1));
  return newRV_noinc(MUTABLE_SV(version));
}

constexpr U32 kStringFlags = SVf_POK | SVp_POK;

// What reading a hash may leave: an iterator, and that a name of more than bytes was in it once.
constexpr U32 kHarmlessFlags = SVf_OOK | SVphv_LAZYDEL | SVphv_HASKFLAGS;

void wipe(SV* value, std::size_t used) {
  if (SvPVX_const(value) != nullptr && SvLEN(value) > 0) {
    std::memset(SvPVX(value), 0, std::min(SvLEN(value), std::max<std::size_t>(SvCUR(value), used)));
  }
}

// Nobody else has seen the array, or nobody has it any more, and it carries nothing but its elements.
bool is_plain_array(SV* array) {
  return SvREFCNT(array) == 1 && SvFLAGS(array) == (SVt_PVAV | SVpav_REAL) &&
         SvMAGIC(array) == nullptr;
}

bool is_first_version(SV* array) {
  AV* list = MUTABLE_AV(array);
  if (!is_plain_array(array) || AvFILLp(list) != 1) {
    return false;
  }
  for (int index = 0; index < 2; ++index) {
    const SV* element = AvARRAY(list)[index];
    if (element == nullptr || SvREFCNT(element) != 1 ||
        SvFLAGS(element) != (SVt_IV | SVf_IOK | SVp_IOK) || SvIVX(element) != 1) {
      return false;
    }
  }
  return true;
}

}  // namespace

void EnvBuilder::prepare(pTHX_ Shared& shared, runtime::ErrorStream error_stream) {
  SvREFCNT_dec(errors_);
  errors_ = error_stream == runtime::ErrorStream::Log
                ? newRV_inc(MUTABLE_SV(gv_fetchpvs("STDERR", GV_ADD | GV_NOTQUAL, SVt_PVIO)))
                : nullptr;
  if (!keys_.empty()) {
    return;
  }
  logger_ = make_logger(aTHX_ shared);
  informational_ = make_informational(aTHX_ shared);
  table_.assign(kTableSize, kNoKey);
  keys_.reserve(kMaximumNames);
  for (const std::string_view name : kOwnNames) {
    add_key(aTHX_ name);  // the first ones, in this order
  }
  for (const std::string_view name : kUsualNames) {
    add_key(aTHX_ name);
  }
  https_ = find_key("HTTPS");
  request_method_ = find_key("REQUEST_METHOD");
  request_uri_ = find_key("REQUEST_URI");
}

// --- names

EnvBuilder::KeyIndex EnvBuilder::find_key(std::string_view name) const {
  for (std::size_t slot = slot_of(name);; ++slot) {
    const KeyIndex index = table_[slot & (kTableSize - 1)];
    if (index == kNoKey || keys_[index].name == name) {
      return index;
    }
  }
}

EnvBuilder::KeyIndex EnvBuilder::add_key(pTHX_ std::string_view name) {
  if (const KeyIndex known = find_key(name); known != kNoKey) {
    return known;
  }
  if (keys_.size() >= kMaximumNames || name.size() > kMaximumNameLength) {
    return kNoKey;
  }
  std::size_t slot = slot_of(name);
  while (table_[slot & (kTableSize - 1)] != kNoKey) {
    ++slot;
  }
  const auto index = static_cast<KeyIndex>(keys_.size());
  SV* shared = shared_key(aTHX_ name);
  keys_.push_back({.sv = shared, .name = {SvPVX_const(shared), SvCUR(shared)}});
  table_[slot & (kTableSize - 1)] = index;
  return index;
}

EnvBuilder::KeyIndex EnvBuilder::learn_key(pTHX_ std::string_view name, std::size_t position) {
  const KeyIndex index = add_key(aTHX_ name);
  if (index != kNoKey) {
    usual_order_.resize(std::max(usual_order_.size(), position + 1), kNoKey);
    usual_order_[position] = index;
  }
  return index;
}

EnvBuilder::KeyIndex EnvBuilder::key_of(const HEK* hek) const {
  if (HEK_UTF8(hek)) {
    return kNoKey;
  }
  const KeyIndex index = find_key({HEK_KEY(hek), static_cast<std::size_t>(HEK_LEN(hek))});
  return index != kNoKey && hek_of(keys_[index].sv) == hek ? index : kNoKey;
}

// --- filling

void EnvBuilder::place(pTHX_ Key& key, SV* value, Kind kind) {
  if (key.entry != nullptr) {
    SV* old = HeVAL(key.entry);  // ours and as we left it, so that no code runs
    HeVAL(key.entry) = value;
    SvREFCNT_dec_NN(old);
  } else {
    key.entry = hv_store_ent(env_, key.sv, value, SvSHARED_HASH(key.sv));
    has_new_shape_ = true;
  }
  key.value = value;
  key.kind = kind;
  key.flags = SvFLAGS(value);
  key.content = value->sv_u.svu_pv;
  mark(key);
}

void EnvBuilder::mark(Key& key) {
  if (key.round != round_) {
    key.round = round_;
    ++marked_;
  }
}

void EnvBuilder::set_text(pTHX_ Key& key, std::string_view text) {
  if (key.entry == nullptr || key.kind != Kind::Text) {
    place(aTHX_ key, new_string(aTHX_ text), Kind::Text);
  } else {
    SV* value = key.value;
    if (SvLEN(value) > text.size()) {
      char* into = SvPVX(value);
      std::copy(text.begin(), text.end(), into);
      into[text.size()] = '\0';
      SvCUR_set(value, text.size());
    } else {
      sv_setpvn(value, text.empty() ? "" : text.data(), text.size());
    }
    mark(key);
  }
  key.used = static_cast<std::uint32_t>(text.size());
}

void EnvBuilder::set_truth(pTHX_ Key& key, bool value) {
  SV* constant = value ? &PL_sv_yes : &PL_sv_no;
  if (key.entry == nullptr || key.kind != Kind::Constant || key.content != SvPVX(constant)) {
    place(aTHX_ key, newSVsv_nomg(constant), Kind::Constant);
  } else {
    mark(key);
  }
}

void EnvBuilder::set_reference(pTHX_ Key& key, SV* reference) {
  if (key.entry == nullptr || key.kind != Kind::Constant || key.content != reference->sv_u.svu_pv) {
    place(aTHX_ key, newSVsv_nomg(reference), Kind::Constant);
  } else {
    mark(key);
  }
}

void EnvBuilder::set_defaults(pTHX_ HV* defaults) {
  hv_iterinit(defaults);
  while (HE* entry = hv_iternext(defaults)) {
    SV* value = newSV(0);
    SV* name = hv_iterkeysv(entry);
    const KeyIndex index = SvUTF8(name) ? kNoKey : add_key(aTHX_{SvPVX_const(name), SvCUR(name)});
    if (index == kNoKey) {
      hv_store_ent(env_, name, value, 0);
    } else {
      place(aTHX_ keys_[index], value, Kind::Other);
    }
    sv_setsv(value, hv_iterval(defaults, entry));
  }
}

void EnvBuilder::build(pTHX_ Request& request, HV* defaults) {
  if (env_ == nullptr) {
    env_ = newHV();
    hv_ksplit(env_, static_cast<IV>(last_size_));
    own_flags_ = SvFLAGS(env_) & ~kHarmlessFlags;
    has_new_shape_ = true;
  }
  request.env = env_;
  is_built_ = false;
  ++round_;
  marked_ = 0;

  bool https = false;
  bool has_all_keys = true;
  std::size_t position = 0;
  const std::uint64_t shape = request.exchange.parameter_shape();
  const bool is_usual = shape != 0 && shape == usual_shape_;
  for (const Parameter& parameter : request.exchange.parameters()) {
    // The same names come in the same order, mostly.
    KeyIndex index = position < usual_order_.size() ? usual_order_[position] : kNoKey;
    if (!is_usual && (index == kNoKey || keys_[index].name != parameter.name)) {
      index = learn_key(aTHX_ parameter.name, position);
      if (index == kNoKey) {
        has_all_keys = false;
        SV* key = sv_2mortal(shared_key(aTHX_ parameter.name));
        hv_store_ent(env_, key, new_string(aTHX_ parameter.value), SvSHARED_HASH(key));
        continue;
      }
    }
    ++position;
    set_text(aTHX_ keys_[index], parameter.value);
    if (index == https_) {
      https = is_https(parameter.value);
    } else if (index == request_method_) {
      request.method = parameter.value;
    } else if (index == request_uri_) {
      request.uri = parameter.value;
    }
  }

  usual_shape_ = has_all_keys ? shape : 0;

  bool own_logger = true;
  if (defaults != nullptr) {
    set_defaults(aTHX_ defaults);
    // The loader's hash may change these two.
    if (SV** value = hv_fetchs(env_, "HTTPS", 0)) {
      STRLEN length = 0;
      const char* text = SvPV(*value, length);
      https = is_https({text, length});
    }
    own_logger = hv_exists_ent(defaults, own(Own::Logger).sv, 0) == 0;
  }

  runtime::Exchange& exchange = request.exchange;
  if (Key& key = own(Own::Version); key.entry != nullptr && key.kind == Kind::Version) {
    mark(key);
  } else {
    place(aTHX_ key, psgi_version(aTHX), Kind::Version);
  }
  if (Key& key = own(Own::CleanupHandlers);
      key.entry != nullptr && key.kind == Kind::CleanupHandlers) {
    mark(key);
  } else {
    place(aTHX_ key, newRV_noinc(MUTABLE_SV(newAV())), Kind::CleanupHandlers);
  }
  set_text(aTHX_ own(Own::UrlScheme), https ? "https" : "http");
  set_input(aTHX_ request);
  if (errors_ != nullptr) {
    set_reference(aTHX_ own(Own::Errors), errors_);
  } else {
    place(aTHX_ own(Own::Errors), make_errors(aTHX_ request), Kind::Other);
  }
  set_truth(aTHX_ own(Own::Multithread), false);
  set_truth(aTHX_ own(Own::Multiprocess), true);
  set_truth(aTHX_ own(Own::RunOnce), false);
  set_truth(aTHX_ own(Own::Streaming), true);
  set_truth(aTHX_ own(Own::Nonblocking), false);
  set_truth(aTHX_ own(Own::Harakiri), true);
  set_truth(aTHX_ own(Own::Cleanup), true);
  set_truth(aTHX_ own(Own::InputBuffered), exchange.body().buffered);
  if (own_logger) {
    set_reference(aTHX_ own(Own::Logger), logger_);
  }
  if (exchange.knows_informational()) {
    set_reference(aTHX_ own(Own::Informational), informational_);
  }
  if (exchange.has_raw_connection()) {
    place(aTHX_ own(Own::Io), make_raw_connection(aTHX_ request), Kind::Other);
  }
  set_text(aTHX_ own(Own::RequestId), request.id);
  settle(aTHX);
}

void EnvBuilder::set_input(pTHX_ Request& request) {
  Key& key = own(Own::Input);
  if (key.entry != nullptr && key.kind == Kind::Input) {
    request.source = input_.source;
    request.source->attach(request.exchange);
    request.source->retain();
    mark(key);
    return;
  }
  request.source = Source::create(request.shared, request.exchange);
  SV* input = make_input(aTHX_ request.shared, *request.source);
  place(aTHX_ key, input, Kind::Input);
  input_ = take_fingerprint(aTHX_ input, *request.source);
}

void EnvBuilder::settle(pTHX) {
  if (marked_ != order_.size() || has_new_shape_) {
    for (const KeyIndex index : order_) {
      Key& key = keys_[index];
      if (key.round != round_) {
        hv_delete_ent(env_, key.sv, G_DISCARD, SvSHARED_HASH(key.sv));
        key.entry = nullptr;
        has_new_shape_ = true;
      }
    }
  }
  if (has_new_shape_ && is_worth_keeping()) {
    note_shape(aTHX);
  }
  last_size_ = std::min(static_cast<std::size_t>(HvTOTALKEYS(env_)), kMaximumReserve);
  is_built_ = true;
}

void EnvBuilder::note_shape(pTHX) {
  PERL_UNUSED_CONTEXT;
  order_.clear();
  for (STRLEN bucket = 0; HvARRAY(env_) != nullptr && bucket <= HvMAX(env_); ++bucket) {
    for (HE* entry = HvARRAY(env_)[bucket]; entry != nullptr; entry = HeNEXT(entry)) {
      if (const KeyIndex index = key_of(HeKEY_hek(entry)); index != kNoKey) {
        keys_[index].entry = entry;
        order_.push_back(index);
      }
    }
  }
  has_new_shape_ = false;
}

// --- giving up, or not

bool EnvBuilder::asks_for_nothing(pTHX_ const Request& request) const {
  HV* env = request.env;
  if (SvRMAGICAL(env)) {
    return false;
  }
  SV* name = keys_[static_cast<std::size_t>(Own::CleanupHandlers)].sv;
  const HE* handlers = hv_fetch_ent(env, name, 0, SvSHARED_HASH(name));
  if (handlers == nullptr) {
    return false;
  }
  SV* value = HeVAL(handlers);
  if (SvMAGICAL(value) || !SvROK(value) || SvTYPE(SvRV(value)) != SVt_PVAV ||
      SvMAGICAL(SvRV(value)) || AvFILLp(MUTABLE_AV(SvRV(value))) >= 0) {
    return false;
  }
  name = keys_[static_cast<std::size_t>(Own::HarakiriCommit)].sv;
  return hv_exists_ent(env, name, SvSHARED_HASH(name)) == 0;
}

void EnvBuilder::release(pTHX_ Request& request) {
  request.env = nullptr;
  if (env_ == nullptr) {
    return;
  }
  if (request.source != nullptr) {
    request.source->release();
    request.source = nullptr;
  }
  // What is destroyed may run code, so the last look must have found nothing to destroy.
  constexpr int kMostLooks = 4;
  for (int look = 0; is_built_ && look < kMostLooks; ++look) {
    switch (scrub(aTHX)) {
      case Scrubbed::Clean:
        lost_in_a_row_ = 0;
        ++times_kept_;
        return;
      case Scrubbed::Again:
        continue;
      case Scrubbed::Lost:
        is_built_ = false;
        break;
    }
  }
  HV* lost = env_;
  env_ = nullptr;
  for (Key& key : keys_)
    key.entry = nullptr;
  order_.clear();
  ++lost_in_a_row_;
  SvREFCNT_dec_NN(MUTABLE_SV(lost));
}

bool EnvBuilder::is_ours_alone(pTHX) const {
  PERL_UNUSED_CONTEXT;
  HV* env = env_;
  if (order_.empty() || SvREFCNT(env) != 1 || (SvFLAGS(env) & ~kHarmlessFlags) != own_flags_ ||
      SvMAGIC(env) != nullptr || SvSTASH(env) != nullptr || HvARRAY(env) == nullptr ||
      HvMAX(env) >= kMaximumBuckets) {
    return false;
  }
  if (!SvOOK(env)) {
    return true;
  }
  const xpvhv_aux& more = *HvAUX(env);
  return more.xhv_backreferences == nullptr && more.xhv_name_u.xhvnameu_name == nullptr &&
         more.xhv_name_count == 0 && more.xhv_mro_meta == nullptr;
}

// The ordinary case. The string keeps its length until it is written anew.
inline bool EnvBuilder::wipe_plain_text(Key& key, SV* value) {
  if (key.kind != Kind::Text || SvREFCNT(value) != 1 || SvFLAGS(value) != (SVt_PV | kStringFlags)) {
    return false;
  }
  const std::size_t size = SvLEN(value);
  const std::size_t used = std::max<std::size_t>(SvCUR(value), key.used);
  constexpr std::size_t kShort = 16;  // as most are, and perl's strings have at least so much room
  if (used <= kShort && size >= kShort) {
    std::memset(SvPVX(value), 0, kShort);
  } else {
    std::memset(SvPVX(value), 0, std::min(size, used));
  }
  return size <= kMaximumValue;
}

// The same for what is never written to.
inline bool EnvBuilder::is_same_constant(const Key& key, const SV* value) {
  return key.kind == Kind::Constant && SvREFCNT(value) == 1 && SvFLAGS(value) == key.flags &&
         value->sv_u.svu_pv == key.content;
}

EnvBuilder::Scrubbed EnvBuilder::scrub(pTHX) {
  if (!is_ours_alone(aTHX)) {
    return Scrubbed::Lost;
  }
  if (SvOOK(env_)) {
    hv_iterinit(env_);  // an each that was left half-way
    HvAUX(env_)->xhv_last_rand = HvAUX(env_)->xhv_rand;
  }
  doomed_.clear();
  std::size_t at = 0;
  bool is_in_order = true;
  for (STRLEN bucket = 0; bucket <= HvMAX(env_); ++bucket) {
    for (HE* entry = HvARRAY(env_)[bucket]; entry != nullptr; entry = HeNEXT(entry)) {
      if (at < order_.size()) {
        Key& key = keys_[order_[at]];
        if (key.entry == entry && is_key(entry, key.name)) {
          SV* value = HeVAL(entry);
          if (value != key.value ||
              (!wipe_plain_text(key, value) && !is_same_constant(key, value))) {
            clean(aTHX_ key, entry);
          }
          ++at;
          continue;
        }
      }
      const KeyIndex index = key_of(HeKEY_hek(entry));
      if (index != kNoKey && keys_[index].round == round_) {
        // It was here, and is somewhere else now: the hash has grown, or the application deleted and stored it.
        is_in_order = false;
        clean(aTHX_ keys_[index], entry);
      } else {
        doomed_.push_back({newSVhek(HeKEY_hek(entry)), HeHASH(entry)});
      }
    }
  }
  bool has_run_code = false;
  for (std::size_t index = 0; index < replaced_.size(); ++index) {
    SV* value = replaced_[index];
    has_run_code |= SvREFCNT(value) == 1 && (SvTYPE(value) != SVt_PV || SvROK(value));
    SvREFCNT_dec_NN(value);
  }
  replaced_.clear();
  for (std::size_t index = 0; index < doomed_.size(); ++index) {
    const Doomed doomed = doomed_[index];
    hv_delete_ent(env_, doomed.name, G_DISCARD, doomed.hash);
    SvREFCNT_dec_NN(doomed.name);
    has_run_code = true;
  }
  if (!is_in_order || at != order_.size()) {
    for (const KeyIndex index : order_) {
      keys_[index].entry = nullptr;
    }
    note_shape(aTHX);
    return Scrubbed::Again;
  }
  return has_run_code ? Scrubbed::Again : Scrubbed::Clean;
}

void EnvBuilder::clean(pTHX_ Key& key, HE* entry) {
  SV* value = HeVAL(entry);
  if (value == key.value && SvREFCNT(value) == 1 && restore(aTHX_ key, value)) {
    return;
  }
  // Destroyed later: that may run code, and we are in the middle of the hash.
  replaced_.push_back(value);
  const svtype type = SvTYPE(value);
  if (value == key.value && key.kind == Kind::Text && SvREFCNT(value) == 1 && SvPOKp(value) &&
      !SvIsCOW(value) &&
      (type == SVt_PV || type == SVt_PVIV ||
       type == SVt_PVNV)) {  // what is more may have a destructor
    wipe(value, 0);
  }
  SV* fresh = newSVpvs("");
  HeVAL(entry) = fresh;
  key.value = fresh;
  key.kind = Kind::Text;  // also where it was something else: that will be made anew
  key.used = 0;
}

bool EnvBuilder::restore(pTHX_ Key& key, SV* value) {
  switch (key.kind) {
    case Kind::Text:
      if ((SvFLAGS(value) & ~(kStringFlags | SVf_IsCOW)) != SVt_PV) {
        return false;
      }
      if (SvIsCOW(value)) {
        if (SvLEN(value) == 0 || CowREFCNT(value) != 0) {
          sv_force_normal_flags(value, SV_COW_DROP_PV);
        } else {
          SvIsCOW_off(value);
        }
      }
      if (SvPVX_const(value) == nullptr) {
        sv_setpvs(value, "");
      }
      SvFLAGS(value) |= kStringFlags;
      return wipe_plain_text(key, value);
    case Kind::Constant:
      return is_same_constant(key, value);
    case Kind::Version:
      return SvFLAGS(value) == key.flags && value->sv_u.svu_pv == key.content &&
             is_first_version(SvRV(value));
    case Kind::CleanupHandlers:
      return SvFLAGS(value) == key.flags && value->sv_u.svu_pv == key.content &&
             is_plain_array(SvRV(value)) && AvFILLp(MUTABLE_AV(SvRV(value))) < 0;
    case Kind::Input:
      return SvFLAGS(value) == key.flags && value->sv_u.svu_pv == key.content &&
             is_untouched(aTHX_ input_);
    case Kind::Other:
      return false;
  }
  return false;
}

}  // namespace bladepsgi::perl
