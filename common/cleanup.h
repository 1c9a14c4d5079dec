// SPDX-License-Identifier: Apache-2.0
// Release a local when its scope ends; hand it over with take_*().
#ifndef COMMON_CLEANUP_H
#define COMMON_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

#define AUTO(release_fn) __attribute__((cleanup(release_fn)))

// Defines auto_<fn>() for AUTO(); fn must accept NULL.
#define DEFINE_AUTO(type, fn)                                                                      \
    static inline void auto_##fn(type **p) {                                                       \
        fn(*p);                                                                                    \
    }

static inline void auto_free(void *p) {
    free(*(void **)p);
}

static inline void auto_close(const int *fd) {
    if (*fd >= 0) {
        close(*fd);
    }
}

static inline int take_fd(int *fd) {
    int taken = *fd;
    *fd = -1;
    return taken;
}

#define take_ptr(p)                                                                                \
    __extension__({                                                                                \
        __typeof__(p) taken_ = (p);                                                                \
        (p) = NULL;                                                                                \
        taken_;                                                                                    \
    })

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member)                                                            \
    ((type *)(void *)((char *)(ptr) - __builtin_offsetof(type, member)))

#endif
