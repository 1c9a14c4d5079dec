// SPDX-License-Identifier: Apache-2.0
// Flows on a real database and loop; planner, scheduler and agents are played here. For one test
// program each: it defines what it plays.
#ifndef TESTS_UNIT_MASTER_FLOW_WORLD_H
#define TESTS_UNIT_MASTER_FLOW_WORLD_H

#include "master/flow.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "master/agents.h"
#include "master/database.h"
#include "master/flow_table.h"
#include "master/planner.h"
#include "master/scheduler.h"
#include "master/submit.h"
#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- the world ----
static struct {
    char dir[64];
    struct master_options options;
    struct core core;
    // what the others were told
    char begun[16][IDENT_SIZE];
    int n_begun, n_paused, n_resumed, n_removed, n_abandoned;
    bool hold_quiet; // the scheduler does not get quiet
    enum err resolve;
    int n_resolved;
    // what came back
    bool answered, existed;
    struct failure failure;
    char id[IDENT_SIZE];
} w;

// What is played: the linker sends the calls here (see WRAP in each test).
void __wrap_planner_flow_begin(struct planner *p, struct flow *f);
void __wrap_planner_flow_abandon(struct planner *p, struct flow *f, void (*done)(void *arg),
                                 void *arg);
void __wrap_scheduler_flow_pause(struct scheduler *s, const char *flow, int64_t now_ms);
void __wrap_scheduler_flow_resume(struct scheduler *s, const char *flow, int64_t now_ms);
void __wrap_scheduler_flow_remove(struct scheduler *s, const char *flow, int64_t now_ms);
void __wrap_core_dispatch(struct core *c);
enum err __wrap_agents_resolve(struct agents *a, const struct location *l, bool write,
                               struct place *ret_place, struct failure *ret_failure);

void __wrap_planner_flow_begin(struct planner *p, struct flow *f) {
    (void)p;
    memcpy(w.begun[w.n_begun++ % 16], f->id, IDENT_SIZE);
}

struct later {
    void (*done)(void *arg);
    void *arg;
};

void __wrap_planner_flow_abandon(struct planner *p, struct flow *f, void (*done)(void *arg),
                                 void *arg) {
    (void)p;
    (void)f;
    w.n_abandoned++;
    loop_post(w.core.loop, done, arg);
}

static void tell_quiet(void *arg) {
    flow_is_quiet(&w.core, arg);
    free(arg);
}

static void get_quiet(const char *flow) {
    if (!w.hold_quiet) {
        loop_post(w.core.loop, tell_quiet, strdup(flow));
    }
}

void __wrap_scheduler_flow_pause(struct scheduler *s, const char *flow, int64_t now_ms) {
    (void)s;
    (void)now_ms;
    w.n_paused++;
    get_quiet(flow);
}
void __wrap_scheduler_flow_resume(struct scheduler *s, const char *flow, int64_t now_ms) {
    (void)s;
    (void)flow;
    (void)now_ms;
    w.n_resumed++;
}
void __wrap_scheduler_flow_remove(struct scheduler *s, const char *flow, int64_t now_ms) {
    (void)s;
    (void)now_ms;
    w.n_removed++;
    get_quiet(flow);
}
void __wrap_core_dispatch(struct core *c) {
    (void)c;
}

enum err __wrap_agents_resolve(struct agents *a, const struct location *l, bool write,
                               struct place *ret_place, struct failure *ret_failure) {
    (void)a;
    w.n_resolved++;
    if (w.resolve != OK) {
        enum err e = w.resolve;
        if (w.n_resolved >= 4) {
            w.resolve = OK; // the volume is proven at last
        }
        return failure_set(ret_failure, e, "resolve", NULL, 0, NULL);
    }
    memset(ret_place, 0, sizeof *ret_place);
    snprintf(ret_place->site, sizeof ret_place->site, "%s", l->site);
    snprintf(ret_place->volume, sizeof ret_place->volume, "data");
    const char *root = write ? "to" : "from/d";
    ret_place->root_len = strlen(root);
    memcpy(ret_place->root, root, ret_place->root_len);
    return OK;
}

// ---- waiting ----
struct polling {
    bool (*is_so)(void);
    struct loop_timer *timer;
    int left;
};

static void poll(void *arg) {
    struct polling *p = arg;
    if (p->is_so() || --p->left == 0) {
        loop_stop(w.core.loop);
    } else {
        loop_timer_arm(p->timer, 1);
    }
}

static void until(bool (*is_so)(void)) {
    struct polling p = {.is_so = is_so, .left = 60000};
    p.timer = loop_timer_new(w.core.loop, poll, &p);
    loop_timer_arm(p.timer, 0);
    loop_run(w.core.loop);
    loop_timer_free(p.timer);
    assert_true(is_so());
}

static void open_world(void) {
    struct failure f = {0};
    w.core.options = &w.options;
    w.core.clock = &clock_system;
    w.core.stopping = false;
    w.core.loop = loop_new();
    assert_non_null(w.core.loop);
    assert_ok(database_open(&(struct database_place){.state_dir = w.dir}, w.core.loop,
                            &w.core.database, &f));
    assert_ok(database_raise_term(w.core.database, &w.core.term, w.core.cluster, &f));
    assert_ok(flows_new(&w.core, &w.core.flows));
}

static void close_world(void) {
    w.core.stopping = true;
    flows_stop(w.core.flows);
    database_stop(w.core.database);
    loop_stop(w.core.loop); // behind what was answered
    loop_run(w.core.loop);
    database_close(w.core.database);
    flows_free(w.core.flows);
    loop_free(w.core.loop);
}

static int setup(void **state) {
    (void)state;
    memset(&w, 0, sizeof w);
    strcpy(w.dir, "/tmp/test_flow_XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    w.options = (struct master_options){.events_per_flow = 1000,
                                        .flows_queued = 4,
                                        .flows_active = 2,
                                        .watchers = 2,
                                        .state_dir = w.dir};
    log_set_level(LOG_ERROR);
    open_world();
    return 0;
}

static int teardown(void **state) {
    char command[128];
    (void)state;
    close_world();
    snprintf(command, sizeof command, "rm -rf %s", w.dir);
    return system(command);
}

// ---- acting ----
static void on_submitted(void *arg, const char *flow_id, bool existed, const struct failure *f) {
    (void)arg;
    w.answered = true;
    w.existed = existed;
    w.failure = f == NULL ? (struct failure){0} : *f;
    if (flow_id != NULL) {
        memcpy(w.id, flow_id, IDENT_SIZE);
    }
}

static void on_done(void *arg, const struct failure *f) {
    (void)arg;
    w.answered = true;
    w.failure = f == NULL ? (struct failure){0} : *f;
}

static bool is_answered(void) {
    return w.answered;
}

static char *after[2]; // of the next submission
static size_t n_after;
static char *callback_url;

static void submit_one(const char *request_id, const char *to, int32_t priority) {
    static char a[] = "a", b[] = "b";
    Sluice__V1__FlowSpec spec = SLUICE__V1__FLOW_SPEC__INIT;
    Sluice__V1__Location source = SLUICE__V1__LOCATION__INIT,
                         destination = SLUICE__V1__LOCATION__INIT;
    Sluice__V1__PosixLocation p = SLUICE__V1__POSIX_LOCATION__INIT,
                              q = SLUICE__V1__POSIX_LOCATION__INIT;
    p.site = a;
    p.path = (ProtobufCBinaryData){7, (uint8_t *)(uintptr_t) "/from/d"};
    q.site = b;
    q.path = (ProtobufCBinaryData){strlen(to), (uint8_t *)(uintptr_t)to};
    source.kind_case = destination.kind_case = SLUICE__V1__LOCATION__KIND_POSIX;
    source.posix = &p;
    destination.posix = &q;
    spec.source = &source;
    spec.destination = &destination;
    spec.priority = priority;
    spec.after = after;
    spec.n_after = n_after;
    n_after = 0;
    if (callback_url != NULL) {
        spec.callback_url = take_ptr(callback_url);
    }
    w.answered = false;
    submit(&w.core, &spec, request_id, "", NULL, on_submitted, NULL);
    until(is_answered);
}

static struct flow *accepted(const char *request_id) {
    submit_one(request_id, "/to", 0);
    assert_err(w.failure.err, OK);
    struct flow *f = flows_find(w.core.flows, w.id);
    assert_non_null(f);
    return f;
}

static bool is_forgotten(void) {
    return flows_find(w.core.flows, w.id) == NULL;
}

#endif
