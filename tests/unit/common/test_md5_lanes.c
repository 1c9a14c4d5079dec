// SPDX-License-Identifier: Apache-2.0
// MD5 of several messages at once: the same as of each alone, for any lengths beside each other.
#include "common/cleanup.h"
#include "common/hmac.h"
#include "common/md5_lanes.h"
#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 300, MISSING = 77 };

static void assert_digests(const struct md5_lane *lanes, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        uint8_t want[MD5_BYTES];
        struct md5_sum *m = md5_sum_new();
        md5_sum_update(m, lanes[i].bytes, lanes[i].len);
        assert_true(md5_sum_final(m, want));
        md5_sum_free(m);
        assert_memory_equal(lanes[i].digest, want, sizeof want);
    }
}

static void the_published_values_come_out(void **state) {
    static const uint8_t empty[] = {0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0x00, 0xb2, 0x04,
                                    0xe9, 0x80, 0x09, 0x98, 0xec, 0xf8, 0x42, 0x7e};
    static const uint8_t abc[] = {0x90, 0x01, 0x50, 0x98, 0x3c, 0xd2, 0x4f, 0xb0,
                                  0xd6, 0x96, 0x3f, 0x7d, 0x28, 0xe1, 0x7f, 0x72};
    struct md5_lane lanes[] = {{.bytes = "", .len = 0}, {.bytes = "abc", .len = 3}};
    (void)state;
    md5_lanes(lanes, 2);
    assert_memory_equal(lanes[0].digest, empty, sizeof empty); // RFC 1321, A.5
    assert_memory_equal(lanes[1].digest, abc, sizeof abc);
}

static void any_lengths_beside_each_other(void **state) {
    (void)state;
    AUTO(auto_free) uint8_t *bytes = malloc((size_t)MOST + MD5_LANES);
    assert_non_null(bytes);
    uint32_t x = 1;
    for (size_t i = 0; i < MOST + MD5_LANES; i++) {
        x = x * 1103515245 + 12345;
        bytes[i] = (uint8_t)(x >> 16);
    }
    for (size_t len = 0; len <= MOST; len++) {
        for (unsigned n = 0; n <= MD5_LANES; n++) {
            struct md5_lane lanes[MD5_LANES];
            for (unsigned i = 0; i < n; i++) {
                lanes[i] = (struct md5_lane){.bytes = bytes + i, .len = (len + i * len) % MOST};
            }
            md5_lanes(lanes, n);
            assert_digests(lanes, n);
            memset(lanes[0].digest, 0, MD5_BYTES);
            md5_lanes_avx2(lanes, n);
            assert_digests(lanes, n);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_values_come_out),
        cmocka_unit_test(any_lengths_beside_each_other),
    };
    if (!md5_lanes_are_here()) {
        printf("this processor has no AVX2\n");
        return MISSING;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
