// SPDX-License-Identifier: Apache-2.0
// Checksums that go with objects: which is found out to be taken, what is sent, what is checked.
#include "common/cleanup.h"
#include "common/s3_limits.h"
#include "s3_ends.h"

static void open_store(const char *checksum, enum s3_payload payload) {
    s3_ends_new_store(&(struct s3_store_options){.checksum = checksum, .payload = payload});
}

static int setup(void **state) {
    (void)s3_ends_setup(state);
    open_store(NULL, S3_PAYLOAD_AUTO);
    return 0;
}

static enum err put(const char *path, const void *bytes, size_t len) {
    struct sink *s = s3_new_sink();
    s3_put(s, path, bytes, len, 1);
    s3_finish(s);
    sink_free(s);
    return s3_results[1];
}

static void assert_proof(enum s3_checksum checksum, bool is_signed, bool is_settled) {
    struct s3_proof p;
    s3_store_proof(tested_store, &p);
    assert_int_equal(p.checksum, checksum);
    assert_int_equal(p.is_signed, is_signed);
    assert_int_equal(s3_store_is_trying(tested_store), !is_settled);
}

// Reads all of b/@path, of @len bytes.
static enum err get(const char *path, size_t len) {
    struct object_table_builder b;
    struct object_table t;
    const uint8_t *bytes;
    size_t n;
    struct source *s;
    struct source_found found;
    struct object_entry e = s3_file(path, len);
    struct source_range all = {.length = len};
    uint8_t buf[64];
    object_table_init(&b);
    assert_ok(object_table_add(&b, &e));
    assert_ok(object_table_bytes(&b, &bytes, &n));
    assert_ok(object_table_open(bytes, n, &t));
    s3_source("b", &t, &s);
    enum err result = s3_read_all(s, &all, buf, sizeof buf, &n, &found, NULL);
    source_free(s);
    object_table_close(&t);
    object_table_deinit(&b);
    return result;
}

// ---- which ----

static void a_store_that_answers_with_a_checksum_gets_it_from_then_on(void **state) {
    (void)state;
    scripted_store_settings(&scripted, "{\"checksums\":[\"crc64nvme\",\"crc32c\"]}");
    assert_proof(S3_CHECKSUM_CRC32C, true, false);
    assert_ok(put("one", "123456789", 9));
    assert_proof(S3_CHECKSUM_CRC32C, true, true);
    assert_sent("PUT /b/one", "x-amz-checksum-crc32c", "4waSgw==");
    assert_ok(put("empty", "", 0));
    assert_sent("PUT /b/empty", "x-amz-checksum-crc32c", "AAAAAA==");
}

static void where_one_is_ignored_the_next_is_tried(void **state) {
    (void)state;
    assert_ok(put("ignored", "x", 1));
    assert_proof(S3_CHECKSUM_CRC64NVME, true, false);
    assert_ok(put("ignored", "x", 1));
    assert_proof(S3_CHECKSUM_SHA256, true, false);
    assert_ok(put("ignored", "x", 1));
    assert_proof(S3_CHECKSUM_NONE, true, true); // and the payload stays signed
    assert_ok(put("ignored", "x", 1));
    assert_sent("PUT /b/ignored", "x-amz-checksum-crc32c", NULL);
    assert_sent("PUT /b/ignored", "x-amz-content-sha256",
                "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881");
}

static void where_one_is_refused_the_next_is_tried_at_once(void **state) {
    (void)state;
    scripted_store_settings(&scripted, "{\"checksums\":[\"crc64nvme\"],\"refuses\":true}");
    assert_ok(put("refused", "123456789", 9));
    assert_proof(S3_CHECKSUM_CRC64NVME, true, true);
    assert_sent("PUT /b/refused", "x-amz-checksum-crc64nvme", "rosUhgp5mIg=");
    scripted_store_settings(&scripted, "{\"checksums\":[],\"refuses\":true}");
    open_store(NULL, S3_PAYLOAD_AUTO);
    assert_ok(put("refused", "x", 1));
    assert_proof(S3_CHECKSUM_NONE, true, true);
}

static void a_refusal_for_another_reason_teaches_nothing(void **state) {
    (void)state;
    scripted_store_settings(&scripted, "{\"checksums\":[\"crc32c\"]}");
    scripted_store_rules(&scripted, "[{\"method\":\"PUT\",\"status\":400,"
                                    "\"code\":\"InvalidArgument\",\"times\":9}]");
    assert_err(put("why", "x", 1), ERR_INVALID);
    assert_proof(S3_CHECKSUM_CRC32C, true, false);
    scripted_store_rules(&scripted, "[]");
    assert_ok(put("why", "x", 1));
    assert_proof(S3_CHECKSUM_CRC32C, true, true);
}

static void a_setting_takes_the_place_of_trying(void **state) {
    (void)state;
    open_store("md5", S3_PAYLOAD_UNSIGNED);
    assert_ok(put("set", "x", 1));
    assert_sent("PUT /b/set", "content-md5", "ndTkYSaMgDT1yFZOFVxnpg==");
    assert_sent("PUT /b/set", "x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    open_store("none", S3_PAYLOAD_UNSIGNED); // something has to prove the bytes
    assert_proof(S3_CHECKSUM_MD5, false, true);
    open_store("sha256", S3_PAYLOAD_SIGNED);
    assert_proof(S3_CHECKSUM_SHA256, true, true);
    struct s3_store *bad;
    struct s3_store_options o = {.name = "s",
                                 .endpoint = scripted.endpoint,
                                 .credentials = {.is_anonymous = true},
                                 .checksum = "crc7"};
    assert_err(s3_store_new(&o, &bad, NULL), ERR_CONFIG);
}

static void over_tls_a_checksum_takes_the_place_of_the_signed_payload(void **state) {
    struct s3_store *tls;
    struct s3_proof p;
    struct s3_store_options o = {
        .name = "s", .endpoint = "https://h", .credentials = {.is_anonymous = true}};
    (void)state;
    assert_ok(s3_store_new(&o, &tls, NULL));
    s3_store_proof(tls, &p);
    assert_true(p.is_signed); // until it is known that the checksum is looked at
    s3_store_learn_checksum(tls, S3_CHECKSUM_CRC64NVME, true);
    s3_store_proof(tls, &p);
    assert_false(p.is_signed);
    assert_int_equal(p.checksum, S3_CHECKSUM_CRC64NVME);
    s3_store_part_proof(tls, S3_CHECKSUM_NONE, &p); // of an upload without one
    assert_true(p.is_signed);
    assert_int_equal(p.checksum, S3_CHECKSUM_NONE);
    s3_store_free(tls);
}

// ---- what is checked ----

static void a_wrong_checksum_is_found_at_both_ends(void **state) {
    (void)state;
    scripted_store_settings(&scripted, "{\"checksums\":[\"crc32c\"],\"refuses\":true}");
    assert_ok(put("checked", "some bytes", 10));
    assert_ok(get("checked", 10));
    assert_sent("GET /b/checked", "x-amz-checksum-mode", "ENABLED");
    scripted_store_rules(&scripted, "[{\"method\":\"GET\",\"flip\":5}]");
    assert_err(get("checked", 10), ERR_CORRUPT);
    scripted_store_rules(&scripted, "[{\"method\":\"PUT\",\"status\":400,\"code\":\"BadDigest\"}]");
    assert_ok(put("checked", "some bytes", 10)); // sent again
}

// Writes chunks [@first, @end) of the object as one part.
static void write_part(struct sink *s, const struct object_entry *e, const struct receipt *open,
                       const uint8_t *bytes, uint64_t first, uint64_t end, struct receipt *ret) {
    uint64_t from = first * S3_CHUNK_LEAST_BYTES, to = end * S3_CHUNK_LEAST_BYTES;
    to = to < e->version.size ? to : e->version.size;
    assert_ok(sink_open_part(s, e, s3_temp, open, NULL));
    assert_ok(sink_write(s, from, bytes + from, to - from, NULL));
    assert_ok(sink_close_part(s, true, ret, NULL));
}

static void upload_with(enum s3_checksum kind, const char *header) {
    size_t size = S3_CHUNK_LEAST_BYTES * 2 + 5;
    AUTO(auto_free) uint8_t *bytes = tree_pattern(size, 3);
    struct object_entry e = s3_file("whole", size);
    struct receipt open, parts[2], again;
    struct s3_crc crc = {.kind = kind};
    char want[S3_CHECKSUM_SIZE];
    struct sink *s = s3_new_sink();
    assert_ok(sink_open_large(s, &e, s3_temp, &open, NULL));
    write_part(s, &e, &open, bytes, 2, 3, &parts[1]);
    write_part(s, &e, &open, bytes, 0, 2, &parts[0]);
    unsigned n_sent = scripted_store_count(&scripted, "PUT /b/whole?partNumber=");
    write_part(s, &e, &open, bytes, 0, 2, &again); // recognised by its checksum
    assert_int_equal(scripted_store_count(&scripted, "PUT /b/whole?partNumber="), n_sent);
    assert_int_equal(again.len, parts[0].len);
    assert_memory_equal(again.bytes, parts[0].bytes, again.len);
    struct receipt_list list = {parts, 2};
    assert_ok(sink_finish_large(s, &e, s3_temp, &open, &list, NULL, DURABILITY_OBJECT, NULL));
    s3_crc_add(&crc, bytes, size);
    s3_crc_text(&crc, want);
    assert_sent("POST /b/whole?uploadId", header, want);
    assert_sent("POST /b/whole?uploadId", "x-amz-checksum-type", "FULL_OBJECT");
    // Done already: the object that is there has that checksum.
    assert_ok(sink_finish_large(s, &e, s3_temp, &open, &list, NULL, DURABILITY_OBJECT, NULL));
    // A part whose checksum at the store is not the one that was sent.
    assert_ok(sink_open_large(s, &e, s3_temp, &open, NULL));
    write_part(s, &e, &open, bytes, 0, 3, &parts[0]);
    parts[0].bytes[parts[0].len - 3] ^= 1;
    list.n = 1;
    assert_err(sink_finish_large(s, &e, s3_temp, &open, &list, NULL, DURABILITY_OBJECT, NULL),
               ERR_DEST_CHANGED);
    sink_free(s);
}

static void the_checksums_of_parts_become_that_of_the_object(void **state) {
    (void)state;
    scripted_store_settings(&scripted, "{\"checksums\":[\"crc64nvme\",\"crc32c\"]}");
    upload_with(S3_CHECKSUM_CRC32C, "x-amz-checksum-crc32c");
    open_store("crc64nvme", S3_PAYLOAD_AUTO);
    upload_with(S3_CHECKSUM_CRC64NVME, "x-amz-checksum-crc64nvme");
}

static void an_upload_keeps_the_checksum_that_it_was_begun_with(void **state) {
    (void)state;
    AUTO(auto_free) uint8_t *bytes = tree_pattern(S3_CHUNK_LEAST_BYTES + 5, 3);
    struct object_entry e = s3_file("begun", S3_CHUNK_LEAST_BYTES + 5);
    struct receipt open, part;
    struct sink *s = s3_new_sink();
    assert_ok(sink_open_large(s, &e, s3_temp, &open, NULL)); // the store knows none
    scripted_store_settings(&scripted, "{\"checksums\":[\"crc32c\"]}");
    assert_ok(put("else", "x", 1));
    assert_proof(S3_CHECKSUM_CRC32C, true, true);
    write_part(s, &e, &open, bytes, 0, 2, &part);
    assert_sent("PUT /b/begun?partNumber=1", "x-amz-checksum-crc32c", NULL);
    struct receipt_list list = {&part, 1};
    assert_ok(sink_finish_large(s, &e, s3_temp, &open, &list, NULL, DURABILITY_OBJECT, NULL));
    sink_free(s);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        TEST(a_store_that_answers_with_a_checksum_gets_it_from_then_on),
        TEST(where_one_is_ignored_the_next_is_tried),
        TEST(where_one_is_refused_the_next_is_tried_at_once),
        TEST(a_refusal_for_another_reason_teaches_nothing),
        TEST(a_setting_takes_the_place_of_trying),
        TEST(over_tls_a_checksum_takes_the_place_of_the_signed_payload),
        TEST(a_wrong_checksum_is_found_at_both_ends),
        TEST(the_checksums_of_parts_become_that_of_the_object),
        TEST(an_upload_keeps_the_checksum_that_it_was_begun_with),
    };
    return cmocka_run_group_tests(tests, s3_ends_start, s3_ends_stop);
}
