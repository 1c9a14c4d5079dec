// SPDX-License-Identifier: Apache-2.0
#include "master/flow_table.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "master/database.h"
#include "master/flow_row.h"
#include "master/limits.h"
#include "master/watch.h"

#include <stdlib.h>
#include <string.h>

enum { LOAD_PAGE = 500 };

static void on_tick(void *arg) {
    struct flows *fl = arg;
    struct flow_entry *e, *next;
    if (fl->stopping) {
        return;
    }
    int64_t now_ms = clock_mono_ms(fl->core->clock);
    HASH_ITER(hh, fl->by_id, e, next) {
        flow_tick(fl, e, now_ms);
    }
    flows_start_waiting(fl);
    if (fl->by_id != NULL) {
        loop_timer_arm(fl->tick, FLOW_TICK_MS);
    }
}

static void on_trouble(void *arg, const struct failure *f) {
    struct flows *fl = arg;
    fl->in_trouble = f != NULL;
    if (f != NULL) {
        fl->trouble = *f;
    }
}

enum err flows_new(struct core *c, struct flows **ret_flows) {
    struct flows *fl = calloc(1, sizeof *fl);
    if (fl == NULL) {
        return ERR_NO_MEMORY;
    }
    fl->core = c;
    fl->tick = loop_timer_new(c->loop, on_tick, fl);
    if (fl->tick == NULL) {
        free(fl);
        return ERR_NO_MEMORY;
    }
    database_on_trouble(c->database, on_trouble, fl);
    *ret_flows = fl;
    return OK;
}

static void entry_free(struct flow_entry *e) {
    flow_deinit(&e->flow);
    free(e);
}

void flows_free(struct flows *fl) {
    struct flow_entry *e, *next;
    if (fl == NULL) {
        return;
    }
    HASH_ITER(hh, fl->by_id, e, next) {
        HASH_DEL(fl->by_id, e);
        entry_free(e);
    }
    loop_timer_free(fl->tick);
    free(fl);
}

struct flow_entry *flows_entry(struct flows *fl, const char *id) {
    struct flow_entry *e = NULL;
    HASH_FIND(hh, fl->by_id, id, strlen(id), e);
    return e;
}

struct flow *flows_find(struct flows *fl, const char *id) {
    struct flow_entry *e = flows_entry(fl, id);
    return e == NULL ? NULL : &e->flow;
}

enum err flows_add(struct flows *fl, struct flow_entry *e) {
    if (flows_entry(fl, e->flow.id) != NULL) {
        return ERR_EXISTS;
    }
    if (fl->by_id == NULL) {
        loop_timer_arm(fl->tick, FLOW_TICK_MS);
    }
    e->after_open =
        e->flow.spec->n_after >= 64 ? UINT64_MAX : ((uint64_t)1 << e->flow.spec->n_after) - 1;
    HASH_ADD(hh, fl->by_id, flow.id, strlen(e->flow.id), e);
    flow_recount(fl, e);
    return OK;
}

void flows_forget(struct flows *fl, struct flow_entry *e) {
    watch_flow_gone(e);
    flow_uncount(fl, e);
    HASH_DEL(fl->by_id, e);
    entry_free(e);
}

void flow_uncount(struct flows *fl, struct flow_entry *e) {
    fl->n_queued -= e->counted == COUNTED_QUEUED;
    fl->n_active -= e->counted == COUNTED_ACTIVE;
    e->counted = COUNTED_NOT;
}

void flow_recount(struct flows *fl, struct flow_entry *e) {
    flow_uncount(fl, e);
    if (e->ended) {
        return;
    }
    if (!e->begun) { // also one that is suspended: it takes memory
        e->counted = COUNTED_QUEUED;
    } else if (e->flow.state == FLOW_STARTED) {
        e->counted = COUNTED_ACTIVE;
    }
    fl->n_queued += e->counted == COUNTED_QUEUED;
    fl->n_active += e->counted == COUNTED_ACTIVE;
}

void flows_count(const struct flows *fl, uint32_t *ret_queued, uint32_t *ret_active) {
    *ret_queued = fl->n_queued;
    *ret_active = fl->n_active;
}

// The most progress events that one of the flows may have: its last number, as long as nothing had
// to be thinned.
static uint64_t most_events(const struct flows *fl) {
    const uint64_t limit = fl->core->options->events_per_flow;
    uint64_t most = 0;
    for (const struct flow_entry *e = fl->by_id; e != NULL && most < limit; e = e->hh.next) {
        most = e->flow.last_seq > most ? e->flow.last_seq : most;
    }
    return most < limit ? most : limit;
}

void flows_limits(const struct flows *fl, struct limit_use ret_uses[4]) {
    const struct master_options *o = fl->core->options;
    ret_uses[0] =
        (struct limit_use){"flows_queued", fl->n_queued, o->flows_queued, fl->n_flows_refused};
    ret_uses[1] = (struct limit_use){"flows_active", fl->n_active, o->flows_active, 0};
    ret_uses[2] = (struct limit_use){"watchers", fl->n_watches, o->watchers, fl->n_watches_refused};
    ret_uses[3] = (struct limit_use){"events_per_flow", most_events(fl), o->events_per_flow, 0};
}

static bool may_begin(const struct flow_entry *e, int64_t wall_ms) {
    return e->stored && !e->begun && !e->ending && !e->ended && e->flow.state == FLOW_STARTED &&
           e->flow.holders == 0 && e->after_open == 0 && e->flow.spec->not_before_ms <= wall_ms;
}

// Those that moved before a restart go on before others begin; then the oldest first.
static bool goes_before(const struct flow_entry *a, const struct flow_entry *b) {
    if (a->flow.spec->priority != b->flow.spec->priority) {
        return a->flow.spec->priority > b->flow.spec->priority;
    }
    if ((a->flow.started_ms != 0) != (b->flow.started_ms != 0)) {
        return a->flow.started_ms != 0;
    }
    return a->flow.created_ms < b->flow.created_ms; // the table keeps the order of arrival
}

void flows_start_waiting(struct flows *fl) {
    const struct core *c = fl->core;
    while (!c->stopping && fl->n_queued > 0 && fl->n_active < c->options->flows_active) {
        struct flow_entry *best = NULL;
        int64_t wall_ms = clock_wall_ms(c->clock);
        for (struct flow_entry *e = fl->by_id; e != NULL; e = e->hh.next) {
            if (may_begin(e, wall_ms) && (best == NULL || goes_before(e, best))) {
                best = e;
            }
        }
        if (best == NULL) {
            return;
        }
        flow_begin(fl->core, best);
    }
}

enum err flows_admit(struct flows *fl, struct failure *ret_failure) {
    if (fl->core->stopping) {
        return failure_set(ret_failure, ERR_AGAIN, "submit", NULL, 0, "the master is stopping");
    }
    if (fl->in_trouble) {
        *ret_failure = fl->trouble;
        return ret_failure->err;
    }
    if (fl->n_queued >= fl->core->options->flows_queued) {
        fl->n_flows_refused++;
        enum err e = failure_set(ret_failure, ERR_FULL, "submit", NULL, 0,
                                 "%u flows are queued, and no more are allowed", fl->n_queued);
        failure_remedy(ret_failure,
                       "try again when flows have ended, or raise limits.flows_queued");
        return e;
    }
    return OK;
}

// ---- at start ----
struct loading {
    struct flows *flows;
    uint64_t n;
    void (*done)(void *arg, const struct failure *failure);
    void *arg;
};

static enum err take_row(struct flows *fl, const struct flow_row *row) {
    struct flow_entry *e = calloc(1, sizeof *e);
    if (e == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = flow_from_row(row, &e->flow);
    if (err != OK) {
        entry_free(e);
        return err;
    }
    e->stored = true;
    err = flows_add(fl, e);
    if (err != OK) {
        entry_free(e);
    }
    return err;
}

static void loaded(struct loading *l) {
    struct flows *fl = l->flows;
    struct flow_entry *e, *next;
    log_event(LOG_INFO, "flows_loaded", LOG_U64("flows", l->n));
    l->done(l->arg, NULL);
    free(l);
    HASH_ITER(hh, fl->by_id, e, next) {
        if (e->flow.cancel_wanted) {
            flow_end(fl->core, e, OUTCOME_CANCELLED, NULL);
        } else if (e->flow.started_ms != 0 && e->flow.holders != 0) {
            // Results that agents have kept since before the restart are still taken.
            flow_begin(fl->core, e);
            flow_go_on_suspending(fl->core, e);
        } else {
            flow_after_look(fl->core, e);
        }
    }
    flows_start_waiting(fl);
}

static void on_page(void *arg, enum err result, const struct flow_row *rows, size_t n_rows,
                    bool more) {
    struct loading *l = arg;
    struct failure f = {0};
    for (size_t i = 0; result == OK && i < n_rows; i++, l->n++) {
        result = take_row(l->flows, &rows[i]);
        if (result != OK) {
            (void)failure_set(&f, result, "load", rows[i].id, strlen(rows[i].id),
                              "a stored flow cannot be read");
        }
    }
    if (result != OK) {
        if (f.err == OK) {
            (void)failure_set(&f, result, "load", NULL, 0, "stored flows cannot be read");
        }
        l->done(l->arg, &f);
        free(l);
    } else if (more && n_rows > 0) {
        database_flows_unfinished(l->flows->core->database, rows[n_rows - 1].id, LOAD_PAGE, on_page,
                                  l);
    } else {
        loaded(l);
    }
}

void flows_load(struct flows *fl, void (*done)(void *arg, const struct failure *failure),
                void *arg) {
    struct loading *l = calloc(1, sizeof *l);
    if (l == NULL) {
        struct failure f = {0};
        (void)failure_set(&f, ERR_NO_MEMORY, "load", NULL, 0, NULL);
        done(arg, &f);
        return;
    }
    *l = (struct loading){.flows = fl, .done = done, .arg = arg};
    database_flows_unfinished(fl->core->database, "", LOAD_PAGE, on_page, l);
}

void flows_stop(struct flows *fl) {
    struct flow_entry *e, *next;
    struct failure f = {0};
    (void)failure_set(&f, ERR_AGAIN, "wait", NULL, 0, "the master is stopping");
    failure_remedy(&f, "ask again when it is back");
    fl->stopping = true;
    loop_timer_disarm(fl->tick);
    HASH_ITER(hh, fl->by_id, e, next) {
        flow_waits_finish(&e->wait_quiet, &f);
        flow_waits_finish(&e->wait_stored, &f);
        flow_waits_finish(&e->wait_end, &f);
    }
    watches_stop(fl);
}
