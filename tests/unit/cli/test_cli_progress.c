// SPDX-License-Identifier: Apache-2.0
// How quantities and progress look.
#include "tests/lib/test.h"

#include "cli/progress.h"
#include "cli/quantity.h"

#include <string.h>

static void sizes_have_one_unit_and_one_digit_behind_the_point(void **state) {
    (void)state;
    static const struct {
        double bytes;
        const char *text;
    } cases[] = {{0, "0 B"},
                 {1023, "1023 B"},
                 {1024, "1.0 KiB"},
                 {1536, "1.5 KiB"},
                 {1048570, "1.0 MiB"},
                 {12.34 * 1073741824.0, "12.3 GiB"},
                 {1.0 * 1099511627776.0, "1.0 TiB"},
                 {1.8e19, "15.6 EiB"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[QUANTITY_MAX];
        quantity_format_bytes(cases[i].bytes, text);
        assert_string_equal(text, cases[i].text);
    }
    char rate[QUANTITY_MAX];
    quantity_format_rate(2048, rate);
    assert_string_equal(rate, "2.0 KiB/s");
}

static void durations_counts_and_times_are_for_people(void **state) {
    (void)state;
    char text[QUANTITY_MAX];
    quantity_format_duration(450, text);
    assert_string_equal(text, "0.4 s");
    quantity_format_duration(65000, text);
    assert_string_equal(text, "1:05");
    quantity_format_duration(7205000, text);
    assert_string_equal(text, "2:00:05");
    quantity_format_count(7, text);
    assert_string_equal(text, "7");
    quantity_format_count(1234567, text);
    assert_string_equal(text, "1,234,567");
    quantity_format_count(UINT64_MAX, text);
    assert_string_equal(text, "18,446,744,073,709,551,615");
    quantity_format_time(1769860800123, text);
    assert_string_equal(text, "2026-01-31T12:00:00.123Z");
}

static void durations_and_times_are_read_with_their_units(void **state) {
    (void)state;
    int64_t ms;
    assert_true(quantity_duration("500ms", &ms) && ms == 500);
    assert_true(quantity_duration("30", &ms) && ms == 30000);
    assert_true(quantity_duration("1.5h", &ms) && ms == 5400000);
    assert_true(quantity_duration("5min", &ms) && ms == 300000);
    assert_false(quantity_duration("", &ms));
    assert_false(quantity_duration("-3s", &ms));
    assert_false(quantity_duration("3 weeks", &ms));
    assert_false(quantity_duration("99999999999999999d", &ms));
    assert_true(quantity_time("2026-01-31T12:00:00Z", 0, &ms) && ms == 1769860800000);
    assert_true(quantity_time("+2s", 1000, &ms) && ms == 3000);
    assert_false(quantity_time("2026-01-31T12:00:00", 0, &ms));
    assert_false(quantity_time("tomorrow", 0, &ms));
}

static void integers_are_whole_and_within_their_range(void **state) {
    (void)state;
    int64_t n;
    assert_true(quantity_integer("-12", -20, 20, &n) && n == -12);
    assert_false(quantity_integer("21", -20, 20, &n));
    assert_false(quantity_integer("1.5", -20, 20, &n));
    assert_false(quantity_integer(" 1", -20, 20, &n));
    assert_false(quantity_integer("", -20, 20, &n));
    assert_false(quantity_integer("99999999999999999999", INT64_MIN, INT64_MAX, &n));
}

static const struct progress half = {
    .state = FLOW_STARTED,
    .phase = PHASE_TRANSFERRING,
    .bytes_done = 512 << 20,
    .bytes_total = 1 << 30,
    .objects_done = 1234,
    .objects_total = 5000,
    .bytes_per_s = 100 << 20,
    .eta_ms = 65000,
};

static void a_wide_line_has_all_of_it(void **state) {
    (void)state;
    char line[PROGRESS_LINE_MAX];
    progress_format(&half, 140, line);
    assert_non_null(strstr(line, "[==================>                   ]"));
    assert_non_null(strstr(line, "   50%  512.0 MiB of 1.0 GiB  100.0 MiB/s  ETA 1:05  "
                                 "1,234/5,000 objects"));
}

static void a_narrow_line_keeps_what_tells_most_and_never_overflows(void **state) {
    (void)state;
    for (size_t width = 0; width < 160; width++) {
        char line[PROGRESS_LINE_MAX];
        progress_format(&half, width, line);
        assert_true(strlen(line) <= width);
        assert_true(width < 4 || strstr(line, "50%"));
    }
    char line[PROGRESS_LINE_MAX];
    progress_format(&half, 30, line);
    assert_string_equal(line, " 50%  512.0 MiB of 1.0 GiB");
    progress_format(&half, 100000, line);
    assert_true(strlen(line) < PROGRESS_LINE_MAX);
}

static void while_the_walk_goes_on_no_share_is_claimed(void **state) {
    (void)state;
    struct progress p = half;
    char line[PROGRESS_LINE_MAX];
    p.listing = true;
    progress_format(&p, 140, line);
    assert_null(strchr(line, '%'));
    assert_null(strchr(line, '['));
    assert_null(strstr(line, "ETA"));
    assert_non_null(strstr(line, "512.0 MiB of 1.0 GiB+"));
    assert_non_null(strstr(line, "1,234/5,000+ objects"));
}

static void what_keeps_a_flow_from_moving_is_said(void **state) {
    (void)state;
    struct progress p = half;
    char line[PROGRESS_LINE_MAX];
    p.state = FLOW_SUSPENDED;
    p.objects_failed = 2;
    progress_format(&p, 140, line);
    assert_non_null(strstr(line, "suspended"));
    assert_null(strstr(line, "MiB/s"));
    assert_non_null(strstr(line, ", 2 failed"));
    p.state = FLOW_STARTED;
    p.phase = PHASE_FINISHING;
    progress_format(&p, 140, line);
    assert_non_null(strstr(line, "finishing"));
}

static void nothing_to_do_is_no_division_by_zero(void **state) {
    (void)state;
    struct progress p = {.state = FLOW_STARTED, .phase = PHASE_QUEUED, .eta_ms = -1};
    char line[PROGRESS_LINE_MAX];
    progress_format(&p, 140, line);
    assert_non_null(strstr(line, "  0%  0 B of 0 B  queued  0/0 objects"));
    p.bytes_done = 10;
    p.bytes_total = 5;
    progress_format(&p, 140, line);
    assert_non_null(strstr(line, "100%"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_have_one_unit_and_one_digit_behind_the_point),
        cmocka_unit_test(durations_counts_and_times_are_for_people),
        cmocka_unit_test(durations_and_times_are_read_with_their_units),
        cmocka_unit_test(integers_are_whole_and_within_their_range),
        cmocka_unit_test(a_wide_line_has_all_of_it),
        cmocka_unit_test(a_narrow_line_keeps_what_tells_most_and_never_overflows),
        cmocka_unit_test(while_the_walk_goes_on_no_share_is_claimed),
        cmocka_unit_test(what_keeps_a_flow_from_moving_is_said),
        cmocka_unit_test(nothing_to_do_is_no_division_by_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
