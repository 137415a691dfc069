#include "runtime/perl/input.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/bytes.h"
#include "base/wipe.h"
#include "runtime/perl/embedded.h"
#include "runtime/perl/magic.h"
#include "runtime/perl/request.h"
#include "runtime/perl/timeout.h"

namespace bladepsgi::perl {

namespace {

// What an empty window points at, so that its addresses are always valid.
const char kNothing[1] = {};

WritableBytes as_writable(std::span<char> text) {
  return std::as_writable_bytes(text);
}

}  // namespace

Source* Source::create(Shared& shared, Exchange& exchange) {
  return new Source(shared, exchange);
}

Source::Source(Shared& shared, Exchange& exchange) : shared_(shared) {
  attach(exchange);
}

void Source::attach(Exchange& exchange) {
  exchange_ = &exchange;
  info_ = exchange.body();
  error_ = 0;
  end_position_ = 0;
  forget_window();
  if (!info_.memory.empty()) {
    const std::string_view all = as_text(info_.memory);
    base_ = next_ = all.data();
    end_ = base_ + all.size();
    end_position_ = all.size();
  }
}

void Source::release() {
  if (--count_ == 0) {
    delete this;
  }
}

void Source::forget_window() {
  base_ = next_ = end_ = kNothing;
}

void Source::detach() {
  exchange_ = nullptr;
  info_ = {};
  error_ = 0;
  end_position_ -= available();
  forget_window();
  if (buffer_ != nullptr) {
    wipe(buffer_.get(), kWindowSize);
    shared_.spare_window = std::move(buffer_);
  }
}

BodyRead Source::read_exchange(std::span<char> into) {
  const ClientsTurn turn(shared_);
  return exchange_->read_body(as_writable(into));
}

std::size_t Source::read_from_peer(std::span<char> into) {
  const bool all_in_memory = !info_.memory.empty();
  const bool at_known_end = info_.buffered && info_.length && end_position_ >= *info_.length;
  if (exchange_ == nullptr || all_in_memory || at_known_end || error_ != 0) {
    return 0;
  }
  BodyRead got = read_exchange(into);
  while (got.error == EINTR && got.size == 0) {
    // The application's own handlers (alarm): they may die, and leave through this frame, which owns nothing. As PerlIO does at a
    // read of its own.
    dTHX;
    PERL_ASYNC_CHECK();
    if (exchange_ == nullptr) {
      return 0;
    }
    got = read_exchange(into);
  }
  if (got.size == 0) {
    error_ = got.error;
  }
  end_position_ += got.size;
  return got.size;
}

bool Source::fill() {
  if (available() != 0) {
    return true;
  }
  if (buffer_ == nullptr) {
    if (exchange_ == nullptr || !info_.memory.empty()) {
      return false;
    }
    buffer_ = shared_.spare_window != nullptr ? std::move(shared_.spare_window)
                                              : std::make_unique_for_overwrite<char[]>(kWindowSize);
  }
  const std::size_t size = read_from_peer({buffer_.get(), kWindowSize});
  if (size == 0) {
    return false;
  }
  base_ = next_ = buffer_.get();
  end_ = base_ + size;
  return true;
}

std::size_t Source::read(std::span<char> into) {
  std::size_t done = 0;
  while (done < into.size()) {
    const std::span<char> rest = into.subspan(done);
    if (available() != 0) {
      const std::size_t size = std::min(available(), rest.size());
      std::memcpy(rest.data(), next_, size);
      next_ += size;
      done += size;
    } else if (rest.size() >= kWindowSize && info_.memory.empty()) {
      const std::size_t size = read_from_peer(rest);
      if (size == 0) {
        break;
      }
      forget_window();  // it no longer ends where the body has been read to
      done += size;
    } else if (!fill()) {
      break;
    }
  }
  return done;
}

bool Source::step_back(std::span<const char> bytes) {
  if (bytes.size() > static_cast<std::size_t>(next_ - base_) ||
      !std::equal(bytes.begin(), bytes.end(), next_ - bytes.size())) {
    return false;
  }
  next_ -= bytes.size();
  return true;
}

bool Source::seek(std::int64_t offset, int whence) {
  if (exchange_ == nullptr || !info_.buffered || !info_.length) {
    errno = ESPIPE;
    return false;
  }
  const auto length = static_cast<std::int64_t>(*info_.length);
  std::int64_t base = 0;
  if (whence == SEEK_CUR) {
    base = static_cast<std::int64_t>(position());
  } else if (whence == SEEK_END) {
    base = length;
  }
  std::int64_t target = 0;
  if (__builtin_add_overflow(base, offset, &target) || target < 0 || target > length) {
    errno = EINVAL;
    return false;
  }
  const auto wanted = static_cast<std::uint64_t>(target);
  if (wanted <= end_position_ && wanted >= end_position_ - window_size()) {
    next_ = end_ - (end_position_ - wanted);
    return true;
  }
  if (!exchange_->seek_body(wanted)) {
    errno = EIO;
    return false;
  }
  forget_window();
  end_position_ = wanted;
  error_ = 0;
  return true;
}

namespace {

// The PerlIO layer. Perl allocates it, so it is plain data; `source` is a counted pointer.
struct Layer {
  struct _PerlIO base;
  Source* source;
};

Layer& layer_of(PerlIO* handle) {
  return *PerlIOSelf(handle, Layer);
}

Source& source_of(PerlIO* handle) {
  return *layer_of(handle).source;
}

IV layer_popped(pTHX_ PerlIO* handle) {
  PERL_UNUSED_CONTEXT;
  if (Source* source = layer_of(handle).source) {
    layer_of(handle).source = nullptr;
    source->release();
  }
  return 0;
}

IV layer_fileno(pTHX_ PerlIO* handle) {
  PERL_UNUSED_CONTEXT;
  PERL_UNUSED_VAR(handle);
  return -1;
}

PerlIO* layer_dup(pTHX_ PerlIO* handle, PerlIO* old, CLONE_PARAMS* parameters, int flags) {
  PerlIO* made = PerlIOBase_dup(aTHX_ handle, old, parameters, flags);
  if (made != nullptr) {
    source_of(old).retain();
    layer_of(made).source = &source_of(old);
    PerlIOBase(made)->flags |= PERLIO_F_OPEN;
  }
  return made;
}

// End of the body or a read error, as Perl wants to be told.
void note_end(PerlIO* handle) {
  if (const int error = source_of(handle).error()) {
    PerlIOBase(handle)->flags |= PERLIO_F_ERROR;
    errno = error;
  } else {
    PerlIOBase(handle)->flags |= PERLIO_F_EOF;
  }
}

SSize_t layer_read(pTHX_ PerlIO* handle, void* into, Size_t count) {
  PERL_UNUSED_CONTEXT;
  const std::size_t size = source_of(handle).read({static_cast<char*>(into), count});
  if (size == 0 && count != 0) {
    note_end(handle);
    return (PerlIOBase(handle)->flags & PERLIO_F_ERROR) != 0 ? -1 : 0;
  }
  return static_cast<SSize_t>(size);
}

SSize_t layer_unread(pTHX_ PerlIO* handle, const void* bytes, Size_t count) {
  if (source_of(handle).step_back({static_cast<const char*>(bytes), count})) {
    return static_cast<SSize_t>(count);
  }
  return PerlIOBase_unread(aTHX_ handle, bytes,
                           count);  // other bytes than were read: a layer of its own
}

SSize_t layer_write(pTHX_ PerlIO* handle, const void* bytes, Size_t count) {
  PERL_UNUSED_CONTEXT;
  PERL_UNUSED_VAR(handle);
  PERL_UNUSED_VAR(bytes);
  PERL_UNUSED_VAR(count);
  errno = EBADF;
  return -1;
}

IV layer_seek(pTHX_ PerlIO* handle, Off_t offset, int whence) {
  PERL_UNUSED_CONTEXT;
  if (!source_of(handle).seek(offset, whence)) {
    return -1;
  }
  PerlIOBase(handle)->flags &= ~static_cast<U32>(PERLIO_F_EOF);
  return 0;
}

Off_t layer_tell(pTHX_ PerlIO* handle) {
  PERL_UNUSED_CONTEXT;
  return static_cast<Off_t>(source_of(handle).position());
}

IV layer_flush(pTHX_ PerlIO* handle) {
  PERL_UNUSED_CONTEXT;
  PERL_UNUSED_VAR(handle);
  return 0;
}

IV layer_fill(pTHX_ PerlIO* handle) {
  PERL_UNUSED_CONTEXT;
  if (source_of(handle).fill()) {
    return 0;
  }
  note_end(handle);
  return -1;
}

IV layer_error(pTHX_ PerlIO* handle) {
  PERL_UNUSED_CONTEXT;
  return source_of(handle).error() != 0 ? 1 : 0;
}

// Perl never writes through these addresses while the handle is open for reading only.
STDCHAR* perl_pointer(const char* at) {
  return const_cast<STDCHAR*>(at);
}

STDCHAR* layer_base(pTHX_ PerlIO* handle) {
  PERL_UNUSED_CONTEXT;
  return perl_pointer(source_of(handle).window());
}

Size_t layer_bufsiz(pTHX_ PerlIO* handle) {
  PERL_UNUSED_CONTEXT;
  return source_of(handle).window_size();
}

STDCHAR* layer_ptr(pTHX_ PerlIO* handle) {
  PERL_UNUSED_CONTEXT;
  return perl_pointer(source_of(handle).next());
}

SSize_t layer_cnt(pTHX_ PerlIO* handle) {
  PERL_UNUSED_CONTEXT;
  return static_cast<SSize_t>(source_of(handle).available());
}

// NOLINTNEXTLINE(readability-non-const-parameter): PerlIO's signature
void layer_set_ptrcnt(pTHX_ PerlIO* handle, STDCHAR* pointer, SSize_t count) {
  PERL_UNUSED_CONTEXT;
  PERL_UNUSED_VAR(pointer);
  source_of(handle).set_available(static_cast<std::size_t>(count));
}

PerlIO_funcs input_layer = {
    sizeof(PerlIO_funcs),
    "bladepsgi",
    sizeof(Layer),
    PERLIO_K_BUFFERED | PERLIO_K_RAW,
    PerlIOBase_pushed,
    layer_popped,
    nullptr,  // cannot be opened by name
    PerlIOBase_binmode,
    nullptr,
    layer_fileno,
    layer_dup,
    layer_read,
    layer_unread,
    layer_write,
    layer_seek,
    layer_tell,
    PerlIOBase_close,
    layer_flush,
    layer_fill,
    PerlIOBase_eof,
    layer_error,
    PerlIOBase_clearerr,
    PerlIOBase_setlinebuf,
    layer_base,
    layer_bufsiz,
    layer_ptr,
    layer_cnt,
    layer_set_ptrcnt,
};

// An unblessed, untied glob open on the source; count one.
GV* make_glob(pTHX_ Source& source) {
  GV* glob = MUTABLE_GV(newSV(0));
  gv_init_pvn(glob, nullptr, "psgi.input", 10, 0);
  IO* io = GvIOn(glob);
  PerlIO* handle = PerlIO_push(aTHX_ PerlIO_allocate(aTHX), &input_layer, "r", nullptr);
  source.retain();
  layer_of(handle).source = &source;
  PerlIOBase(handle)->flags |= PERLIO_F_OPEN;
  IoIFP(io) = handle;
  IoTYPE(io) = IoTYPE_RDONLY;
  return glob;
}

int free_source(pTHX_ SV* value, MAGIC* magic) {
  PERL_UNUSED_CONTEXT;
  PERL_UNUSED_VAR(value);
  reinterpret_cast<Source*>(magic->mg_ptr)->release();
  return 0;
}

int dup_source(pTHX_ MAGIC* magic, CLONE_PARAMS* parameters) {
  PERL_UNUSED_CONTEXT;
  PERL_UNUSED_VAR(parameters);
  reinterpret_cast<Source*>(magic->mg_ptr)->retain();
  return 0;
}

const MGVTBL kInputMagic = {nullptr,     nullptr, nullptr,    nullptr,
                            free_source, nullptr, dup_source, nullptr};

// $tie->open_inner: makes the handle that the tied methods use; most requests never need it.
void xs_open_inner(pTHX_ CV* cv) {
  dXSARGS;
  if (items != 1) {
    croak_xs_usage(cv, "self");
  }
  Source* source = attached<Source>(aTHX_ ST(0), kInputMagic);
  if (source == nullptr) {
    croak("not the inside of psgi.input");
  }
  SV* inner = newRV_noinc(MUTABLE_SV(make_glob(aTHX_ * source)));
  sv_setsv(SvRV(ST(0)), inner);
  ST(0) = sv_2mortal(inner);
  XSRETURN(1);
}

}  // namespace

SV* make_input(pTHX_ Shared& shared, Source& source) {
  GV* glob = make_glob(aTHX_ source);
  SV* tie = newSV_type(SVt_PVMG);
  attach(aTHX_ tie, kInputMagic, &source);
  source.retain();
  SV* tie_reference = sv_bless(newRV_noinc(tie), shared.input_tie_class);
  sv_magic(MUTABLE_SV(GvIOp(glob)), tie_reference, PERL_MAGIC_tiedscalar, nullptr, 0);
  SvREFCNT_dec_NN(tie_reference);
  return sv_bless(newRV_noinc(MUTABLE_SV(glob)), shared.input_class);
}

namespace {

bool is_same_glob(const InputFingerprint& print) {
  GV* glob = MUTABLE_GV(print.glob);
  if (SvREFCNT(glob) != 1 || SvFLAGS(glob) != print.glob_flags ||
      SvSTASH(glob) != print.glob_class || SvMAGIC(glob) != nullptr || GvGP(glob) != print.body ||
      GvFLAGS(glob) != print.glob_own_flags) {
    return false;
  }
  const GP& body = *GvGP(glob);
  return body.gp_refcnt == 1 && body.gp_sv == print.scalar &&
         reinterpret_cast<SV*>(body.gp_io) == print.io && body.gp_cv == nullptr &&
         body.gp_hv == nullptr && body.gp_av == nullptr && body.gp_form == nullptr;
}

std::array<const void*, 6> formats_of(IO* io) {
  return {IoTOP_NAME(io), IoFMT_NAME(io), IoBOTTOM_NAME(io),
          IoTOP_GV(io),   IoFMT_GV(io),   IoBOTTOM_GV(io)};
}

std::array<std::int64_t, 5> counts_of(IO* io) {
  return {IoLINES(io), IoPAGE(io), IoPAGE_LEN(io), IoLINES_LEFT(io), IoTYPE(io)};
}

bool is_same_io(const InputFingerprint& print) {
  IO* io = reinterpret_cast<IO*>(print.io);
  const MAGIC* magic = SvMAGIC(io);
  return SvREFCNT(io) == 1 && SvFLAGS(io) == print.io_flags && SvSTASH(io) == print.io_class &&
         magic == print.io_magic && magic->mg_moremagic == nullptr &&
         magic->mg_obj == print.tie_reference && IoFLAGS(io) == print.io_own_flags &&
         counts_of(io) == print.counts && formats_of(io) == print.formats &&
         IoIFP(io) == print.handle && IoOFP(io) == nullptr;
}

bool is_same_tie(const InputFingerprint& print) {
  return SvREFCNT(print.tie_reference) == 1 &&
         SvFLAGS(print.tie_reference) == print.tie_reference_flags &&
         SvRV(print.tie_reference) == print.tie && SvREFCNT(print.tie) == 1 &&
         SvFLAGS(print.tie) == print.tie_flags && SvMAGIC(print.tie) == print.tie_magic &&
         SvMAGIC(print.tie)->mg_moremagic == nullptr;
}

}  // namespace

InputFingerprint take_fingerprint(pTHX_ SV* reference, Source& source) {
  PERL_UNUSED_CONTEXT;
  GV* glob = MUTABLE_GV(SvRV(reference));
  IO* io = GvIOp(glob);
  const MAGIC* magic = SvMAGIC(io);
  SV* tie = SvRV(magic->mg_obj);
  PerlIO* handle = IoIFP(io);
  return {.source = &source,
          .glob = MUTABLE_SV(glob),
          .glob_class = SvSTASH(glob),
          .body = GvGP(glob),
          .scalar = GvGP(glob)->gp_sv,
          .io = reinterpret_cast<SV*>(io),
          .io_class = SvSTASH(io),
          .io_magic = magic,
          .tie_reference = magic->mg_obj,
          .tie = tie,
          .tie_magic = SvMAGIC(tie),
          .handle = handle,
          .layer = *handle,
          .formats = formats_of(io),
          .counts = counts_of(io),
          .glob_flags = SvFLAGS(glob),
          .glob_own_flags = GvFLAGS(glob),
          .io_flags = SvFLAGS(io),
          .io_own_flags = IoFLAGS(io),
          .tie_reference_flags = SvFLAGS(magic->mg_obj),
          .tie_flags = SvFLAGS(tie),
          .layer_flags = PerlIOBase(handle)->flags};
}

bool is_untouched(pTHX_ const InputFingerprint& print) {
  PERL_UNUSED_CONTEXT;
  if (!is_same_glob(print) || !is_same_io(print) || !is_same_tie(print)) {
    return false;
  }
  PerlIO* handle = IoIFP(reinterpret_cast<IO*>(print.io));
  // One count is the layer's, one the tie's.
  return *handle == print.layer && PerlIOBase(handle)->next == nullptr &&
         PerlIOBase(handle)->flags == print.layer_flags && PerlIOBase(handle)->err == 0 &&
         PerlIOBase(handle)->tab == &input_layer && print.source->count() == 2;
}

void boot_input(pTHX_ Shared& shared) {
  define(aTHX_ shared, "BPSGI::Input::Tie::open_inner", xs_open_inner);
  eval_pv(kInputSource, TRUE);
  shared.input_class = gv_stashpvs("BPSGI::Input", GV_ADD);
  shared.input_tie_class = gv_stashpvs("BPSGI::Input::Tie", GV_ADD);
}

}  // namespace bladepsgi::perl
