// SPDX-License-Identifier: Apache-2.0
// The thread behind a queue: takes requests in order, commits them in groups, and goes on trying
// while the store is in trouble.
#include "master/database_lane.h"

#include "common/clock.h"
#include "common/log.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    GROUP_MAX = 512,            // requests in one transaction
    GROUP_MAX_BYTES = 16 << 20, // and what they hold
    RETRY_MS = 1000,            // between attempts while the store is in trouble
    RETRY_FIRST_MS = 50,        // after the first: a connection may have been lost
    READ_ATTEMPTS = 5,
    CLOSE_GIVES_UP_MS = 5000,
};

struct trouble_note {
    struct database *database;
    bool begins;
    struct failure failure;
};

static int64_t now_ms(void) {
    return clock_mono_ms(&clock_system);
}

void lane_enqueue(struct lane *l, struct request *r) {
    struct database *d = l->database;
    pthread_mutex_lock(&d->lock);
    *l->last = r;
    l->last = &r->next;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&d->lock);
}

void lane_answer(void *arg) {
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

static struct timespec after_ms(int64_t ms) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return t;
}

// Waits for requests and takes some of them, in order. NULL: closing, and nothing is left; or
// nothing came for STORE_ALIVE_MS (*@ret_idle).
static struct request *take_group(struct lane *l, bool *ret_idle) {
    struct database *d = l->database;
    const struct timespec until = after_ms(STORE_ALIVE_MS);
    int woken = 0;
    pthread_mutex_lock(&d->lock);
    while (l->first == NULL && !d->closing && woken == 0) {
        woken = pthread_cond_timedwait(&l->wake, &d->lock, &until);
    }
    *ret_idle = l->first == NULL && !d->closing;
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
    d->trouble_ms = now_ms();
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
    if (begins) {
        n->failure = *f;
    }
    loop_post(d->core, tell_trouble, n);
}

// Waits before the next attempt, longer each time. False: no more attempts.
static bool wait_to_retry(struct lane *l, int64_t *ms) {
    struct database *d = l->database;
    const struct timespec until = after_ms(*ms);
    *ms = *ms * 2 < RETRY_MS ? *ms * 2 : RETRY_MS;
    pthread_mutex_lock(&d->lock);
    int woken = 0;
    // New requests wake us too: they do not make the store better, so go on waiting.
    while (woken == 0 && !(d->closing && now_ms() - d->closing_ms > CLOSE_GIVES_UP_MS)) {
        woken = pthread_cond_timedwait(&l->wake, &d->lock, &until);
    }
    bool go_on = !(d->closing && now_ms() - d->closing_ms > CLOSE_GIVES_UP_MS);
    pthread_mutex_unlock(&d->lock);
    return go_on;
}

// Nothing will be committed any more.
static void lose(struct database *d, const struct failure *f) {
    d->lost = true;
    log_event(LOG_ERROR, "database_lost", LOG_FAILURE(f));
    pthread_mutex_lock(&d->lock);
    void (*lost)(void *, const struct failure *) = d->closing ? NULL : d->on_lost;
    void *arg = d->on_lost_arg;
    pthread_mutex_unlock(&d->lock);
    if (lost != NULL) {
        lost(arg, f);
    }
}

static bool outage_is_over(const struct database *d) {
    return d->outage_ms > 0 && d->in_trouble && now_ms() - d->trouble_ms > d->outage_ms;
}

static void give_up(struct request *group, enum err e) {
    for (struct request *r = group; r != NULL; r = r->next) {
        r->result = e;
        arena_deinit(&r->answer);
    }
}

// Until it is committed, or there is no hope. Asked of a reader: a few times.
static enum err run_until_done(struct lane *l, struct request *group, struct failure *f) {
    struct database *d = l->database;
    int64_t wait_ms = RETRY_FIRST_MS;
    for (int attempt = 1;; attempt++) {
        *f = (struct failure){0};
        enum err e = run_group(l->store, group, f);
        if (e == OK || e == ERR_EXISTS) { // ERR_EXISTS: the attempt before was committed
            return OK;
        }
        if (!l->writes) {
            if (attempt == READ_ATTEMPTS || !wait_to_retry(l, &wait_ms)) {
                return e;
            }
            continue;
        }
        set_trouble(d, true, f);
        // A damaged file does not get better by itself.
        if (e == ERR_FENCED || f->err == ERR_CORRUPT || outage_is_over(d)) {
            lose(d, f);
            return ERR_CANCELLED;
        }
        if (!wait_to_retry(l, &wait_ms)) {
            return ERR_CANCELLED;
        }
    }
}

static void work_off(struct lane *l, struct request *group) {
    struct database *d = l->database;
    struct failure f = {0};
    enum err e = l->writes && d->lost ? ERR_CANCELLED : run_until_done(l, group, &f);
    if (e != OK) {
        if (!l->writes) {
            log_event(LOG_WARN, "database_read_failed", LOG_FAILURE(&f));
        }
        give_up(group, e);
    } else if (l->writes) {
        set_trouble(d, false, NULL);
    }
}

// Nothing was asked for a while: a master that lost its database must know it all the same.
static void look_after(struct lane *l) {
    struct database *d = l->database;
    struct failure f = {0};
    if (!l->writes || d->lost || l->store->ops->alive == NULL || !atomic_load(&d->is_active)) {
        return;
    }
    enum err e = l->store->ops->alive(l->store, &f);
    set_trouble(d, e != OK, &f);
    if (e == ERR_FENCED || (e != OK && outage_is_over(d))) {
        lose(d, &f);
    }
}

static void *lane_main(void *arg) {
    struct lane *l = arg;
    for (;;) {
        bool idle;
        struct request *group = take_group(l, &idle);
        if (group == NULL && !idle) {
            return NULL;
        }
        if (idle) {
            look_after(l);
            continue;
        }
        size_t n = 0;
        for (struct request *r = group; r != NULL; r = r->next) {
            n++;
        }
        work_off(l, group);
        if (l->writes) {
            atomic_fetch_sub(&l->database->queued, n);
        }
        loop_post(l->database->core, lane_answer, group);
    }
}

// ---- beginning and ending ----
enum err lane_start(struct lane *l, struct failure *ret_failure) {
    int errnum = pthread_create(&l->thread, NULL, lane_main, l);
    if (errnum != 0) {
        return failure_errno(ret_failure, errnum, "pthread_create", NULL, 0);
    }
    l->started = true;
    return OK;
}

enum err lane_init(struct lane *l, struct database *d, bool writes) {
    l->database = d;
    l->writes = writes;
    l->last = &l->first;
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0) {
        return ERR_NO_MEMORY;
    }
    bool ok = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 &&
              pthread_cond_init(&l->wake, &attr) == 0;
    pthread_condattr_destroy(&attr);
    return ok ? OK : ERR_NO_MEMORY;
}

void lane_end(struct lane *l) {
    if (l->started) {
        pthread_join(l->thread, NULL);
    }
    if (l->store != NULL) {
        l->store->ops->free(l->store);
    }
    pthread_cond_destroy(&l->wake);
}
