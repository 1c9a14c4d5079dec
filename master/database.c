// SPDX-License-Identifier: Apache-2.0
// The queue before the store: requests in order, committed in groups, answered on the core.
#include "master/database.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "master/database_request.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    GROUP_MAX = 512,            // requests in one transaction
    GROUP_MAX_BYTES = 16 << 20, // and what they hold
    RETRY_MS = 1000,            // between attempts while the disk is in trouble
    CLOSE_GIVES_UP_MS = 5000,
};

// A thread with a connection and a queue of its own.
struct lane {
    struct database *database;
    struct store *store;
    bool writes;
    bool started;
    pthread_t thread;
    // below: under database.lock
    struct request *first, **last;
    pthread_cond_t wake;
};

struct database {
    struct loop *core;
    int lock_fd;
    pthread_mutex_t lock;
    bool closing;       // under lock
    int64_t closing_ms; // under lock
    struct lane writer, reader;
    atomic_size_t queued; // writes
    // core thread
    bool stopped;
    void (*on_trouble)(void *arg, const struct failure *f);
    void *on_trouble_arg;
    // writer thread
    bool in_trouble;
};

struct trouble_note {
    struct database *database;
    bool begins;
    struct failure failure;
};

static int64_t now_ms(void) {
    return clock_mono_ms(&clock_system);
}

// ---- requests ----
struct request *database_request_new(struct database *d, enum request_kind kind) {
    struct request *r = calloc(1, sizeof *r);
    if (r != NULL) {
        r->database = d;
        r->kind = kind;
    }
    return r;
}

void database_request_free(struct request *r) {
    if (r != NULL) {
        change_free(r->change);
        arena_deinit(&r->answer);
        arena_deinit(&r->arena);
        free(r);
    }
}

static void enqueue(struct lane *l, struct request *r) {
    struct database *d = l->database;
    pthread_mutex_lock(&d->lock);
    *l->last = r;
    l->last = &r->next;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&d->lock);
}

static void answer_group(void *arg);

static void refuse(struct request *r) {
    r->result = ERR_CANCELLED;
    loop_post(r->database->core, answer_group, r);
}

void database_request_write(struct database *d, struct request *take_request) {
    if (d->stopped) {
        refuse(take_request);
        return;
    }
    atomic_fetch_add(&d->queued, 1);
    enqueue(&d->writer, take_request);
}

void database_request_read(struct database *d, struct request *take_request) {
    if (d->stopped) {
        refuse(take_request);
        return;
    }
    enqueue(&d->reader, take_request);
}

size_t database_queued(const struct database *d) {
    return atomic_load(&d->queued);
}

// On the core: the answers of a group, in order.
static void answer_group(void *arg) {
    struct request *r = arg;
    while (r != NULL) {
        struct request *next = r->next;
        if (r->deliver != NULL) {
            r->deliver(r);
        }
        database_request_free(r);
        r = next;
    }
}

static size_t request_bytes(const struct request *r) {
    return r->arena.bytes + (r->change != NULL ? r->change->arena.bytes : 0);
}

// Waits for requests and takes some of them, in order. NULL: closing, and nothing is left.
static struct request *take_group(struct lane *l) {
    struct database *d = l->database;
    pthread_mutex_lock(&d->lock);
    while (l->first == NULL && !d->closing) {
        pthread_cond_wait(&l->wake, &d->lock);
    }
    struct request *group = l->first;
    size_t n = 0;
    size_t bytes = 0;
    struct request **end = &l->first;
    while (*end != NULL && n < (l->writes ? GROUP_MAX : 1) && (n == 0 || bytes < GROUP_MAX_BYTES)) {
        bytes += request_bytes(*end);
        end = &(*end)->next;
        n++;
    }
    if (group != NULL) {
        l->first = *end;
        *end = NULL;
        if (l->first == NULL) {
            l->last = &l->first;
        }
    }
    pthread_mutex_unlock(&d->lock);
    return group;
}

// ---- executing ----
static enum err execute(struct store *s, struct request *r, struct failure *f) {
    arena_deinit(&r->answer); // of an attempt that was rolled back
    switch (r->kind) {
    case REQUEST_CHANGE:
        if (r->change == NULL || r->change->out_of_memory) {
            return ERR_NO_MEMORY;
        }
        return s->ops->apply(s, r->change, f);
    case REQUEST_INSERT_FLOW: return s->ops->insert_flow(s, &r->insert, f);
    case REQUEST_QUERY: return s->ops->read(s, &r->query, &r->answer, f);
    }
    return ERR_INTERNAL;
}

static enum err run_group(struct store *s, struct request *group, struct failure *f) {
    enum err e = s->ops->begin(s, f);
    if (e != OK) {
        return e;
    }
    for (struct request *r = group; r != NULL; r = r->next) {
        r->result = execute(s, r, f);
        if (r->result == ERR_DATABASE) {
            s->ops->rollback(s);
            return ERR_DATABASE;
        }
        if (r->result == ERR_INTERNAL) {
            log_event(LOG_ERROR, "database_request_failed", LOG_FAILURE(f));
        }
    }
    e = s->ops->commit(s, f);
    if (e != OK) {
        s->ops->rollback(s);
    }
    return e;
}

static void tell_trouble(void *arg) {
    struct trouble_note *n = arg;
    if (n->database->on_trouble != NULL) {
        n->database->on_trouble(n->database->on_trouble_arg, n->begins ? &n->failure : NULL);
    }
    free(n);
}

static void set_trouble(struct database *d, bool begins, const struct failure *f) {
    if (d->in_trouble == begins) {
        return;
    }
    d->in_trouble = begins;
    if (begins) {
        log_event(LOG_ERROR, "database_trouble", LOG_FAILURE(f));
    } else {
        log_event(LOG_INFO, "database_recovered", LOG_U64("queued", database_queued(d)));
    }
    struct trouble_note *n = calloc(1, sizeof *n);
    if (n == NULL) {
        return; // it is in the log
    }
    n->database = d;
    n->begins = begins;
    if (f != NULL) {
        n->failure = *f;
    }
    loop_post(d->core, tell_trouble, n);
}

// Waits before the next attempt. False: no more attempts.
static bool wait_to_retry(struct lane *l) {
    struct database *d = l->database;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(RETRY_MS % 1000) * 1000000;
    until.tv_sec += RETRY_MS / 1000;
    pthread_mutex_lock(&d->lock);
    int woken = 0;
    // New requests wake us too: they do not make the disk better, so go on waiting.
    while (woken == 0 && !(d->closing && now_ms() - d->closing_ms > CLOSE_GIVES_UP_MS)) {
        woken = pthread_cond_timedwait(&l->wake, &d->lock, &until);
    }
    bool go_on = !(d->closing && now_ms() - d->closing_ms > CLOSE_GIVES_UP_MS);
    pthread_mutex_unlock(&d->lock);
    return go_on;
}

static void give_up(struct request *group, enum err e) {
    for (struct request *r = group; r != NULL; r = r->next) {
        r->result = e;
        arena_deinit(&r->answer);
    }
}

static void work_off(struct lane *l, struct request *group) {
    struct database *d = l->database;
    struct failure f = {0};
    enum err e = run_group(l->store, group, &f);
    while (e != OK && l->writes) {
        set_trouble(d, true, &f);
        if (!wait_to_retry(l)) {
            break;
        }
        f = (struct failure){0};
        e = run_group(l->store, group, &f);
    }
    if (e == OK && l->writes) {
        set_trouble(d, false, NULL);
    } else if (e != OK) {
        if (!l->writes) {
            log_event(LOG_WARN, "database_read_failed", LOG_FAILURE(&f));
        }
        give_up(group, l->writes ? ERR_CANCELLED : e);
    }
}

static void *lane_main(void *arg) {
    struct lane *l = arg;
    struct request *group;
    while ((group = take_group(l)) != NULL) {
        size_t n = 0;
        for (struct request *r = group; r != NULL; r = r->next) {
            n++;
        }
        work_off(l, group);
        if (l->writes) {
            atomic_fetch_sub(&l->database->queued, n);
        }
        loop_post(l->database->core, answer_group, group);
    }
    return NULL;
}

// ---- opening and closing ----

static enum err lane_start(struct lane *l, struct failure *ret_failure) {
    int errnum = pthread_create(&l->thread, NULL, lane_main, l);
    if (errnum != 0) {
        return failure_errno(ret_failure, errnum, "pthread_create", NULL, 0);
    }
    l->started = true;
    return OK;
}

static bool lane_init(struct lane *l, struct database *d, bool writes) {
    l->database = d;
    l->writes = writes;
    l->last = &l->first;
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0) {
        return false;
    }
    bool ok = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 &&
              pthread_cond_init(&l->wake, &attr) == 0;
    pthread_condattr_destroy(&attr);
    return ok;
}

enum err database_open(const char *state_dir, struct loop *core, struct database **ret_database,
                       struct failure *ret_failure) {
    struct database *d = calloc(1, sizeof *d);
    if (d == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "database_open", NULL, 0, NULL);
    }
    d->core = core;
    d->lock_fd = -1;
    if (pthread_mutex_init(&d->lock, NULL) != 0 || !lane_init(&d->writer, d, true) ||
        !lane_init(&d->reader, d, false)) {
        free(d);
        return failure_set(ret_failure, ERR_NO_MEMORY, "database_open", NULL, 0, NULL);
    }
    enum err e = daemon_lock_directory(state_dir, &d->lock_fd, ret_failure);
    if (e == OK) {
        e = store_sqlite_open(state_dir, STORE_WRITER, &d->writer.store, ret_failure);
    }
    if (e == OK) {
        e = store_sqlite_open(state_dir, STORE_READER, &d->reader.store, ret_failure);
    }
    if (e == OK) {
        e = lane_start(&d->writer, ret_failure);
    }
    if (e == OK) {
        e = lane_start(&d->reader, ret_failure);
    }
    if (e != OK) {
        database_close(d);
        return e;
    }
    *ret_database = d;
    return OK;
}

static void lane_end(struct lane *l) {
    if (l->started) {
        pthread_join(l->thread, NULL);
    }
    if (l->store != NULL) {
        l->store->ops->free(l->store);
    }
    pthread_cond_destroy(&l->wake);
}

void database_stop(struct database *d) {
    pthread_mutex_lock(&d->lock);
    d->closing = true;
    d->closing_ms = now_ms();
    pthread_cond_signal(&d->writer.wake);
    pthread_cond_signal(&d->reader.wake);
    pthread_mutex_unlock(&d->lock);
    lane_end(&d->writer);
    lane_end(&d->reader);
    d->stopped = true;
    d->on_trouble = NULL;
}

void database_close(struct database *d) {
    if (d == NULL) {
        return;
    }
    if (!d->stopped) {
        database_stop(d);
    }
    pthread_mutex_destroy(&d->lock);
    if (d->lock_fd >= 0) {
        close(d->lock_fd);
    }
    free(d);
}

enum err database_raise_term(struct database *d, uint64_t *ret_term, char ret_cluster[27],
                             struct failure *ret_failure) {
    // The writer thread sleeps: nothing was asked yet.
    return d->writer.store->ops->raise_term(d->writer.store, ret_term, ret_cluster, ret_failure);
}

void database_on_trouble(struct database *d, void (*changed)(void *arg, const struct failure *f),
                         void *arg) {
    d->on_trouble = changed;
    d->on_trouble_arg = arg;
}
