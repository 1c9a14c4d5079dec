// SPDX-License-Identifier: Apache-2.0
// Tests of the agents' side of a master: a planner that does nothing but remember, three agents,
// and a flow. Who includes it wraps what is named __wrap_* here.
#ifndef TESTS_UNIT_MASTER_FAKE_PLANNER_H
#define TESTS_UNIT_MASTER_FAKE_PLANNER_H

#include "tests/unit/master/fake_agent.h"

#include "master/flow.h"
#include "master/planner.h"

#include <stdio.h>
#include <string.h>

#define FLOW "01HZZZZZZZZZZZZZZZZZZZZZZA"
enum { MAX_RESULTS = 16, LONG_MS = 60000, SHORT_MS = 200 };

static Sluice__V1__TaskSpec spec;
static Sluice__V1__Place source_place, sink_place;
static struct {
    uint64_t number;
    void (*committed)(void *arg);
    void *arg;
} results[MAX_RESULTS];
static size_t n_results;
static void (*page_committed)(void *arg, enum err e);
static void *page_arg;
static size_t n_pages;

const Sluice__V1__TaskSpec *__wrap_planner_spec(struct planner *p, uint64_t task_id,
                                                uint32_t *ret_attempt);
const Sluice__V1__TaskSpec *__wrap_planner_spec(struct planner *p, uint64_t task_id,
                                                uint32_t *ret_attempt) {
    static char flow[] = FLOW, volume[] = "data";
    static uint8_t objects[] = "objects";
    (void)p;
    sluice__v1__task_spec__init(&spec);
    sluice__v1__place__init(&source_place);
    sluice__v1__place__init(&sink_place);
    source_place.volume = sink_place.volume = volume;
    spec.flow_id = flow;
    spec.task_id = task_id;
    spec.source = &source_place;
    spec.sink = &sink_place;
    spec.objects = (ProtobufCBinaryData){sizeof(objects), objects};
    *ret_attempt = 1;
    return &spec;
}

void __wrap_planner_leased(struct planner *p, uint64_t task_id, struct epoch e, const char *agent,
                           void (*stored)(void *arg, enum err result), void *arg);
void __wrap_planner_leased(struct planner *p, uint64_t task_id, struct epoch e, const char *agent,
                           void (*stored)(void *arg, enum err result), void *arg) {
    (void)p, (void)task_id, (void)e, (void)agent;
    stored(arg, OK);
}

void __wrap_planner_result(struct planner *p, const char *agent, const Sluice__V1__TaskResult *m,
                           void (*committed)(void *arg), void *arg);
void __wrap_planner_result(struct planner *p, const char *agent, const Sluice__V1__TaskResult *m,
                           void (*committed)(void *arg), void *arg) {
    (void)p, (void)agent;
    assert_true(n_results < MAX_RESULTS);
    results[n_results].number = m->number;
    results[n_results].committed = committed;
    results[n_results++].arg = arg;
}

void __wrap_planner_want_tasks(struct planner *p, const char *flow, uint32_t n);
void __wrap_planner_want_tasks(struct planner *p, const char *flow, uint32_t n) {
    (void)p, (void)n;
    scheduler_flow_drained(cluster.core.scheduler, flow);
}

void __wrap_planner_unrunnable(struct planner *p, uint64_t task_id, enum err why);
void __wrap_planner_unrunnable(struct planner *p, uint64_t task_id, enum err why) {
    (void)p, (void)task_id, (void)why;
}

void __wrap_planner_lease_closed(struct planner *p, uint64_t task_id, struct epoch e,
                                 const char *agent, enum lease_closed_how how);
void __wrap_planner_lease_closed(struct planner *p, uint64_t task_id, struct epoch e,
                                 const char *agent, enum lease_closed_how how) {
    (void)p, (void)task_id, (void)e, (void)agent, (void)how;
}

void __wrap_planner_page(struct planner *p, const char *agent, uint64_t task_id, struct epoch e,
                         const Sluice__V1__ListPage *page,
                         void (*committed)(void *arg, enum err result), void *arg);
void __wrap_planner_page(struct planner *p, const char *agent, uint64_t task_id, struct epoch e,
                         const Sluice__V1__ListPage *page,
                         void (*committed)(void *arg, enum err result), void *arg) {
    (void)p, (void)agent, (void)task_id, (void)e, (void)page;
    n_pages++;
    page_committed = committed;
    page_arg = arg;
}

void __wrap_planner_agent_reported(struct planner *p, const char *agent);
void __wrap_planner_agent_reported(struct planner *p, const char *agent) {
    (void)p, (void)agent;
}

void __wrap_flow_is_quiet(struct core *c, const char *flow_id);
void __wrap_flow_is_quiet(struct core *c, const char *flow_id) {
    (void)c, (void)flow_id;
}

static struct fake_agent a1, b1, b2;

static int start(void **state) {
    (void)state;
    n_results = n_pages = 0;
    cluster_start(LONG_MS);
    fake_init(&a1, "a1", "a", 0);
    fake_init(&b1, "b1", "b", 1);
    fake_init(&b2, "b2", "b", 1);
    return 0;
}

static __attribute__((unused)) int start_impatient(void **state) {
    (void)state;
    start(state);
    cluster_stop();
    cluster_start(SHORT_MS);
    return 0;
}

static int stop(void **state) {
    (void)state;
    cluster_stop();
    return 0;
}

static __attribute__((unused)) int64_t now(void) {
    return clock_mono_ms(&clock_system);
}

static __attribute__((unused)) void add_flow(void) {
    struct scheduler_flow f = {.id = FLOW};
    snprintf(f.source.site, sizeof(f.source.site), "a");
    snprintf(f.source.volume, sizeof(f.source.volume), "data");
    snprintf(f.sink.site, sizeof(f.sink.site), "b");
    snprintf(f.sink.volume, sizeof(f.sink.volume), "data");
    assert_ok(scheduler_flow_add(cluster.core.scheduler, &f, now()));
}

static __attribute__((unused)) void add_tasks(uint64_t first, uint64_t n) {
    for (uint64_t i = first; i < first + n; i++) {
        struct scheduler_task t = {.task_id = i,
                                   .flow = FLOW,
                                   .rule = EXECUTOR_MOVE,
                                   .reads = true,
                                   .writes = true,
                                   .cost_bytes = 1,
                                   .attempt = 1};
        assert_ok(scheduler_task_add(cluster.core.scheduler, &t, now()));
    }
    core_dispatch(&cluster.core);
}

static __attribute__((unused)) bool has_two_leases(const void *agent) {
    return ((const struct fake_agent *)agent)->n_assigned >= 2;
}

static __attribute__((unused)) void lease_two(void) {
    fake_up(&a1);
    fake_up(&b1);
    add_flow();
    add_tasks(1, 2);
    wait_until(has_two_leases, &b1);
}

// The master learns of a call's end on its own, not when the agent does.
static __attribute__((unused)) bool nobody_is_connected(const void *arg) {
    (void)arg;
    return agents_connected(cluster.core.agents) == 0;
}

#endif
