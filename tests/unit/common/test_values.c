// SPDX-License-Identifier: Apache-2.0
// The small values that all layers share: errors, failures, identifiers, text, flow states.
#include "common/address.h"
#include "common/base64.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/failure.h"
#include "common/flow_state.h"
#include "common/ident.h"
#include "common/utf8.h"
#include "tests/lib/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void every_error_is_found_by_its_name(void **state) {
    (void)state;
    for (int i = 0; i < ERR_COUNT; i++) {
        assert_int_equal(err_from_name(err_name((enum err)i)), i);
        assert_true(strlen(err_text((enum err)i)) > 0);
        assert_true(err_grpc_status((enum err)i) >= 0 && err_grpc_status((enum err)i) <= 16);
    }
    assert_int_equal(err_from_name("NO_SUCH"), ERR_INTERNAL);
    assert_string_equal(err_name(ERR_COUNT), "INTERNAL");
}

static void errno_has_codes_with_their_own_retry_class(void **state) {
    (void)state;
    assert_int_equal(err_from_errno(0), OK);
    assert_int_equal(err_from_errno(ENOSPC), ERR_NO_SPACE);
    assert_int_equal(err_from_errno(EDQUOT), ERR_QUOTA);
    assert_int_equal(err_from_errno(EROFS), ERR_READ_ONLY);
    assert_int_equal(err_from_errno(ESTALE), ERR_STALE);
    assert_int_equal(err_from_errno(EXDEV), ERR_OUTSIDE);
    assert_int_equal(err_from_errno(EIO), ERR_IO);
    assert_int_equal(err_from_errno(99999), ERR_IO);
    assert_int_equal(err_retry_class(ERR_NO_SPACE), RETRY_LATER);
    assert_int_equal(err_retry_class(ERR_READ_ONLY), RETRY_ELSEWHERE);
}

static void a_failure_reads_as_a_sentence(void **state) {
    struct failure f;
    char text[256];
    (void)state;
    assert_int_equal(failure_errno(&f, EACCES, "openat2", "/d/\xff\n", 5), ERR_DENIED);
    failure_remedy(&f, "make it readable");
    failure_format(&f, text, sizeof text);
    assert_string_equal(text,
                        "cannot openat2 '/d/\\xff\\x0a': permission denied; make it readable");
    for (size_t cap = 0; cap < sizeof text; cap++) {
        char *small = malloc(cap + 1);
        failure_format(&f, small, cap);
        assert_true(cap == 0 || strlen(small) < cap);
        free(small);
    }
}

static void a_failure_may_be_made_of_itself(void **state) {
    struct failure f;
    (void)state;
    failure_set(&f, ERR_IO, "read", "name", 4, "bad sector");
    failure_set(&f, ERR_CORRUPT, "check", f.object, f.object_len, "after: %s", f.message);
    assert_string_equal(f.message, "after: bad sector");
    assert_memory_equal(f.object, "name", 4);
    assert_int_equal(failure_set(NULL, ERR_IO, "read", NULL, 0, NULL), ERR_IO);
}

static void a_long_object_keeps_its_end(void **state) {
    char name[FAILURE_OBJECT_MAX + 100];
    struct failure f;
    (void)state;
    memset(name, 'a', sizeof name);
    name[sizeof name - 1] = 'z';
    failure_set(&f, ERR_IO, "read", name, sizeof name, NULL);
    assert_int_equal(f.object_len, FAILURE_OBJECT_MAX);
    assert_int_equal(f.object[FAILURE_OBJECT_MAX - 1], 'z');
    assert_string_equal(f.message, err_text(ERR_IO));
}

static void identifiers_sort_by_time(void **state) {
    char a[IDENT_SIZE], b[IDENT_SIZE];
    (void)state;
    ident_new(1, a);
    ident_new(2, b);
    assert_true(strcmp(a, b) < 0);
    assert_true(ident_is_valid(a));
    ident_new(1469918176385, a);
    assert_memory_equal(a, "01ARYZ6S41", 10); // the example of the ULID format
    ident_new(1469918176385, b);
    assert_string_not_equal(a, b);
    assert_false(ident_is_valid("01ARZ3NDEKTSV4RRFFQ69G5FA"));
    assert_false(ident_is_valid("81ARZ3NDEKTSV4RRFFQ69G5FAV"));
    assert_false(ident_is_valid("01ARZ3NDEKTSV4RRFFQ69G5FAU"));
}

static void temporaries_are_named_for_what_they_stand_for(void **state) {
    char a[TEMP_NAME_SIZE], b[TEMP_NAME_SIZE];
    (void)state;
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, 2, 3, a);
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, 2, 3, b);
    assert_string_equal(a, b);
    assert_true(temp_name_matches(a, strlen(a)));
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, 23, 3, b);
    assert_string_not_equal(a, b);
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", 12, 3, 3, b);
    assert_string_not_equal(a, b);
    assert_false(temp_name_matches(a, strlen(a) - 1));
    assert_false(temp_name_matches(".sluice-proof-0123456789ABCDEF0123", 34));
    assert_false(temp_name_matches("notes.txt", 9));
}

static void utf8_is_told_from_other_bytes(void **state) {
    (void)state;
    assert_true(utf8_is_valid("aé€😀", strlen("aé€😀")));
    assert_false(utf8_is_valid("\xc0\x80", 2));         // overlong
    assert_false(utf8_is_valid("\xed\xa0\x80", 3));     // surrogate
    assert_false(utf8_is_valid("\xf4\x90\x80\x80", 4)); // above U+10FFFF
    assert_false(utf8_is_valid("\xe2\x82", 2));         // cut
    assert_false(utf8_is_valid("\x80", 1));
}

static void base64_goes_there_and_back(void **state) {
    uint8_t bytes[64], back[72];
    char text[BASE64_LEN(64) + 1];
    size_t n = 0;
    (void)state;
    for (size_t len = 0; len < sizeof bytes; len++) {
        for (size_t i = 0; i < len; i++) {
            bytes[i] = (uint8_t)(i * 37 + len);
        }
        base64_encode(bytes, len, text);
        assert_int_equal(strlen(text), BASE64_LEN(len));
        assert_ok(base64_decode(text, strlen(text), back, &n));
        assert_int_equal(n, len);
        assert_memory_equal(back, bytes, len);
    }
    assert_err(base64_decode("abc", 3, back, &n), ERR_INVALID);
    assert_err(base64_decode("a=bc", 4, back, &n), ERR_INVALID);
    assert_err(base64_decode("ab=c", 4, back, &n), ERR_INVALID);
    assert_err(base64_decode("ab==cdef", 8, back, &n), ERR_INVALID);
}

static void addresses_are_checked(void **state) {
    static const char *const bad[] = {"",      "host",       ":1",   "host:", "host:x",
                                      "::1:5", "host:65536", "h:-1", "[::1]", "[]:1"};
    struct address a;
    struct failure f;
    (void)state;
    assert_ok(address_parse("[::1]:7000", &a, &f));
    assert_string_equal(a.host, "::1");
    assert_int_equal(a.port, 7000);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_err(address_parse(bad[i], &a, &f), ERR_INVALID);
    }
    assert_ok(address_check_plaintext("127.3.2.1:1", &f));
    assert_ok(address_check_plaintext("localhost:1", &f));
    assert_ok(address_check_plaintext("[::1]:1", &f));
    assert_err(address_check_plaintext("0.0.0.0:1", &f), ERR_DENIED);
    assert_err(address_check_plaintext("128.0.0.1:1", &f), ERR_DENIED);
    assert_err(address_check_plaintext("localhost.example.org:1", &f), ERR_DENIED);
}

static void flows_move_only_along_the_table(void **state) {
    // For each state, the states that one event can lead to.
    static const char *const reached[FLOW_STATE_COUNT] = {
        [FLOW_INITIALIZED] = "PREPARING PREPARED STARTING STARTED TERMINATED ",
        [FLOW_PREPARING] = "PREPARED TERMINATED ",
        [FLOW_PREPARED] = "STARTING STARTED TERMINATED ",
        [FLOW_STARTING] = "STARTED TERMINATED ",
        [FLOW_STARTED] = "SUSPENDED COMPLETED TERMINATED ",
        [FLOW_SUSPENDED] = "STARTED TERMINATED ",
        [FLOW_COMPLETED] = "",
        [FLOW_TERMINATED] = "",
    };
    (void)state;
    for (int s = FLOW_INITIALIZED; s < FLOW_STATE_COUNT; s++) {
        char found[128] = "";
        for (int e = 0; e < FLOW_EVENT_COUNT; e++) {
            enum flow_state to = (enum flow_state)s;
            if (flow_state_next((enum flow_state)s, (enum flow_event)e, &to) == OK) {
                strcat(found, flow_state_name(to));
                strcat(found, " ");
            } else {
                assert_int_equal(to, s);
            }
        }
        assert_string_equal(found, reached[s]);
        assert_int_equal(flow_state_is_final((enum flow_state)s), found[0] == '\0');
    }
    enum flow_state to;
    assert_err(flow_state_next((enum flow_state)0, FLOW_EV_START, &to), ERR_STATE);
    assert_string_equal(flow_phase_name(PHASE_TRANSFERRING), "transferring");
    assert_string_equal(flow_outcome_name(OUTCOME_NONE), "");
}

static void a_fake_clock_stands_still(void **state) {
    struct clock_fake c;
    (void)state;
    clock_fake_init(&c, 10, 1000);
    assert_int_equal(clock_mono_ms(&c.clock), 10);
    clock_fake_advance(&c, 5);
    assert_int_equal(clock_mono_ms(&c.clock), 15);
    assert_int_equal(clock_wall_ms(&c.clock), 1005);
    assert_true(clock_wall_ms(&clock_system) > 1700000000000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_is_found_by_its_name),
        cmocka_unit_test(errno_has_codes_with_their_own_retry_class),
        cmocka_unit_test(a_failure_reads_as_a_sentence),
        cmocka_unit_test(a_failure_may_be_made_of_itself),
        cmocka_unit_test(a_long_object_keeps_its_end),
        cmocka_unit_test(identifiers_sort_by_time),
        cmocka_unit_test(temporaries_are_named_for_what_they_stand_for),
        cmocka_unit_test(utf8_is_told_from_other_bytes),
        cmocka_unit_test(base64_goes_there_and_back),
        cmocka_unit_test(addresses_are_checked),
        cmocka_unit_test(flows_move_only_along_the_table),
        cmocka_unit_test(a_fake_clock_stands_still),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
