// SPDX-License-Identifier: Apache-2.0
#include "agent/stream_tuner.h"
#include "tests/lib/test.h"

// A machine whose rate follows from the number of streams.
struct machine {
    struct stream_tuner tuner;
    uint64_t now_us, bytes;
    double cpu_busy;
    bool is_full;
    uint32_t least;               // so many run in any case
    uint64_t (*rate)(uint32_t n); // bytes per second
    uint32_t n_moves;
    struct stream_move last;
};

static void run_for(struct machine *m, unsigned seconds) {
    for (unsigned i = 0; i < seconds; i++) {
        m->now_us += 1000000;
        m->bytes += m->rate(m->tuner.n > m->least ? m->tuner.n : m->least);
        const struct stream_sample s = {.now_us = m->now_us,
                                        .bytes = m->bytes,
                                        .is_full = m->is_full,
                                        .n_least = m->least,
                                        .cpu_busy = m->cpu_busy};
        m->n_moves += stream_tuner_sample(&m->tuner, &s, &m->last);
    }
}

static uint64_t by_window(uint32_t n) { // a long path: each stream is limited by its window
    return n * 10000000ULL;
}

static uint64_t by_disk(uint32_t n) { // four streams fill the disk
    return (n < 4 ? n : 4) * 10000000ULL;
}

static void as_many_as_processors_but_at_least_two(void **state) {
    struct stream_tuner t;
    (void)state;
    stream_tuner_init(&t, 1, 8);
    assert_int_equal(t.n, 2);
    stream_tuner_init(&t, 4, 8);
    assert_int_equal(t.n, 4);
    stream_tuner_init(&t, 64, 8);
    assert_int_equal(t.n, 8);
    stream_tuner_init(&t, 4, 1);
    assert_int_equal(t.n, 1);
}

static void a_long_path_gets_all_streams(void **state) {
    struct machine m = {.now_us = 1, .is_full = true, .cpu_busy = 0.1, .rate = by_window};
    (void)state;
    stream_tuner_init(&m.tuner, 2, 8);
    run_for(&m, 10);
    assert_int_equal(m.tuner.n, 8);
    assert_int_equal(m.n_moves, 2);
    run_for(&m, 30);
    assert_int_equal(m.tuner.n, 8);
}

static void what_brings_nothing_is_taken_back_and_it_converges(void **state) {
    struct machine m = {.now_us = 1, .is_full = true, .cpu_busy = 0.1, .rate = by_disk};
    (void)state;
    stream_tuner_init(&m.tuner, 2, 8);
    run_for(&m, 12);
    assert_int_equal(m.tuner.n, 4);
    assert_int_equal(m.n_moves, 3); // 2 to 4, to 8, and back
    assert_string_equal(m.last.reason, "more brought nothing");
    assert_true(m.last.rate_before > 0);
    run_for(&m, 40);
    assert_int_equal(m.n_moves, 3);
}

static void what_runs_in_any_case_is_where_trying_begins(void **state) {
    struct machine m = {
        .now_us = 1, .is_full = true, .cpu_busy = 0.1, .least = 8, .rate = by_window};
    (void)state;
    stream_tuner_init(&m.tuner, 2, 32);
    run_for(&m, 3);
    assert_int_equal(m.last.from, 8);
    assert_int_equal(m.last.to, 16);
    run_for(&m, 10);
    assert_int_equal(m.tuner.n, 32);
    stream_tuner_init(&m.tuner, 2, 8); // there are no more
    m.n_moves = 0;
    run_for(&m, 10);
    assert_int_equal(m.n_moves, 0);
}

static void busy_processors_get_no_more_streams(void **state) {
    struct machine m = {.now_us = 1, .is_full = true, .cpu_busy = 0.97, .rate = by_window};
    (void)state;
    stream_tuner_init(&m.tuner, 2, 8);
    run_for(&m, 30);
    assert_int_equal(m.tuner.n, 2);
    assert_int_equal(m.n_moves, 0);
}

static void nothing_is_learnt_while_streams_are_missing_tasks(void **state) {
    struct machine m = {.now_us = 1, .is_full = false, .cpu_busy = 0.1, .rate = by_window};
    (void)state;
    stream_tuner_init(&m.tuner, 2, 8);
    run_for(&m, 30);
    assert_int_equal(m.n_moves, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_as_processors_but_at_least_two),
        cmocka_unit_test(a_long_path_gets_all_streams),
        cmocka_unit_test(what_brings_nothing_is_taken_back_and_it_converges),
        cmocka_unit_test(what_runs_in_any_case_is_where_trying_begins),
        cmocka_unit_test(busy_processors_get_no_more_streams),
        cmocka_unit_test(nothing_is_learnt_while_streams_are_missing_tasks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
