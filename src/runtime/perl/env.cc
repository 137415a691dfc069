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

struct EnvBuilder::Keys {
  SV* version;
  SV* url_scheme;
  SV* input;
  SV* errors;
  SV* multithread;
  SV* multiprocess;
  SV* run_once;
  SV* streaming;
  SV* nonblocking;
  SV* harakiri;
  SV* cleanup;
  SV* cleanup_handlers;
  SV* logger;
  SV* informational;
  SV* input_buffered;
  SV* io;
  SV* request_id;
  SV* https;
  SV* request_method;
  SV* request_uri;
  SV* harakiri_commit;
};

namespace {

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

void put(pTHX_ HV* env, SV* key, SV* value) {
  hv_store_ent(env, key, value, SvSHARED_HASH(key));
}

bool is_https(std::string_view value) {
  return value == "1" || equals_ignoring_case(value, "on");
}

// An empty view may have no address, and that would make undef.
SV* new_string(pTHX_ std::string_view text) {
  return text.empty() ? newSVpvs("") : newSVpvn(text.data(), text.size());
}

SV* truth(pTHX_ bool value) {
  return newSVsv_nomg(value ? &PL_sv_yes : &PL_sv_no);
}

}  // namespace

void EnvBuilder::prepare(pTHX_ Shared& shared, runtime::ErrorStream error_stream) {
  SvREFCNT_dec(errors_);
  errors_ = error_stream == runtime::ErrorStream::Log
                ? newRV_inc(MUTABLE_SV(gv_fetchpvs("STDERR", GV_ADD | GV_NOTQUAL, SVt_PVIO)))
                : nullptr;
  if (keys_ != nullptr) {
    return;
  }
  logger_ = make_logger(aTHX_ shared);
  informational_ = make_informational(aTHX_ shared);
  table_.assign(kTableSize, nullptr);
  for (const std::string_view name : kUsualNames) {
    key_for(aTHX_ name);
  }
  keys_ = new Keys{
      .version = shared_key(aTHX_ "psgi.version"),
      .url_scheme = shared_key(aTHX_ "psgi.url_scheme"),
      .input = shared_key(aTHX_ "psgi.input"),
      .errors = shared_key(aTHX_ "psgi.errors"),
      .multithread = shared_key(aTHX_ "psgi.multithread"),
      .multiprocess = shared_key(aTHX_ "psgi.multiprocess"),
      .run_once = shared_key(aTHX_ "psgi.run_once"),
      .streaming = shared_key(aTHX_ "psgi.streaming"),
      .nonblocking = shared_key(aTHX_ "psgi.nonblocking"),
      .harakiri = shared_key(aTHX_ "psgix.harakiri"),
      .cleanup = shared_key(aTHX_ "psgix.cleanup"),
      .cleanup_handlers = shared_key(aTHX_ "psgix.cleanup.handlers"),
      .logger = shared_key(aTHX_ "psgix.logger"),
      .informational = shared_key(aTHX_ "psgix.informational"),
      .input_buffered = shared_key(aTHX_ "psgix.input.buffered"),
      .io = shared_key(aTHX_ "psgix.io"),
      .request_id = shared_key(aTHX_ "psgix.request_id"),
      .https = key_for(aTHX_ "HTTPS"),
      .request_method = key_for(aTHX_ "REQUEST_METHOD"),
      .request_uri = key_for(aTHX_ "REQUEST_URI"),
      .harakiri_commit = shared_key(aTHX_ "psgix.harakiri.commit"),
  };
}

SV* EnvBuilder::key_for(pTHX_ std::string_view name) {
  std::size_t slot = slot_of(name) & (kTableSize - 1);
  while (SV* key = table_[slot]) {
    if (SvCUR(key) == name.size() && std::memcmp(SvPVX_const(key), name.data(), name.size()) == 0) {
      return key;
    }
    slot = (slot + 1) & (kTableSize - 1);
  }
  SV* key = shared_key(aTHX_ name);
  if (names_ < kMaximumNames && name.size() <= kMaximumNameLength) {
    table_[slot] = key;
    ++names_;
    return key;
  }
  return sv_2mortal(key);
}

void EnvBuilder::build(pTHX_ Request& request, HV* defaults) {
  const Keys& keys = *keys_;
  HV* env = newHV();
  request.env = env;
  hv_ksplit(env, static_cast<IV>(last_size_));

  bool https = false;
  for (const Parameter& parameter : request.exchange.parameters()) {
    SV* key = key_for(aTHX_ parameter.name);
    put(aTHX_ env, key, new_string(aTHX_ parameter.value));
    if (key == keys.https) {
      https = is_https(parameter.value);
    } else if (key == keys.request_method) {
      request.method = parameter.value;
    } else if (key == keys.request_uri) {
      request.uri = parameter.value;
    }
  }

  bool own_logger = true;
  if (defaults != nullptr) {
    hv_iterinit(defaults);
    while (HE* entry = hv_iternext(defaults)) {
      SV* value = newSV(0);
      SV* key = hv_iterkeysv(entry);
      hv_store_ent(env, key, value, 0);
      sv_setsv(value, hv_iterval(defaults, entry));
    }
    // The loader's hash may change these two.
    if (SV** value = hv_fetchs(env, "HTTPS", 0)) {
      STRLEN length = 0;
      const char* text = SvPV(*value, length);
      https = is_https({text, length});
    }
    own_logger = hv_exists_ent(env, keys.logger, 0) == 0;
  }

  AV* version = newAV();
  av_extend(version, 1);
  av_push(version, newSViv(1));
  av_push(version, newSViv(1));
  put(aTHX_ env, keys.version, newRV_noinc(MUTABLE_SV(version)));
  put(aTHX_ env, keys.url_scheme, https ? newSVpvs("https") : newSVpvs("http"));
  request.source = Source::create(request.shared, request.exchange);
  put(aTHX_ env, keys.input, make_input(aTHX_ request.shared, *request.source));
  put(aTHX_ env, keys.errors,
      errors_ != nullptr ? newSVsv_nomg(errors_) : make_errors(aTHX_ request));
  put(aTHX_ env, keys.multithread, truth(aTHX_ false));
  put(aTHX_ env, keys.multiprocess, truth(aTHX_ true));
  put(aTHX_ env, keys.run_once, truth(aTHX_ false));
  put(aTHX_ env, keys.streaming, truth(aTHX_ true));
  put(aTHX_ env, keys.nonblocking, truth(aTHX_ false));
  put(aTHX_ env, keys.harakiri, truth(aTHX_ true));
  put(aTHX_ env, keys.cleanup, truth(aTHX_ true));
  put(aTHX_ env, keys.cleanup_handlers, newRV_noinc(MUTABLE_SV(newAV())));
  put(aTHX_ env, keys.input_buffered, truth(aTHX_ request.exchange.body().buffered));
  if (own_logger) {
    put(aTHX_ env, keys.logger, newSVsv_nomg(logger_));
  }
  if (request.exchange.knows_informational()) {
    put(aTHX_ env, keys.informational, newSVsv_nomg(informational_));
  }
  if (request.exchange.has_raw_connection()) {
    put(aTHX_ env, keys.io, make_raw_connection(aTHX_ request));
  }
  put(aTHX_ env, keys.request_id, new_string(aTHX_ request.id));

  const auto used = static_cast<std::size_t>(HvTOTALKEYS(env));
  last_size_ = std::min(used, kMaximumReserve);
}

bool EnvBuilder::asks_for_nothing(pTHX_ const Request& request) const {
  HV* env = request.env;
  if (SvRMAGICAL(env)) {
    return false;
  }
  const HE* handlers =
      hv_fetch_ent(env, keys_->cleanup_handlers, 0, SvSHARED_HASH(keys_->cleanup_handlers));
  if (handlers == nullptr) {
    return false;
  }
  SV* value = HeVAL(handlers);
  if (SvMAGICAL(value) || !SvROK(value) || SvTYPE(SvRV(value)) != SVt_PVAV ||
      SvMAGICAL(SvRV(value)) || AvFILLp(MUTABLE_AV(SvRV(value))) >= 0) {
    return false;
  }
  return hv_exists_ent(env, keys_->harakiri_commit, SvSHARED_HASH(keys_->harakiri_commit)) == 0;
}

void EnvBuilder::release(pTHX_ Request& request) {
  HV* env = request.env;
  request.env = nullptr;
  SvREFCNT_dec(env);
}

}  // namespace bladepsgi::perl
