// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/test.h"

#include "master/scheduler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOLD_MS = 30000, LOST_MS = 5000, PARK_MS = 60000, MAX_COMMANDS = 4096 };
#define FLOW "01HZZZZZZZZZZZZZZZZZZZZZZA"

static struct scheduler *s;
static int64_t now_ms;
static struct scheduler_command commands[MAX_COMMANDS];
static size_t n_commands;
static int64_t wake_ms;

static void start_at(int64_t reconcile_until_ms, uint64_t term, uint32_t max_tasks) {
    struct scheduler_options o = {.term = term,
                                  .hold_ms = HOLD_MS,
                                  .lost_after_ms = LOST_MS,
                                  .park_ms = PARK_MS,
                                  .window = 100,
                                  .max_tasks = max_tasks,
                                  .reconcile_until_ms = reconcile_until_ms};
    now_ms = 1000;
    assert_ok(scheduler_new(&o, &s));
}

static int start(void **state) {
    (void)state;
    start_at(0, 1, 10000);
    return 0;
}

static int stop(void **state) {
    (void)state;
    scheduler_free(s);
    s = NULL;
    return 0;
}

static void run(void) {
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

static size_t count(enum scheduler_command_kind kind, const char *agent) {
    size_t n = 0;
    for (size_t i = 0; i < n_commands; i++) {
        n += commands[i].kind == kind && (agent == NULL || strcmp(commands[i].agent, agent) == 0);
    }
    return n;
}

static const struct scheduler_command *command(enum scheduler_command_kind kind) {
    for (size_t i = 0; i < n_commands; i++) {
        if (commands[i].kind == kind) {
            return &commands[i];
        }
    }
    fail_msg("no command of kind %d among %zu", (int)kind, n_commands);
    return NULL;
}

static void agent_up_as(const char *name, const char *site, const char *incarnation, uint32_t slots,
                        bool shared) {
    struct scheduler_volume v = {
        .name = "data", .readable = true, .writable = true, .shared = shared};
    struct scheduler_agent a = {.slots = slots, .volumes = &v, .n_volumes = 1};
    snprintf(a.name, sizeof(a.name), "%s", name);
    snprintf(a.site, sizeof(a.site), "%s", site);
    snprintf(a.incarnation, sizeof(a.incarnation), "%s", incarnation);
    assert_ok(scheduler_agent_up(s, &a, now_ms));
}

static void agent_up(const char *name, const char *site) {
    agent_up_as(name, site, "1", 2, true);
}

static struct scheduler_flow flow_of(const char *id) {
    struct scheduler_flow f = {0};
    snprintf(f.id, sizeof(f.id), "%s", id);
    snprintf(f.source.site, sizeof(f.source.site), "a");
    snprintf(f.source.volume, sizeof(f.source.volume), "data");
    snprintf(f.sink.site, sizeof(f.sink.site), "b");
    snprintf(f.sink.volume, sizeof(f.sink.volume), "data");
    return f;
}

static void flow_add(void) {
    struct scheduler_flow f = flow_of(FLOW);
    assert_ok(scheduler_flow_add(s, &f, now_ms));
}

static struct scheduler_task task_of(uint64_t id) {
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

static void tasks_add(uint64_t first, uint64_t n) {
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

static void later(int64_t ms, bool heard) {
    while (ms > 0) {
        int64_t step = ms < 1000 ? ms : 1000;
        now_ms += step;
        ms -= step;
        if (heard) {
            everybody_is_heard();
        }
    }
}

static void done(const struct scheduler_command *c) {
    assert_ok(scheduler_result(s, c->agent, c->task_id, c->epoch, now_ms));
}

// ---- sharing out ----

static void equal_agents_get_equal_shares(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up("b1", "b");
    agent_up("b2", "b");
    agent_up("b3", "b");
    flow_add();
    tasks_add(1, 10);
    run();
    assert_int_equal(count(SCHED_ASSIGN, NULL), 10);
    for (int i = 0; i < 3; i++) {
        const char *names[] = {"b1", "b2", "b3"};
        size_t n = count(SCHED_ASSIGN, names[i]);
        assert_true(n == 3 || n == 4);
    }
    assert_int_equal(count(SCHED_ASSIGN, "a1"), 0);
}

static void an_agent_is_leased_twice_its_slots_at_most(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up("b1", "b");
    flow_add();
    tasks_add(1, 10);
    run();
    assert_int_equal(count(SCHED_ASSIGN, "b1"), 4);
    struct scheduler_command first = *command(SCHED_ASSIGN);
    done(&first);
    run();
    assert_int_equal(count(SCHED_ASSIGN, "b1"), 1);
}

static void sources_rotate_and_executors_that_reach_both_ends_need_none(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up("a2", "a");
    agent_up("b1", "b");
    flow_add();
    tasks_add(1, 4);
    run();
    size_t first_a1 = 0, first_a2 = 0;
    for (size_t i = 0; i < n_commands; i++) {
        if (commands[i].kind == SCHED_ASSIGN) {
            assert_int_equal(commands[i].n_sources, 2);
            first_a1 += strcmp(commands[i].sources[0], "a1") == 0;
            first_a2 += strcmp(commands[i].sources[0], "a2") == 0;
        }
    }
    assert_int_equal(first_a1, 2);
    assert_int_equal(first_a2, 2);
    struct scheduler_flow within = flow_of("01HZZZZZZZZZZZZZZZZZZZZZZB");
    snprintf(within.sink.site, sizeof(within.sink.site), "a");
    assert_ok(scheduler_flow_add(s, &within, now_ms));
    struct scheduler_task t = task_of(50);
    memcpy(t.flow, within.id, sizeof(t.flow));
    assert_ok(scheduler_task_add(s, &t, now_ms));
    run();
    assert_int_equal(command(SCHED_ASSIGN)->n_sources, 0);
}

static void a_failed_task_goes_to_another_agent_if_there_is_one(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up_as("b1", "b", "1", 1, true);
    agent_up_as("b2", "b", "1", 1, true);
    flow_add();
    for (uint64_t i = 1; i <= 2; i++) {
        struct scheduler_task t = task_of(i);
        snprintf(t.avoid, sizeof(t.avoid), "b1");
        assert_ok(scheduler_task_add(s, &t, now_ms));
    }
    run();
    assert_int_equal(count(SCHED_ASSIGN, "b2"), 2);
    struct scheduler_task t = task_of(3);
    snprintf(t.avoid, sizeof(t.avoid), "b1");
    assert_ok(scheduler_task_add(s, &t, now_ms));
    run();
    assert_int_equal(count(SCHED_ASSIGN, NULL), 0); // b2 is full, b1 is to be avoided
    scheduler_agent_down(s, "b2", true, now_ms);
    run();
    assert_int_equal(count(SCHED_ASSIGN, "b1"), 2); // nobody else is left
}

static void priority_goes_first_and_weight_shares(void **state) {
    (void)state;
    agent_up_as("a1", "a", "1", 100, true);
    agent_up_as("b1", "b", "1", 100, true);
    const char *ids[] = {"01HZZZZZZZZZZZZZZZZZZZZZZ1", "01HZZZZZZZZZZZZZZZZZZZZZZ2",
                         "01HZZZZZZZZZZZZZZZZZZZZZZ3"};
    for (int i = 0; i < 3; i++) {
        struct scheduler_flow f = flow_of(ids[i]);
        f.priority = i == 2;
        f.weight = i == 1 ? 3 : 1;
        assert_ok(scheduler_flow_add(s, &f, now_ms));
        for (uint64_t k = 0; k < 120; k++) {
            struct scheduler_task t = task_of((uint64_t)i * 1000 + k);
            memcpy(t.flow, ids[i], sizeof(t.flow));
            assert_ok(scheduler_task_add(s, &t, now_ms));
        }
    }
    run();
    size_t n[3] = {0};
    for (size_t i = 0; i < n_commands; i++) {
        for (int k = 0; k < 3; k++) {
            n[k] += commands[i].kind == SCHED_ASSIGN && strcmp(commands[i].flow, ids[k]) == 0;
        }
    }
    assert_int_equal(n[2], 120);
    assert_int_equal(n[0] + n[1], 80);
    assert_true(n[1] >= 58 && n[1] <= 62);
}

static void a_flow_has_no_more_leases_than_its_limit(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up_as("b1", "b", "1", 10, true);
    struct scheduler_flow f = flow_of(FLOW);
    f.max_executors = 3;
    assert_ok(scheduler_flow_add(s, &f, now_ms));
    tasks_add(1, 10);
    run();
    assert_int_equal(count(SCHED_ASSIGN, NULL), 3);
    struct scheduler_command first = *command(SCHED_ASSIGN);
    done(&first);
    run();
    assert_int_equal(count(SCHED_ASSIGN, NULL), 1);
}

static void a_drained_agent_gets_nothing_new(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up("b1", "b");
    agent_up("b2", "b");
    scheduler_agent_drain(s, "b1", true, now_ms);
    flow_add();
    tasks_add(1, 6);
    run();
    assert_int_equal(count(SCHED_ASSIGN, "b1"), 0);
    assert_int_equal(count(SCHED_ASSIGN, "b2"), 4);
    scheduler_agent_drain(s, "b1", false, now_ms);
    run();
    assert_int_equal(count(SCHED_ASSIGN, "b1"), 2);
}

// ---- wanting ----

static void a_flow_wants_tasks_below_half_its_window(void **state) {
    (void)state;
    flow_add();
    run();
    assert_int_equal(command(SCHED_WANT_TASKS)->n, 100);
    run();
    assert_int_equal(count(SCHED_WANT_TASKS, NULL), 0); // once
    tasks_add(1, 100);
    run();
    assert_int_equal(count(SCHED_WANT_TASKS, NULL), 0);
    agent_up_as("a1", "a", "1", 30, true);
    agent_up_as("b1", "b", "1", 30, true);
    run();
    assert_int_equal(command(SCHED_WANT_TASKS)->n, 51); // asked for as soon as 49 are left
    scheduler_flow_drained(s, FLOW);
    run();
    assert_int_equal(count(SCHED_WANT_TASKS, NULL), 0);
    scheduler_more_tasks(s, FLOW, now_ms);
    run();
    assert_int_equal(count(SCHED_WANT_TASKS, NULL), 1);
}

static void tasks_beyond_the_limit_are_refused(void **state) {
    (void)state;
    scheduler_free(s);
    start_at(0, 1, 5);
    flow_add();
    run();
    assert_int_equal(command(SCHED_WANT_TASKS)->n, 5);
    tasks_add(1, 5);
    struct scheduler_task t = task_of(6);
    assert_err(scheduler_task_add(s, &t, now_ms), ERR_FULL);
    run();
    assert_int_equal(count(SCHED_WANT_TASKS, NULL), 0);
    agent_up("a1", "a");
    agent_up("b1", "b");
    run();
    struct scheduler_command c = *command(SCHED_ASSIGN);
    done(&c);
    run();
    assert_int_equal(command(SCHED_WANT_TASKS)->n, 1);
}

// ---- losing agents ----

static void a_lost_agents_task_goes_to_another_and_its_late_result_is_fenced(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up("b1", "b");
    flow_add();
    tasks_add(1, 1);
    run();
    struct scheduler_command old = *command(SCHED_ASSIGN);
    agent_up("b2", "b");
    scheduler_agent_down(s, "b1", false, now_ms);
    run();
    struct scheduler_command new = *command(SCHED_ASSIGN);
    assert_string_equal(new.agent, "b2");
    assert_true(epoch_compare(old.epoch, new.epoch) < 0);
    assert_int_equal(scheduler_open_leases(s, FLOW), 2);
    assert_err(scheduler_result(s, "b1", 1, old.epoch, now_ms), ERR_FENCED);
    run();
    assert_int_equal(command(SCHED_CLOSED)->how, CLOSED_RELEASED);
    done(&new);
    assert_err(scheduler_result(s, "b2", 1, new.epoch, now_ms), ERR_FENCED);
    assert_int_equal(scheduler_open_leases(s, FLOW), 0);
}

static void a_silent_agent_is_lost_and_its_lease_expires_with_the_hold(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up("b1", "b");
    flow_add();
    tasks_add(1, 1);
    run();
    for (int i = 0; i < 5; i++) {
        now_ms += 1000;
        assert_true(scheduler_agent_heard(s, "a1", now_ms));
        scheduler_tick(s, now_ms);
    }
    assert_false(scheduler_agent_heard(s, "b1", now_ms));
    agent_up("b2", "b");
    run();
    assert_int_equal(count(SCHED_ASSIGN, "b2"), 1);
    later(HOLD_MS - LOST_MS - 1, true);
    run();
    assert_int_equal(count(SCHED_CLOSED, NULL), 0);
    later(1, true);
    run();
    assert_int_equal(command(SCHED_CLOSED)->how, CLOSED_EXPIRED);
    assert_string_equal(command(SCHED_CLOSED)->agent, "b1");
}

static void an_agent_that_comes_back_goes_on_with_its_lease(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up("b1", "b");
    flow_add();
    tasks_add(1, 2);
    run();
    struct scheduler_command one = commands[1], two = commands[2];
    assert_int_equal(two.kind, SCHED_ASSIGN);
    scheduler_agent_down(s, "b1", false, now_ms);
    run();
    assert_int_equal(count(SCHED_ASSIGN, NULL), 0);
    later(100, true);
    agent_up("b1", "b");
    assert_true(scheduler_agent_holds(s, "b1", one.task_id, one.epoch, now_ms));
    scheduler_agent_reported(s, "b1", now_ms); // it never got the other one
    run();
    assert_int_equal(command(SCHED_CLOSED)->task_id, two.task_id);
    assert_int_equal(command(SCHED_ASSIGN)->task_id, two.task_id);
    done(&one);
}

static void a_lease_given_to_another_meanwhile_is_refused(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up("b1", "b");
    flow_add();
    tasks_add(1, 1);
    run();
    struct scheduler_command old = *command(SCHED_ASSIGN);
    agent_up("b2", "b");
    scheduler_agent_down(s, "b1", false, now_ms);
    run();
    agent_up("b1", "b");
    assert_false(scheduler_agent_holds(s, "b1", 1, old.epoch, now_ms));
    assert_int_equal(scheduler_open_leases(s, FLOW), 2);
    scheduler_agent_reported(s, "b1", now_ms);
    assert_int_equal(scheduler_open_leases(s, FLOW), 2); // it has not stopped yet
    scheduler_released(s, "b1", 1, old.epoch, now_ms);
    run();
    assert_int_equal(command(SCHED_CLOSED)->how, CLOSED_RELEASED);
    assert_int_equal(scheduler_open_leases(s, FLOW), 1);
}

static void a_new_incarnation_closes_the_leases_of_the_old(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up("b1", "b");
    flow_add();
    tasks_add(1, 1);
    run();
    struct scheduler_command old = *command(SCHED_ASSIGN);
    agent_up_as("b1", "b", "2", 2, true);
    run();
    assert_int_equal(command(SCHED_CLOSED)->how, CLOSED_INCARNATION);
    assert_int_equal(count(SCHED_ASSIGN, "b1"), 1);
    assert_err(scheduler_result(s, "b1", 1, old.epoch, now_ms), ERR_FENCED);
}

static void a_result_kept_by_the_old_incarnation_still_counts(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up("b1", "b");
    flow_add();
    tasks_add(1, 1);
    run();
    struct scheduler_command old = *command(SCHED_ASSIGN);
    scheduler_agent_down(s, "b1", false, now_ms);
    agent_up_as("b1", "b", "2", 2, true);
    assert_true(scheduler_agent_holds(s, "b1", 1, old.epoch, now_ms));
    scheduler_agent_reported(s, "b1", now_ms);
    run();
    assert_int_equal(count(SCHED_ASSIGN, NULL), 0);
    done(&old);
    run();
    assert_int_equal(count(SCHED_ASSIGN, NULL), 0);
}

static void an_exclusive_task_waits_until_the_lost_lease_is_closed(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up("b1", "b");
    flow_add();
    struct scheduler_task t = task_of(1);
    t.exclusive = true;
    assert_ok(scheduler_task_add(s, &t, now_ms));
    run();
    agent_up("b2", "b");
    scheduler_agent_down(s, "b1", false, now_ms);
    later(HOLD_MS - 1, true);
    run();
    assert_int_equal(count(SCHED_ASSIGN, NULL), 0);
    later(1, true);
    run();
    assert_int_equal(command(SCHED_CLOSED)->how, CLOSED_EXPIRED);
    assert_int_equal(count(SCHED_ASSIGN, "b2"), 1);
}

// ---- pausing ----

static void a_paused_flow_is_quiet_when_the_last_lease_is_closed(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up("b1", "b");
    flow_add();
    tasks_add(1, 2);
    run();
    struct scheduler_command one = commands[1], two = commands[2];
    scheduler_flow_pause(s, FLOW, now_ms);
    run();
    assert_int_equal(count(SCHED_REVOKE, "b1"), 2);
    assert_int_equal(count(SCHED_QUIET, NULL), 0);
    done(&one);
    scheduler_released(s, "b1", two.task_id, two.epoch, now_ms);
    run();
    assert_int_equal(count(SCHED_QUIET, NULL), 1);
    assert_int_equal(count(SCHED_ASSIGN, NULL), 0);
    scheduler_flow_resume(s, FLOW, now_ms);
    run();
    assert_int_equal(command(SCHED_ASSIGN)->task_id, two.task_id);
}

static void a_removed_flow_is_quiet_at_the_latest_when_holds_expire(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up("b1", "b");
    flow_add();
    tasks_add(1, 8);
    run();
    scheduler_agent_down(s, "b1", false, now_ms);
    scheduler_flow_remove(s, FLOW, now_ms);
    run();
    assert_int_equal(count(SCHED_QUIET, NULL), 0);
    later(HOLD_MS, true);
    run();
    assert_int_equal(count(SCHED_CLOSED, "b1"), 4);
    assert_int_equal(commands[n_commands - 1].kind, SCHED_QUIET);
    struct scheduler_task t = task_of(99);
    assert_err(scheduler_task_add(s, &t, now_ms), ERR_NOT_FOUND);
}

static void removing_a_flow_without_leases_is_quiet_at_once(void **state) {
    (void)state;
    flow_add();
    tasks_add(1, 3);
    scheduler_flow_remove(s, FLOW, now_ms);
    run();
    assert_int_equal(n_commands, 1);
    assert_int_equal(command(SCHED_QUIET)->kind, SCHED_QUIET);
    flow_add(); // the name is free again
}

static void a_dropped_task_is_revoked_and_fenced(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up("b1", "b");
    flow_add();
    tasks_add(1, 1);
    run();
    struct scheduler_command c = *command(SCHED_ASSIGN);
    assert_string_equal(scheduler_holder(s, 1, c.epoch), "b1");
    scheduler_task_drop(s, 1, now_ms);
    run();
    assert_int_equal(count(SCHED_REVOKE, "b1"), 1);
    assert_null(scheduler_holder(s, 1, c.epoch));
    assert_err(scheduler_result(s, "b1", 1, c.epoch, now_ms), ERR_FENCED);
}

// ---- parking ----

static void check_unrunnable(enum err expected) {
    flow_add();
    tasks_add(1, 2);
    run();
    assert_int_equal(count(SCHED_ASSIGN, NULL), 0);
    assert_true(wake_ms <= now_ms + PARK_MS);
    later(PARK_MS, true);
    run();
    assert_int_equal(count(SCHED_UNRUNNABLE, NULL), 2);
    assert_int_equal(command(SCHED_UNRUNNABLE)->err, expected);
}

static void a_task_without_any_agent_is_given_up(void **state) {
    (void)state;
    agent_up("a1", "a");
    check_unrunnable(ERR_NO_AGENT);
}

static void a_task_without_a_source_is_given_up(void **state) {
    (void)state;
    agent_up("b1", "b");
    check_unrunnable(ERR_NO_AGENT);
}

static void a_task_onto_a_volume_not_shared_is_given_up(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up_as("b1", "b", "1", 2, false);
    check_unrunnable(ERR_NOT_SHARED);
}

static void a_parked_task_runs_once_somebody_can(void **state) {
    (void)state;
    agent_up("a1", "a");
    flow_add();
    tasks_add(1, 1);
    run();
    later(PARK_MS / 2, true);
    agent_up("b1", "b");
    run();
    assert_int_equal(count(SCHED_ASSIGN, "b1"), 1);
    later(PARK_MS, true);
    run();
    assert_int_equal(count(SCHED_UNRUNNABLE, NULL), 0);
}

static void a_task_waits_for_its_time(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up("b1", "b");
    flow_add();
    struct scheduler_task t = task_of(1);
    t.not_before_ms = now_ms + 500;
    assert_ok(scheduler_task_add(s, &t, now_ms));
    run();
    assert_int_equal(count(SCHED_ASSIGN, NULL), 0);
    assert_int_equal(wake_ms, now_ms + 500);
    later(500, true);
    run();
    assert_int_equal(count(SCHED_ASSIGN, NULL), 1);
}

// ---- reconciling ----

static void restored_tasks_wait_for_agents_to_report(void **state) {
    (void)state;
    scheduler_free(s);
    start_at(6000, 2, 1000);
    agent_up("a1", "a");
    agent_up("b1", "b");
    agent_up("b2", "b");
    struct epoch older = {1, 7}, newer = {1, 9};
    assert_true(scheduler_agent_holds(s, "b1", 1, older, now_ms));
    struct scheduler_flow f = flow_of(FLOW);
    f.restored = true;
    assert_ok(scheduler_flow_add(s, &f, now_ms));
    tasks_add(1, 3);
    run();
    assert_int_equal(count(SCHED_ASSIGN, NULL), 0);
    assert_true(scheduler_agent_holds(s, "b2", 1, newer, now_ms));
    run();
    assert_string_equal(command(SCHED_REVOKE)->agent, "b1");
    assert_err(scheduler_result(s, "b1", 1, older, now_ms), ERR_FENCED);
    assert_err(scheduler_result(s, "b2", 1, newer, now_ms), ERR_AGAIN);
    later(5000, true);
    run();
    assert_int_equal(count(SCHED_ASSIGN, NULL), 2);
    assert_ok(scheduler_result(s, "b2", 1, newer, now_ms));
}

static void a_claim_whose_task_never_comes_is_revoked(void **state) {
    (void)state;
    scheduler_free(s);
    start_at(6000, 2, 1000);
    agent_up("b1", "b");
    struct epoch e = {1, 7};
    assert_true(scheduler_agent_holds(s, "b1", 1, e, now_ms));
    assert_err(scheduler_result(s, "b1", 2, e, now_ms), ERR_AGAIN);
    later(5000, true);
    run();
    assert_int_equal(count(SCHED_REVOKE, "b1"), 2);
    assert_err(scheduler_result(s, "b1", 2, e, now_ms), ERR_FENCED);
    scheduler_released(s, "b1", 1, e, now_ms);
    assert_int_equal(scheduler_leases_of(s, "b1"), 0);
}

static void a_late_report_counts_if_nobody_else_has_the_task(void **state) {
    (void)state;
    scheduler_free(s);
    start_at(6000, 2, 1000);
    struct scheduler_flow f = flow_of(FLOW);
    f.restored = true;
    assert_ok(scheduler_flow_add(s, &f, now_ms));
    tasks_add(1, 2);
    later(6000, true);
    run();
    agent_up("a1", "a");
    agent_up("b1", "b");
    assert_true(scheduler_agent_holds(s, "b1", 1, (struct epoch){1, 3}, now_ms));
    assert_false(scheduler_agent_holds(s, "b1", 1, (struct epoch){1, 2}, now_ms));
    assert_ok(scheduler_result(s, "b1", 2, (struct epoch){1, 4}, now_ms));
    assert_ok(scheduler_result(s, "b1", 1, (struct epoch){1, 3}, now_ms));
}

static void new_flows_do_not_wait_for_reconciliation(void **state) {
    (void)state;
    scheduler_free(s);
    start_at(6000, 2, 1000);
    agent_up("a1", "a");
    agent_up("b1", "b");
    flow_add();
    tasks_add(1, 1);
    run();
    assert_int_equal(count(SCHED_ASSIGN, NULL), 1);
}

// ---- moving work ----

static void what_a_busy_agent_has_not_begun_goes_to_an_idle_one(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up("b1", "b");
    flow_add();
    tasks_add(1, 4);
    scheduler_flow_drained(s, FLOW);
    run();
    assert_int_equal(count(SCHED_ASSIGN, "b1"), 4);
    later(1000, true);
    agent_up("b2", "b");
    run();
    later(200, true);
    run();
    assert_int_equal(count(SCHED_REVOKE, "b1"), 2);
    for (size_t i = 0, n = n_commands; i < n; i++) {
        scheduler_released(s, "b1", commands[i].task_id, commands[i].epoch, now_ms);
    }
    run();
    assert_int_equal(count(SCHED_ASSIGN, "b2"), 2);
}

static void a_slow_agent_yields_to_a_fast_one_that_is_idle(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up_as("b1", "b", "1", 1, true);
    agent_up_as("b2", "b", "1", 1, true);
    flow_add();
    tasks_add(1, 2);
    scheduler_flow_drained(s, FLOW);
    run();
    struct scheduler_command slow = commands[0], fast = commands[1];
    later(500, true);
    done(&fast);
    scheduler_progress(s, slow.agent, slow.task_id, slow.epoch, 1 << 14, 0, now_ms);
    run();
    size_t n = count(SCHED_YIELD, slow.agent);
    later(200, true);
    run();
    assert_int_equal(n + count(SCHED_YIELD, slow.agent), 1);
    later(1000, true);
    run();
    assert_int_equal(count(SCHED_YIELD, NULL), 0); // once
}

static void equals_do_not_pass_work_back_and_forth(void **state) {
    (void)state;
    agent_up("a1", "a");
    agent_up_as("b1", "b", "1", 1, true);
    agent_up_as("b2", "b", "1", 1, true);
    flow_add();
    tasks_add(1, 2);
    scheduler_flow_drained(s, FLOW);
    run();
    struct scheduler_command one = commands[0], two = commands[1];
    later(10000, true);
    done(&two);
    scheduler_progress(s, one.agent, one.task_id, one.epoch, 1 << 19, 0, now_ms);
    for (int i = 0; i < 20; i++) {
        run();
        assert_int_equal(count(SCHED_YIELD, NULL), 0);
        later(200, true);
    }
}

// ---- size ----

static void ten_thousand_agents_are_scheduled_in_no_time(void **state) {
    (void)state;
    scheduler_free(s);
    start_at(0, 1, 200000);
    char name[32];
    for (int i = 0; i < 10000; i++) {
        snprintf(name, sizeof(name), "%c%d", i % 10 == 0 ? 'x' : 'y', i);
        agent_up_as(name, i % 10 == 0 ? "a" : "b", "1", i % 10 == 0 ? 8 : 2, true);
    }
    flow_add();
    tasks_add(1, 60000);
    size_t n_assigned = 0;
    for (int round = 0; round < 3; round++) {
        for (;;) {
            struct scheduler_command c;
            scheduler_next_command(s, now_ms, &c, &wake_ms);
            if (c.kind == SCHED_NONE) {
                break;
            }
            if (c.kind == SCHED_ASSIGN) {
                n_assigned++;
                if (n_assigned % 3 == 0) {
                    done(&c);
                }
            }
        }
        now_ms += 10;
    }
    // A third was done at once, the other leases fill 9,000 agents.
    assert_int_equal(n_assigned - n_assigned / 3, 36000);
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        CASE(equal_agents_get_equal_shares),
        CASE(an_agent_is_leased_twice_its_slots_at_most),
        CASE(sources_rotate_and_executors_that_reach_both_ends_need_none),
        CASE(a_failed_task_goes_to_another_agent_if_there_is_one),
        CASE(priority_goes_first_and_weight_shares),
        CASE(a_flow_has_no_more_leases_than_its_limit),
        CASE(a_drained_agent_gets_nothing_new),
        CASE(a_flow_wants_tasks_below_half_its_window),
        CASE(tasks_beyond_the_limit_are_refused),
        CASE(a_lost_agents_task_goes_to_another_and_its_late_result_is_fenced),
        CASE(a_silent_agent_is_lost_and_its_lease_expires_with_the_hold),
        CASE(an_agent_that_comes_back_goes_on_with_its_lease),
        CASE(a_lease_given_to_another_meanwhile_is_refused),
        CASE(a_new_incarnation_closes_the_leases_of_the_old),
        CASE(a_result_kept_by_the_old_incarnation_still_counts),
        CASE(an_exclusive_task_waits_until_the_lost_lease_is_closed),
        CASE(a_paused_flow_is_quiet_when_the_last_lease_is_closed),
        CASE(a_removed_flow_is_quiet_at_the_latest_when_holds_expire),
        CASE(removing_a_flow_without_leases_is_quiet_at_once),
        CASE(a_dropped_task_is_revoked_and_fenced),
        CASE(a_task_without_any_agent_is_given_up),
        CASE(a_task_without_a_source_is_given_up),
        CASE(a_task_onto_a_volume_not_shared_is_given_up),
        CASE(a_parked_task_runs_once_somebody_can),
        CASE(a_task_waits_for_its_time),
        CASE(restored_tasks_wait_for_agents_to_report),
        CASE(a_claim_whose_task_never_comes_is_revoked),
        CASE(a_late_report_counts_if_nobody_else_has_the_task),
        CASE(new_flows_do_not_wait_for_reconciliation),
        CASE(what_a_busy_agent_has_not_begun_goes_to_an_idle_one),
        CASE(a_slow_agent_yields_to_a_fast_one_that_is_idle),
        CASE(equals_do_not_pass_work_back_and_forth),
        CASE(ten_thousand_agents_are_scheduled_in_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
