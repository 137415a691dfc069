// Magic: a C++ object carried by a Perl value, found again only through the table it was attached
// with, so that an application cannot forge one. The table's free and dup hooks keep the object's
// count.
#pragma once

#include "runtime/perl/perl_api.h"

namespace bladepsgi::perl {

inline void attach(pTHX_ SV* value, const MGVTBL& table, void* object) {
  MAGIC* magic = sv_magicext(value, nullptr, PERL_MAGIC_ext, &table, static_cast<char*>(object), 0);
  magic->mg_flags |= MGf_DUP;
}

// Of the value a reference points to; null when there is none.
template <class T>
T* attached(pTHX_ SV* reference, const MGVTBL& table) {
  PERL_UNUSED_CONTEXT;
  if (!SvROK(reference)) {
    return nullptr;
  }
  SV* value = SvRV(reference);
  const MAGIC* magic =
      SvTYPE(value) >= SVt_PVMG ? mg_findext(value, PERL_MAGIC_ext, &table) : nullptr;
  return magic == nullptr ? nullptr : reinterpret_cast<T*>(magic->mg_ptr);
}

template <class T>
int free_counted(pTHX_ SV* value, MAGIC* magic) {
  PERL_UNUSED_CONTEXT;
  PERL_UNUSED_VAR(value);
  release(*reinterpret_cast<T*>(magic->mg_ptr));
  return 0;
}

template <class T>
int dup_counted(pTHX_ MAGIC* magic, CLONE_PARAMS* parameters) {
  PERL_UNUSED_CONTEXT;
  PERL_UNUSED_VAR(parameters);
  retain(*reinterpret_cast<T*>(magic->mg_ptr));
  return 0;
}

// A table for a T with retain(T&) and release(T&); each table is a kind of value of its own.
template <class T>
constexpr MGVTBL counted_table() {
  return {nullptr, nullptr, nullptr, nullptr, free_counted<T>, nullptr, dup_counted<T>, nullptr};
}

// What an XSUB of ours was registered with.
struct Shared;
Shared& shared_of(CV* cv);
CV* define(pTHX_ Shared& shared, const char* name, XSUBADDR_t body);

}  // namespace bladepsgi::perl
