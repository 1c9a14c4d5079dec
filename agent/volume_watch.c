// SPDX-License-Identifier: Apache-2.0
#include "agent/volume_watch.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
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
            proof_files_sweep(w->options.proofs, PROOF_KEPT_MS);
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
        proof_files_prove(w->options.proofs, &item->proof);
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
