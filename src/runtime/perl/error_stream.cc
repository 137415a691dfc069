#include "runtime/perl/error_stream.h"

#include <string>

#include "base/text.h"
#include "runtime/perl/embedded.h"
#include "runtime/perl/magic.h"
#include "runtime/perl/request.h"
#include "runtime/perl/values.h"

namespace bladepsgi::perl {

namespace {

const MGVTBL kErrorsMagic = counted_table<Link>();

// $tie->send_bytes($text): characters above 255 make the text UTF-8, for an error log must never
// fail to say what is wrong.
void xs_send_bytes(pTHX_ CV* cv) {
  dXSARGS;
  PERL_UNUSED_VAR(cv);
  if (items != 2) {
    croak_xs_usage(cv, "self, text");
  }
  const Link* link = attached<Link>(aTHX_ ST(0), kErrorsMagic);
  WideCharacter wide;
  SV* bytes = as_byte_string(aTHX_ ST(1), &wide);
  if (bytes == nullptr) {
    bytes = sv_2mortal(newSVsv(ST(1)));
    sv_utf8_encode(bytes);
  }
  const std::string_view text = view(aTHX_ bytes);
  if (link != nullptr && link->request != nullptr && link->request->phase != Phase::Finished) {
    link->request->exchange.write_error(as_bytes(text));
  } else {
    PerlIO_write(PerlIO_stderr(), text.data(), text.size());
    PerlIO_flush(PerlIO_stderr());
  }
  XSRETURN_YES;
}

SV* field(pTHX_ HV* hash, const char* name, I32 length) {
  SV** found = hv_fetch(hash, name, length, 0);
  return found == nullptr ? &PL_sv_undef : *found;
}

// $logger->({ level => …, message => … })
void xs_log(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 1 || !SvROK(ST(0)) || SvTYPE(SvRV(ST(0))) != SVt_PVHV) {
    croak("psgix.logger takes one hash reference with level and message");
  }
  Shared& shared = shared_of(cv);
  HV* hash = MUTABLE_HV(SvRV(ST(0)));
  STRLEN level_length = 0;
  SV* level_value = sv_mortalcopy(field(aTHX_ hash, "level", 5));
  const char* level_text = SvPV(level_value, level_length);
  STRLEN message_length = 0;
  SV* message = sv_mortalcopy(field(aTHX_ hash, "message", 7));
  const char* message_text = SvPVutf8(message, message_length);
  const std::string_view level{level_text, level_length};
  const auto severity = level == "fatal"   ? Severity::Fatal
                        : level == "error" ? Severity::Error
                        : level == "warn"  ? Severity::Warning
                                           : Severity::Log;
  {
    std::string line = "application ";
    line.append(printable(level, 16));
    if (shared.request != nullptr) {
      line.append(" [").append(shared.request->id).append("]");
    }
    line.append(": ").append(message_text, message_length);
    while (line.back() == '\n') {
      line.pop_back();
    }
    shared.host->log(severity, line);
  }
  XSRETURN_YES;
}

}  // namespace

void boot_errors(pTHX_ Shared& shared) {
  define(aTHX_ shared, "BPSGI::Errors::Tie::send_bytes", xs_send_bytes);
  eval_pv(kErrorsSource, TRUE);
  shared.errors_class = gv_stashpvs("BPSGI::Errors", GV_ADD);
  shared.errors_tie_class = gv_stashpvs("BPSGI::Errors::Tie", GV_ADD);
}

SV* make_errors(pTHX_ Request& request) {
  GV* glob = MUTABLE_GV(newSV(0));
  gv_init_pvn(glob, nullptr, "psgi.errors", 11, 0);
  IO* io = GvIOn(glob);
  IoTYPE(io) = IoTYPE_WRONLY;

  Link& link = link_of(request);
  retain(link);
  SV* tie = newSV_type(SVt_PVMG);
  attach(aTHX_ tie, kErrorsMagic, &link);
  SV* tie_reference = sv_bless(newRV_noinc(tie), request.shared.errors_tie_class);
  sv_magic(MUTABLE_SV(io), tie_reference, PERL_MAGIC_tiedscalar, nullptr, 0);
  SvREFCNT_dec_NN(tie_reference);

  return sv_bless(newRV_noinc(MUTABLE_SV(glob)), request.shared.errors_class);
}

SV* make_logger(pTHX_ Shared& shared) {
  return newRV_noinc(MUTABLE_SV(define(aTHX_ shared, nullptr, xs_log)));
}

}  // namespace bladepsgi::perl
