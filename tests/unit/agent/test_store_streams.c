// SPDX-License-Identifier: Apache-2.0
#include "agent/store_streams.h"
#include "tests/lib/test.h"

static void idle_processors_get_more_requests_under_way(void **state) {
    struct store_streams s = {0};
    (void)state;
    assert_int_equal(store_streams_n(&s, 2), 4);
    store_streams_sample(&s, 0.5);
    assert_int_equal(store_streams_n(&s, 2), 8);
    store_streams_sample(&s, 0.8); // between the two it stays as it is
    assert_int_equal(store_streams_n(&s, 2), 8);
    store_streams_sample(&s, 0.95);
    assert_int_equal(store_streams_n(&s, 2), 4);
    store_streams_sample(&s, 0.8);
    assert_int_equal(store_streams_n(&s, 2), 4);
}

static void what_was_found_to_bring_more_stands(void **state) {
    struct store_streams s = {0};
    (void)state;
    assert_int_equal(store_streams_n(&s, 6), 6);
    store_streams_sample(&s, 0.1);
    assert_int_equal(store_streams_n(&s, 64), 64);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_processors_get_more_requests_under_way),
        cmocka_unit_test(what_was_found_to_bring_more_stands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
