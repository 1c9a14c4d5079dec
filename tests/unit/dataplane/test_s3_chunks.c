// SPDX-License-Identifier: Apache-2.0
// Parts of uploads that are gathered, hashed together and sent with their MD5.
#include "common/cleanup.h"
#include "common/hmac.h"
#include "common/md5_lanes.h"
#include "common/s3_limits.h"
#include "s3_ends.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MISSING = 77, N_CHUNKS = 5 };
#define SIZE ((size_t)(S3_CHUNK_LEAST_BYTES * (N_CHUNKS - 1) + 5))

static uint8_t *bytes; // of an object of SIZE

static int start(void **state) {
    bytes = tree_pattern(SIZE, 7);
    return s3_ends_start(state);
}

static int stop(void **state) {
    free(bytes);
    return s3_ends_stop(state);
}

static int setup(void **state) {
    (void)s3_ends_setup(state);
    s3_ends_new_store(&(struct s3_store_options){.payload = S3_PAYLOAD_AUTO});
    return 0;
}

// Chunks [@first, @end) as a task's part, in pieces that are not theirs.
static void send(struct sink *s, const struct object_entry *e, const struct receipt *open,
                 uint64_t first, uint64_t end, struct receipt *ret) {
    uint64_t at = first * S3_CHUNK_LEAST_BYTES, to = end * S3_CHUNK_LEAST_BYTES;
    const uint64_t piece = 3 * MIB + 1;
    to = to < SIZE ? to : SIZE;
    assert_ok(sink_open_part(s, e, s3_temp, open, NULL));
    for (; at < to; at += piece) {
        assert_ok(sink_write(s, at, bytes + at, to - at < piece ? to - at : piece, NULL));
    }
    assert_ok(sink_close_part(s, true, ret, NULL));
}

static void send_all(struct sink *s, const struct object_entry *e, struct receipt *ret_open,
                     struct receipt *ret_part) {
    assert_ok(sink_open_large(s, e, s3_temp, ret_open, NULL));
    send(s, e, ret_open, 0, N_CHUNKS, ret_part);
}

static void finish(struct sink *s, const struct object_entry *e, const struct receipt *open,
                   struct receipt *part) {
    struct receipt_list list = {part, 1};
    assert_ok(sink_finish_large(s, e, s3_temp, open, &list, NULL, DURABILITY_OBJECT, NULL));
    assert_object((const char *)e->path, bytes, SIZE);
}

static unsigned n_sent(const char *key, unsigned number) {
    char text[64];
    snprintf(text, sizeof text, "PUT /b/%s?partNumber=%u&", key, number);
    return scripted_store_count(&scripted, text);
}

// Whether the last request for each chunk had its MD5, or the SHA-256 of its bytes.
static void assert_md5s(const char *key, bool has_md5) {
    for (unsigned i = 0; i < N_CHUNKS; i++) {
        char text[64], md5[S3_CHECKSUM_SIZE];
        size_t from = (size_t)(i * S3_CHUNK_LEAST_BYTES);
        size_t len = SIZE - from < S3_CHUNK_LEAST_BYTES ? SIZE - from : S3_CHUNK_LEAST_BYTES;
        snprintf(text, sizeof text, "PUT /b/%s?partNumber=%u&", key, i + 1);
        s3_checksum_of(S3_CHECKSUM_MD5, bytes + from, len, md5);
        assert_sent(text, "content-md5", has_md5 ? md5 : NULL);
        AUTO(auto_free)
        char *payload = scripted_store_sent(&scripted, text, "x-amz-content-sha256");
        assert_non_null(payload);
        assert_int_equal(strcmp(payload, "UNSIGNED-PAYLOAD") == 0, has_md5);
    }
}

static void chunks_that_are_hashed_together_have_their_md5_along(void **state) {
    (void)state;
    struct object_entry e = s3_file("together", SIZE);
    struct receipt open, part, again;
    struct sink *s = s3_new_sink();
    send_all(s, &e, &open, &part);
    assert_md5s("together", true);
    send(s, &e, &open, 0, N_CHUNKS, &again); // recognised
    assert_int_equal(n_sent("together", 1), 1);
    assert_int_equal(n_sent("together", N_CHUNKS), 1);
    assert_int_equal(again.len, part.len);
    assert_memory_equal(again.bytes, part.bytes, part.len);
    finish(s, &e, &open, &part);
    sink_free(s);
}

static void a_checksum_that_the_store_takes_goes_along_as_well(void **state) {
    (void)state;
    struct object_entry e = s3_file("both", SIZE);
    struct receipt open, part;
    scripted_store_settings(&scripted, "{\"checksums\":[\"crc64nvme\"]}");
    struct sink *s = s3_new_sink();
    send_all(s, &e, &open, &part);
    assert_md5s("both", true);
    char crc[S3_CHECKSUM_SIZE];
    s3_checksum_of(S3_CHECKSUM_CRC64NVME, bytes, S3_CHUNK_LEAST_BYTES, crc);
    assert_sent("PUT /b/both?partNumber=1&", "x-amz-checksum-crc64nvme", crc);
    finish(s, &e, &open, &part);
    sink_free(s);
}

static void few_chunks_are_signed(void **state) {
    (void)state;
    struct object_entry e = s3_file("few", SIZE);
    struct receipt open, part;
    struct sink *s = s3_new_sink();
    assert_ok(sink_open_large(s, &e, s3_temp, &open, NULL));
    send(s, &e, &open, 0, 2, &part);
    send(s, &e, &open, 2, N_CHUNKS, &part);
    assert_md5s("few", false);
    finish(s, &e, &open, &part);
    sink_free(s);
}

static void bytes_that_are_damaged_on_their_way_are_sent_again(void **state) {
    (void)state;
    struct object_entry e = s3_file("damaged", SIZE);
    struct receipt open, part;
    struct sink *s = s3_new_sink();
    scripted_store_rules(&scripted, "[{\"method\":\"PUT\",\"in\":\"partNumber=2&\","
                                    "\"spoil\":4711,\"times\":2}]");
    send_all(s, &e, &open, &part);
    assert_int_equal(n_sent("damaged", 1), 1);
    assert_int_equal(n_sent("damaged", 2), 3);
    assert_md5s("damaged", true);
    finish(s, &e, &open, &part);
    sink_free(s);
}

// Then nothing that the store says shows that it looked at the MD5.
static void a_store_with_other_etags_gets_signed_parts_from_then_on(void **state) {
    (void)state;
    struct object_entry e = s3_file("sealed", SIZE), next = s3_file("sealed-next", SIZE);
    struct receipt open, part;
    struct sink *s = s3_new_sink();
    scripted_store_settings(&scripted, "{\"other_etags\":true}");
    send_all(s, &e, &open, &part);
    assert_int_equal(n_sent("sealed", 1), 2);
    assert_int_equal(n_sent("sealed", 2), 1);
    assert_md5s("sealed", false);
    finish(s, &e, &open, &part);
    send_all(s, &next, &open, &part);
    assert_int_equal(n_sent("sealed-next", 1), 1);
    assert_md5s("sealed-next", false);
    finish(s, &next, &open, &part);
    sink_free(s);
}

static void a_setting_has_all_payloads_signed(void **state) {
    (void)state;
    struct object_entry e = s3_file("signed", SIZE);
    struct receipt open, part;
    s3_ends_new_store(&(struct s3_store_options){.payload = S3_PAYLOAD_SIGNED});
    struct sink *s = s3_new_sink();
    send_all(s, &e, &open, &part);
    assert_md5s("signed", false);
    finish(s, &e, &open, &part);
    sink_free(s);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        TEST(chunks_that_are_hashed_together_have_their_md5_along),
        TEST(a_checksum_that_the_store_takes_goes_along_as_well),
        TEST(few_chunks_are_signed),
        TEST(bytes_that_are_damaged_on_their_way_are_sent_again),
        TEST(a_store_with_other_etags_gets_signed_parts_from_then_on),
        TEST(a_setting_has_all_payloads_signed),
    };
    if (!md5_lanes_are_here()) {
        printf("this processor has no AVX2\n");
        return MISSING;
    }
    return cmocka_run_group_tests(tests, start, stop);
}
