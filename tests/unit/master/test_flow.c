// SPDX-License-Identifier: Apache-2.0
// WRAP: planner_flow_begin planner_flow_abandon scheduler_flow_pause scheduler_flow_resume
// WRAP: scheduler_flow_remove agents_resolve core_dispatch
#include "tests/unit/master/flow_world.h"

// The row of w.id as it is stored.
static struct {
    bool read;
    enum flow_state state;
    enum flow_outcome outcome;
    uint32_t holders;
    uint64_t last_seq;
    size_t n_events;
    char events[8][24];
    uint64_t seqs[8];
} row;

static void on_row(void *arg, enum err result, const struct flow_row *rows, size_t n_rows,
                   bool more) {
    (void)arg;
    (void)more;
    assert_ok(result);
    assert_int_equal(n_rows, 1);
    row.state = rows[0].state;
    row.outcome = rows[0].outcome;
    row.holders = rows[0].holders;
    row.last_seq = rows[0].last_seq;
}

static void on_events(void *arg, enum err result, const struct flow_event_row *rows, size_t n_rows,
                      bool more) {
    (void)arg;
    (void)more;
    assert_ok(result);
    row.n_events = n_rows;
    for (size_t i = 0; i < n_rows && i < 8; i++) {
        snprintf(row.events[i], sizeof row.events[i], "%s", rows[i].kind);
        row.seqs[i] = rows[i].seq;
    }
    row.read = true;
}

static bool is_read(void) {
    return row.read;
}

static void read_row(void) {
    memset(&row, 0, sizeof row);
    database_flow_get(w.core.database, w.id, on_row, NULL);
    database_events_read(w.core.database, w.id, 0, 100, on_events, NULL);
    until(is_read);
}

static void reopen_on_loaded(void *arg, const struct failure *f) {
    (void)arg;
    assert_null(f);
    w.answered = true;
}

static void restart(void) {
    close_world();
    open_world();
    w.n_begun = 0;
    w.answered = false;
    flows_load(w.core.flows, reopen_on_loaded, NULL);
    until(is_answered);
}

// ---- tests ----
static void an_accepted_flow_is_started_stored_and_begun(void **state) {
    (void)state;
    struct flow *f = accepted("");
    assert_int_equal(f->state, FLOW_STARTED);
    assert_int_equal(w.n_begun, 1);
    assert_string_equal(w.begun[0], f->id);
    read_row();
    assert_int_equal(row.state, FLOW_STARTED);
    assert_int_equal(row.n_events, 1);
    assert_string_equal(row.events[0], "state_changed");
    assert_string_equal(f->spec->owner, "anonymous");
}

static void the_same_request_is_the_same_flow_and_another_spec_is_refused(void **state) {
    (void)state;
    char first[IDENT_SIZE];
    (void)accepted("r1");
    memcpy(first, w.id, sizeof first);
    submit_one("r1", "/to", 0);
    assert_err(w.failure.err, OK);
    assert_true(w.existed);
    assert_string_equal(w.id, first);
    submit_one("r1", "/elsewhere", 0);
    assert_err(w.failure.err, ERR_EXISTS);
    assert_int_equal(w.n_begun, 1);
}

static void a_full_queue_refuses(void **state) {
    (void)state;
    for (int i = 0; i < 6; i++) { // two are active, four wait
        (void)accepted("");
    }
    assert_int_equal(w.n_begun, 2);
    submit_one("", "/to", 0);
    assert_err(w.failure.err, ERR_FULL);
    assert_non_null(strstr(w.failure.remedy, "flows_queued"));
}

static void the_highest_priority_begins_next_then_the_oldest(void **state) {
    (void)state;
    char high[IDENT_SIZE], old[IDENT_SIZE];
    struct flow *first = accepted("");
    (void)accepted("");
    (void)accepted("");
    memcpy(old, w.id, sizeof old);
    submit_one("", "/to", 5);
    memcpy(high, w.id, sizeof high);
    (void)accepted("");
    assert_int_equal(w.n_begun, 2);
    memcpy(w.id, first->id, sizeof w.id);
    flow_planned_out(&w.core, first, NULL);
    until(is_forgotten);
    assert_int_equal(w.n_begun, 3);
    assert_string_equal(w.begun[2], high);
    memcpy(w.id, high, sizeof w.id);
    flow_planned_out(&w.core, flows_find(w.core.flows, high), NULL);
    until(is_forgotten);
    assert_string_equal(w.begun[3], old);
}

static void volumes_that_are_being_proven_are_waited_for(void **state) {
    (void)state;
    w.resolve = ERR_AGAIN;
    submit_one("", "/to", 0);
    assert_err(w.failure.err, OK);
    assert_true(w.n_resolved > 4);
}

static void the_source_gets_its_name_below_a_directory(void **state) {
    (void)state;
    submit_one("", "/to/", 0);
    struct flow *f = flows_find(w.core.flows, w.id);
    assert_int_equal(f->sink.root_len, 4);
    assert_memory_equal(f->sink.root, "to/d", 4);
    f = accepted("");
    assert_int_equal(f->sink.root_len, 2);
    flow_sink_into_directory(&w.core, f);
    flow_sink_into_directory(&w.core, f);
    assert_int_equal(f->sink.root_len, 4);
}

static void all_delivered_is_completed(void **state) {
    (void)state;
    struct flow *f = accepted("");
    f->progress.objects_done = f->progress.objects_total = 3;
    flow_planned_out(&w.core, f, NULL);
    until(is_forgotten);
    read_row();
    assert_int_equal(row.state, FLOW_COMPLETED);
    assert_int_equal(row.outcome, OUTCOME_DELIVERED);
    assert_string_equal(row.events[row.n_events - 1], "state_changed");
}

static void failed_objects_make_it_partial_or_failed(void **state) {
    (void)state;
    struct failure why = {0};
    struct flow *f = accepted("");
    (void)failure_set(&why, ERR_NO_SPACE, "write", "x", 1, NULL);
    f->progress.objects_done = 2;
    f->progress.objects_failed = 1;
    flow_object_failed(&w.core, f, (const uint8_t *)"x", 1, &why, "b1");
    assert_err(f->error.err, ERR_NO_SPACE);
    flow_planned_out(&w.core, f, NULL);
    until(is_forgotten);
    read_row();
    assert_int_equal(row.state, FLOW_TERMINATED);
    assert_int_equal(row.outcome, OUTCOME_PARTIAL);
    f = accepted("");
    flow_planned_out(&w.core, f, &why);
    until(is_forgotten);
    read_row();
    assert_int_equal(row.outcome, OUTCOME_FAILED);
}

static void suspend_answers_when_it_is_quiet_and_resume_goes_on(void **state) {
    (void)state;
    struct flow *f = accepted("");
    w.hold_quiet = true;
    w.answered = false;
    flow_suspend(&w.core, f, 1, "test", on_done, NULL);
    assert_int_equal(w.n_paused, 1);
    read_row(); // a round trip later
    assert_false(w.answered);
    assert_int_equal(f->state, FLOW_STARTED);
    flow_is_quiet(&w.core, f->id);
    until(is_answered);
    assert_err(w.failure.err, OK);
    assert_int_equal(f->state, FLOW_SUSPENDED);
    read_row();
    assert_int_equal(row.state, FLOW_SUSPENDED);
    flow_suspend(&w.core, f, 1, "again", on_done, NULL);
    assert_err(w.failure.err, ERR_STATE);
    w.answered = false;
    flow_resume(&w.core, f, 1, on_done, NULL);
    until(is_answered);
    assert_err(w.failure.err, OK);
    assert_int_equal(f->state, FLOW_STARTED);
    assert_int_equal(w.n_resumed, 1);
    flow_resume(&w.core, f, 1, on_done, NULL);
    assert_err(w.failure.err, ERR_STATE);
}

static void it_moves_again_only_when_no_holder_is_left(void **state) {
    (void)state;
    struct flow *f = accepted("");
    w.answered = false;
    flow_suspend(&w.core, f, 1, "", on_done, NULL);
    until(is_answered);
    w.answered = false;
    flow_suspend(&w.core, f, 4, "", on_done, NULL);
    until(is_answered);
    w.answered = false;
    flow_resume(&w.core, f, 1, on_done, NULL);
    until(is_answered);
    assert_int_equal(f->state, FLOW_SUSPENDED);
    w.answered = false;
    flow_resume(&w.core, f, 4, on_done, NULL);
    until(is_answered);
    assert_int_equal(f->state, FLOW_STARTED);
}

static void cancel_ends_it_after_what_is_half_there_has_gone(void **state) {
    (void)state;
    struct flow *f = accepted("");
    w.answered = false;
    flow_terminate(&w.core, f, "enough", on_done, NULL);
    until(is_answered);
    assert_err(w.failure.err, OK);
    assert_int_equal(w.n_removed, 1);
    assert_int_equal(w.n_abandoned, 1);
    read_row();
    assert_int_equal(row.state, FLOW_TERMINATED);
    assert_int_equal(row.outcome, OUTCOME_CANCELLED);
}

static void a_flow_that_never_began_is_cancelled_at_once(void **state) {
    (void)state;
    (void)accepted("");
    (void)accepted("");
    struct flow *f = accepted("");
    w.answered = false;
    flow_terminate(&w.core, f, "", on_done, NULL);
    until(is_answered);
    assert_int_equal(w.n_removed, 0);
    assert_int_equal(w.n_abandoned, 0);
}

static void after_a_restart_what_was_begun_goes_on_first(void **state) {
    (void)state;
    char ids[3][IDENT_SIZE];
    for (int i = 0; i < 3; i++) {
        (void)accepted("");
        memcpy(ids[i], w.id, IDENT_SIZE);
    }
    uint64_t seq = flows_find(w.core.flows, ids[0])->last_seq;
    restart();
    assert_int_equal(w.n_begun, 2);
    for (int i = 0; i < 2; i++) {
        assert_true(strcmp(w.begun[i], ids[0]) == 0 || strcmp(w.begun[i], ids[1]) == 0);
    }
    struct flow *f = flows_find(w.core.flows, ids[2]);
    assert_non_null(f);
    assert_int_equal(f->phase, PHASE_QUEUED);
    assert_true(f->is_resolved);
    assert_string_equal(f->sink.site, "b");
    assert_int_equal(flows_find(w.core.flows, ids[0])->last_seq, seq);
}

static void a_suspended_flow_stays_so_over_a_restart(void **state) {
    (void)state;
    struct flow *f = accepted("");
    w.answered = false;
    flow_suspend(&w.core, f, 1, "", on_done, NULL);
    until(is_answered);
    restart();
    f = flows_find(w.core.flows, w.id);
    assert_int_equal(f->state, FLOW_SUSPENDED);
    assert_int_equal(w.n_paused, 2);
    w.answered = false;
    flow_resume(&w.core, f, 1, on_done, NULL);
    until(is_answered);
    assert_int_equal(f->state, FLOW_STARTED);
    assert_int_equal(w.n_resumed, 1);
}

static void a_cancel_that_a_crash_interrupted_goes_on(void **state) {
    (void)state;
    struct flow *f = accepted("");
    w.hold_quiet = true;
    flow_terminate(&w.core, f, "", on_done, NULL);
    restart();
    until(is_forgotten);
    read_row();
    assert_int_equal(row.outcome, OUTCOME_CANCELLED);
}

static bool two_have_begun(void) {
    return w.n_begun == 2;
}

static void a_flow_begins_after_those_that_it_waits_for(void **state) {
    (void)state;
    char first[IDENT_SIZE], second[IDENT_SIZE];
    struct flow *f = accepted("");
    memcpy(first, f->id, sizeof first);
    flow_planned_out(&w.core, f, NULL); // COMPLETED: only the database knows it
    until(is_forgotten);
    f = accepted("");
    memcpy(second, f->id, sizeof second);
    after[0] = first;
    after[1] = second;
    n_after = 2;
    (void)accepted("");
    char third[IDENT_SIZE];
    memcpy(third, w.id, sizeof third);
    read_row(); // a round trip later
    assert_int_equal(w.n_begun, 2);
    restart();
    assert_int_equal(w.n_begun, 1);
    memcpy(w.id, second, sizeof w.id);
    flow_planned_out(&w.core, flows_find(w.core.flows, second), NULL);
    until(two_have_begun); // the first is looked for in the database
    assert_string_equal(w.begun[1], third);
}

static void a_flow_fails_with_the_one_that_it_waits_for(void **state) {
    (void)state;
    char first[IDENT_SIZE], second[IDENT_SIZE];
    struct flow *f = accepted("");
    memcpy(first, f->id, sizeof first);
    after[0] = first;
    n_after = 1;
    (void)accepted("");
    memcpy(second, w.id, sizeof second);
    flow_terminate(&w.core, flows_find(w.core.flows, first), "", on_done, NULL);
    until(is_forgotten);
    memcpy(w.id, second, sizeof w.id);
    read_row();
    assert_int_equal(row.outcome, OUTCOME_FAILED);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_accepted_flow_is_started_stored_and_begun),
        TEST(the_same_request_is_the_same_flow_and_another_spec_is_refused),
        TEST(a_full_queue_refuses),
        TEST(the_highest_priority_begins_next_then_the_oldest),
        TEST(volumes_that_are_being_proven_are_waited_for),
        TEST(the_source_gets_its_name_below_a_directory),
        TEST(all_delivered_is_completed),
        TEST(failed_objects_make_it_partial_or_failed),
        TEST(suspend_answers_when_it_is_quiet_and_resume_goes_on),
        TEST(it_moves_again_only_when_no_holder_is_left),
        TEST(cancel_ends_it_after_what_is_half_there_has_gone),
        TEST(a_flow_that_never_began_is_cancelled_at_once),
        TEST(after_a_restart_what_was_begun_goes_on_first),
        TEST(a_suspended_flow_stays_so_over_a_restart),
        TEST(a_flow_begins_after_those_that_it_waits_for),
        TEST(a_flow_fails_with_the_one_that_it_waits_for),
        TEST(a_cancel_that_a_crash_interrupted_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
