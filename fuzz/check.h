// For fuzz targets: a property that must hold for every input.
#pragma once

#include <cstdio>
#include <cstdlib>

#define FUZZ_CHECK(condition)                                                                  \
  do {                                                                                         \
    if (!(condition)) {                                                                        \
      static_cast<void>(                                                                       \
          std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition)); \
      std::abort();                                                                            \
    }                                                                                          \
  } while (false)
