#include "runtime/perl/magic.h"

namespace bladepsgi::perl {

Shared& shared_of(CV* cv) {
  return *static_cast<Shared*>(CvXSUBANY(cv).any_ptr);
}

CV* define(pTHX_ Shared& shared, const char* name, XSUBADDR_t body) {
  CV* cv = newXS(name, body, "bladepsgi");
  CvXSUBANY(cv).any_ptr = &shared;
  return cv;
}

}  // namespace bladepsgi::perl
