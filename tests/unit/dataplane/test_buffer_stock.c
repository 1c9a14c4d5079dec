// SPDX-License-Identifier: Apache-2.0
#include "dataplane/buffer_stock.h"
#include "tests/lib/test.h"

#include <string.h>

enum { BYTES = 1 << 20 };

static void what_is_given_back_is_taken_again(void **state) {
    struct buffer_stock s;
    (void)state;
    buffer_stock_init(&s, BYTES);
    void *a = buffer_stock_take(&s, BYTES), *b = buffer_stock_take(&s, 1);
    assert_non_null(a);
    assert_non_null(b);
    assert_ptr_not_equal(a, b);
    memset(a, 1, BYTES);
    memset(b, 2, BYTES); // each has the stock's size
    buffer_stock_give(&s, a, BYTES);
    assert_ptr_equal(buffer_stock_take(&s, 5), a);
    memset(a, 3, BYTES);
    buffer_stock_give(&s, a, 5);
    buffer_stock_give(&s, b, 1);
    buffer_stock_give(&s, NULL, 1);
    buffer_stock_deinit(&s);
}

static void no_more_are_kept_than_the_limit_and_no_larger_ones(void **state) {
    struct buffer_stock s;
    void *taken[BUFFER_STOCK_MAX + 1];
    (void)state;
    buffer_stock_init(&s, BYTES);
    uint8_t *large = buffer_stock_take(&s, 3 * BYTES);
    assert_non_null(large);
    memset(large, 1, 3 * (size_t)BYTES);
    buffer_stock_give(&s, large, 3 * BYTES);
    assert_int_equal(s.n, 0);
    for (size_t i = 0; i <= BUFFER_STOCK_MAX; i++) {
        taken[i] = buffer_stock_take(&s, BYTES);
        assert_non_null(taken[i]);
    }
    for (size_t i = 0; i <= BUFFER_STOCK_MAX; i++) {
        buffer_stock_give(&s, taken[i], BYTES);
    }
    assert_int_equal(s.n, BUFFER_STOCK_MAX);
    buffer_stock_deinit(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_given_back_is_taken_again),
        cmocka_unit_test(no_more_are_kept_than_the_limit_and_no_larger_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
