// SPDX-License-Identifier: Apache-2.0
// How many events of a flow are kept, and which.
#include "tests/contract/master/database_contract.h"

#include "tests/lib/test.h"

#include <string.h>

static const char FLOW_A[] = "01HZZZZZZZZZZZZZZZZZZZZZZA";

static void on_events(void *arg, enum err result, const struct flow_event_row *rows, size_t n,
                      bool more) {
    struct database_world *w = arg;
    w->result = result;
    w->n_rows = n;
    w->more = more;
    if (n > 0) {
        w->first = rows[0].seq;
        w->last = rows[n - 1].seq;
    }
    loop_stop(w->loop);
}

// Every tenth is a change of state.
static void add_events(struct database_world *w, uint64_t first, uint64_t end, uint32_t kept) {
    struct change *c = change_new();
    for (uint64_t seq = first; seq < end; seq++) {
        struct flow_event_row e = {.seq = seq,
                                   .at_ms = 1,
                                   .thin = seq % 10 != 0,
                                   .kind = "x",
                                   .message = {(const uint8_t *)"m", 1}};
        change_event(c, FLOW_A, &e, kept);
    }
    database_world_commit(w, c);
    assert_ok(w->result);
    database_events_read(w->database, FLOW_A, 0, 100000, on_events, w);
    loop_run(w->loop);
    assert_int_equal(w->first, 1);
    assert_int_equal(w->last, end - 1);
}

// After each event there are at most so many, and never less than nearly half.
static void progress_is_thinned_to_its_limit_and_state_changes_stay(void **state) {
    enum { KEPT = 40, STEPS = 300 };
    struct database_world *w = *state;
    size_t most = 0;
    database_world_insert(w, FLOW_A, "", "spec"); // with the event 1, a change of state
    for (uint64_t seq = 2; seq < STEPS; seq++) {
        add_events(w, seq, seq + 1, KEPT);
        size_t n_states = 1 + seq / 10, n_thin = w->n_rows - n_states;
        assert_in_range(n_thin, seq < KEPT ? 0 : KEPT / 2 - KEPT / 8, KEPT);
        most = n_thin > most ? n_thin : most;
    }
    assert_in_range(most, KEPT - KEPT / 8, KEPT);
    add_events(w, STEPS, 5000, 1000);
    assert_in_range(w->n_rows, 500 + 400, 500 + 1000);
    database_events_read(w->database, FLOW_A, 4990, 3, on_events, w);
    loop_run(w->loop);
    assert_int_equal(w->n_rows, 3);
    assert_true(w->more);
}

int event_contract(const struct database_kind *k) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(progress_is_thinned_to_its_limit_and_state_changes_stay,
                                        database_world_set_up, database_world_tear_down),
    };
    database_world_kind(k);
    return cmocka_run_group_tests_name(k->name, tests, NULL, NULL);
}
