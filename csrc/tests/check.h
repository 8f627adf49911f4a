#pragma once
#include <cstdio>
#include <cstdlib>

// Ends the test and prints the line that failed; unlike assert, it works in every build type.
#define CHECK(condition)                                                   \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                        \
    }                                                                      \
  } while (false)
