// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/master/scheduler_fixture.h"

#include <stdio.h>
#include <string.h>

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
        CASE(what_a_busy_agent_has_not_begun_goes_to_an_idle_one),
        CASE(a_slow_agent_yields_to_a_fast_one_that_is_idle),
        CASE(equals_do_not_pass_work_back_and_forth),
        CASE(ten_thousand_agents_are_scheduled_in_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
