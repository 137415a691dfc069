#include "runtime/perl/response.h"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include "base/text.h"
#include "os/system_error.h"
#include "runtime/perl/fork_watch.h"
#include "runtime/perl/guard.h"
#include "runtime/perl/magic.h"
#include "runtime/perl/request.h"
#include "runtime/perl/timeout.h"
#include "runtime/perl/values.h"

namespace bladepsgi::perl {

namespace {

// The line number that croak adds is the application's while it is inside the responder, else ours,
// which helps nobody.
[[noreturn]] void refuse(pTHX_ Request& request, SV* reason) {
  SV* message = sv_2mortal(newSVpvf("wrong response: %" SVf, SVfARG(reason)));
  if (!request.in_responder) {
    request.wrong_response = true;
    sv_catpvs(message, "\n");
  }
  croak_sv(message);
}

void warn_of(Request& request, std::string_view text) {
  request.shared.host->log(Severity::Warning, title_of(request) + ": " + std::string(text));
}

// RFC 9110 §5.6.2.
constexpr bool is_token_character(char character) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z') ||
         (character >= '0' && character <= '9') || kMarks.find(character) != std::string_view::npos;
}

constexpr auto kTokenCharacters = [] {
  std::array<bool, 256> table{};
  for (std::size_t code = 0; code < table.size(); ++code) {
    table[code] = is_token_character(static_cast<char>(code));
  }
  return table;
}();

bool is_token(std::string_view text) {
  for (const char character : text) {
    if (!kTokenCharacters[static_cast<unsigned char>(character)]) {
      return false;
    }
  }
  return !text.empty();
}

bool is_array_reference(SV* value) {
  return SvROK(value) && SvTYPE(SvRV(value)) == SVt_PVAV;
}

// Element of an array that may be tied; undef when missing. Code that runs meanwhile may change the
// array: the element stays.
SV* element(pTHX_ AV* array, SSize_t index) {
  SV** found = av_fetch(array, index, 0);
  if (found == nullptr) {
    return &PL_sv_undef;
  }
  return SvMAGICAL(*found) ? sv_mortalcopy(*found) : sv_2mortal(SvREFCNT_inc_simple_NN(*found));
}

// What a reference points to, kept alive while code runs that may drop the reference.
SV* hold_target(pTHX_ SV* reference) {
  return sv_2mortal(SvREFCNT_inc_simple_NN(SvRV(reference)));
}

// Reading such an array runs no code, so addresses of its strings stay good while we read on.
bool is_plain_array(pTHX_ AV* array) {
  if (SvMAGICAL(array)) {
    return false;
  }
  const SSize_t top = AvFILLp(array);
  for (SSize_t index = 0; index <= top; ++index) {
    SV* value = AvARRAY(array)[index];
    if (value != nullptr && !is_plain(value)) {
      return false;
    }
  }
  PERL_UNUSED_CONTEXT;
  return true;
}

int read_status(pTHX_ Request& request, SV* value) {
  std::int64_t status = 0;
  if (SvIOK(value) && !SvROK(value)) {
    status = SvIVX(value);
  } else if (read_integer(aTHX_ value, &status) != Integer::Ok) {
    status = 0;
  }
  if (status < 100 || status > 999) {
    refuse(aTHX_ request,
           sv_2mortal(newSVpvf("the status is %" SVf ", must be a whole number from 100 to 999",
                               SVfARG(describe(aTHX_ value)))));
  }
  return static_cast<int>(status);
}

// "which must be encoded": the reason for characters that are no bytes.
SV* wide_reason(pTHX_ const char* what, const WideCharacter& wide) {
  return sv_2mortal(newSVpvf("%s has the wide character U+%04" UVXf " at position %" UVuf
                             "; encode it, e.g. with Encode::encode('UTF-8', ...)",
                             what, static_cast<UV>(wide.code_point),
                             static_cast<UV>(wide.position)));
}

// Null for undef.
SV* header_text(pTHX_ Request& request, SV* value, const char* what, bool copy) {
  if (!SvOK(value)) {
    return nullptr;
  }
  if (SvROK(value) && !SvAMAGIC(value)) {
    refuse(aTHX_ request, sv_2mortal(newSVpvf("%s is %" SVf, what, SVfARG(describe(aTHX_ value)))));
  }
  WideCharacter wide;
  SV* text = as_byte_string(aTHX_ value, &wide);
  if (text == nullptr) {
    refuse(aTHX_ request, wide_reason(aTHX_ what, wide));
  }
  return copy && text == value ? sv_mortalcopy(text) : text;
}

void read_headers(pTHX_ Request& request, SV* value) {
  if (!is_array_reference(value)) {
    refuse(aTHX_ request,
           sv_2mortal(newSVpvf("the headers are %" SVf ", must be an array reference",
                               SVfARG(describe(aTHX_ value)))));
  }
  AV* list = MUTABLE_AV(hold_target(aTHX_ value));
  const SSize_t count = av_top_index(list) + 1;
  if (count % 2 != 0) {
    refuse(aTHX_ request, sv_2mortal(newSVpvf("the header list has %" IVdf
                                              " elements; names and values come in pairs",
                                              static_cast<IV>(count))));
  }
  const bool copy = !is_plain_array(aTHX_ list);
  std::vector<runtime::Header>& headers = request.shared.headers;
  headers.clear();
  for (SSize_t index = 0; index < count; index += 2) {
    SV* name = header_text(aTHX_ request, element(aTHX_ list, index), "the name of a header", copy);
    if (name == nullptr || !is_token(view(aTHX_ name))) {
      refuse(aTHX_ request,
             sv_2mortal(newSVpvf("%" SVf " is not a header name",
                                 SVfARG(describe(aTHX_ name == nullptr ? &PL_sv_undef : name)))));
    }
    const std::string_view name_text = view(aTHX_ name);
    SV* content = element(aTHX_ list, index + 1);
    if (SvROK(content) || SvUTF8(content)) {
      // Only these can be refused, and the message names the header.
      SV* what = sv_2mortal(newSVpvf("the value of header %" SVf, SVfARG(name)));
      content = header_text(aTHX_ request, content, SvPV_nolen(what), copy);
    } else {
      content = header_text(aTHX_ request, content, "the value of a header", copy);
    }
    if (equals_ignoring_case(name_text, "Status")) {
      warn_of(request,
              "the application set a Status header; it is ignored, the response's first element "
              "counts");
      continue;
    }
    std::string_view content_text;
    if (content == nullptr) {
      warn_of(request, "the value of header " + std::string(name_text) + " is undef; sent empty");
    } else {
      content_text = view(aTHX_ content);
      if (content_text.find_first_of(std::string_view("\r\n\0", 3)) != std::string_view::npos) {
        refuse(aTHX_ request,
               sv_2mortal(newSVpvf("the value of header %" SVf " has a CR, LF or NUL: %" SVf,
                                   SVfARG(name), SVfARG(describe(aTHX_ content)))));
      }
    }
    headers.push_back({.name = name_text, .value = content_text});
  }
}

// The bytes of one chunk of a body; null for undef, which sends nothing.
SV* chunk_bytes(pTHX_ Request& request, SV* chunk) {
  ++request.chunks;
  if (SvMAGICAL(chunk)) {
    chunk = sv_mortalcopy(chunk);
  }
  if (!SvOK(chunk)) {
    return nullptr;
  }
  if (SvROK(chunk) && !SvAMAGIC(chunk)) {
    refuse(aTHX_ request,
           sv_2mortal(newSVpvf("chunk %" UVuf " of the body is %" SVf ", not a string",
                               static_cast<UV>(request.chunks), SVfARG(describe(aTHX_ chunk)))));
  }
  WideCharacter wide;
  SV* bytes = as_byte_string(aTHX_ chunk, &wide);
  if (bytes == nullptr) {
    SV* what = sv_2mortal(newSVpvf("chunk %" UVuf " of the body", static_cast<UV>(request.chunks)));
    refuse(aTHX_ request, wide_reason(aTHX_ SvPV_nolen(what), wide));
  }
  return bytes;
}

// One chunk, at once. False: the peer has gone.
bool put_now(pTHX_ Request& request, SV* bytes) {
  Exchange& exchange = request.exchange;
  const Bytes what = as_bytes(view(aTHX_ bytes));
  const ClientsTurn turn(request.shared);
  if (!exchange.write(what) || !exchange.flush()) {
    request.peer_gone = true;
  }
  return !request.peer_gone;
}

void start(Request& request, int status) {
  request.exchange.start_response(status, request.shared.headers);
  request.phase = Phase::Sending;
}

// The body as byte strings that reading runs no code for; `body` itself when it is that already.
AV* prepare_chunks(pTHX_ Request& request, AV* body) {
  const bool plain = is_plain_array(aTHX_ body);
  bool ready = plain;
  for (SSize_t index = 0; ready && index <= AvFILLp(body); ++index) {
    SV* chunk = AvARRAY(body)[index];
    ready = chunk == nullptr || !SvUTF8(chunk);
  }
  if (ready) {
    return body;
  }
  AV* chunks = MUTABLE_AV(sv_2mortal(MUTABLE_SV(newAV())));
  for (SSize_t index = 0; index <= av_top_index(body); ++index) {
    SV* bytes = chunk_bytes(aTHX_ request, element(aTHX_ body, index));
    if (bytes != nullptr) {
      av_push(chunks, plain ? SvREFCNT_inc_simple_NN(bytes) : newSVsv(bytes));
    }
  }
  return chunks;
}

void send_array(pTHX_ Request& request, int status, AV* chunks) {
  start(request, status);
  {
    const ClientsTurn turn(request.shared);  // many pieces are sent on the way
    for (SSize_t index = 0; index <= AvFILLp(chunks); ++index) {
      SV* chunk = AvARRAY(chunks)[index];
      if (chunk != nullptr && SvOK(chunk) && !request.exchange.write(as_bytes(view(aTHX_ chunk)))) {
        break;
      }
    }
  }
  finish(request);
}

bool is_layer(PerlIO* handle, const char* name) {
  return PerlIOValid(handle) && PerlIOBase(handle)->tab != nullptr &&
         std::strcmp(PerlIOBase(handle)->tab->name, name) == 0;
}

IO* io_of(SV* body) {
  SV* target = SvRV(body);
  if (isGV_with_GP(target)) {
    return GvIO(MUTABLE_GV(target));
  }
  return SvTYPE(target) == SVt_PVIO ? reinterpret_cast<IO*>(target) : nullptr;
}

bool is_tied(pTHX_ IO* io) {
  PERL_UNUSED_CONTEXT;
  return SvRMAGICAL(io) && mg_find(MUTABLE_SV(io), PERL_MAGIC_tiedscalar) != nullptr;
}

// Perl's own: what the handle reads is what its PerlIO has.
bool has_perls_getline(pTHX_ Request& request, SV* body) {
  if (!SvOBJECT(SvRV(body))) {
    return true;
  }
  GV* method = gv_fetchmethod_autoload(SvSTASH(SvRV(body)), "getline", FALSE);
  return method != nullptr && isGV(method) && GvCV(method) == request.shared.io_getline;
}

// The descriptor of a handle whose bytes are those of a regular file, so that the kernel can send
// them; -1 else.
int plain_file(pTHX_ Request& request, SV* body, std::uint64_t* offset, std::uint64_t* length) {
  IO* io = io_of(body);
  if (io == nullptr || is_tied(aTHX_ io)) {
    return -1;
  }
  if (!has_perls_getline(aTHX_ request, body)) {
    return -1;  // what it reads is its own business
  }
  PerlIO* handle = IoIFP(io);
  if (!is_layer(handle, "perlio") || !is_layer(PerlIONext(handle), "unix") ||
      PerlIOValid(PerlIONext(PerlIONext(handle))) ||
      (PerlIOBase(handle)->flags & (PERLIO_F_UTF8 | PERLIO_F_CRLF)) != 0 ||
      (PerlIOBase(handle)->flags & PERLIO_F_CANREAD) == 0) {
    return -1;
  }
  const int fd = PerlIO_fileno(handle);
  struct stat about = {};
  if (fd < 0 || ::fstat(fd, &about) != 0 || !S_ISREG(about.st_mode) || about.st_size <= 0) {
    return -1;  // size 0: /proc says that of files that have content
  }
  // Where the next read would begin: sysseek moves the descriptor behind the back of PerlIO_tell.
  const off_t position = ::lseek(fd, 0, SEEK_CUR) - static_cast<off_t>(PerlIO_get_cnt(handle));
  if (position < 0) {
    return -1;
  }
  *offset = static_cast<std::uint64_t>(position);
  *length = position < about.st_size ? static_cast<std::uint64_t>(about.st_size - position) : 0;
  return fd;
}

// False: send it another way.
bool send_file(pTHX_ Request& request, SV* body) {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  const int fd = plain_file(aTHX_ request, body, &offset, &length);
  if (fd < 0) {
    return false;
  }
  if (length == 0) {
    return true;
  }
  std::int64_t sent = 0;
  int error = 0;
  {
    const ClientsTurn turn(request.shared);
    sent = request.exchange.send_file(fd, static_cast<off_t>(offset), length, true);
    error = errno;
  }
  if (sent < 0) {
    if (error == EINVAL) {
      return false;
    }
    if (error == EIO || error == EISDIR || error == ESTALE || error == ENOMEM ||
        error == EOVERFLOW) {
      SV* reason = nullptr;
      {
        const std::string text = os::describe_errno(error);
        reason = newSVpvn_flags(text.data(), text.size(), SVs_TEMP);
      }
      refuse(aTHX_ request,
             sv_2mortal(newSVpvf("the body's file cannot be read: %" SVf, SVfARG(reason))));
    }
    request.peer_gone = true;
  } else if (static_cast<std::uint64_t>(sent) < length) {
    refuse(aTHX_ request,
           newSVpvs_flags("the body's file became shorter while it was sent", SVs_TEMP));
  }
  return true;
}

// The end of a handle that cannot be read is not the end of the body.
void refuse_unreadable(pTHX_ Request& request, SV* body) {
  IO* io = io_of(body);
  if (io == nullptr || is_tied(aTHX_ io) || !has_perls_getline(aTHX_ request, body)) {
    return;
  }
  if (IoIFP(io) == nullptr) {
    refuse(aTHX_ request,
           newSVpvs_flags("the body is a handle that is not open for reading", SVs_TEMP));
  }
  if (PerlIO_error(IoIFP(io)) != 0) {
    refuse(aTHX_ request,
           newSVpvs_flags("the body's handle cannot be read: an error occurred on it", SVs_TEMP));
  }
}

void send_lines(pTHX_ Request& request, SV* body) {
  ENTER;
  SV* separator =
      save_scalar(gv_fetchpvs("/", GV_ADD | GV_NOTQUAL, SVt_PV));  // PSGI: local $/ = \65536
  sv_setsv_mg(separator, sv_2mortal(newRV_noinc(newSViv(65536))));
  for (bool more = true; more;) {
    dSP;
    ENTER;
    SAVETMPS;
    PUSHMARK(SP);
    XPUSHs(body);
    PUTBACK;
    const SSize_t count = call_method("getline", G_SCALAR);
    SPAGAIN;
    SV* line = count > 0 ? POPs : &PL_sv_undef;
    PUTBACK;
    SvGETMAGIC(line);
    more = SvOK(line);
    if (more) {
      SV* bytes = chunk_bytes(aTHX_ request, line);
      more = bytes == nullptr || put_now(aTHX_ request, bytes);
    }
    FREETMPS;
    LEAVE;
  }
  LEAVE;
  if (!request.peer_gone) {
    refuse_unreadable(aTHX_ request, body);
  }
}

// The response is complete by now, so a close that dies is only reported.
void close_body(pTHX_ Request& request, SV* body) {
  SV* target = SvRV(body);
  if (!SvOBJECT(target)) {
    IO* io = io_of(body);
    if (io != nullptr && !is_tied(aTHX_ io) && isGV_with_GP(target)) {
      Perl_do_close(aTHX_ MUTABLE_GV(target), TRUE);
      return;
    }
  } else if (gv_fetchmethod(SvSTASH(target), "close") == nullptr) {
    return;
  }
  const bool closed = call_protected(aTHX_[&] {
    dSP;
    PUSHMARK(SP);
    XPUSHs(body);
    PUTBACK;
    call_method("close", G_VOID | G_DISCARD);
  });
  if (!closed) {
    take_error(aTHX_ request.shared.error);
    request.shared.host->log(
        Severity::Error, title_of(request) + ": closing the body died: " + request.shared.error);
  }
}

void send_handle(pTHX_ Request& request, int status, SV* body) {
  start(request, status);
  if (request.exchange.wants_body() && !send_file(aTHX_ request, body)) {
    send_lines(aTHX_ request, body);
  }
  close_body(aTHX_ request, body);
  finish(request);
}

bool can_read_lines(pTHX_ SV* body) {
  if (!SvROK(body)) {
    return false;
  }
  SV* target = SvRV(body);
  return SvOBJECT(target) ? gv_fetchmethod(SvSTASH(target), "getline") != nullptr
                          : isGV_with_GP(target) || SvTYPE(target) == SVt_PVIO;
}

// Sends the response in `array`, or with `may_stream` and no body only takes its head: then true,
// and a writer follows.
bool send_parts(pTHX_ Request& request, AV* array, bool may_stream) {
  const SSize_t count = av_top_index(array) + 1;
  SV* body = count > 2 ? element(aTHX_ array, 2) : &PL_sv_undef;
  if (count < 2 || (count < 3 && !may_stream)) {
    refuse(aTHX_ request,
           sv_2mortal(newSVpvf("it has %" IVdf " elements, must have status, headers and body",
                               static_cast<IV>(count))));
  }
  // The body first: a look at it may run code, and the headers are views.
  const bool is_stream = may_stream && !SvOK(body);
  const bool is_handle = !is_stream && can_read_lines(aTHX_ body);
  if (!is_stream && !is_handle && !is_array_reference(body)) {
    refuse(aTHX_ request,
           sv_2mortal(newSVpvf("the body is %" SVf
                               ", must be an array reference, a handle or an object with getline",
                               SVfARG(describe(aTHX_ body)))));
  }
  AV* chunks = nullptr;
  if (is_handle) {
    body = sv_mortalcopy(body);
  } else if (!is_stream) {
    chunks = prepare_chunks(aTHX_ request, MUTABLE_AV(hold_target(aTHX_ body)));
  }
  const int status = read_status(aTHX_ request, element(aTHX_ array, 0));
  read_headers(aTHX_ request, element(aTHX_ array, 1));
  if (is_stream) {
    start(request, status);
    request.phase = Phase::Streaming;
    // The client speaks the other protocol only once it has seen this.
    if (status == 101) {
      const ClientsTurn turn(request.shared);
      request.peer_gone = !request.exchange.flush() || request.peer_gone;
    }
    return true;
  }
  if (is_handle) {
    send_handle(aTHX_ request, status, body);
  } else {
    send_array(aTHX_ request, status, chunks);
  }
  return false;
}

const MGVTBL kResponderMagic = counted_table<Link>();
const MGVTBL kWriterMagic = counted_table<Link>();

SV* make_writer(pTHX_ Request& request) {
  SV* body = newSV_type(SVt_PVMG);
  Link& link = link_of(request);
  retain(link);
  attach(aTHX_ body, kWriterMagic, &link);
  return sv_bless(newRV_noinc(body), request.shared.writer_class);
}

// $responder->([status, headers, body]) or ->([status, headers]), which returns a writer.
void xs_responder(pTHX_ CV* cv) {
  dXSARGS;
  const MAGIC* magic = mg_findext(MUTABLE_SV(cv), PERL_MAGIC_ext, &kResponderMagic);
  const Link* link = reinterpret_cast<const Link*>(magic->mg_ptr);
  if (link->request == nullptr) {
    croak("the responder was called after its request had ended");
  }
  Request& request = *link->request;
  if (request.phase != Phase::Nothing) {
    croak("the responder was called twice");
  }
  if (items != 1 || !is_array_reference(ST(0))) {
    croak("wrong response: the responder was called with %" SVf ", needs an array reference",
          SVfARG(describe(aTHX_ items > 0 ? ST(0) : nullptr)));
  }
  SV* response = sv_2mortal(SvREFCNT_inc_simple_NN(SvRV(ST(0))));
  if (!send_parts(aTHX_ request, MUTABLE_AV(response), true)) {
    XSRETURN_UNDEF;
  }
  SV* writer = sv_2mortal(make_writer(aTHX_ request));
  ST(0) = writer;
  XSRETURN(1);
}

// $env->{'psgix.informational'}->(103, [Link => …])
void xs_inform(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 2) {
    croak_xs_usage(cv, "status, headers");
  }
  Shared& shared = shared_of(cv);
  if (shared.request == nullptr || shared.request->phase == Phase::Finished) {
    croak("psgix.informational was called after its request had ended");
  }
  Request& request = *shared.request;
  const IV status = SvIV(ST(0));
  if (status < 100 || status > 199 || status == 101) {
    croak("psgix.informational: the status is %" IVdf ", must be 100 or 102 to 199", status);
  }
  read_headers(aTHX_ request, ST(1));
  const bool sent = request.exchange.inform(static_cast<int>(status), shared.headers);
  ST(0) = boolSV(sent);
  XSRETURN(1);
}

Request& request_of_writer(pTHX_ SV* writer, const char* action) {
  const Link* link = attached<Link>(aTHX_ writer, kWriterMagic);
  if (link == nullptr) {
    croak("not a BPSGI::Writer object: %" SVf, SVfARG(describe(aTHX_ writer)));
  }
  if (link->request == nullptr) {
    croak("cannot %s: the request of this writer has ended", action);
  }
  return *link->request;
}

// $writer->write($bytes): with the kernel when this returns. False, as of a closed handle: the
// client has gone.
void xs_write(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 2) {
    croak_xs_usage(cv, "writer, bytes");
  }
  Request& request = request_of_writer(aTHX_ ST(0), "write");
  if (request.phase != Phase::Streaming) {
    croak("cannot write: the writer was closed");
  }
  SV* bytes = chunk_bytes(aTHX_ request, ST(1));
  if (request.phase != Phase::Streaming) {
    croak("cannot write: the writer was closed");  // by the chunk's own overloading
  }
  if (bytes != nullptr && !request.peer_gone) {
    put_now(aTHX_ request, bytes);
  }
  ST(0) = boolSV(!request.peer_gone);
  XSRETURN(1);
}

// $writer->close: the response is complete. Again: nothing.
void xs_close(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 1) {
    croak_xs_usage(cv, "writer");
  }
  Request& request = request_of_writer(aTHX_ ST(0), "close");
  if (request.phase == Phase::Streaming) {
    finish(request);
  }
  ST(0) = boolSV(!request.peer_gone);
  XSRETURN(1);
}

void call_with_responder(pTHX_ Request& request, SV* code) {
  CV* responder = define(aTHX_ request.shared, nullptr, xs_responder);
  SV* reference = sv_2mortal(newRV_noinc(MUTABLE_SV(responder)));
  Link& link = link_of(request);
  retain(link);
  attach(aTHX_ MUTABLE_SV(responder), kResponderMagic, &link);

  request.in_responder = true;
  dSP;
  PUSHMARK(SP);
  XPUSHs(reference);
  PUTBACK;
  call_sv(code, G_VOID | G_DISCARD);
  request.in_responder = false;
  refuse_stray_child(aTHX);

  switch (request.phase) {
    case Phase::Finished:
      break;
    case Phase::Streaming:
      finish(request);
      break;
    case Phase::Sending:
      refuse(aTHX_ request,
             newSVpvs_flags("the body died while it was sent, and the application ignored that",
                            SVs_TEMP));
    case Phase::Nothing:
      if (request.has_raw_connection) {
        leave_raw_connection(request);
        return;
      }
      refuse(aTHX_ request,
             newSVpvs_flags("the application returned code that never called its responder",
                            SVs_TEMP));
  }
}

}  // namespace

void boot_response(pTHX_ Shared& shared) {
  define(aTHX_ shared, "BPSGI::Writer::write", xs_write);
  define(aTHX_ shared, "BPSGI::Writer::close", xs_close);
  shared.writer_class = gv_stashpvs("BPSGI::Writer", GV_ADD);
  shared.io_getline = get_cv("IO::Handle::getline", 0);
}

void refuse_stray_child(pTHX) {
  if (is_stray_child()) {
    croak("it returned into the server\n");
  }
}

SV* make_informational(pTHX_ Shared& shared) {
  return newRV_noinc(MUTABLE_SV(define(aTHX_ shared, nullptr, xs_inform)));
}

void send_response(pTHX_ Request& request, SV* response) {
  SvGETMAGIC(response);
  if (is_array_reference(response)) {
    send_parts(aTHX_ request, MUTABLE_AV(SvRV(response)), false);
    return;
  }
  if (SvROK(response) && SvTYPE(SvRV(response)) == SVt_PVCV) {
    call_with_responder(aTHX_ request, response);
    return;
  }
  const bool forgot_finalize =
      SvROK(response) && SvOBJECT(SvRV(response)) &&
      gv_fetchmethod_autoload(SvSTASH(SvRV(response)), "finalize", FALSE) != nullptr;
  refuse(aTHX_ request,
         sv_2mortal(newSVpvf("the application returned %" SVf
                             ", must be an array reference or a code reference%s",
                             SVfARG(describe(aTHX_ response)),
                             forgot_finalize ? " (is a call of finalize missing?)" : "")));
}

}  // namespace bladepsgi::perl
