// SPDX-License-Identifier: Apache-2.0
// What objects are given at a store beside their bytes: tags, a storage class, encryption, a
// digest.
#include "common/cleanup.h"
#include "common/s3_limits.h"
#include "dataplane/s3_object.h"
#include "dataplane/s3_tags.h"
#include "s3_ends.h"

static struct sink *new_sink(const char *tagging) {
    struct sink_s3_options o = {.take_client = s3_new_client(),
                                .root = (const uint8_t *)"b",
                                .root_len = 1,
                                .tagging = tagging,
                                .storage_class = "COLD",
                                .encryption = "aws:kms",
                                .kms_key = "key-1"};
    struct sink *s;
    assert_ok(sink_s3_new(&o, &s, NULL));
    return s;
}

static void assert_wanted(const char *request, const char *tagging) {
    assert_sent(request, "x-amz-tagging", tagging);
    assert_sent(request, "x-amz-storage-class", "COLD");
    assert_sent(request, "x-amz-server-side-encryption", "aws:kms");
    assert_sent(request, "x-amz-server-side-encryption-aws-kms-key-id", "key-1");
}

static void what_a_flow_wants_is_sent_with_every_object(void **state) {
    (void)state;
    AUTO(auto_free) char *tagging = NULL;
    struct object_entry large = s3_file("wanted-large", S3_CHUNK_LEAST_BYTES + 1);
    struct object_origin origin = {
        .bucket = "b", .key = (const uint8_t *)"wanted", .key_len = 6, .etag = ""};
    struct object_entry copy = s3_file("wanted-copy", 5);
    struct receipt open;
    assert_ok(s3_tags_add(&tagging, "project", "a b"));
    assert_ok(s3_tags_add(&tagging, "\xc3\xa9", "1&2"));
    assert_string_equal(tagging, "project=a%20b&%C3%A9=1%262");
    struct sink *s = new_sink(tagging);
    s3_put(s, "wanted", "bytes", 5, 1);
    s3_finish(s);
    assert_ok(s3_results[1]);
    assert_wanted("PUT /b/wanted ", tagging);
    assert_ok(sink_open_large(s, &large, s3_temp, &open, NULL));
    assert_wanted("POST /b/wanted-large?uploads", tagging);
    assert_ok(sink_abort_large(s, &large, s3_temp, &open, NULL));
    assert_ok(sink_copy(s, &copy, &origin, 2, NULL));
    s3_finish(s);
    assert_ok(s3_results[2]);
    assert_wanted("PUT /b/wanted-copy ", tagging);
    assert_sent("PUT /b/wanted-copy ", "x-amz-tagging-directive", "REPLACE");
    sink_free(s);
}

// What the store knows of b/tagged goes into @s, as b/copied.
static void stream(struct sink *s, struct source_found *ret_found, struct source *source) {
    struct source_range all = {.length = 5};
    struct source_closed closed;
    struct object_entry e = s3_file("copied", 5);
    struct digest digest = {{1, 2, 3}};
    assert_ok(source_open(source, &all, ret_found, NULL));
    sink_set_properties(s, ret_found->properties);
    assert_ok(sink_begin(s, &e, s3_temp, NULL));
    assert_ok(sink_write(s, 0, "bytes", 5, NULL));
    sink_set_digest(s, HASH_XXH3_128, &digest);
    assert_ok(source_close(source, &closed, NULL));
    assert_ok(sink_stage(s, 1, NULL));
    s3_finish(s);
    assert_ok(s3_results[1]);
}

static void tags_and_digest_of_the_source_are_kept_or_replaced(void **state) {
    (void)state;
    struct s3_listing l;
    struct object_table t;
    struct source *source;
    struct source_found found;
    struct sink *s = new_sink("a=b%20c&d=");
    s3_put(s, "from/tagged", "bytes", 5, 1);
    s3_finish(s);
    sink_free(s);
    s3_list("b/from", "", UINT64_MAX, &l, &t);
    s3_source("b/from", &t, &source);
    s = s3_new_sink();
    stream(s, &found, source);
    assert_sent("PUT /b/copied ", "x-amz-tagging", "a=b%20c&d=");
    assert_sent("PUT /b/copied ", "x-amz-meta-sluice-digest",
                "xxh3-128:01020300000000000000000000000000");
    assert_sent("PUT /b/copied ", "x-amz-storage-class", NULL); // that is each store's own
    sink_free(s);
    s = new_sink("other=1");
    stream(s, &found, source);
    assert_sent("PUT /b/copied ", "x-amz-tagging", "other=1");
    sink_free(s);
    // An object whose metadata alone is asked for, as before it is copied in parts.
    struct source_range nothing = {.offset = 5, .length = 0};
    struct source_closed closed;
    assert_ok(source_open(source, &nothing, &found, NULL));
    assert_string_equal(object_properties_get(found.properties, "x-amz-tagging"), "a=b%20c&d=");
    assert_ok(source_close(source, &closed, NULL));
    source_free(source);
    s3_unlist(&l, &t);
}

static void tags_that_the_store_forgot_are_set_afterwards(void **state) {
    (void)state;
    const char *tagging = "a=1%262%3C&b%20c=";
    size_t size = S3_CHUNK_LEAST_BYTES + 1;
    AUTO(auto_free) uint8_t *bytes = tree_pattern(size, 3);
    AUTO(auto_free) char *has = NULL;
    struct object_entry e = s3_file("forgotten", size);
    struct receipt open, part;
    struct receipt_list list = {&part, 1};
    struct s3_client *c = s3_new_client();
    struct sink *s = new_sink(tagging);
    scripted_store_settings(&scripted, "{\"forgets_tags\":true}");
    assert_ok(sink_open_large(s, &e, s3_temp, &open, NULL));
    assert_ok(sink_open_part(s, &e, s3_temp, &open, NULL));
    assert_ok(sink_write(s, 0, bytes, size, NULL));
    assert_ok(sink_close_part(s, true, &part, NULL));
    assert_ok(sink_finish_large(s, &e, s3_temp, &open, &list, NULL, DURABILITY_OBJECT, NULL));
    assert_ok(s3_tags_fetch(c, "b", "forgotten", 9, &has, NULL));
    assert_non_null(has);
    assert_string_equal(has, tagging);
    assert_int_equal(scripted_store_count(&scripted, "PUT /b/forgotten?tagging="), 1);
    assert_ok(sink_finish_large(s, &e, s3_temp, &open, &list, NULL, DURABILITY_OBJECT, NULL));
    assert_int_equal(scripted_store_count(&scripted, "PUT /b/forgotten?tagging="), 1);
    s3_client_free(c);
    sink_free(s);
}

static void a_kept_digest_is_told_once_and_the_etag_is_believed_then(void **state) {
    (void)state;
    struct s3_listing l;
    struct object_table t;
    struct source *source;
    struct source_found found;
    struct digest digest = {{1, 2, 3}}; // not of these bytes: somebody kept stale metadata
    struct object_entry e = s3_file("digest/kept", 5);
    struct source_range all = {.length = 5};
    uint8_t got[8];
    size_t n;
    struct sink *s = s3_new_sink();
    assert_ok(sink_begin(s, &e, s3_temp, NULL));
    assert_ok(sink_write(s, 0, "bytes", 5, NULL));
    sink_set_digest(s, HASH_XXH3_128, &digest);
    assert_ok(sink_stage(s, 1, NULL));
    s3_finish(s);
    s3_list("b/digest", "", UINT64_MAX, &l, &t);
    s3_source("b/digest", &t, &source);
    assert_ok(s3_read_all(source, &all, got, 5, &n, &found, NULL));
    assert_true(found.has_digest);
    assert_memory_equal(found.digest.bytes, digest.bytes, 16);
    // Once more, and a flipped bit is found by the ETag.
    scripted_store_rules(&scripted, "[{\"method\":\"GET\",\"flip\":1}]");
    assert_err(s3_read_all(source, &all, got, 5, &n, &found, NULL), ERR_CORRUPT);
    assert_false(found.has_digest);
    source_free(source);
    sink_free(s);
    s3_unlist(&l, &t);
    assert_false(s3_digest_from_text(HASH_XXH3_128, "sha256:00", &digest));
    assert_false(
        s3_digest_from_text(HASH_XXH3_128, "xxh3-128:0102030000000000000000000000000x", &digest));
}

static void tags_that_cannot_be_read_fail_the_object(void **state) {
    (void)state;
    struct s3_client *c = s3_new_client();
    AUTO(auto_free) char *tagging = NULL;
    scripted_store_put(&scripted, "untagged", "x", 1);
    assert_ok(s3_tags_fetch(c, "b", "untagged", 8, &tagging, NULL));
    assert_null(tagging);
    scripted_store_rules(&scripted,
                         "[{\"in\":\"tagging\",\"status\":403,\"code\":\"AccessDenied\"}]");
    assert_err(s3_tags_fetch(c, "b", "untagged", 8, &tagging, NULL), ERR_DENIED);
    scripted_store_rules(&scripted,
                         "[{\"in\":\"tagging\",\"status\":501,\"code\":\"NotImplemented\"}]");
    assert_ok(s3_tags_fetch(c, "b", "untagged", 8, &tagging, NULL));
    s3_client_free(c);
}

// ---- the storage class ----

static void a_class_that_the_store_passed_over_is_told(void **state) {
    (void)state;
    struct object_entry large = s3_file("classless-large", S3_CHUNK_LEAST_BYTES),
                        next = s3_file("next", 5);
    AUTO(auto_free) uint8_t *bytes = tree_pattern(S3_CHUNK_LEAST_BYTES, 3);
    struct object_origin origin = {
        .bucket = "b", .key = (const uint8_t *)"classless", .key_len = 9, .etag = ""};
    struct object_entry copy = s3_file("classless-copy", 5);
    struct receipt open, part;
    struct failure f = {0};
    scripted_store_settings(&scripted, "{\"passes_over_class\":true}");
    struct sink *s = new_sink(NULL);
    s3_put(s, "classless", "bytes", 5, 1);
    s3_finish(s);
    assert_says(&s3_failures[1], ERR_UNIMPLEMENTED, "b/classless", "COLD",
                "ask for one that it has");
    // Nothing more is sent then.
    assert_err(sink_begin(s, &next, s3_temp, &f), ERR_UNIMPLEMENTED);
    assert_int_equal(scripted_store_count(&scripted, "PUT /b/next"), 0);
    sink_free(s);
    s = new_sink(NULL);
    assert_ok(sink_copy(s, &copy, &origin, 2, NULL));
    s3_finish(s);
    assert_says(&s3_failures[2], ERR_UNIMPLEMENTED, "b/classless-copy", "COLD",
                "ask for one that it has");
    sink_free(s);
    s = new_sink(NULL);
    f = (struct failure){0};
    assert_ok(sink_open_large(s, &large, s3_temp, &open, NULL));
    assert_ok(sink_open_part(s, &large, s3_temp, &open, NULL));
    assert_ok(sink_write(s, 0, bytes, S3_CHUNK_LEAST_BYTES, NULL));
    assert_ok(sink_close_part(s, true, &part, NULL));
    struct receipt_list list = {&part, 1};
    assert_err(sink_finish_large(s, &large, s3_temp, &open, &list, NULL, DURABILITY_OBJECT, &f),
               ERR_UNIMPLEMENTED);
    assert_says(&f, ERR_UNIMPLEMENTED, "b/classless-large", "COLD", "ask for one that it has");
    sink_free(s);
}

static void of_many_objects_one_is_looked_at(void **state) {
    (void)state;
    struct sink *s = new_sink(NULL);
    unsigned before = scripted_store_count(&scripted, "HEAD /b/");
    s3_put(s, "class-1", "bytes", 5, 1);
    s3_put(s, "class-2", "bytes", 5, 2);
    s3_put(s, "class-3", "bytes", 5, 3);
    s3_finish(s);
    assert_ok(s3_results[1]);
    assert_ok(s3_results[3]);
    assert_int_equal(scripted_store_count(&scripted, "HEAD /b/"), before + 1);
    // Who may not look at them has to trust the store.
    scripted_store_settings(&scripted, "{\"passes_over_class\":true}");
    scripted_store_rules(&scripted, "[{\"method\":\"HEAD\",\"status\":403,\"times\":9},"
                                    "{\"method\":\"GET\",\"status\":403,\"times\":9}]");
    sink_free(s);
    s = new_sink(NULL);
    before = scripted_store_count(&scripted, "HEAD /b/");
    s3_put(s, "class-4", "bytes", 5, 4);
    s3_put(s, "class-5", "bytes", 5, 5);
    s3_finish(s);
    assert_ok(s3_results[4]);
    assert_ok(s3_results[5]);
    assert_int_equal(scripted_store_count(&scripted, "HEAD /b/"), before + 1);
    sink_free(s);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, s3_ends_setup)
    const struct CMUnitTest tests[] = {
        TEST(what_a_flow_wants_is_sent_with_every_object),
        TEST(tags_and_digest_of_the_source_are_kept_or_replaced),
        TEST(tags_that_the_store_forgot_are_set_afterwards),
        TEST(a_kept_digest_is_told_once_and_the_etag_is_believed_then),
        TEST(tags_that_cannot_be_read_fail_the_object),
        TEST(a_class_that_the_store_passed_over_is_told),
        TEST(of_many_objects_one_is_looked_at),
    };
    return cmocka_run_group_tests(tests, s3_ends_start, s3_ends_stop);
}
