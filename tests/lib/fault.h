// SPDX-License-Identifier: Apache-2.0
// Makes the n-th call of a wrapped function fail. One test program wraps what it names in its
// "// WRAP:" line and defines the functions with FAULT_WRAP().
#ifndef TESTS_LIB_FAULT_H
#define TESTS_LIB_FAULT_H

#include <errno.h>
#include <stdatomic.h>

struct fault {
    atomic_int calls;
    int fail_at;   // the first is 1; 0: never
    int fail_more; // so many after it fail, too
    int errnum;
};

static inline int fault_hits(struct fault *f) {
    int n = atomic_fetch_add(&f->calls, 1) + 1;
    if (f->fail_at == 0 || n < f->fail_at || n > f->fail_at + f->fail_more) {
        return 0;
    }
    errno = f->errnum;
    return 1;
}

#define FAULT_WRAP(type, name, params, args)                                                       \
    static struct fault name##_fault;                                                              \
    type __real_##name params;                                                                     \
    type __wrap_##name params;                                                                     \
    type __wrap_##name params {                                                                    \
        return fault_hits(&name##_fault) ? (type)-1 : __real_##name args;                          \
    }

#endif
