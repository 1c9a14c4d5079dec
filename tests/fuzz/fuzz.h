// SPDX-License-Identifier: Apache-2.0
// What a fuzz target is: a function that takes any bytes, as libFuzzer calls it.
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

// Always returns 0. What must never happen ends the process.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

// What holds for all inputs. Unlike assert() it is there in every build.
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: must hold: %s\n", __FILE__, __LINE__, #condition);             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#endif
