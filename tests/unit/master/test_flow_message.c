// SPDX-License-Identifier: Apache-2.0
#include "master/flow_message.h"

#include "master/flow_row.h"
#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct flow *new_flow(void) {
    struct flow *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->spec = sluice__v1__flow_spec__unpack(NULL, 0, NULL);
    assert_non_null(f->spec);
    strcpy(f->id, "01J000000000000000000000AA");
    f->state = FLOW_STARTED;
    f->phase = PHASE_TRANSFERRING;
    return f;
}

static void delete_flow(struct flow *f) {
    flow_deinit(f);
    free(f);
}

static void the_bottleneck_is_named_with_its_share(void **state) {
    (void)state;
    char text[256];
    struct flow_progress p = {.read_us = 70, .hash_us = 10, .receive_us = 20};
    flow_bottleneck(&p, text, sizeof text);
    assert_string_equal(text,
                        "the source's disk (70 %), then the network (20 %), then hashing (10 %)");
    p = (struct flow_progress){.write_us = 10, .sync_us = 90};
    flow_bottleneck(&p, text, sizeof text);
    assert_string_equal(text, "the destination's disk, mostly its sync (100 %)");
    p = (struct flow_progress){.wait_us = 5};
    flow_bottleneck(&p, text, sizeof text);
    assert_string_equal(text, "");
}

static void no_buffer_is_too_small_for_the_bottleneck(void **state) {
    (void)state;
    const struct flow_progress p = {
        .walk_us = 5, .read_us = 70, .hash_us = 10, .send_us = 20, .write_us = 30, .sync_us = 60};
    for (size_t cap = 1; cap < 200; cap++) {
        char *text = malloc(cap);
        assert_non_null(text);
        flow_bottleneck(&p, text, cap);
        assert_true(strlen(text) < cap);
        free(text);
    }
}

static void the_time_left_is_unknown_while_the_total_grows(void **state) {
    (void)state;
    struct flow *f = new_flow();
    f->progress.bytes_total = 3000;
    f->progress.bytes_done = 1000;
    f->bytes_per_s = 1000.0;
    assert_int_equal(flow_eta_ms(f), 2000);
    f->progress.listing = true;
    assert_int_equal(flow_eta_ms(f), -1);
    f->progress.listing = false;
    f->bytes_per_s = 0.0;
    assert_int_equal(flow_eta_ms(f), -1);
    f->state = FLOW_COMPLETED;
    assert_int_equal(flow_eta_ms(f), 0);
    delete_flow(f);
}

static void shares_and_transports_add_up(void **state) {
    (void)state;
    struct flow *f = new_flow();
    flow_add_share(f, "b1", 10, 0, 1);
    flow_add_share(f, "b2", 5, 0, 1);
    flow_add_share(f, "b1", 10, 3, 1);
    flow_add_share(f, "", 10, 3, 1);
    assert_int_equal(f->n_shares, 2);
    assert_int_equal(f->shares[0].bytes_written, 20);
    assert_int_equal(f->shares[0].bytes_read, 3);
    flow_add_transport(f, "tcp");
    flow_add_transport(f, "tc");
    flow_add_transport(f, "tcp");
    flow_add_transport(f, "");
    assert_string_equal(f->transports, "tcp,tc");
    delete_flow(f);
}

static void a_row_gives_the_flow_again(void **state) {
    (void)state;
    struct flow *f = new_flow(), *g = calloc(1, sizeof *g);
    struct flow_row_bytes b;
    assert_non_null(g);
    f->is_resolved = f->sink_is_named = true;
    strcpy(f->source.site, "a");
    strcpy(f->sink.volume, "data");
    memcpy(f->sink.root, "x/\xff", 3);
    f->sink.root_len = 3;
    f->holders = 2;
    f->last_seq = 7;
    f->progress.bytes_done = 99;
    (void)failure_set(&f->error, ERR_NO_SPACE, "write", "o", 1, NULL);
    strcpy(f->error_agent, "b1");
    flow_add_share(f, "b1", 10, 0, 1);
    flow_add_transport(f, "local");
    assert_ok(flow_row_init(f, true, "r", &b));
    assert_ok(flow_from_row(&b.row, g));
    assert_string_equal(g->source.site, "a");
    assert_string_equal(g->sink.volume, "data");
    assert_int_equal(g->sink.root_len, 3);
    assert_memory_equal(g->sink.root, "x/\xff", 3);
    assert_true(g->sink_is_named && g->is_resolved && !g->source_is_contents);
    assert_int_equal(g->holders, 2);
    assert_int_equal(g->progress.bytes_done, 99);
    assert_err(g->error.err, ERR_NO_SPACE);
    assert_string_equal(g->error_agent, "b1");
    assert_int_equal(g->shares[0].bytes_written, 10);
    assert_string_equal(g->transports, "local");
    for (size_t len = 1; len < b.row.places.len; len++) { // cut short: refused
        struct flow_row row = b.row;
        struct flow *h = calloc(1, sizeof *h);
        assert_non_null(h);
        row.places.len = len;
        assert_err(flow_from_row(&row, h), ERR_DATABASE);
        delete_flow(h);
    }
    flow_row_deinit(&b);
    delete_flow(f);
    delete_flow(g);
}

static void the_message_says_what_the_flow_is(void **state) {
    (void)state;
    struct flow *f = new_flow();
    struct flow_message m;
    f->holders = 1U << 1 | 1U << 4;
    flow_add_share(f, "b1", 10, 0, 1);
    assert_ok(flow_message_init(f, FLOW_MESSAGE_FULL, &m));
    assert_string_equal(m.message.id, f->id);
    assert_int_equal(m.message.state, SLUICE__V1__FLOW_STATE__STARTED);
    assert_int_equal(m.message.n_suspended_by, 2);
    assert_int_equal(m.message.suspended_by[1], SLUICE__V1__SUSPENSION_HOLDER__SPACE);
    assert_int_equal(m.message.n_agents, 1);
    assert_ptr_equal(m.message.spec, f->spec);
    assert_null(m.message.error);
    flow_message_deinit(&m);
    assert_ok(flow_message_init(f, FLOW_MESSAGE_BRIEF, &m));
    assert_null(m.message.spec);
    assert_int_equal(m.message.n_agents, 0);
    flow_message_deinit(&m);
    delete_flow(f);
}

static void the_message_says_why_the_flow_tries_again_until_it_has_ended(void **state) {
    (void)state;
    struct flow *f = new_flow();
    struct flow_message m;
    struct failure why;
    (void)failure_set(&why, ERR_NO_SPACE, "write", "o", 1, NULL);
    flow_tries_again(f, &why, "b1");
    why.err = OK; // given back, by whom nothing is said
    flow_tries_again(f, &why, NULL);
    assert_ok(flow_message_init(f, FLOW_MESSAGE_BRIEF, &m));
    assert_string_equal(m.message.why->held_up->code, "NO_SPACE");
    assert_string_equal(m.message.why->held_up->agent, "b1");
    assert_null(m.message.error);
    f->state = FLOW_TERMINATED;
    assert_ok(flow_message_init(f, FLOW_MESSAGE_BRIEF, &m));
    assert_null(m.message.why->held_up);
    f->state = FLOW_STARTED;
    flow_gets_on(f);
    assert_ok(flow_message_init(f, FLOW_MESSAGE_BRIEF, &m));
    assert_null(m.message.why->held_up);
    delete_flow(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bottleneck_is_named_with_its_share),
        cmocka_unit_test(no_buffer_is_too_small_for_the_bottleneck),
        cmocka_unit_test(the_time_left_is_unknown_while_the_total_grows),
        cmocka_unit_test(shares_and_transports_add_up),
        cmocka_unit_test(a_row_gives_the_flow_again),
        cmocka_unit_test(the_message_says_what_the_flow_is),
        cmocka_unit_test(the_message_says_why_the_flow_tries_again_until_it_has_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
