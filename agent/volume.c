// SPDX-License-Identifier: Apache-2.0
#include "agent/volume.h"

#include "common/cleanup.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

// What tells one mounted directory from another.
struct root_identity {
    uint64_t mount, inode;
    uint32_t major, minor;
};

struct volume {
    const struct volume_options *options; // constant
    struct s3_store *store;               // constant; NULL: a directory
    // under the lock
    int fd; // -1: it cannot be used, see error
    struct root_identity identity;
    struct volume_status status;
};

struct volumes {
    pthread_mutex_t lock;
    size_t n;
    struct volume items[];
};

// What a look at a root found; made without the lock, because it may block.
struct look {
    int fd;
    struct root_identity identity;
    uint64_t bytes_free, bytes_total;
    struct failure failure;
};

static void explain_missing_root(const struct volume_options *o, struct failure *f) {
    if (f->err == ERR_NOT_FOUND) {
        failure_remedy(f, "create %.100s, mount it, or correct the root of volume '%.60s'", o->root,
                       o->name);
    } else if (f->err == ERR_NOT_DIRECTORY) {
        failure_remedy(f, "the root of volume '%.60s' must be a directory", o->name);
    }
}

static enum err look_at_root(const struct volume_options *o, struct look *ret) {
    size_t len = strlen(o->root);
    struct statx sx;
    struct statvfs vfs;
    struct failure *f = &ret->failure;
    AUTO(auto_close) int fd = open(o->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        enum err e = failure_errno(f, errno, "open", o->root, len);
        explain_missing_root(o, f);
        return e;
    }
    if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_MNT_ID, &sx) < 0) {
        return failure_errno(f, errno, "statx", o->root, len);
    }
    if (fstatvfs(fd, &vfs) < 0) {
        return failure_errno(f, errno, "fstatvfs", o->root, len);
    }
    ret->identity = (struct root_identity){
        .mount = (sx.stx_mask & STATX_MNT_ID) != 0 ? sx.stx_mnt_id : 0,
        .inode = sx.stx_ino,
        .major = sx.stx_dev_major,
        .minor = sx.stx_dev_minor,
    };
    ret->bytes_free = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    ret->bytes_total = (uint64_t)vfs.f_blocks * vfs.f_frsize;
    ret->fd = take_fd(&fd);
    return OK;
}

static bool identity_equal(const struct root_identity *a, const struct root_identity *b) {
    return a->mount == b->mount && a->inode == b->inode && a->major == b->major &&
           a->minor == b->minor;
}

static bool moved_much(uint64_t before, uint64_t now, uint64_t total) {
    uint64_t moved = before > now ? before - now : now - before;
    return moved > total / 100;
}

// Under the lock. Takes the look's descriptor.
static bool accept(struct volume *v, struct look *l) {
    struct volume_status *s = &v->status;
    bool was_bad = v->fd < 0;
    if (l->fd < 0) {
        if (v->fd >= 0) {
            close(v->fd);
            v->fd = -1;
        }
        char text[FAILURE_TEXT_MAX];
        failure_format(&l->failure, text, sizeof text);
        bool changed = strcmp(text, s->error) != 0;
        memcpy(s->error, text, sizeof text);
        return changed;
    }
    bool remounted = !identity_equal(&v->identity, &l->identity);
    bool changed = was_bad || remounted || moved_much(s->bytes_free, l->bytes_free, l->bytes_total);
    if (remounted) {
        s->generation++;
        v->identity = l->identity;
    }
    if (was_bad || remounted) {
        int old = v->fd;
        v->fd = take_fd(&l->fd);
        if (old >= 0) {
            close(old);
        }
    } else {
        close(take_fd(&l->fd));
    }
    s->error[0] = '\0';
    if (changed) {
        s->bytes_free = l->bytes_free;
        s->bytes_total = l->bytes_total;
    }
    return changed;
}

// Nothing is sent: whether it answers is seen when it is used.
static enum err open_store(struct volume *item, const struct volume_options *o,
                           struct failure *ret_failure) {
    enum err e = s3_store_new(&o->store, &item->store, ret_failure);
    if (e != OK) {
        return e;
    }
    item->options = o;
    item->fd = -1;
    item->status = (struct volume_status){
        .name = o->name,
        .root = s3_store_endpoint(item->store),
        .readable = o->readable,
        .writable = o->writable,
        .is_store = true,
    };
    return OK;
}

enum err volumes_open(const struct agent_options *o, struct volumes **ret_volumes,
                      struct failure *ret_failure) {
    struct volumes *v = calloc(1, sizeof *v + o->n_volumes * sizeof v->items[0]);
    if (v == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "volumes", NULL, 0, NULL);
    }
    pthread_mutex_init(&v->lock, NULL);
    for (size_t i = 0; i < o->n_volumes; i++) {
        struct volume *item = &v->items[i];
        struct look l = {.fd = -1};
        if (o->volumes[i].root == NULL) {
            enum err e = open_store(item, &o->volumes[i], ret_failure);
            if (e != OK) {
                volumes_free(v);
                return e;
            }
            v->n = i + 1;
            continue;
        }
        enum err e = look_at_root(&o->volumes[i], &l);
        if (e != OK) {
            if (ret_failure != NULL) {
                *ret_failure = l.failure;
            }
            volumes_free(v);
            return e;
        }
        item->options = &o->volumes[i];
        item->fd = -1;
        item->status = (struct volume_status){
            .name = o->volumes[i].name,
            .root = o->volumes[i].root,
            .readable = o->volumes[i].readable,
            .writable = o->volumes[i].writable,
        };
        v->n = i + 1;
        (void)accept(item, &l);
    }
    *ret_volumes = v;
    return OK;
}

void volumes_free(struct volumes *v) {
    if (v == NULL) {
        return;
    }
    for (size_t i = 0; i < v->n; i++) {
        if (v->items[i].fd >= 0) {
            close(v->items[i].fd);
        }
        s3_store_free(v->items[i].store);
    }
    pthread_mutex_destroy(&v->lock);
    free(v);
}

size_t volumes_count(const struct volumes *v) {
    return v->n;
}

void volumes_get(struct volumes *v, size_t index, struct volume_status *ret_status) {
    pthread_mutex_lock(&v->lock);
    *ret_status = v->items[index].status;
    pthread_mutex_unlock(&v->lock);
}

static struct volume *find(struct volumes *v, const char *name) {
    for (size_t i = 0; i < v->n; i++) {
        if (strcmp(v->items[i].options->name, name) == 0) {
            return &v->items[i];
        }
    }
    return NULL;
}

enum err volumes_any_root(struct volumes *v, const char *name, int *ret_fd,
                          struct failure *ret_failure) {
    struct volume *item = find(v, name);
    if (item == NULL) {
        return failure_set(ret_failure, ERR_NO_VOLUME, "open", name, strlen(name),
                           "this agent has no such volume");
    }
    enum err e = OK;
    if (item->store != NULL) {
        return failure_set(ret_failure, ERR_NO_VOLUME, "open", name, strlen(name),
                           "this volume is an object store, not a directory");
    }
    pthread_mutex_lock(&v->lock);
    if (item->fd < 0) {
        e = failure_set(ret_failure, ERR_NO_VOLUME, "open", name, strlen(name),
                        "the volume cannot be used: %.200s", item->status.error);
    } else {
        int fd = fcntl(item->fd, F_DUPFD_CLOEXEC, 0);
        if (fd < 0) {
            e = failure_errno(ret_failure, errno, "dup", name, strlen(name));
        } else {
            *ret_fd = fd;
        }
    }
    pthread_mutex_unlock(&v->lock);
    return e;
}

static enum err check_use(const struct volume *item, const char *name, enum volume_use use,
                          struct failure *ret_failure) {
    if (item != NULL && !(use == VOLUME_READ ? item->options->readable : item->options->writable)) {
        enum err e = failure_set(ret_failure, ERR_DENIED, "open", name, strlen(name),
                                 "the volume is not exported for %s",
                                 use == VOLUME_READ ? "reading" : "writing");
        failure_remedy(ret_failure, "set mode: rw for it in the agent's configuration");
        return e;
    }
    return OK;
}

enum err volumes_root(struct volumes *v, const char *name, enum volume_use use, int *ret_fd,
                      struct failure *ret_failure) {
    enum err e = check_use(find(v, name), name, use, ret_failure);
    return e == OK ? volumes_any_root(v, name, ret_fd, ret_failure) : e;
}

enum err volumes_store(struct volumes *v, const char *name, enum volume_use use,
                       struct s3_store **ret_store, struct failure *ret_failure) {
    const struct volume *item = find(v, name);
    *ret_store = NULL;
    if (item == NULL || item->store == NULL) {
        return OK;
    }
    enum err e = check_use(item, name, use, ret_failure);
    if (e == OK) {
        *ret_store = item->store;
    }
    return e;
}

void volumes_set_credentials(struct volumes *v, const char *name,
                             const struct s3_credentials *keys) {
    const struct volume *item = find(v, name);
    if (item != NULL && item->store != NULL) {
        s3_store_set_credentials(item->store, keys);
    }
}

bool volumes_check(struct volumes *v) {
    bool changed = false;
    for (size_t i = 0; i < v->n; i++) {
        struct volume *item = &v->items[i];
        struct look l = {.fd = -1};
        if (item->store != NULL) {
            continue;
        }
        enum err e = look_at_root(item->options, &l);
        pthread_mutex_lock(&v->lock);
        bool is_news = accept(item, &l);
        pthread_mutex_unlock(&v->lock);
        if (is_news && e != OK) {
            log_event(LOG_WARN, "volume_lost", LOG_STR("volume", item->options->name),
                      LOG_FAILURE(&l.failure));
        }
        changed = changed || is_news;
    }
    return changed;
}
