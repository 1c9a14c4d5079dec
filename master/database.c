// SPDX-License-Identifier: Apache-2.0
// The queue before the store: requests in order, committed in groups, answered on the core.
#include "master/database.h"

#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "master/database_lane.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static void refuse(struct request *r) {
    r->result = ERR_CANCELLED;
    loop_post(r->database->core, lane_answer, r);
}

void database_request_write(struct database *d, struct request *take_request) {
    if (d->stopped) {
        refuse(take_request);
        return;
    }
    atomic_fetch_add(&d->queued, 1);
    lane_enqueue(&d->writer, take_request);
}

void database_request_read(struct database *d, struct request *take_request) {
    if (d->stopped) {
        refuse(take_request);
        return;
    }
    lane_enqueue(&d->reader, take_request);
}

size_t database_queued(const struct database *d) {
    return atomic_load(&d->queued);
}

// ---- opening and closing ----

enum err store_open(const struct database_place *place, enum store_role role,
                    struct store **ret_store, struct failure *ret_failure) {
    return place->url != NULL ? store_postgres_open(place, role, ret_store, ret_failure)
                              : store_sqlite_open(place->state_dir, role, ret_store, ret_failure);
}

static void database_free(struct database *d) {
    pthread_mutex_destroy(&d->lock);
    if (d->lock_fd >= 0) {
        close(d->lock_fd);
    }
    free(d);
}

static enum err open_lanes(struct database *d, const struct database_place *place,
                           struct failure *f) {
    enum err e = daemon_lock_directory(place->state_dir, &d->lock_fd, f);
    if (e == OK) {
        e = store_open(place, STORE_WRITER, &d->writer.store, f);
    }
    if (e == OK) {
        e = store_open(place, STORE_READER, &d->reader.store, f);
    }
    if (e == OK) {
        e = lane_start(&d->writer, f);
    }
    return e == OK ? lane_start(&d->reader, f) : e;
}

enum err database_open(const struct database_place *place, struct loop *core,
                       struct database **ret_database, struct failure *ret_failure) {
    struct database *d = calloc(1, sizeof *d);
    if (d == NULL || pthread_mutex_init(&d->lock, NULL) != 0) {
        free(d);
        return failure_set(ret_failure, ERR_NO_MEMORY, "database_open", NULL, 0, NULL);
    }
    d->core = core;
    d->lock_fd = -1;
    d->outage_ms = place->url != NULL ? place->outage_ms : 0;
    if (lane_init(&d->writer, d, true) != OK) {
        database_free(d);
        return failure_set(ret_failure, ERR_NO_MEMORY, "database_open", NULL, 0, NULL);
    }
    if (lane_init(&d->reader, d, false) != OK) {
        lane_end(&d->writer);
        database_free(d);
        return failure_set(ret_failure, ERR_NO_MEMORY, "database_open", NULL, 0, NULL);
    }
    enum err e = open_lanes(d, place, ret_failure);
    if (e != OK) {
        database_close(d);
        return e;
    }
    *ret_database = d;
    return OK;
}

enum err database_check(const struct database_place *place, struct failure *ret_failure) {
    struct store *s = NULL;
    enum err e = store_open(place, STORE_CHECK, &s, ret_failure);
    if (e == OK) {
        s->ops->free(s);
    }
    return e;
}

void database_stop(struct database *d) {
    pthread_mutex_lock(&d->lock);
    d->closing = true;
    d->closing_ms = clock_mono_ms(&clock_system);
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
    database_free(d);
}

enum err database_raise_term(struct database *d, uint64_t *ret_term, char ret_cluster[27],
                             struct failure *ret_failure) {
    // The writer thread sleeps: nothing was asked yet.
    struct store *s = d->writer.store;
    enum err e = s->ops->raise_term(s, ret_term, ret_cluster, ret_failure);
    atomic_store(&d->is_active, e == OK);
    return e;
}

void database_on_trouble(struct database *d, void (*changed)(void *arg, const struct failure *f),
                         void *arg) {
    d->on_trouble = changed;
    d->on_trouble_arg = arg;
}

void database_on_lost(struct database *d, void (*lost)(void *arg, const struct failure *f),
                      void *arg) {
    pthread_mutex_lock(&d->lock);
    d->on_lost = lost;
    d->on_lost_arg = arg;
    pthread_mutex_unlock(&d->lock);
}
