// SPDX-License-Identifier: Apache-2.0
// Objects that the store shall encrypt: their ETags are its own; it may not have the key, or may
// not do it.
#include "common/cleanup.h"
#include "common/s3_limits.h"
#include "s3_ends.h"

#include <stdlib.h>
#include <string.h>

#define SIZE ((size_t)(S3_CHUNK_LEAST_BYTES + 5))

static struct sink *new_sink(const char *encryption, bool never_replaces) {
    struct sink_s3_options o = {.take_client = s3_new_client(),
                                .root = (const uint8_t *)"b",
                                .root_len = 1,
                                .encryption = encryption,
                                .never_replaces = never_replaces};
    struct sink *s;
    assert_ok(sink_s3_new(&o, &s, NULL));
    return s;
}

// ---- ETags ----

static void upload(struct sink *s, const struct object_entry *e, const uint8_t *bytes,
                   const struct receipt *open, struct receipt *ret_part) {
    assert_ok(sink_open_part(s, e, s3_temp, open, NULL));
    assert_ok(sink_write(s, 0, bytes, SIZE, NULL));
    assert_ok(sink_close_part(s, true, ret_part, NULL));
}

static enum err complete(struct sink *s, const struct object_entry *e, const struct receipt *open,
                         struct receipt *part) {
    struct receipt_list list = {part, 1};
    return sink_finish_large(s, e, s3_temp, open, &list, NULL, DURABILITY_OBJECT, NULL);
}

// They look like MD5s, and are those of other bytes: nothing follows from that.
static void an_etag_of_encrypted_bytes_does_not_disprove_an_upload(void **state) {
    (void)state;
    AUTO(auto_free) uint8_t *bytes = tree_pattern(SIZE, 7);
    struct object_entry e = s3_file("sealed", SIZE);
    struct receipt open, part;
    scripted_store_settings(&scripted, "{\"sealed_etags\":true}");
    struct sink *s = new_sink("aws:kms", false);
    assert_ok(sink_open_large(s, &e, s3_temp, &open, NULL));
    upload(s, &e, bytes, &open, &part);
    // An attempt that knows no receipts: it cannot tell that the parts are there, and sends them.
    upload(s, &e, bytes, &open, &part);
    assert_int_equal(scripted_store_count(&scripted, "PUT /b/sealed?partNumber=1&"), 2);
    // Done, and the answer lost: the object is looked at.
    scripted_store_rules(&scripted, "[{\"method\":\"POST\",\"late\":true}]");
    assert_ok(complete(s, &e, &open, &part));
    assert_int_equal(scripted_store_count(&scripted, "POST /b/sealed?uploadId"), 2);
    assert_object("sealed", bytes, SIZE);
    assert_ok(complete(s, &e, &open, &part)); // by an agent that knows nothing of that
    sink_free(s);
}

// But it proves nothing either: with "never replace" another's object is not taken for one's own.
static void an_etag_of_encrypted_bytes_does_not_prove_an_upload(void **state) {
    (void)state;
    AUTO(auto_free) uint8_t *bytes = tree_pattern(SIZE, 7);
    AUTO(auto_free) uint8_t *others = tree_pattern(SIZE, 8);
    struct object_entry e = s3_file("sealed-other", SIZE);
    struct receipt open, part, their_open, their_part;
    scripted_store_settings(&scripted, "{\"sealed_etags\":true,\"conditions\":true}");
    struct sink *s = new_sink("aws:kms", true);
    assert_ok(sink_open_large(s, &e, s3_temp, &open, NULL));
    upload(s, &e, bytes, &open, &part);
    assert_ok(sink_open_large(s, &e, s3_temp, &their_open, NULL));
    upload(s, &e, others, &their_open, &their_part);
    assert_ok(complete(s, &e, &their_open, &their_part));
    assert_err(complete(s, &e, &open, &part), ERR_EXISTS);
    assert_object("sealed-other", others, SIZE);
    assert_ok(sink_abort_large(s, &e, s3_temp, &open, NULL));
    sink_free(s);
}

// ---- keys ----

static const char unknown_to_ceph[] =
    "[{\"in\":\"/b/locked\",\"times\":9,\"status\":403,\"code\":\"InvalidAccessKeyId\","
    "\"message\":\"Failed to retrieve the actual key, kms-keyid: k\"}]";

// Ceph says it with the code of unknown credentials: to renew those would be no help.
static void a_key_that_the_store_does_not_know_is_told_as_that(void **state) {
    (void)state;
    struct object_entry e = s3_file("locked", SIZE);
    struct receipt open;
    struct failure f = {0};
    struct sink *s = new_sink("aws:kms", false);
    scripted_store_rules(&scripted, unknown_to_ceph);
    s3_put(s, "locked", "bytes", 5, 1);
    s3_finish(s);
    assert_says(&s3_failures[1], ERR_INVALID, "b/locked", "kms-keyid: k", "--sse aws:kms:KEY");
    assert_int_equal(scripted_store_count(&scripted, "PUT /b/locked"), 1);
    assert_err(sink_open_large(s, &e, s3_temp, &open, &f), ERR_INVALID);
    assert_says(&f, ERR_INVALID, "b/locked", "kms-keyid: k", "--sse aws:kms:KEY");
    scripted_store_rules(&scripted, "[{\"in\":\"/b/locked\",\"status\":400,"
                                    "\"code\":\"KMS.NotFoundException\"}]");
    s3_put(s, "locked", "bytes", 5, 1);
    s3_finish(s);
    assert_says(&s3_failures[1], ERR_INVALID, "b/locked", "KMS.NotFoundException",
                "--sse aws:kms:KEY");
    sink_free(s);
}

static void an_object_whose_key_is_gone_is_told_as_that(void **state) {
    (void)state;
    struct s3_listing l;
    struct object_table t;
    struct source *source;
    struct source_found found;
    struct source_range all = {.length = 5};
    struct failure f = {0};
    scripted_store_put(&scripted, "locked/one", "bytes", 5);
    s3_list("b/locked", "", UINT64_MAX, &l, &t);
    s3_source("b/locked", &t, &source);
    scripted_store_rules(&scripted, unknown_to_ceph);
    assert_err(source_open(source, &all, &found, &f), ERR_INVALID);
    assert_says(&f, ERR_INVALID, "b/locked/one", "kms-keyid: k", "make it known to the store");
    source_free(source);
    s3_unlist(&l, &t);
}

static void a_refusal_names_what_was_asked_for(void **state) {
    (void)state;
    struct sink *s = new_sink("aws:kms", false);
    scripted_store_rules(&scripted, "[{\"in\":\"/b/locked\",\"times\":9,\"status\":400,"
                                    "\"code\":\"InvalidArgument\"}]");
    s3_put(s, "locked", "bytes", 5, 1);
    s3_finish(s);
    assert_says(&s3_failures[1], ERR_INVALID, "b/locked", "InvalidArgument", "encryption aws:kms");
    sink_free(s);
}

// ---- what is not encrypted ----

static void what_the_store_left_plain_is_not_delivered(void **state) {
    (void)state;
    struct object_entry large = s3_file("plain-large", SIZE), next = s3_file("plain-next", 5);
    struct receipt open;
    struct failure f = {0};
    scripted_store_settings(&scripted, "{\"passes_over\":\"AES256\"}");
    struct sink *s = new_sink("AES256", false);
    s3_put(s, "locked", "bytes", 5, 1);
    s3_finish(s);
    assert_says(&s3_failures[1], ERR_UNIMPLEMENTED, "b/locked", "AES256", "remove it");
    // It is known then, and nothing more is sent.
    assert_err(sink_begin(s, &next, s3_temp, &f), ERR_UNIMPLEMENTED);
    assert_non_null(strstr(f.message, "AES256"));
    assert_int_equal(scripted_store_count(&scripted, "PUT /b/plain-next"), 0);
    // Of an upload it is known before there are any bytes.
    f = (struct failure){0};
    assert_err(sink_open_large(s, &large, s3_temp, &open, &f), ERR_UNIMPLEMENTED);
    assert_non_null(strstr(f.message, "AES256"));
    assert_int_equal(scripted_store_count(&scripted, "POST /b/plain-large?uploads"), 1);
    assert_int_equal(scripted_store_count(&scripted, "DELETE /b/plain-large?uploadId"), 1);
    sink_free(s);
    // Another that the store knows.
    s = new_sink("aws:kms", false);
    s3_put(s, "locked", "bytes", 5, 1);
    s3_finish(s);
    assert_ok(s3_results[1]);
    sink_free(s);
}

// That it is there, plain, is not what was asked for.
static void what_is_plain_is_not_the_same_as_what_shall_be_encrypted(void **state) {
    (void)state;
    struct object_entry e = s3_file("same", 5);
    enum sink_identical same;
    struct sink *plain = s3_new_sink(), *s = new_sink("AES256", false);
    s3_put(plain, "same", "bytes", 5, 1);
    s3_finish(plain);
    assert_ok(sink_compare(plain, &e, &same, NULL));
    assert_int_equal(same, SINK_SAME);
    assert_ok(sink_compare(s, &e, &same, NULL));
    assert_int_equal(same, SINK_DIFFERS);
    s3_put(s, "same", "bytes", 5, 1);
    s3_finish(s);
    assert_ok(sink_compare(s, &e, &same, NULL));
    assert_int_equal(same, SINK_SAME);
    sink_free(plain);
    sink_free(s);
}

// A PUT whose answer was lost, and that "never replace" refuses then.
static void an_own_object_is_recognised_by_the_look_at_it(void **state) {
    (void)state;
    scripted_store_settings(&scripted, "{\"conditions\":true}");
    scripted_store_rules(&scripted, "[{\"method\":\"PUT\",\"late\":true}]");
    struct sink *s = new_sink("AES256", true);
    s3_put(s, "own", "bytes", 5, 1);
    s3_finish(s);
    assert_ok(s3_results[1]);
    assert_int_equal(scripted_store_count(&scripted, "PUT /b/own"), 2);
    sink_free(s);
}

static void a_copy_that_the_store_left_plain_is_not_delivered(void **state) {
    (void)state;
    struct object_entry copy = s3_file("copied-plain", 5);
    struct object_origin origin = {
        .bucket = "b", .key = (const uint8_t *)"origin", .key_len = 6, .etag = ""};
    scripted_store_put(&scripted, "origin", "bytes", 5);
    scripted_store_settings(&scripted, "{\"copies_plain\":true}");
    struct sink *s = new_sink("aws:kms", false);
    assert_ok(sink_copy(s, &copy, &origin, 2, NULL));
    s3_finish(s);
    assert_err(s3_results[2], ERR_UNIMPLEMENTED);
    s3_put(s, "put", "bytes", 5, 1); // that says nothing of what is sent
    s3_finish(s);
    assert_ok(s3_results[1]);
    sink_free(s);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, s3_ends_setup)
    const struct CMUnitTest tests[] = {
        TEST(an_etag_of_encrypted_bytes_does_not_disprove_an_upload),
        TEST(an_etag_of_encrypted_bytes_does_not_prove_an_upload),
        TEST(a_key_that_the_store_does_not_know_is_told_as_that),
        TEST(an_object_whose_key_is_gone_is_told_as_that),
        TEST(a_refusal_names_what_was_asked_for),
        TEST(what_the_store_left_plain_is_not_delivered),
        TEST(what_is_plain_is_not_the_same_as_what_shall_be_encrypted),
        TEST(an_own_object_is_recognised_by_the_look_at_it),
        TEST(a_copy_that_the_store_left_plain_is_not_delivered),
    };
    return cmocka_run_group_tests(tests, s3_ends_start, s3_ends_stop);
}
