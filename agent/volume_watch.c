// SPDX-License-Identifier: Apache-2.0
#include "agent/volume_watch.h"

#include "common/cleanup.h"
#include "common/hash.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct proof_item {
    struct proof_item *next;
    struct volume_proof proof;
};

struct volume_watch {
    struct volume_watch_options options; // constant
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake; // CLOCK_MONOTONIC
    // under the lock
    struct proof_item *first, **last;
    size_t n_queued;
    bool stop;
};

static void proof_file_name(const struct volume_proof *p, char ret_name[16 + 2 * PROOF_NONCE_MAX]) {
    static const char prefix[] = ".sluice-proof-";
    memcpy(ret_name, prefix, sizeof prefix - 1);
    hash_hex(p->nonce, p->nonce_len, ret_name + sizeof prefix - 1);
}

static enum err write_nonce(int root, const char *name, struct volume_proof *p, struct failure *f) {
    size_t name_len = strlen(name);
    AUTO(auto_close)
    int fd = openat(root, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0) {
        return failure_errno(f, errno, "openat", name, name_len);
    }
    ssize_t n = write(fd, p->nonce, p->nonce_len);
    if (n < 0 || fsync(fd) < 0) {
        enum err e = failure_errno(f, errno, "write", name, name_len);
        (void)unlinkat(root, name, 0);
        return e;
    }
    p->wrote = (size_t)n == p->nonce_len;
    return OK;
}

static enum err read_nonce(int root, const char *name, struct volume_proof *p, struct failure *f) {
    AUTO(auto_close) int fd = openat(root, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? OK : failure_errno(f, errno, "openat", name, strlen(name));
    }
    ssize_t n = read(fd, p->seen, sizeof p->seen);
    if (n < 0) {
        return failure_errno(f, errno, "read", name, strlen(name));
    }
    p->seen_len = (size_t)n;
    return OK;
}

static void prove(struct volumes *v, struct volume_proof *p) {
    char name[16 + 2 * PROOF_NONCE_MAX];
    struct failure f = {0};
    AUTO(auto_close) int root = -1;
    proof_file_name(p, name);
    enum err e = volumes_any_root(v, p->volume, &root, &f);
    if (e == OK && p->remove) {
        if (unlinkat(root, name, 0) < 0 && errno != ENOENT) {
            e = failure_errno(&f, errno, "unlinkat", name, strlen(name));
        }
    } else if (e == OK) {
        e = p->write ? write_nonce(root, name, p, &f) : read_nonce(root, name, p, &f);
    }
    if (e != OK) {
        failure_format(&f, p->error, sizeof p->error);
        log_event(LOG_WARN, "volume_proof_failed", LOG_STR("volume", p->volume), LOG_FAILURE(&f));
    }
}

static struct timespec deadline_in(int64_t ms) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += (ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

static void *watch_thread(void *arg) {
    struct volume_watch *w = arg;
    struct timespec look_at = deadline_in(w->options.every_ms);
    pthread_mutex_lock(&w->lock);
    while (!w->stop) {
        struct proof_item *item = w->first;
        if (item == NULL) {
            if (pthread_cond_timedwait(&w->wake, &w->lock, &look_at) != ETIMEDOUT) {
                continue;
            }
            pthread_mutex_unlock(&w->lock);
            if (volumes_check(w->options.volumes)) {
                w->options.changed(w->options.user);
            }
            look_at = deadline_in(w->options.every_ms);
            pthread_mutex_lock(&w->lock);
            continue;
        }
        w->first = item->next;
        if (w->first == NULL) {
            w->last = &w->first;
        }
        w->n_queued--;
        pthread_mutex_unlock(&w->lock);
        prove(w->options.volumes, &item->proof);
        if (!item->proof.remove) {
            w->options.proved(w->options.user, &item->proof);
        }
        free(item);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

enum err volume_watch_new(const struct volume_watch_options *o, struct volume_watch **ret_watch) {
    struct volume_watch *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return ERR_NO_MEMORY;
    }
    w->options = *o;
    if (w->options.every_ms == 0) {
        w->options.every_ms = 5000;
    }
    w->last = &w->first;
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->wake, &attr);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&w->thread, NULL, watch_thread, w) != 0) {
        pthread_cond_destroy(&w->wake);
        pthread_mutex_destroy(&w->lock);
        free(w);
        return ERR_NO_MEMORY;
    }
    *ret_watch = w;
    return OK;
}

enum err volume_watch_prove(struct volume_watch *w, const struct volume_proof *p) {
    struct proof_item *item = calloc(1, sizeof *item);
    if (item == NULL) {
        return ERR_NO_MEMORY;
    }
    item->proof = *p;
    pthread_mutex_lock(&w->lock);
    bool full = w->n_queued == PROOF_QUEUE_MAX;
    if (!full) {
        *w->last = item;
        w->last = &item->next;
        w->n_queued++;
        pthread_cond_signal(&w->wake);
    }
    pthread_mutex_unlock(&w->lock);
    if (full) {
        free(item);
    }
    return full ? ERR_FULL : OK;
}

void volume_watch_free(struct volume_watch *w) {
    if (w == NULL) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    while (w->first != NULL) {
        struct proof_item *item = w->first;
        w->first = item->next;
        free(item);
    }
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    free(w);
}
