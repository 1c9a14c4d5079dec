// SPDX-License-Identifier: Apache-2.0
// Runs a scenario again and again, each time with another allocation failing, until one run
// needs no more of them. The test program has the line
//
//   // WRAP: malloc calloc realloc aligned_alloc strdup strndup asprintf
//
// What shared libraries allocate for themselves is not counted.
#ifndef TESTS_LIB_ALLOCATION_H
#define TESTS_LIB_ALLOCATION_H

#include "tests/lib/test.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static struct {
    atomic_int calls;
    atomic_int fail_at;   // the first is 1; 0: never
    atomic_bool for_ever; // and all after it
} allocation;

static bool allocation_fails(void) {
    int n = atomic_fetch_add(&allocation.calls, 1) + 1, at = atomic_load(&allocation.fail_at);
    if (at == 0 || n < at || (n > at && !atomic_load(&allocation.for_ever))) {
        return false;
    }
    errno = ENOMEM;
    return true;
}

#define ALLOCATION_WRAP(name, params, args)                                                        \
    void *__real_##name params;                                                                    \
    void *__wrap_##name params;                                                                    \
    void *__wrap_##name params {                                                                   \
        return allocation_fails() ? NULL : __real_##name args;                                     \
    }
ALLOCATION_WRAP(malloc, (size_t n), (n))
ALLOCATION_WRAP(calloc, (size_t n, size_t size), (n, size))
ALLOCATION_WRAP(realloc, (void *p, size_t n), (p, n))
ALLOCATION_WRAP(aligned_alloc, (size_t alignment, size_t n), (alignment, n))
ALLOCATION_WRAP(strdup, (const char *s), (s))
ALLOCATION_WRAP(strndup, (const char *s, size_t n), (s, n))

int __wrap_asprintf(char **ret_text, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **ret_text, const char *fmt, ...) {
    va_list args;
    int n = -1;
    va_start(args, fmt);
    if (!allocation_fails()) {
        n = vasprintf(ret_text, fmt, args);
    }
    va_end(args);
    return n;
}

// How many allocations @scenario makes. It says by itself whether what it saw was right.
static int allocation_torture(void (*scenario)(void)) {
    enum { MANY = 10000 };
    int n = 0;
    for (int for_ever = 0; for_ever <= 1; for_ever++) {
        atomic_store(&allocation.for_ever, for_ever == 1);
        for (n = 1; n < MANY; n++) {
            atomic_store(&allocation.calls, 0);
            atomic_store(&allocation.fail_at, n);
            scenario();
            atomic_store(&allocation.fail_at, 0);
            if (atomic_load(&allocation.calls) < n) {
                break;
            }
        }
        assert_true(n > 1 && n < MANY);
    }
    return n - 1;
}

#endif
