// SPDX-License-Identifier: Apache-2.0
#include "dataplane/sink_posix.h"

#include "common/cleanup.h"
#include "dataplane/object_stat.h"
#include "dataplane/sink_posix_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum {
    STAGED_MAX = 256,
    STAGED_MIN = 8,
    // One slot takes at most this share of the descriptors that the process may have: each
    // staged object keeps its file open, and its directory.
    DESCRIPTOR_SHARE = 32,
};

enum err sink_posix_fail(struct sink_posix *p, const struct object_entry *e, enum err err,
                         const char *operation, const char *message, struct failure *ret_failure) {
    const uint8_t *full;
    size_t len;
    if (dir_set_join(&p->dirs, e->path, e->path_len, &full, &len, NULL) != OK) {
        full = e->path;
        len = e->path_len;
    }
    return failure_set(ret_failure, err, operation, full, len, "%s",
                       message ? message : err_text(err));
}

enum err sink_posix_errno(struct sink_posix *p, const struct object_entry *e, int errnum,
                          const char *operation, struct failure *ret_failure) {
    const uint8_t *full;
    size_t len;
    if (dir_set_join(&p->dirs, e->path, e->path_len, &full, &len, NULL) != OK) {
        full = e->path;
        len = e->path_len;
    }
    return failure_errno(ret_failure, errnum, operation, full, len);
}

enum err sink_posix_name_errno(const struct dir *d, const char *name, int errnum,
                               const char *operation, struct failure *ret_failure) {
    uint8_t path[FAILURE_OBJECT_MAX]; // the last bytes are kept, as a failure does
    size_t name_len = strlen(name);
    size_t room = sizeof(path) - name_len - 1;
    size_t dir_len = d->path_len < room ? d->path_len : room;
    size_t len = 0;
    if (dir_len > 0) {
        memcpy(path, d->path + (d->path_len - dir_len), dir_len);
        path[dir_len] = '/';
        len = dir_len + 1;
    }
    memcpy(path + len, name, name_len);
    return failure_errno(ret_failure, errnum, operation, path, len + name_len);
}

bool sink_posix_is_aborted(const struct sink_posix *p) {
    return atomic_load(&p->aborted);
}

enum err sink_posix_parent(struct sink_posix *p, const struct object_entry *e, bool make,
                           struct dir **ret_dir, char ret_name[256], struct failure *ret_failure) {
    const uint8_t *full;
    size_t len;
    enum err err = dir_set_join(&p->dirs, e->path, e->path_len, &full, &len, ret_failure);
    if (err != OK) {
        return err;
    }
    return dir_set_get_parent(&p->dirs, full, len, make, ret_dir, ret_name, ret_failure);
}

enum err sink_posix_create(struct sink_posix *p, const struct object_entry *e, const char *temp,
                           struct dir **ret_dir, char ret_name[256], int *ret_fd,
                           struct failure *ret_failure) {
    bool was_forgotten = false, was_unlinked = false;
    for (;;) {
        enum err err = sink_posix_parent(p, e, true, ret_dir, ret_name, ret_failure);
        if (err != OK) {
            return err;
        }
        int fd =
            openat((*ret_dir)->fd, temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0) {
            *ret_fd = fd;
            return OK;
        }
        int errnum = errno;
        if (errnum == ENOENT && !was_forgotten) {
            was_forgotten = true; // somebody removed the directory meanwhile
            dir_set_forget(&p->dirs, *ret_dir);
        } else if (errnum == EEXIST && !was_unlinked) {
            was_unlinked = true; // of an attempt that broke off
            if (unlinkat((*ret_dir)->fd, temp, 0) != 0 && errno != ENOENT) {
                return sink_posix_errno(p, e, errno, "remove old temporary", ret_failure);
            }
        } else {
            return sink_posix_errno(p, e, errnum, "create", ret_failure);
        }
    }
}

mode_t sink_posix_mode(const struct sink_posix *p, const struct object_entry *e) {
    mode_t mode = e->mode & 07777;
    if (!p->is_root) {
        if (e->uid != p->uid) {
            mode &= ~(mode_t)S_ISUID;
        }
        if (e->gid != p->gid && e->type != OBJECT_DIRECTORY) {
            mode &= ~(mode_t)S_ISGID;
        }
    }
    return mode;
}

int sink_posix_set_metadata(const struct sink_posix *p, int fd, const struct stat *now,
                            const struct object_entry *e) {
    // Permissions after the owner: a change of owner takes set-user-ID bits away.
    bool is_owned = now && now->st_uid == e->uid && now->st_gid == e->gid;
    if (p->is_root && !is_owned && fchown(fd, e->uid, e->gid) != 0) {
        return errno;
    }
    if (fchmod(fd, sink_posix_mode(p, e)) != 0) {
        return errno;
    }
    struct timespec times[2] = {
        {.tv_nsec = UTIME_OMIT},
        object_timespec_from_ns(e->version.mtime_ns),
    };
    return futimens(fd, times) != 0 ? errno : 0;
}

enum err sink_posix_changed(struct sink_posix *p, struct dir *d, struct failure *ret_failure) {
    d->changed = true;
    if (dir_set_n_changed(&p->dirs) <= DIR_SET_MAX_CHANGED) {
        return OK;
    }
    return dir_set_sync(&p->dirs, ret_failure);
}

enum err sink_posix_sync_directories(struct sink *s, struct failure *ret_failure) {
    return dir_set_sync(&sink_posix_of(s)->dirs, ret_failure);
}

static int sink_posix_fd(const struct sink *s) {
    return ((const struct sink_posix *)s)->open.fd;
}

static void sink_posix_abort(struct sink *s) {
    atomic_store(&sink_posix_of(s)->aborted, true);
}

static void sink_posix_destroy(struct sink *s) {
    struct sink_posix *p = sink_posix_of(s);
    if (p->open.fd >= 0) {
        sink_posix_drop(s);
    }
    sink_posix_drop_staged(p);
    dir_set_deinit(&p->dirs);
    free(p->staged);
    free(p->boot_id);
    free(p);
}

static const struct sink_ops ops = {
    .kind = "posix",
    .compare = sink_posix_compare,
    .begin = sink_posix_begin,
    .write = sink_posix_write,
    .write_hole = sink_posix_write_hole,
    .room = sink_posix_room,
    .settle = sink_posix_settle,
    .stage = sink_posix_stage,
    .drop = sink_posix_drop,
    .finish_staged = sink_posix_finish_staged,
    .open_large = sink_posix_open_large,
    .open_part = sink_posix_open_part,
    .close_part = sink_posix_close_part,
    .sync_large = sink_posix_sync_large,
    .finish_large = sink_posix_finish_large,
    .remove_temp = sink_posix_remove_temp,
    .abort = sink_posix_abort,
    .destroy = sink_posix_destroy,

    .make_directory = sink_posix_make_directory,
    .make_special = sink_posix_make_special,
    .set_directory_metadata = sink_posix_set_directory_metadata,
    .remove = sink_posix_remove,
    .make_link = sink_posix_make_link,
    .sync_directories = sink_posix_sync_directories,
    .fd = sink_posix_fd,
};

static uint32_t choose_max_staged(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return STAGED_MIN;
    }
    rlim_t share = limit.rlim_cur / DESCRIPTOR_SHARE;
    return share < STAGED_MIN ? STAGED_MIN : share > STAGED_MAX ? STAGED_MAX : (uint32_t)share;
}

enum err sink_posix_new(const struct sink_posix_options *o, struct sink **ret_sink,
                        struct failure *ret_failure) {
    struct sink_posix *p = calloc(1, sizeof(*p));
    if (!p) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "open sink", o->root, o->root_len, NULL);
    }
    p->open.fd = -1;
    p->is_root = geteuid() == 0;
    p->uid = geteuid();
    p->gid = getegid();
    p->sink.ops = &ops;
    p->sink.fence = o->fence;
    p->queues = o->queues;
    p->direct_from_bytes = o->direct_from_bytes;
    p->sink.capabilities = (struct sink_capabilities){
        .has_fd = true,
        .writes_anywhere = true,
        .never_replaces = o->never_replaces,
        .max_staged = choose_max_staged(),
    };
    p->boot_id = strdup(o->boot_id ? o->boot_id : "");
    p->staged = calloc(p->sink.capabilities.max_staged, sizeof(*p->staged));
    enum err e = ERR_NO_MEMORY;
    if (!p->boot_id || !p->staged) {
        failure_set(ret_failure, ERR_NO_MEMORY, "open sink", o->root, o->root_len, NULL);
    } else {
        e = dir_set_init(&p->dirs, o->volume_fd, o->root, o->root_len, true, ret_failure);
    }
    if (e != OK) {
        free(p->staged);
        free(p->boot_id);
        free(p);
        return e;
    }
    *ret_sink = &p->sink;
    return OK;
}
