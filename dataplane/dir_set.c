// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dir_set.h"

#include "common/cleanup.h"
#include "common/object_table.h"
#include "dataplane/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    SYNC_EACH_MAX = 64, // more changed directories are synced by one syncfs
    NAME_LEN_MAX = 255,
};

static void free_dir(struct dir *d) {
    if (d->fd >= 0) {
        close(d->fd);
    }
    free(d->path);
    free(d);
}

enum err dir_set_init(struct dir_set *s, int volume_fd, const uint8_t *root, size_t root_len,
                      bool for_writing, struct failure *ret_failure) {
    if (!object_path_is_valid(root, root_len)) {
        return failure_set(ret_failure, ERR_INVALID, "open root", root, root_len,
                           "not a path below a volume's root");
    }
    uint8_t *copy = malloc(root_len + 1);
    if (!copy) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "open root", root, root_len, NULL);
    }
    if (root_len > 0) {
        memcpy(copy, root, root_len);
    }
    *s = (struct dir_set){
        .volume_fd = volume_fd,
        .root = copy,
        .root_len = root_len,
        .for_writing = for_writing,
    };
    return OK;
}

void dir_set_deinit(struct dir_set *s) {
    while (s->dirs) {
        struct dir *d = s->dirs;
        s->dirs = d->next;
        free_dir(d);
    }
    s->n_dirs = 0;
    free(take_ptr(s->root));
    free(take_ptr(s->joined));
}

enum err dir_set_join(struct dir_set *s, const uint8_t *path, size_t path_len,
                      const uint8_t **ret_full, size_t *ret_full_len, struct failure *ret_failure) {
    size_t need = s->root_len + path_len + 1;
    if (need > s->joined_cap) {
        uint8_t *grown = realloc(s->joined, need + 256);
        if (!grown) {
            return failure_set(ret_failure, ERR_NO_MEMORY, "open", path, path_len, NULL);
        }
        s->joined = grown;
        s->joined_cap = need + 256;
    }
    size_t len = s->root_len;
    memcpy(s->joined, s->root, len);
    if (path_len > 0) {
        if (len > 0) {
            s->joined[len++] = '/';
        }
        memcpy(s->joined + len, path, path_len);
        len += path_len;
    }
    *ret_full = s->joined;
    *ret_full_len = len;
    return OK;
}

static uint64_t hash_path(const uint8_t *path, size_t len) {
    uint64_t h = 14695981039346656037u; // FNV-1a
    for (size_t i = 0; i < len; i++) {
        h = (h ^ path[i]) * 1099511628211u;
    }
    return h;
}

// Finds it and moves it to the front.
static struct dir *find(struct dir_set *s, const uint8_t *path, size_t len, uint64_t hash) {
    for (struct dir **at = &s->dirs; *at; at = &(*at)->next) {
        struct dir *d = *at;
        if (d->hash == hash && d->path_len == len && memcmp(d->path, path, len) == 0) {
            *at = d->next;
            d->next = s->dirs;
            s->dirs = d;
            return d;
        }
    }
    return NULL;
}

static bool is_idle(const struct dir *d) {
    return d->n_users == 0 && !d->changed && !d->found_files && d->n_made_above == 0;
}

static void close_idle(struct dir_set *s) {
    if (s->n_dirs <= DIR_SET_MAX_IDLE) {
        return;
    }
    size_t n_idle = 0;
    for (struct dir **at = &s->dirs; *at;) {
        struct dir *d = *at;
        if (is_idle(d) && ++n_idle > DIR_SET_MAX_IDLE) {
            *at = d->next;
            free_dir(d);
            s->n_dirs--;
        } else {
            at = &d->next;
        }
    }
}

static enum err open_dir(struct dir_set *s, const uint8_t *full, size_t full_len, bool make,
                         struct dir *d, struct failure *ret_failure) {
    if (make) {
        int fd = -1;
        enum err e = beneath_make_directories(s->volume_fd, full, full_len, &fd, &d->n_made_above,
                                              ret_failure);
        if (e != OK) {
            return e;
        }
        d->fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        d->is_readable = d->fd >= 0;
        if (d->is_readable) {
            close(fd);
        } else {
            d->fd = fd; // writable and not readable is enough to make names in it
        }
        return OK;
    }
    if (s->for_writing) {
        enum err e = beneath_open(s->volume_fd, full, full_len, O_RDONLY | O_DIRECTORY, 0, &d->fd,
                                  ret_failure);
        d->is_readable = e == OK;
        if (e != ERR_DENIED) {
            return e;
        }
    }
    return beneath_open(s->volume_fd, full, full_len, O_PATH | O_DIRECTORY, 0, &d->fd, ret_failure);
}

enum err dir_set_get(struct dir_set *s, const uint8_t *full, size_t full_len, bool make,
                     struct dir **ret_dir, struct failure *ret_failure) {
    uint64_t hash = hash_path(full, full_len);
    struct dir *d = find(s, full, full_len, hash);
    if (d) {
        *ret_dir = d;
        return OK;
    }
    close_idle(s);

    d = calloc(1, sizeof(*d));
    uint8_t *path = malloc(full_len + 1);
    if (!d || !path) {
        free(d);
        free(path);
        return failure_set(ret_failure, ERR_NO_MEMORY, "open directory", full, full_len, NULL);
    }
    if (full_len > 0) {
        memcpy(path, full, full_len);
    }
    *d = (struct dir){.hash = hash, .path = path, .path_len = full_len, .fd = -1};
    enum err e = open_dir(s, full, full_len, make, d, ret_failure);
    if (e != OK) {
        free_dir(d);
        return e;
    }
    d->next = s->dirs;
    s->dirs = d;
    s->n_dirs++;
    *ret_dir = d;
    return OK;
}

enum err dir_set_get_parent(struct dir_set *s, const uint8_t *full, size_t full_len, bool make,
                            struct dir **ret_dir, char ret_name[256], struct failure *ret_failure) {
    if (full_len == 0) {
        return failure_set(ret_failure, ERR_INVALID, "open parent", NULL, 0,
                           "the volume's root itself cannot be replaced");
    }
    size_t name_at = full_len;
    while (name_at > 0 && full[name_at - 1] != '/') {
        name_at--;
    }
    size_t name_len = full_len - name_at;
    if (name_len > NAME_LEN_MAX) {
        return failure_errno(ret_failure, ENAMETOOLONG, "open parent", full, full_len);
    }
    enum err e = dir_set_get(s, full, name_at > 0 ? name_at - 1 : 0, make, ret_dir, ret_failure);
    if (e != OK) {
        return e;
    }
    memcpy(ret_name, full + name_at, name_len);
    ret_name[name_len] = '\0';
    return OK;
}

void dir_set_forget(struct dir_set *s, struct dir *d) {
    if (d->n_users > 0) {
        d->hash = ~d->hash; // found no more, and closed when its users are done
        return;
    }
    for (struct dir **at = &s->dirs; *at; at = &(*at)->next) {
        if (*at == d) {
            *at = d->next;
            s->n_dirs--;
            free_dir(d);
            return;
        }
    }
}

size_t dir_set_n_changed(const struct dir_set *s) {
    size_t n = 0;
    for (const struct dir *d = s->dirs; d; d = d->next) {
        n += d->changed || d->n_made_above > 0;
    }
    return n;
}

// fsync of @d and of the directories above it that got a new one on the way to it.
static enum err sync_dir(struct dir *d, struct failure *ret_failure) {
    AUTO(auto_close) int reopened = -1;
    int fd = d->fd;
    if (!d->is_readable) {
        fd = reopened = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0) {
            return failure_errno(ret_failure, errno, "sync directory", d->path, d->path_len);
        }
    }
    if (d->changed && fsync(fd) != 0) {
        return failure_errno(ret_failure, errno, "sync directory", d->path, d->path_len);
    }
    for (uint32_t i = 0; i < d->n_made_above; i++) {
        int above = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (above < 0 || fsync(above) != 0) {
            enum err e =
                failure_errno(ret_failure, errno, "sync directory above", d->path, d->path_len);
            if (above >= 0) {
                close(above);
            }
            return e;
        }
        if (reopened >= 0) {
            close(reopened);
        }
        fd = reopened = above;
    }
    return OK;
}

// Syncs whole file systems instead: one commit of the journal for many directories. Where that
// cannot be done or fails, the directories stay changed and are synced one by one.
static void sync_file_systems(struct dir_set *s) {
    for (struct dir *d = s->dirs; d; d = d->next) {
        struct stat st;
        if (!(d->changed || d->n_made_above > 0) || !d->is_readable || fstat(d->fd, &st) != 0) {
            continue;
        }
        if (syncfs(d->fd) != 0) {
            return;
        }
        for (struct dir *o = d; o; o = o->next) {
            struct stat other;
            if ((o->changed || o->n_made_above > 0) && fstat(o->fd, &other) == 0 &&
                other.st_dev == st.st_dev) {
                o->changed = false;
                o->n_made_above = 0;
            }
        }
    }
}

// One syncfs for each file system with files that were found: to open and sync every one of them
// would be a flush of the disk each.
static void sync_found_files(struct dir_set *s, struct failure *ret_failure) {
    for (struct dir *d = s->dirs; d; d = d->next) {
        if (!d->found_files) {
            continue;
        }
        AUTO(auto_close) int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) != 0 || syncfs(fd) != 0) {
            d->synced = failure_errno(ret_failure, errno, "sync file system", d->path, d->path_len);
            return;
        }
        for (struct dir *o = d; o; o = o->next) {
            struct stat other;
            if (fstat(o->fd, &other) == 0 && other.st_dev == st.st_dev) {
                o->found_files = false;
                o->changed = false;
                o->n_made_above = 0;
            }
        }
    }
}

enum err dir_set_sync(struct dir_set *s, struct failure *ret_failure) {
    for (struct dir *d = s->dirs; d; d = d->next) {
        d->synced = OK;
    }
    sync_found_files(s, s->sync_failure.err == OK ? &s->sync_failure : NULL);
    if (dir_set_n_changed(s) > SYNC_EACH_MAX) {
        sync_file_systems(s);
    }
    for (struct dir *d = s->dirs; d; d = d->next) {
        if (!d->changed && d->n_made_above == 0) {
            continue;
        }
        d->synced = sync_dir(d, s->sync_failure.err == OK ? &s->sync_failure : NULL);
        d->changed = false;
        d->n_made_above = 0;
    }
    close_idle(s);
    if (s->sync_failure.err != OK && ret_failure) {
        *ret_failure = s->sync_failure;
    }
    return s->sync_failure.err;
}
