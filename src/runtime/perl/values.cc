#include "runtime/perl/values.h"

#include <cmath>

#include "runtime/perl/perl_api.h"

namespace bladepsgi::perl {

namespace {

const char* article(const char* noun) {
  return std::string_view("AEIOU").find(*noun) == std::string_view::npos ? "a" : "an";
}

Integer from_double(NV number, std::int64_t* into) {
  if (std::isnan(number) || std::isinf(number) || std::trunc(number) != number) {
    return Integer::NotInteger;
  }
  constexpr NV kLimit = 9223372036854775808.0;
  if (number < -kLimit || number >= kLimit) {
    return Integer::OutOfRange;
  }
  *into = static_cast<std::int64_t>(number);
  return Integer::Ok;
}

Integer from_text(pTHX_ const char* text, STRLEN length, std::int64_t* into) {
  UV magnitude = 0;
  const int kind = grok_number(text, length, &magnitude);
  if (kind == 0 || (kind & (IS_NUMBER_INFINITY | IS_NUMBER_NAN)) != 0) {
    return Integer::NotInteger;
  }
  if ((kind & IS_NUMBER_NOT_INT) != 0) {
    return from_double(my_atof(text), into);
  }
  if ((kind & IS_NUMBER_IN_UV) == 0) {
    return Integer::OutOfRange;
  }
  constexpr UV kLimit = static_cast<UV>(INT64_MAX);
  if ((kind & IS_NUMBER_NEG) != 0) {
    if (magnitude > kLimit + 1) {
      return Integer::OutOfRange;
    }
    *into = static_cast<std::int64_t>(0 - magnitude);
    return Integer::Ok;
  }
  if (magnitude > kLimit) {
    return Integer::OutOfRange;
  }
  *into = static_cast<std::int64_t>(magnitude);
  return Integer::Ok;
}

}  // namespace

SV* describe(pTHX_ SV* value) {
  if (value == nullptr) {
    return newSVpvs_flags("nothing", SVs_TEMP);
  }
  SvGETMAGIC(value);
  if (SvROK(value)) {
    SV* target = SvRV(value);
    if (SvOBJECT(target)) {
      return sv_2mortal(newSVpvf("an object of class %s", sv_reftype(target, 1)));
    }
    const char* type = sv_reftype(target, 0);
    return sv_2mortal(newSVpvf("%s %s reference", article(type), type));
  }
  if (isGV_with_GP(value)) {
    return newSVpvs_flags("a bare glob", SVs_TEMP);
  }
  if (!SvOK(value)) {
    return newSVpvs_flags("undef", SVs_TEMP);
  }
  STRLEN length = 0;
  const char* text = SvPV_nomg(value, length);
  SV* shown = newSVpvs_flags("", SVs_TEMP);
  pv_pretty(shown, text, length, 60, "'", "'",
            PERL_PV_PRETTY_ELLIPSES | (SvUTF8(value) ? PERL_PV_ESCAPE_UNI : 0U));
  return shown;
}

bool is_plain(SV* value) {
  return !SvROK(value) && !SvMAGICAL(value) && !isGV_with_GP(value);
}

SV* as_byte_string(pTHX_ SV* value, WideCharacter* wide) {
  bool is_ours = false;
  if (!is_plain(value)) {
    SV* copy = newSVpvs_flags("", SVs_TEMP);
    sv_copypv(copy, value);  // get magic and overloading included
    value = copy;
    is_ours = true;
  }
  if (!SvUTF8(value)) {
    return value;
  }
  if (!is_ours) {
    // How the application stores its string is not ours to change.
    value = sv_2mortal(newSVsv_nomg(value));
  }
  if (sv_utf8_downgrade(value, TRUE)) {
    return value;
  }
  STRLEN length = 0;
  const char* text = SvPV_nomg(value, length);
  const auto* at = reinterpret_cast<const U8*>(text);
  const U8* const end = at + length;
  *wide = {};
  while (at < end) {
    ++wide->position;
    STRLEN size = 0;
    wide->code_point = utf8n_to_uvchr(at, static_cast<STRLEN>(end - at), &size, UTF8_ALLOW_ANY);
    if (wide->code_point > 0xff || size == 0) {
      break;
    }
    at += size;
  }
  return nullptr;
}

std::string_view view(pTHX_ SV* value) {
  STRLEN length = 0;
  const char* text = SvPV_nomg(value, length);
  return {text, length};
}

Integer read_integer(pTHX_ SV* value, std::int64_t* into) {
  SvGETMAGIC(value);
  if (SvROK(value)) {
    if (!SvAMAGIC(value)) {
      return Integer::NotInteger;
    }
    STRLEN length = 0;
    const char* text = SvPV_nomg(value, length);
    return from_text(aTHX_ text, length, into);
  }
  if (SvIOK(value)) {
    if (SvIsUV(value) && SvUVX(value) > static_cast<UV>(INT64_MAX)) {
      return Integer::OutOfRange;
    }
    *into = SvIVX(value);
    return Integer::Ok;
  }
  if (SvNOK(value)) {
    return from_double(SvNVX(value), into);
  }
  if (!SvOK(value) || isGV_with_GP(value)) {
    return Integer::NotInteger;
  }
  STRLEN length = 0;
  const char* text = SvPV_nomg(value, length);
  return from_text(aTHX_ text, length, into);
}

CV* code_of(pTHX_ SV* value) {
  SvGETMAGIC(value);
  if (!SvROK(value)) {
    return nullptr;
  }
  if (SvAMAGIC(value)) {
    value = amagic_deref_call(value, to_cv_amg);
  }
  SV* target = SvRV(value);
  return SvTYPE(target) == SVt_PVCV ? MUTABLE_CV(target) : nullptr;
}

SV* where_defined(pTHX_ CV* code) {
  if (CvISXSUB(code)) {
    return nullptr;
  }
  for (const OP* op = CvSTART(code); op != nullptr; op = op->op_next) {
    if (op->op_type == OP_NEXTSTATE || op->op_type == OP_DBSTATE) {
      const auto* line = reinterpret_cast<const COP*>(op);
      return sv_2mortal(newSVpvf("%s line %" IVdf, CopFILE(line), static_cast<IV>(CopLINE(line))));
    }
    if (op->op_type != OP_NULL && op->op_type != OP_INTROCV && op->op_type != OP_CLONECV) {
      break;
    }
  }
  return CvFILE(code) == nullptr ? nullptr : sv_2mortal(newSVpv(CvFILE(code), 0));
}

}  // namespace bladepsgi::perl
