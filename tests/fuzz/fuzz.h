/*
 * What a fuzz harness is: one function that takes any bytes and comes back. It is linked with
 * libFuzzer (clang with AddressSanitizer) or with fuzz_main.c, which replays a corpus in every
 * test run.
 */
#ifndef SOCKST_TESTS_FUZZ_H
#define SOCKST_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property that must hold for every input; not switched off by NDEBUG. */
#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#endif
