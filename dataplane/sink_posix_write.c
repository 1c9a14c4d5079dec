// SPDX-License-Identifier: Apache-2.0
// Bytes into the open temporary, whether it is a whole object or a part of a large one.
#include "dataplane/sink_posix_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum {
    // Of a part: the disk begins to work while the next bytes arrive, so that the sync at the
    // end has little left to do.
    WRITEBACK_BYTES = 8 << 20,
    ZEROS_BYTES = 64 << 10,
};

static enum err fail(struct sink_posix *p, int errnum, struct failure *ret_failure) {
    return sink_posix_name_errno(p->open.dir, p->open.name, errnum, "write", ret_failure);
}

struct direct_io sink_posix_direct(const struct sink_posix *p, const struct object_entry *e) {
    return (struct direct_io){.is_wanted = p->direct_from_bytes > 0 &&
                                           e->version.size >= p->direct_from_bytes};
}

// All of @buf. 0 or an errno.
static int write_all(struct sink_posix *p, uint64_t offset, const char *buf, size_t len) {
    while (len > 0) {
        int fd = p->open.fd;
        ssize_t n = pwrite(fd, buf, direct_io_prepare(&p->open.direct, fd, buf, len, offset),
                           (off_t)offset);
        int errnum = n < 0 ? errno : EIO;
        if (n < 0 && (errnum == EINTR || direct_io_is_refused(&p->open.direct, errnum))) {
            continue;
        }
        if (n <= 0) {
            return errnum;
        }
        buf += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

// Starts writeback of what came in a row since the last time, as far as it is written.
static void kick_writeback(struct sink_posix *p, uint64_t from, uint64_t to) {
    if (p->open.kicked_to != from) {
        p->open.kicked_from = from;
    }
    p->open.kicked_to = to;
    if (to - p->open.kicked_from < WRITEBACK_BYTES) {
        return;
    }
    uint64_t pending = p->open.writer ? write_queue_pending(p->open.writer) : UINT64_MAX;
    if (pending < to) {
        to = pending;
    }
    if (to > p->open.kicked_from) {
        (void)sync_file_range(p->open.fd, (off_t)p->open.kicked_from,
                              (off_t)(to - p->open.kicked_from), SYNC_FILE_RANGE_WRITE);
        p->open.kicked_from = to;
    }
}

bool sink_posix_write_queued(void *sink, uint64_t offset, const void *bytes, size_t len) {
    struct sink_posix *p = sink;
    p->open.err = sink_check_fence(&p->sink, NULL); // time has passed since it was asked
    if (p->open.err == OK) {
        p->open.errnum = sink_posix_is_aborted(p) ? ECANCELED : write_all(p, offset, bytes, len);
    }
    return p->open.err == OK && p->open.errnum == 0;
}

static enum err writer_failed(struct sink_posix *p, struct failure *ret_failure) {
    p->open.is_told = true;
    return p->open.err != OK ? failure_set(ret_failure, p->open.err, "write", p->open.name,
                                           strlen(p->open.name), NULL)
                             : fail(p, p->open.errnum, ret_failure);
}

void *sink_posix_room(struct sink *s, uint64_t offset, size_t *ret_cap) {
    (void)offset;
    struct queue_writer *w = sink_posix_of(s)->open.writer;
    return w ? write_queue_room(w, ret_cap) : NULL;
}

enum err sink_posix_settle(struct sink *s, struct failure *ret_failure) {
    struct sink_posix *p = sink_posix_of(s);
    return !p->open.writer || write_queue_settle(p->open.writer) ? OK
                                                                 : writer_failed(p, ret_failure);
}

enum err sink_posix_write(struct sink *s, uint64_t offset, const void *buf, size_t len,
                          struct failure *ret_failure) {
    struct sink_posix *p = sink_posix_of(s);
    if (sink_posix_is_aborted(p)) {
        return fail(p, ECANCELED, ret_failure);
    }
    if (p->open.writer) {
        if (!write_queue_put(p->open.writer, offset, buf, len)) {
            return writer_failed(p, ret_failure);
        }
    } else {
        int errnum = write_all(p, offset, buf, len);
        if (errnum != 0) {
            return fail(p, errnum, ret_failure);
        }
    }
    if (offset + len > p->open.end) {
        p->open.end = offset + len;
    }
    if (p->open.is_part) {
        kick_writeback(p, offset, offset + len);
    }
    return OK;
}

enum err sink_posix_write_hole(struct sink *s, uint64_t offset, uint64_t len,
                               struct failure *ret_failure) {
    struct sink_posix *p = sink_posix_of(s);
    if (sink_posix_is_aborted(p)) {
        return fail(p, ECANCELED, ret_failure);
    }
    if (!p->open.is_part && offset >= p->open.end) {
        return OK; // nothing was there; stage() sets the size
    }
    // An earlier attempt at this part may have left bytes here.
    if (fallocate(p->open.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                  (off_t)len) == 0) {
        return OK;
    }
    if (errno != EOPNOTSUPP && errno != ENOSYS) {
        return fail(p, errno, ret_failure);
    }
    enum err err = sink_posix_settle(s, ret_failure);
    if (err != OK) {
        return err;
    }
    static const char zeros[ZEROS_BYTES];
    while (len > 0) {
        size_t n = len < sizeof(zeros) ? (size_t)len : sizeof(zeros);
        int errnum = write_all(p, offset, zeros, n);
        if (errnum == 0 && sink_posix_is_aborted(p)) {
            errnum = ECANCELED;
        }
        if (errnum != 0) {
            return fail(p, errnum, ret_failure);
        }
        offset += n;
        len -= n;
    }
    return OK;
}
