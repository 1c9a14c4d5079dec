// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/master/scheduler_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct scheduler *s;
int64_t now_ms, wake_ms;
struct scheduler_command commands[MAX_COMMANDS];
size_t n_commands;

void start_at(int64_t reconcile_until_ms, uint64_t term, uint32_t max_tasks) {
    struct scheduler_options o = {.term = term,
                                  .hold_ms = HOLD_MS,
                                  .lost_after_ms = LOST_MS,
                                  .park_ms = PARK_MS,
                                  .window = 100,
                                  .max_tasks = max_tasks,
                                  .reconcile_until_ms = reconcile_until_ms};
    scheduler_free(s);
    s = NULL;
    now_ms = 1000;
    assert_ok(scheduler_new(&o, &s));
}

int start(void **state) {
    (void)state;
    start_at(0, 1, 10000);
    return 0;
}

int stop(void **state) {
    (void)state;
    scheduler_free(s);
    s = NULL;
    return 0;
}

void run(void) {
    n_commands = 0;
    for (;;) {
        struct scheduler_command c;
        scheduler_next_command(s, now_ms, &c, &wake_ms);
        if (c.kind == SCHED_NONE) {
            return;
        }
        assert_true(n_commands < MAX_COMMANDS);
        commands[n_commands++] = c;
    }
}

size_t count(enum scheduler_command_kind kind, const char *agent) {
    size_t n = 0;
    for (size_t i = 0; i < n_commands; i++) {
        n += commands[i].kind == kind && (agent == NULL || strcmp(commands[i].agent, agent) == 0);
    }
    return n;
}

const struct scheduler_command *command(enum scheduler_command_kind kind) {
    for (size_t i = 0; i < n_commands; i++) {
        if (commands[i].kind == kind) {
            return &commands[i];
        }
    }
    fail_msg("no command of kind %d among %zu", (int)kind, n_commands);
    return NULL;
}

void agent_up_as(const char *name, const char *site, const char *incarnation, uint32_t slots,
                 bool shared) {
    struct scheduler_volume v = {
        .name = "data", .readable = true, .writable = true, .shared = shared};
    struct scheduler_agent a = {.slots = slots, .volumes = &v, .n_volumes = 1};
    snprintf(a.name, sizeof(a.name), "%s", name);
    snprintf(a.site, sizeof(a.site), "%s", site);
    snprintf(a.incarnation, sizeof(a.incarnation), "%s", incarnation);
    assert_ok(scheduler_agent_up(s, &a, now_ms));
}

void agent_up(const char *name, const char *site) {
    agent_up_as(name, site, "1", 2, true);
}

struct scheduler_flow flow_of(const char *id) {
    struct scheduler_flow f = {0};
    snprintf(f.id, sizeof(f.id), "%s", id);
    snprintf(f.source.site, sizeof(f.source.site), "a");
    snprintf(f.source.volume, sizeof(f.source.volume), "data");
    snprintf(f.sink.site, sizeof(f.sink.site), "b");
    snprintf(f.sink.volume, sizeof(f.sink.volume), "data");
    return f;
}

void flow_add(void) {
    struct scheduler_flow f = flow_of(FLOW);
    assert_ok(scheduler_flow_add(s, &f, now_ms));
}

struct scheduler_task task_of(uint64_t id) {
    struct scheduler_task t = {.task_id = id,
                               .rule = EXECUTOR_MOVE,
                               .reads = true,
                               .writes = true,
                               .cost_bytes = 1 << 20,
                               .cost_objects = 1,
                               .can_yield = true,
                               .attempt = 1};
    snprintf(t.flow, sizeof(t.flow), "%s", FLOW);
    return t;
}

void tasks_add(uint64_t first, uint64_t n) {
    for (uint64_t i = first; i < first + n; i++) {
        struct scheduler_task t = task_of(i);
        assert_ok(scheduler_task_add(s, &t, now_ms));
    }
}

static void everybody_is_heard(void) {
    const char *names[] = {"a1", "a2", "b1", "b2", "b3"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)scheduler_agent_heard(s, names[i], now_ms);
    }
}

void later(int64_t ms, bool heard) {
    while (ms > 0) {
        int64_t step = ms < 1000 ? ms : 1000;
        now_ms += step;
        ms -= step;
        if (heard) {
            everybody_is_heard();
        }
    }
}

void done(const struct scheduler_command *c) {
    assert_ok(scheduler_result(s, c->agent, c->task_id, c->epoch, now_ms));
}
