// SPDX-License-Identifier: Apache-2.0
// clang-format off
// WRAP: planner_spec planner_leased planner_result planner_want_tasks planner_unrunnable planner_lease_closed planner_page planner_agent_reported flow_is_quiet
// clang-format on
#include "tests/unit/master/fake_planner.h"

#include "common/hash.h"

// ---- sessions ----

static void a_task_is_leased_with_a_ticket_for_its_source(void **state) {
    (void)state;
    fake_up(&a1);
    fake_up(&b1);
    add_flow();
    add_tasks(1, 1);
    wait_until(has_lease, &b1);
    assert_string_equal(b1.source, "a1");
    struct ticket t;
    assert_ok(
        ticket_open(b1.ticket, b1.ticket_len, b1.ticket_key, clock_wall_ms(&clock_system), &t));
    assert_string_equal(t.executor, "b1");
    assert_string_equal(t.source, "a1");
    assert_string_equal(t.flow, FLOW);
    assert_int_equal(t.task_id, 1);
    assert_int_equal(t.term, 3);
    uint8_t digest[32];
    sha256(spec.objects.data, spec.objects.len, digest);
    assert_memory_equal(t.objects_sha256, digest, 32);
}

static bool was_pinged(const void *agent) {
    return ((const struct fake_agent *)agent)->pinged == 5;
}

static void a_heartbeat_is_confirmed(void **state) {
    (void)state;
    fake_up(&a1);
    fake_beat(&a1, 5);
    wait_until(was_pinged, &a1);
}

static void a_silent_agent_is_cut_off(void **state) {
    (void)state;
    fake_up(&a1);
    wait_until(is_closed, &a1);
    wait_until(nobody_is_connected, NULL);
}

static void of_two_with_one_name_the_younger_stays(void **state) {
    (void)state;
    static struct fake_agent elder, younger; // their calls end with the cluster
    elder = younger = b1;
    memcpy(elder.incarnation, "01AAAAAAAAAAAAAAAAAAAAAAAA", IDENT_LEN);
    memcpy(younger.incarnation, "01BBBBBBBBBBBBBBBBBBBBBBBB", IDENT_LEN);
    fake_up(&elder);
    fake_up(&younger);
    wait_until(is_closed, &elder);
    fake_dial(&elder);
    wait_until(is_closed, &elder);
    assert_false(elder.welcomed);
    assert_non_null(strstr(elder.goodbye, "another agent of this name"));
    assert_false(younger.closed);
    assert_int_equal(agents_connected(cluster.core.agents), 1);
}

static void a_nonsensical_registration_is_refused(void **state) {
    (void)state;
    snprintf(a1.name, sizeof(a1.name), "no/name");
    fake_dial(&a1);
    wait_until(is_closed, &a1);
    assert_false(a1.welcomed);
    assert_true(a1.goodbye[0] != '\0');
}

static void more_agents_than_allowed_are_refused(void **state) {
    (void)state;
    cluster.options.agents = 2;
    fake_up(&a1);
    fake_up(&b1);
    fake_dial(&b2);
    wait_until(is_closed, &b2);
    assert_false(b2.welcomed);
}

static void the_master_says_goodbye(void **state) {
    (void)state;
    fake_up(&a1);
    agents_say_goodbye(cluster.core.agents);
    wait_until(is_closed, &a1);
    assert_string_equal(a1.goodbye, "the master stops");
}

static void an_agent_that_leaves_is_not_lost(void **state) {
    (void)state;
    fake_up(&a1);
    fake_leave(&a1);
    wait_until(is_closed, &a1);
    wait_until(nobody_is_connected, NULL);
    Sluice__V1__ListAgentsResponse *m = agents_list(cluster.core.agents, "");
    assert_int_equal(m->n_agents, 1);
    assert_false(m->agents[0]->connected);
    agents_list_free(m);
}

// ---- results ----

static bool has_two_results(const void *arg) {
    (void)arg;
    return n_results >= 2;
}

static bool committed_two(const void *agent) {
    return ((const struct fake_agent *)agent)->committed == 2;
}

static void results_are_committed_in_their_order(void **state) {
    (void)state;
    lease_two();
    fake_result(&b1, 1, &b1.assigned[0]);
    fake_result(&b1, 2, &b1.assigned[1]);
    wait_until(has_two_results, NULL);
    results[1].committed(results[1].arg);
    fake_beat(&b1, 5);
    wait_until(was_pinged, &b1);
    assert_int_equal(b1.committed, 0);
    results[0].committed(results[0].arg);
    wait_until(committed_two, &b1);
}

static void a_result_told_twice_counts_once(void **state) {
    (void)state;
    lease_two();
    fake_result(&b1, 1, &b1.assigned[0]);
    fake_result(&b1, 1, &b1.assigned[0]);
    fake_result(&b1, 2, &b1.assigned[1]);
    wait_until(has_two_results, NULL);
    assert_int_equal(results[0].number, 1);
    assert_int_equal(results[1].number, 2);
    results[0].committed(results[0].arg);
    results[1].committed(results[1].arg);
    wait_until(committed_two, &b1);
}

static void a_fenced_result_is_committed_without_effect(void **state) {
    (void)state;
    fake_up(&b1);
    fake_result(&b1, 1, &(struct fake_lease){77, 2, 5, 0});
    fake_result(&b1, 2, &(struct fake_lease){78, 2, 5, 0});
    wait_until(committed_two, &b1);
    assert_int_equal(n_results, 0);
}

static void results_under_way_survive_a_reconnection(void **state) {
    (void)state;
    lease_two();
    fake_result(&b1, 1, &b1.assigned[0]);
    fake_result(&b1, 2, &b1.assigned[1]);
    wait_until(has_two_results, NULL);
    b1.next_number = 3;
    fake_cut(&b1);
    fake_up(&b1);
    fake_result(&b1, 1, &b1.assigned[0]);
    fake_result(&b1, 2, &b1.assigned[1]);
    fake_beat(&b1, 5);
    wait_until(was_pinged, &b1);
    assert_int_equal(n_results, 2);
    assert_int_equal(b1.committed, 0);
    results[0].committed(results[0].arg);
    results[1].committed(results[1].arg);
    wait_until(committed_two, &b1);
}

// ---- coming back ----

static void an_agent_that_comes_back_keeps_what_nobody_else_got(void **state) {
    (void)state;
    lease_two();
    fake_cut(&b1);
    b1.holds[0] = b1.assigned[0];
    b1.n_holds = 1;
    b1.n_assigned = 0;
    fake_up(&b1);
    assert_int_equal(b1.n_refused, 0);
    wait_until(has_lease, &b1); // the other one, again
    assert_int_equal(b1.n_assigned, 1);
    assert_int_not_equal(b1.assigned[0].task_id, b1.holds[0].task_id);
}

// It was cut off before it learnt that its results were judged: its leases are over.
static void a_lease_whose_result_was_judged_is_not_opened_again(void **state) {
    (void)state;
    lease_two();
    scheduler_agent_drain(cluster.core.scheduler, "b1", true, now()); // it gets no others
    fake_result(&b1, 1, &b1.assigned[0]);
    fake_result(&b1, 2, &b1.assigned[1]);
    wait_until(has_two_results, NULL);
    results[0].committed(results[0].arg);
    b1.next_number = 3;
    b1.n_holds = 2;
    for (size_t i = 0; i < b1.n_holds; i++) {
        b1.holds[i] = b1.assigned[i];
        b1.holds[i].result = i + 1;
    }
    fake_cut(&b1);
    fake_up(&b1);
    assert_int_equal(b1.n_refused, 0);
    assert_int_equal(scheduler_leases_of(cluster.core.scheduler, "b1"), 0);
    results[1].committed(results[1].arg);
    wait_until(committed_two, &b1);
}

static void a_result_that_was_not_judged_yet_holds_its_lease(void **state) {
    (void)state;
    lease_two();
    b1.next_number = 2;
    b1.n_holds = 1;
    b1.holds[0] = b1.assigned[0];
    b1.holds[0].result = 1;
    fake_cut(&b1);
    fake_up(&b1);
    assert_int_equal(b1.n_refused, 0);
    assert_true(scheduler_leases_of(cluster.core.scheduler, "b1") > 0);
}

static void what_another_agent_got_is_refused(void **state) {
    (void)state;
    fake_up(&a1);
    fake_up(&b1);
    add_flow();
    add_tasks(1, 1);
    wait_until(has_lease, &b1);
    fake_cut(&b1);
    fake_up(&b2);
    wait_until(has_lease, &b2);
    b1.holds[0] = b1.assigned[0];
    b1.n_holds = 1;
    fake_up(&b1);
    assert_int_equal(b1.n_refused, 1);
    assert_int_equal(scheduler_open_leases(cluster.core.scheduler, FLOW), 2);
    fake_stopped(&b1, &b1.holds[0]);
    fake_beat(&b1, 5);
    wait_until(was_pinged, &b1);
    assert_int_equal(scheduler_open_leases(cluster.core.scheduler, FLOW), 1);
}

static bool has_revoke(const void *agent) {
    return ((const struct fake_agent *)agent)->n_revoked > 0;
}

static void a_paused_flow_revokes(void **state) {
    (void)state;
    fake_up(&a1);
    fake_up(&b1);
    add_flow();
    add_tasks(1, 1);
    wait_until(has_lease, &b1);
    scheduler_flow_pause(cluster.core.scheduler, FLOW, now());
    core_dispatch(&cluster.core);
    wait_until(has_revoke, &b1);
    assert_int_equal(b1.revoked[0].task_id, 1);
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        CASE(a_task_is_leased_with_a_ticket_for_its_source),
        CASE(a_heartbeat_is_confirmed),
        cmocka_unit_test_setup_teardown(a_silent_agent_is_cut_off, start_impatient, stop),
        CASE(of_two_with_one_name_the_younger_stays),
        CASE(a_nonsensical_registration_is_refused),
        CASE(more_agents_than_allowed_are_refused),
        CASE(the_master_says_goodbye),
        CASE(an_agent_that_leaves_is_not_lost),
        CASE(results_are_committed_in_their_order),
        CASE(a_result_told_twice_counts_once),
        CASE(a_fenced_result_is_committed_without_effect),
        CASE(results_under_way_survive_a_reconnection),
        CASE(an_agent_that_comes_back_keeps_what_nobody_else_got),
        CASE(a_lease_whose_result_was_judged_is_not_opened_again),
        CASE(a_result_that_was_not_judged_yet_holds_its_lease),
        CASE(what_another_agent_got_is_refused),
        CASE(a_paused_flow_revokes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
