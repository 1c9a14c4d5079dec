// SPDX-License-Identifier: Apache-2.0
// Whole objects: each is written into a temporary beside its name; then many are synced and
// renamed together.
#include "common/cleanup.h"
#include "dataplane/sink_posix_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

// More staged files than this are synced by one syncfs, which costs one commit of the journal
// instead of one each (docs/decisions/0003-small-file-sync.md).
enum { SYNC_EACH_MAX = 64 };

enum err sink_posix_begin(struct sink *s, const struct object_entry *e, const char *temp,
                          struct failure *ret_failure) {
    struct sink_posix *p = sink_posix_of(s);
    struct dir *dir;
    int fd;
    enum err err = sink_posix_create(p, e, temp, &dir, p->open.name, &fd, ret_failure);
    if (err != OK) {
        return err;
    }
    dir->n_users++;
    p->open.fd = fd;
    p->open.direct = sink_posix_direct(p, e);
    p->open.dir = dir;
    memcpy(p->open.temp, temp, TEMP_NAME_SIZE);
    p->open.meta = *e;
    p->open.meta.path = p->open.meta.target = NULL;
    p->open.meta.path_len = p->open.meta.target_len = 0;
    p->open.end = 0;
    p->open.is_part = false;
    return OK;
}

enum err sink_posix_stage(struct sink *s, uint32_t tag, struct failure *ret_failure) {
    struct sink_posix *p = sink_posix_of(s);
    const struct object_entry *meta = &p->open.meta;
    const char *operation = "set size";
    int errnum = 0;
    // The size at the end: a hole there was not written, and bytes may have come past the sink.
    if (p->open.end < meta->version.size && ftruncate(p->open.fd, (off_t)meta->version.size) != 0) {
        errnum = errno;
    }
    struct stat st;
    if (errnum == 0 && fstat(p->open.fd, &st) != 0) {
        errnum = errno;
    }
    // Metadata before the sync: it has to reach the disk as well.
    if (errnum == 0) {
        operation = "set metadata";
        errnum = sink_posix_set_metadata(p, p->open.fd, &st, meta);
    }
    if (errnum != 0) {
        return sink_posix_name_errno(p->open.dir, p->open.name, errnum, operation, ret_failure);
    }

    struct sink_posix_staged *staged = &p->staged[p->n_staged++];
    *staged = (struct sink_posix_staged){
        .fd = take_fd(&p->open.fd),
        .dir = take_ptr(p->open.dir), // with its use
        .tag = tag,
        .device = st.st_dev,
        .is_empty = meta->version.size == 0,
    };
    memcpy(staged->name, p->open.name, sizeof(staged->name));
    memcpy(staged->temp, p->open.temp, sizeof(staged->temp));
    return OK;
}

void sink_posix_drop(struct sink *s) {
    struct sink_posix *p = sink_posix_of(s);
    write_queue_leave(take_ptr(p->open.writer));
    close(take_fd(&p->open.fd));
    if (!p->open.is_part) {
        (void)unlinkat(p->open.dir->fd, p->open.temp, 0);
    }
    p->open.dir->n_users--;
    p->open.dir = NULL;
}

static void end_staged(struct sink_posix_staged *g) {
    if (g->fd >= 0) {
        close(take_fd(&g->fd));
    }
    if (!g->is_renamed) {
        (void)unlinkat(g->dir->fd, g->temp, 0);
    }
    g->dir->n_users--;
    free(take_ptr(g->failure));
}

void sink_posix_drop_staged(struct sink_posix *p) {
    for (uint32_t i = 0; i < p->n_staged; i++) {
        end_staged(&p->staged[i]);
    }
    p->n_staged = 0;
}

static void set_result(struct sink_posix_staged *g, int errnum, const char *operation) {
    g->failure = calloc(1, sizeof(*g->failure)); // without memory the code alone must do
    g->result = sink_posix_name_errno(g->dir, g->name, errnum, operation, g->failure);
}

// One syncfs for all staged files of each file system that has many of them. A failure is not
// taken as an answer: the files are then asked one by one.
static void sync_file_systems(struct sink_posix *p) {
    for (uint32_t i = 0; i < p->n_staged; i++) {
        dev_t device = p->staged[i].device;
        uint32_t n = 0;
        for (uint32_t k = i; k < p->n_staged; k++) {
            n += !p->staged[k].is_synced && p->staged[k].device == device;
        }
        // The file that was opened first sees the errors of all that came after.
        if (n <= SYNC_EACH_MAX || p->staged[i].is_synced) {
            continue;
        }
        if (syncfs(p->staged[i].fd) != 0) {
            return;
        }
        for (uint32_t k = i; k < p->n_staged; k++) {
            p->staged[k].is_synced |= p->staged[k].device == device;
        }
    }
}

static void sync_staged(struct sink_posix *p) {
    if (p->n_staged > SYNC_EACH_MAX) {
        sync_file_systems(p);
    }
    for (uint32_t i = 0; i < p->n_staged; i++) {
        struct sink_posix_staged *g = &p->staged[i];
        if (!g->is_synced && !g->is_empty) {
            (void)sync_file_range(g->fd, 0, 0, SYNC_FILE_RANGE_WRITE); // the disk may start
        }
    }
    for (uint32_t i = 0; i < p->n_staged; i++) {
        struct sink_posix_staged *g = &p->staged[i];
        if (!g->is_synced && fsync(g->fd) != 0) { // not fdatasync: mode and times count too
            set_result(g, errno, "sync");
        }
    }
}

// The last word on the data where nothing is synced: file systems over a network tell at close
// what could not be written.
static void close_staged(struct sink_posix *p) {
    for (uint32_t i = 0; i < p->n_staged; i++) {
        struct sink_posix_staged *g = &p->staged[i];
        if (close(take_fd(&g->fd)) != 0 && errno != EINTR) {
            set_result(g, errno, "close");
        }
    }
}

static void rename_staged(const struct sink_posix *p, struct sink_posix_staged *g) {
    int errnum = sink_posix_rename(p, g->dir, g->temp, g->name);
    if (errnum == 0) {
        g->is_renamed = true;
        g->dir->changed = true;
        return;
    }
    set_result(g, errnum, "rename");
    if (g->result == ERR_EXISTS) {
        sink_say_exists(g->failure);
    }
    if (g->result == ERR_IS_DIRECTORY && g->failure) {
        snprintf(g->failure->message, sizeof(g->failure->message),
                 "a directory is in the way of the file");
        failure_remedy(g->failure, "remove the directory at the destination");
    }
}

static void sync_directories(struct sink_posix *p) {
    struct failure failure = {0};
    if (dir_set_sync(&p->dirs, &failure) == OK) {
        return;
    }
    for (uint32_t i = 0; i < p->n_staged; i++) {
        struct sink_posix_staged *g = &p->staged[i];
        if (g->result == OK && g->dir->synced != OK) {
            g->failure = calloc(1, sizeof(*g->failure));
            if (g->failure) {
                *g->failure = failure;
            }
            g->result = g->dir->synced;
        }
    }
}

enum err sink_posix_finish_staged(struct sink *s, enum durability durability,
                                  void (*each)(void *user, uint32_t tag, enum err result,
                                               const struct failure *failure),
                                  void *user, struct failure *ret_failure) {
    struct sink_posix *p = sink_posix_of(s);
    enum err fenced = OK;
    if (durability == DURABILITY_NONE) {
        close_staged(p);
    } else {
        sync_staged(p);
    }
    for (uint32_t i = 0; i < p->n_staged && fenced == OK; i++) {
        struct sink_posix_staged *g = &p->staged[i];
        fenced = sink_check_fence(s, ret_failure);
        if (fenced == OK && g->result == OK) {
            rename_staged(p, g);
        }
    }
    if (durability == DURABILITY_NONE) {
        for (struct dir *d = p->dirs.dirs; d; d = d->next) {
            d->changed = false;
            d->n_made_above = 0;
        }
    } else if (durability == DURABILITY_OBJECT || fenced != OK ||
               dir_set_n_changed(&p->dirs) > DIR_SET_MAX_CHANGED) {
        sync_directories(p);
    }
    for (uint32_t i = 0; i < p->n_staged; i++) {
        struct sink_posix_staged *g = &p->staged[i];
        if (g->is_renamed || g->result != OK) { // else the fence fell before it
            static const struct failure unknown;
            each(user, g->tag, g->result, g->failure ? g->failure : &unknown);
        }
        end_staged(g);
    }
    p->n_staged = 0;
    return fenced;
}
