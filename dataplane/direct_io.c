// SPDX-License-Identifier: Apache-2.0
#include "dataplane/direct_io.h"

#include <errno.h>
#include <fcntl.h>

static bool is_aligned(uint64_t n) {
    return n % DIRECT_IO_ALIGN == 0;
}

static void set(struct direct_io *d, int fd, bool on) {
    int flags;

    if (d->is_on == on) {
        return;
    }
    flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) == 0) {
        d->is_on = on;
    } else {
        d->is_wanted = false; // it has no such thing
    }
}

size_t direct_io_prepare(struct direct_io *d, int fd, const void *buf, size_t len,
                         uint64_t offset) {
    size_t whole = len - len % DIRECT_IO_ALIGN;
    bool fits = d->is_wanted && whole > 0 && is_aligned((uintptr_t)buf) && is_aligned(offset);

    set(d, fd, fits);
    return d->is_on ? whole : len;
}

bool direct_io_is_refused(struct direct_io *d, int errnum) {
    if (errnum != EINVAL || !d->is_on) {
        return false;
    }
    d->is_wanted = false;
    return true;
}
