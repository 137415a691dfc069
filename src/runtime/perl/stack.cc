#include "runtime/perl/stack.h"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "runtime/perl/perl_api.h"

namespace bladepsgi::perl {

namespace {

constexpr int kMostFrames = 40;
constexpr int kMostStacks = 64;         // a stack each for a sort, a destructor, a tied value, …
constexpr I32 kDeepest = 1'000'000;     // contexts of one stack
constexpr int kMostContexts = 100'000;  // looked at, in all
constexpr std::size_t kLongestName = 128;
constexpr std::size_t kLongestFile = 256;

// As much of a string as there is.
struct Text {
  std::size_t size = 0;
  char bytes[kLongestFile];

  [[nodiscard]] std::string_view view() const { return {bytes, size}; }
};

template <class T>
bool peek(const void* from, T& into) {
  return from != nullptr && read_own_memory(from, &into, sizeof into);
}

// A string with a NUL at its end: piece by piece, as what follows it may not be ours to read.
bool peek_string(const char* from, Text& into) {
  constexpr std::uintptr_t kPiece = 64;
  into.size = 0;
  if (from == nullptr) {
    return false;
  }
  while (into.size < sizeof into.bytes) {
    const auto at = reinterpret_cast<std::uintptr_t>(from + into.size);
    const std::size_t size =
        std::min<std::size_t>(kPiece - at % kPiece, sizeof into.bytes - into.size);
    if (!read_own_memory(from + into.size, into.bytes + into.size, size)) {
      return false;
    }
    if (const void* end = std::memchr(into.bytes + into.size, 0, size)) {
      into.size = static_cast<std::size_t>(static_cast<const char*>(end) - into.bytes);
      return true;
    }
    into.size += size;
  }
  return true;
}

bool peek_key(const HEK* hek, Text& into) {
  struct {
    U32 hash;
    I32 length;
  } head;

  static_assert(offsetof(HEK, hek_key) == sizeof head);
  into.size = 0;
  if (!peek(hek, head) || head.length < 0) {
    return false;
  }
  into.size = std::min<std::size_t>(static_cast<std::size_t>(head.length), kLongestName);
  return read_own_memory(reinterpret_cast<const char*>(hek) + sizeof head, into.bytes, into.size);
}

bool peek_package(const HV* stash, Text& into) {
  HV head;
  into.size = 0;
  if (!peek(stash, head) || (SvFLAGS(&head) & SVTYPEMASK) != SVt_PVHV || !SvOOK(&head)) {
    return false;
  }
#if PERL_VERSION >= 36
  xpvhv_with_aux body;
  if (!peek(head.sv_any, body)) {
    return false;
  }
  const xpvhv_aux& aux = body.xhv_aux;
#else
  XPVHV body;
  xpvhv_aux aux;
  if (!peek(head.sv_any, body) || !peek(head.sv_u.svu_hash + body.xhv_max + 1, aux)) {
    return false;
  }
#endif
  HEK* name = aux.xhv_name_u.xhvnameu_name;
  if (aux.xhv_name_count != 0 && !peek(aux.xhv_name_u.xhvnameu_names, name)) {
    return false;
  }
  return peek_key(name, into);
}

// "Package::name" into the two.
bool peek_sub(const CV* cv, Text& package, Text& name) {
  CV head;
  XPVCV body;
  package.size = name.size = 0;
  if (!peek(cv, head) || !peek(head.sv_any, body)) {
    return false;
  }
  if (const auto type = SvFLAGS(&head) & SVTYPEMASK; type != SVt_PVCV && type != SVt_PVFM) {
    return false;
  }
  const HEK* hek = body.xcv_gv_u.xcv_hek;
  const HV* stash = body.xcv_stash;
  if ((body.xcv_flags & CVf_NAMED) == 0) {
    GV gv;
    XPVGV gv_body;
    if (!peek(body.xcv_gv_u.xcv_gv, gv) || (SvFLAGS(&gv) & SVTYPEMASK) != SVt_PVGV ||
        !peek(gv.sv_any, gv_body)) {
      return false;
    }
    hek = gv_body.xiv_u.xivu_namehek;
    stash = gv_body.xnv_u.xgv_stash;
  }
  return peek_package(stash, package) && peek_key(hek, name);
}

bool peek_file(const COP& cop, Text& into) {
#ifdef USE_ITHREADS
  return peek_string(cop.cop_file, into);
#else
  GV gv;
  XPVGV body;
  if (!peek(cop.cop_filegv, gv) || (SvFLAGS(&gv) & SVTYPEMASK) != SVt_PVGV ||
      !peek(gv.sv_any, body) || !peek_key(body.xiv_u.xivu_namehek, into) || into.size < 2) {
    return false;
  }
  into.size -= 2;  // "_<"
  std::memmove(into.bytes, into.bytes + 2, into.size);
  return true;
#endif
}

// Whole lines into a buffer that may be too small, whatever a file is called.
class Writer {
 public:
  // The end of `into` is kept free for the last line.
  explicit Writer(std::span<char> into)
      : into_(into), limit_(into.size() - std::min(into.size(), kLastLine)) {}

  void add(std::string_view text) {
    for (const char c : text) {
      if (size_ == limit_) {
        is_full_ = true;
        return;
      }
      const auto code = static_cast<unsigned char>(c);
      into_[size_++] = code < 0x20 || code == 0x7f ? '?' : c;
    }
  }

  void add(std::uint64_t number) {
    char digits[20];
    std::size_t first = sizeof digits;
    do {
      digits[--first] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    add({digits + first, sizeof digits - first});
  }

  // Of the line that has been added, nothing stays if it is not all there, unless it is the first. False: no other one has room.
  bool end_line() {
    if (is_full_ && lines_ > 0) {
      size_ = line_;
      return false;
    }
    if (size_ < into_.size()) {
      into_[size_++] = '\n';
    }
    line_ = size_;
    ++lines_;
    return !is_full_;
  }

  // Lines that are there.
  [[nodiscard]] int lines() const { return lines_; }

  void begin_last_line() {
    limit_ = into_.size();
    is_full_ = false;
  }

  std::size_t finish() {
    while (size_ > 0 && into_[size_ - 1] == '\n') {
      --size_;
    }
    return size_;
  }

 private:
  static constexpr std::size_t kLastLine = 24;

  std::span<char> into_;
  std::size_t limit_;
  std::size_t size_ = 0;
  std::size_t line_ = 0;  // where it began
  int lines_ = 0;
  bool is_full_ = false;
};

class Walk {
 public:
  Walk(pTHX_ std::span<char> into) : writer_(into), cop_(PL_curcop), op_(PL_op) {
    const PERL_SI* stack = PL_curstackinfo;
    for (int depth = 0; stack != nullptr && depth < kMostStacks; ++depth) {
      PERL_SI info;
      if (!peek(stack, info) || info.si_cxix < -1 || info.si_cxix > info.si_cxmax ||
          info.si_cxmax > kDeepest || !walk(info)) {
        break;
      }
      stack = info.si_prev;
    }
    if (frames_ == 0) {
      take_frame("", "(file)");  // no sub at all
    }
    if (frames_ > writer_.lines()) {
      writer_.begin_last_line();
      writer_.add("… and ");
      writer_.add(static_cast<std::uint64_t>(frames_ - writer_.lines()));
      writer_.add(" more");
    }
  }

  // 0: nothing that makes sense.
  std::size_t finish() { return has_place_ ? writer_.finish() : 0; }

 private:
  bool walk(const PERL_SI& info) {
    I32 left = info.si_cxix + 1;
    while (left > 0) {
      const I32 count = std::min<I32>(left, kPiece);
      left -= count;
      contexts_ += count;
      if (contexts_ > kMostContexts ||
          !read_own_memory(info.si_cxstack + left, piece_,
                           static_cast<std::size_t>(count) * sizeof(PERL_CONTEXT))) {
        return false;
      }
      for (I32 index = count; index > 0; --index) {
        take(piece_[index - 1]);
      }
    }
    return true;
  }

  void take(const PERL_CONTEXT& context) {
    switch (CxTYPE(&context)) {
      case CXt_SUB:
      case CXt_FORMAT: {
        const CV* cv = CxTYPE(&context) == CXt_SUB ? context.cx_u.cx_blk.blk_u.blku_sub.cv
                                                   : context.cx_u.cx_blk.blk_u.blku_format.cv;
        if (has_room_ && peek_sub(cv, package_, name_)) {
          // Of a PSGI file that says no more than the file does.
          const bool is_sandbox = package_.view().starts_with("Plack::Sandbox::");
          take_frame(is_sandbox ? std::string_view() : package_.view(), name_.view());
        } else {
          take_frame("", "(a sub)");
        }
        break;
      }
      case CXt_EVAL:
        if (CxTRYBLOCK(&context)) {
          return;  // an eval block is nothing that was called
        }
        take_frame("", CxOLD_OP_TYPE(&context) == OP_ENTEREVAL ? "(eval)" : "(require)");
        break;
      default:
        return;
    }
    cop_ = context.cx_u.cx_blk.blku_oldcop;
  }

  void take_frame(std::string_view package, std::string_view name) {
    ++frames_;
    if (!has_room_) {
      return;
    }
    if (!package.empty()) {
      writer_.add(package);
      writer_.add("::");
    }
    writer_.add(name);
    COP cop;
    if (peek(cop_, cop) && peek_file(cop, file_)) {
      writer_.add(" at ");
      writer_.add(file_.view());
      writer_.add(" line ");
      writer_.add(static_cast<std::uint64_t>(cop.cop_line));
      has_place_ = true;
    }
    if (frames_ == 1) {
      add_op();
    }
    has_room_ = writer_.end_line() && writer_.lines() < kMostFrames;
  }

  // Which one takes so long: "in flock".
  void add_op() {
    OP op;
    if (!peek(op_, op) || op.op_type == OP_NULL || op.op_type >= OP_max) {
      return;
    }
    writer_.add(", in ");
    writer_.add(op.op_type == OP_ENTERSUB ? "a call" : PL_op_name[op.op_type]);
  }

  static constexpr I32 kPiece = 16;

  Writer writer_;
  const COP* cop_;
  const OP* op_;
  int frames_ = 0;
  int contexts_ = 0;
  bool has_room_ = true;
  bool has_place_ = false;
  PERL_CONTEXT piece_[kPiece];
  Text package_;
  Text name_;
  Text file_;
};

}  // namespace

bool read_own_memory(const void* from, void* into, std::size_t size) noexcept {
  iovec local{into, size};
  iovec remote{const_cast<void*>(from), size};  // only read
  // Not by the library's function: a sanitizer's own would look at the memory first.
  return ::syscall(SYS_process_vm_readv, static_cast<long>(::getpid()), &local, 1UL, &remote, 1UL,
                   0UL) == static_cast<long>(size);
}

std::size_t write_stack(PerlInterpreter* my_perl, std::span<char> into) noexcept {
  const int saved = errno;
  std::size_t size = Walk(aTHX_ into).finish();
  if (size == 0) {
    const std::string_view none(kNoStack);
    size = std::min(none.size(), into.size());
    std::memcpy(into.data(), none.data(), size);
  }
  errno = saved;
  return size;
}

}  // namespace bladepsgi::perl
