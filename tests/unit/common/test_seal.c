// SPDX-License-Identifier: Apache-2.0
#include "common/seal.h"
#include "tests/lib/test.h"

#include <string.h>

static const uint8_t key[SEAL_KEY_BYTES] = {1, 2, 3};
static const char secret[] = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

static void what_was_sealed_opens_again(void **state) {
    uint8_t sealed[sizeof secret + SEAL_OVERHEAD_BYTES], again[sizeof sealed],
        opened[sizeof sealed];
    size_t len = 0;
    (void)state;
    assert_ok(seal(key, "s3", secret, sizeof secret, sealed));
    assert_null(memmem(sealed, sizeof sealed, secret, 8));
    assert_ok(seal_open(key, "s3", sealed, sizeof sealed, opened, &len));
    assert_int_equal(len, sizeof secret);
    assert_memory_equal(opened, secret, sizeof secret);
    assert_ok(seal(key, "s3", secret, sizeof secret, again));
    assert_memory_not_equal(sealed, again, sizeof sealed); // another nonce
}

static void nothing_opens_that_was_not_sealed_so(void **state) {
    uint8_t sealed[sizeof secret + SEAL_OVERHEAD_BYTES], opened[sizeof sealed];
    uint8_t other[SEAL_KEY_BYTES] = {4};
    size_t len = 0;
    (void)state;
    assert_ok(seal(key, "s3", secret, sizeof secret, sealed));
    assert_err(seal_open(other, "s3", sealed, sizeof sealed, opened, &len), ERR_CORRUPT);
    assert_err(seal_open(key, "s4", sealed, sizeof sealed, opened, &len), ERR_CORRUPT);
    for (size_t i = 0; i < sizeof sealed; i++) {
        sealed[i] ^= 1;
        assert_err(seal_open(key, "s3", sealed, sizeof sealed, opened, &len), ERR_CORRUPT);
        sealed[i] ^= 1;
        assert_err(seal_open(key, "s3", sealed, i, opened, &len), ERR_CORRUPT);
    }
}

static void an_empty_secret_is_one(void **state) {
    uint8_t sealed[SEAL_OVERHEAD_BYTES], opened[1];
    size_t len = 1;
    (void)state;
    assert_ok(seal(key, "", "", 0, sealed));
    assert_ok(seal_open(key, "", sealed, sizeof sealed, opened, &len));
    assert_int_equal(len, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_sealed_opens_again),
        cmocka_unit_test(nothing_opens_that_was_not_sealed_so),
        cmocka_unit_test(an_empty_secret_is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
