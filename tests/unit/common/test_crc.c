// SPDX-License-Identifier: Apache-2.0
// CRC-64/NVME and CRC-32C: the published values, and that all ways lead to the same.
#include "common/cleanup.h"
#include "common/crc.h"
#include "tests/lib/test.h"

#include <stdlib.h>
#include <string.h>

static void the_published_values_come_out(void **state) {
    static const uint8_t zeros[32];
    uint8_t ones[32];
    (void)state;
    memset(ones, 0xff, sizeof ones);
    assert_true(crc64nvme(0, "123456789", 9) == 0xae8b14860a799888); // "check" of the specification
    assert_true(crc64nvme(0, "", 0) == 0);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, zeros, sizeof zeros), 0x8a9136aa); // RFC 3720, B.4
    assert_int_equal(crc32c(0, ones, sizeof ones), 0x62a8ab43);
}

static void special_instructions_change_nothing(void **state) {
    enum { MOST = 1100 };
    (void)state;
    AUTO(auto_free) uint8_t *bytes = malloc(MOST + 16);
    assert_non_null(bytes);
    uint32_t x = 1;
    for (size_t i = 0; i < MOST + 16; i++) {
        x = x * 1103515245 + 12345;
        bytes[i] = (uint8_t)(x >> 16);
    }
    for (size_t len = 0; len <= MOST; len++) {
        const uint8_t *at = bytes + len % 16; // aligned or not
        uint64_t wide = crc64nvme_by(CRC_BY_TABLES, len, at, len);
        uint32_t narrow = crc32c_by(CRC_BY_TABLES, (uint32_t)len, at, len);
        for (enum crc_way way = CRC_BY_BLOCKS; way <= CRC_BY_PAIRS; way++) {
            assert_true(crc64nvme_by(way, len, at, len) == wide);
            assert_int_equal(crc32c_by(way, (uint32_t)len, at, len), narrow);
        }
    }
}

static void pieces_join_to_the_whole(void **state) {
    static const char text[] =
        "It is not what is sent that counts, but what arrives: all of it.....";
    size_t n = sizeof text - 1;
    (void)state;
    for (size_t i = 0; i <= n; i++) {
        uint64_t first = crc64nvme(0, text, i), second = crc64nvme(0, text + i, n - i);
        assert_true(crc64nvme(first, text + i, n - i) == crc64nvme(0, text, n));
        assert_true(crc64nvme_join(first, second, n - i) == crc64nvme(0, text, n));
        uint32_t a = crc32c(0, text, i), b = crc32c(0, text + i, n - i);
        assert_int_equal(crc32c(a, text + i, n - i), crc32c(0, text, n));
        assert_int_equal(crc32c_join(a, b, n - i), crc32c(0, text, n));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_values_come_out),
        cmocka_unit_test(special_instructions_change_nothing),
        cmocka_unit_test(pieces_join_to_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
