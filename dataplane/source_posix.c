// SPDX-License-Identifier: Apache-2.0
#include "dataplane/source_posix.h"

#include "common/cleanup.h"
#include "dataplane/beneath.h"
#include "dataplane/dir_set.h"
#include "dataplane/direct_io.h"
#include "dataplane/object_stat.h"
#include "dataplane/source_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { READ_AHEAD_FROM_BYTES = 1 << 20 }; // smaller ranges are read in a few calls anyway

struct source_posix {
    struct source source; // first member
    struct dir_set dirs;
    const struct object_table *table; // borrowed
    uint64_t direct_from_bytes;       // 0: never
    atomic_bool aborted;

    // The open range.
    int fd;
    struct direct_io direct;
    struct object_version version;
    uint64_t pos, end;
    bool may_have_holes;
    uint64_t data_end;   // up to here there is data, known from SEEK_HOLE
    const uint8_t *path; // of the table
    size_t path_len;
    char target[PATH_MAX]; // of a symbolic link
};

static struct source_posix *impl(struct source *s) {
    return CONTAINER_OF(s, struct source_posix, source);
}

// The user knows the object by its path from the volume's root.
static enum err fail(struct source_posix *p, enum err e, int errnum, const char *operation,
                     const char *message, struct failure *ret_failure) {
    const uint8_t *full;
    size_t len;
    if (dir_set_join(&p->dirs, p->path, p->path_len, &full, &len, NULL) != OK) {
        full = p->path;
        len = p->path_len;
    }
    return errnum != 0 ? failure_errno(ret_failure, errnum, operation, full, len)
                       : failure_set(ret_failure, e, operation, full, len, "%s", message);
}

// Opens the object itself, not what a link points to, whatever it may be by now: never blocks
// at a fifo. *@ret_errnum explains ERR_IO.
static enum err open_object(struct source_posix *p, const struct object_entry *e, int *ret_fd,
                            int *ret_errnum, struct failure *ret_failure) {
    const uint8_t *full;
    size_t len;
    enum err err = dir_set_join(&p->dirs, e->path, e->path_len, &full, &len, ret_failure);
    if (err != OK) {
        return err;
    }
    // Opening a device may do things; for all but files a look is enough.
    int flags = e->type == OBJECT_FILE ? O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC
                                       : O_PATH | O_NOFOLLOW | O_CLOEXEC;
    *ret_errnum = 0;
    if (len == 0) {
        return beneath_open(p->dirs.volume_fd, full, 0, O_PATH | O_DIRECTORY, 0, ret_fd,
                            ret_failure);
    }
    for (int attempt = 0;; attempt++) {
        struct dir *dir;
        char name[256];
        err = dir_set_get_parent(&p->dirs, full, len, false, &dir, name, ret_failure);
        if (err != OK) {
            return err;
        }
        int fd = openat(dir->fd, name, flags);
        if (fd >= 0) {
            *ret_fd = fd;
            return OK;
        }
        if (errno == ENOENT && attempt == 0) {
            dir_set_forget(&p->dirs, dir); // the directory may have been made anew
            continue;
        }
        *ret_errnum = errno;
        return ERR_IO;
    }
}

static enum err read_target(struct source_posix *p, int fd, struct object_entry *entry,
                            struct failure *ret_failure) {
    ssize_t n = readlinkat(fd, "", p->target, sizeof(p->target));
    if (n < 0) {
        return fail(p, OK, errno, "read link", NULL, ret_failure);
    }
    entry->target = (const uint8_t *)p->target;
    entry->target_len = (size_t)n;
    return OK;
}

static enum err source_posix_open(struct source *s, const struct source_range *range,
                                  struct source_found *ret_found, struct failure *ret_failure) {
    struct source_posix *p = impl(s);
    if (range->index >= p->table->count) {
        return failure_set(ret_failure, ERR_INVALID, "open", NULL, 0, "no such object in the task");
    }
    struct object_entry want;
    object_table_get(p->table, range->index, &want);
    p->path = want.path;
    p->path_len = want.path_len;
    if (want.is_key) {
        return fail(p, ERR_INVALID, 0, "open", "a key is no path", ret_failure);
    }
    if (atomic_load(&p->aborted)) {
        return fail(p, ERR_CANCELLED, 0, "open", err_text(ERR_CANCELLED), ret_failure);
    }

    AUTO(auto_close) int fd = -1;
    int errnum = 0;
    enum err e = open_object(p, &want, &fd, &errnum, ret_failure);
    if (errnum == ELOOP || errnum == ENXIO) { // a link or a socket now
        return fail(p, ERR_SOURCE_CHANGED, 0, "open", "it is not a file any more", ret_failure);
    }
    if (errnum != 0) {
        return fail(p, OK, errnum, "open", NULL, ret_failure);
    }
    if (e != OK) {
        return e;
    }
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return fail(p, OK, errno, "stat", NULL, ret_failure);
    }
    struct source_found found = {0};
    if (object_from_stat(&st, &found.entry) != OK) {
        return fail(p, ERR_UNSUPPORTED_TYPE, 0, "open", err_text(ERR_UNSUPPORTED_TYPE),
                    ret_failure);
    }
    if (found.entry.type != want.type) {
        return fail(p, ERR_SOURCE_CHANGED, 0, "open",
                    "it is of another kind than when it was listed", ret_failure);
    }
    const struct object_version *now = &found.entry.version, *then = &want.version;
    if (!range->accept_changed && want.type == OBJECT_FILE &&
        (now->size != then->size || now->mtime_ns != then->mtime_ns || now->inode != then->inode)) {
        return fail(p, ERR_SOURCE_CHANGED, 0, "open", "it changed after it was listed",
                    ret_failure);
    }
    if (want.type == OBJECT_SYMLINK) {
        e = read_target(p, fd, &found.entry, ret_failure);
        if (e != OK) {
            return e;
        }
    }

    uint64_t size = want.type == OBJECT_FILE ? now->size : 0;
    uint64_t start = range->offset < size ? range->offset : size;
    p->pos = p->data_end = start;
    p->end = range->length < size - start ? start + range->length : size;
    p->version = *now;
    // A file with holes takes less room than its size (as one on a compressing file system may:
    // then the search finds none).
    p->may_have_holes = (uint64_t)st.st_blocks * 512 < size;
    p->direct =
        (struct direct_io){.is_wanted = p->direct_from_bytes > 0 && size >= p->direct_from_bytes};
    if (p->end - p->pos > READ_AHEAD_FROM_BYTES) {
        (void)posix_fadvise(fd, (off_t)p->pos, (off_t)(p->end - p->pos), POSIX_FADV_SEQUENTIAL);
    }
    p->fd = take_fd(&fd);
    *ret_found = found;
    return OK;
}

// The run of zeros at the position, if there is one. Where the file system cannot tell, all is
// data.
static uint64_t hole_here(struct source_posix *p) {
    if (!p->may_have_holes || p->pos < p->data_end) {
        return 0;
    }
    off_t data = lseek(p->fd, (off_t)p->pos, SEEK_DATA);
    if (data < 0) {
        if (errno == ENXIO) { // nothing but a hole up to the end (or the file is shorter by now)
            struct stat st;
            if (fstat(p->fd, &st) == 0 && (uint64_t)st.st_size >= p->end) {
                return p->end - p->pos;
            }
        }
        p->may_have_holes = false;
        return 0;
    }
    if ((uint64_t)data > p->pos) {
        uint64_t to = (uint64_t)data < p->end ? (uint64_t)data : p->end;
        return to - p->pos;
    }
    off_t hole = lseek(p->fd, (off_t)p->pos, SEEK_HOLE);
    if (hole < 0 || (uint64_t)hole <= p->pos) {
        p->may_have_holes = false;
        return 0;
    }
    p->data_end = (uint64_t)hole;
    return 0;
}

static enum err source_posix_read(struct source *s, void *buf, size_t cap, size_t *ret_len,
                                  uint64_t *ret_hole, struct failure *ret_failure) {
    struct source_posix *p = impl(s);
    if (atomic_load(&p->aborted)) {
        return fail(p, ERR_CANCELLED, 0, "read", err_text(ERR_CANCELLED), ret_failure);
    }
    *ret_len = 0;
    *ret_hole = 0;
    if (p->pos >= p->end) {
        return OK;
    }
    uint64_t hole = hole_here(p);
    if (hole > 0) {
        p->pos += hole;
        *ret_hole = hole;
        return OK;
    }
    uint64_t to = p->may_have_holes && p->data_end < p->end ? p->data_end : p->end;
    if (cap > to - p->pos) {
        cap = (size_t)(to - p->pos);
    }
    for (;;) {
        ssize_t n = pread(p->fd, buf, direct_io_prepare(&p->direct, p->fd, buf, cap, p->pos),
                          (off_t)p->pos);
        if (n > 0) {
            p->pos += (uint64_t)n;
            *ret_len = (size_t)n;
            return OK;
        }
        if (n == 0) {
            return fail(p, ERR_SOURCE_CHANGED, 0, "read", "it became shorter while it was read",
                        ret_failure);
        }
        int errnum = errno;
        if (errnum != EINTR && !direct_io_is_refused(&p->direct, errnum)) {
            return fail(p, OK, errnum, "read", NULL, ret_failure);
        }
    }
}

static enum err source_posix_close(struct source *s, struct source_closed *ret_closed,
                                   struct failure *ret_failure) {
    struct source_posix *p = impl(s);
    AUTO(auto_close) int fd = take_fd(&p->fd);
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return fail(p, OK, errno, "stat", NULL, ret_failure);
    }
    struct object_version now = object_version_from_stat(&st);
    if (S_ISREG(st.st_mode) && p->pos >= p->end && !object_version_equal(&now, &p->version)) {
        return fail(p, ERR_SOURCE_CHANGED, 0, "read", "it was written to while it was read",
                    ret_failure);
    }
    ret_closed->version = now;
    return OK;
}

static int source_posix_fd(const struct source *s) {
    return ((const struct source_posix *)s)->fd;
}

static void source_posix_abort(struct source *s) {
    atomic_store(&impl(s)->aborted, true);
}

static void source_posix_destroy(struct source *s) {
    struct source_posix *p = impl(s);
    if (p->fd >= 0) {
        close(p->fd);
    }
    dir_set_deinit(&p->dirs);
    free(p);
}

static const struct source_ops ops = {
    .kind = "posix",
    .open = source_posix_open,
    .read = source_posix_read,
    .close = source_posix_close,
    .abort = source_posix_abort,
    .destroy = source_posix_destroy,
    .fd = source_posix_fd,
};

enum err source_posix_new(int volume_fd, const uint8_t *root, size_t root_len,
                          const struct object_table *table, struct source **ret_source,
                          struct failure *ret_failure) {
    AUTO(auto_free) struct source_posix *p = calloc(1, sizeof(*p));
    if (!p) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "open source", root, root_len, NULL);
    }
    enum err e = dir_set_init(&p->dirs, volume_fd, root, root_len, false, ret_failure);
    if (e != OK) {
        return e;
    }
    p->source.ops = &ops;
    p->source.capabilities = (struct source_capabilities){.has_fd = true, .transport = "local"};
    p->table = table;
    p->fd = -1;
    struct source_posix *made = take_ptr(p);
    *ret_source = &made->source;
    return OK;
}

void source_posix_read_direct(struct source *s, uint64_t from_bytes) {
    impl(s)->direct_from_bytes = from_bytes;
}
