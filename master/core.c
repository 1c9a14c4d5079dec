// SPDX-License-Identifier: Apache-2.0
#include "master/core.h"

#include "master/agents.h"
#include "master/callbacks.h"
#include "master/credentials.h"
#include "master/database.h"
#include "master/flow.h"
#include "master/limits.h"
#include "master/planner.h"
#include "master/scheduler.h"
#include "master/standby.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct database_place core_database_place(const struct master_options *o) {
    return (struct database_place){
        .state_dir = o->state_dir,
        .url = o->database.url,
        .session_ms = o->database.session_ms,
        .outage_ms = o->database.outage_ms,
        .wait = standby_wait,
    };
}

static enum err open_state(struct core *c, struct failure *f) {
    char path[4096];
    const struct database_place place = core_database_place(c->options);
    enum err e = database_open(&place, c->loop, &c->database, f);
    if (e == OK) {
        e = database_raise_term(c->database, &c->term, c->cluster, f);
    }
    if (e != OK) {
        return e;
    }
    if (c->options->ticket_key != NULL) {
        return signing_key_load_or_create(c->options->ticket_key, &c->key, f);
    }
    int n = snprintf(path, sizeof path, "%s/ticket.key", c->options->state_dir);
    if (n < 0 || (size_t)n >= sizeof path) {
        return failure_set(f, ERR_NAME_TOO_LONG, "open", c->options->state_dir,
                           strlen(c->options->state_dir), NULL);
    }
    return signing_key_load_or_create(path, &c->key, f);
}

static enum err make_parts(struct core *c) {
    const struct master_options *o = c->options;
    c->reconcile_until_ms = c->term > 1 ? clock_mono_ms(c->clock) + o->reconcile_ms : 0;
    const struct scheduler_options so = {
        .term = c->term,
        .hold_ms = o->hold_ms,
        .lost_after_ms = o->lost_after_ms,
        .park_ms = o->park_ms,
        .window = o->tasks_per_flow,
        .max_tasks = o->tasks_in_memory,
        .reconcile_until_ms = c->reconcile_until_ms,
        .held_until_ms = c->term > 1 ? clock_mono_ms(c->clock) + o->hold_ms : 0,
    };
    enum err e = scheduler_new(&so, &c->scheduler);
    if (e == OK) {
        e = agents_new(c, &c->agents);
    }
    if (e == OK) {
        e = planner_new(c, &c->planner);
    }
    if (e == OK) {
        e = flows_new(c, &c->flows);
    }
    if (e == OK) {
        e = credentials_new(c, &c->credentials);
    }
    if (e == OK) {
        e = limits_new(c, &c->limits);
    }
    return e;
}

enum err core_new(const struct master_options *o, const struct clock *clock, struct loop *loop,
                  struct core **ret_core, struct failure *ret_failure) {
    struct core *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "start", NULL, 0, NULL);
    }
    c->options = o;
    c->clock = clock;
    c->loop = loop;
    c->started_ms = clock_wall_ms(clock);
    enum err e = open_state(c, ret_failure);
    if (e == OK) {
        e = make_parts(c);
        if (e != OK) {
            (void)failure_set(ret_failure, e, "start", NULL, 0, NULL);
        }
    }
    if (e == OK && o->callbacks.n_hosts > 0) {
        e = callbacks_new(c, &c->callbacks, ret_failure);
    }
    if (e != OK) {
        core_free(c);
        return e;
    }
    *ret_core = c;
    return OK;
}

void core_free(struct core *c) {
    if (c == NULL) {
        return;
    }
    // Closed already by a clean stop; what a failed start left is closed here.
    database_close(c->database);
    limits_free(c->limits);
    callbacks_free(c->callbacks);
    planner_free(c->planner); // lets go of the flows
    flows_free(c->flows);
    agents_free(c->agents);
    scheduler_free(c->scheduler);
    core_dispatch_deinit(c);
    credentials_free(c->credentials);
    signing_key_free(c->key);
    free(c);
}
