// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/master/scheduler_fixture.h"

#include <stdio.h>
#include <string.h>

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

// Its agent was cut off before it learnt that its word was heard, and mentions the lease once more.
static void a_lease_that_was_given_back_does_not_come_back(void **state) {
    (void)state;
    flow_add();
    agent_up("a1", "a");
    agent_up("b1", "b");
    tasks_add(1, 1);
    run();
    struct epoch e = command(SCHED_ASSIGN)->epoch;
    scheduler_agent_down(s, "a1", false, now_ms);
    scheduler_agent_down(s, "b1", false, now_ms);
    agent_up("b1", "b");
    assert_true(scheduler_agent_holds(s, "b1", 1, e, now_ms));
    scheduler_agent_drain(s, "b1", true, now_ms); // it is not leased again meanwhile
    scheduler_released(s, "b1", 1, e, now_ms);
    assert_false(scheduler_agent_holds(s, "b1", 1, e, now_ms));
    assert_int_equal(scheduler_leases_of(s, "b1"), 0);
}

// Its result was fenced when its task was not added yet; then it registers again.
static void a_result_that_was_fenced_does_not_become_a_lease(void **state) {
    (void)state;
    start_at(6000, 2, 1000);
    struct scheduler_flow f = flow_of(FLOW);
    f.restored = true;
    struct epoch e = {1, 3};
    assert_ok(scheduler_flow_add(s, &f, now_ms));
    agent_up("b1", "b");
    assert_true(scheduler_agent_holds(s, "b1", 1, e, now_ms));
    scheduler_agent_reported(s, "b1", now_ms);
    later(6000, true);
    assert_err(scheduler_result(s, "b1", 1, e, now_ms), ERR_FENCED);
    tasks_add(1, 1);
    assert_false(scheduler_agent_holds(s, "b1", 1, e, now_ms));
    run();
    assert_null(scheduler_holder(s, 1, e));
    assert_int_equal(count(SCHED_ASSIGN, NULL), 0); // nobody serves it; it is not leased to b1
    agent_up("a1", "a");
    run();
    assert_int_equal(command(SCHED_ASSIGN)->task_id, 1);
}

// Its task has ended, or waits in the database: nobody can tell, so the agent stops, and until it
// has said so or may not act any more, no flow from before is quiet.
static void a_late_lease_of_a_task_that_is_not_here_is_open_until_its_agent_stops(void **state) {
    (void)state;
    start_at(6000, 2, 1000);
    struct scheduler_flow f = flow_of(FLOW);
    f.restored = true;
    assert_ok(scheduler_flow_add(s, &f, now_ms));
    later(6000, true);
    agent_up("b1", "b");
    struct epoch e = {1, 7};
    assert_false(scheduler_agent_holds(s, "b1", 1, e, now_ms));
    scheduler_agent_reported(s, "b1", now_ms);
    assert_true(scheduler_lease_is_open(s, "b1", 1, e));
    scheduler_flow_pause(s, FLOW, now_ms);
    run();
    assert_int_equal(count(SCHED_QUIET, NULL), 0);
    scheduler_released(s, "b1", 1, e, now_ms);
    assert_true(scheduler_lease_is_open(s, "b1", 1, e)); // until that was told
    run();
    assert_int_equal(command(SCHED_CLOSED)->how, CLOSED_RELEASED);
    assert_int_equal(count(SCHED_QUIET, NULL), 1);
    assert_false(scheduler_lease_is_open(s, "b1", 1, e));
}

static void a_refused_lease_of_an_agent_that_is_lost_expires(void **state) {
    (void)state;
    start_at(6000, 2, 1000);
    later(6000, true);
    agent_up("b1", "b");
    struct epoch e = {1, 7};
    assert_false(scheduler_agent_holds(s, "b1", 1, e, now_ms));
    scheduler_agent_down(s, "b1", false, now_ms);
    later(HOLD_MS - 1, false);
    run();
    assert_true(scheduler_lease_is_open(s, "b1", 1, e));
    later(2, false);
    run();
    assert_int_equal(command(SCHED_CLOSED)->how, CLOSED_EXPIRED);
    assert_false(scheduler_lease_is_open(s, "b1", 1, e));
}

// Another has the task since, and nobody asks for this lease's holder any more.
static void a_superseded_lease_is_open_until_it_is_closed(void **state) {
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
    done(command(SCHED_ASSIGN));
    assert_null(scheduler_holder(s, 1, old.epoch));
    assert_true(scheduler_lease_is_open(s, "b1", 1, old.epoch));
    later(HOLD_MS, true);
    run();
    assert_int_equal(command(SCHED_CLOSED)->how, CLOSED_EXPIRED);
    assert_false(scheduler_lease_is_open(s, "b1", 1, old.epoch));
}

static void new_flows_do_not_wait_for_reconciliation(void **state) {
    (void)state;
    start_at(6000, 2, 1000);
    agent_up("a1", "a");
    agent_up("b1", "b");
    flow_add();
    tasks_add(1, 1);
    run();
    assert_int_equal(count(SCHED_ASSIGN, NULL), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
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
        CASE(a_lease_that_was_given_back_does_not_come_back),
        CASE(a_result_that_was_fenced_does_not_become_a_lease),
        CASE(a_late_lease_of_a_task_that_is_not_here_is_open_until_its_agent_stops),
        CASE(a_refused_lease_of_an_agent_that_is_lost_expires),
        CASE(a_superseded_lease_is_open_until_it_is_closed),
        CASE(new_flows_do_not_wait_for_reconciliation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
