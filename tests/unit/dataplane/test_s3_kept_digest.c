// SPDX-License-Identifier: Apache-2.0
// TIMEOUT: 120
// The digest of objects that are too large to have it in their metadata: a tag, which stands for
// one version of the object.
#include "common/cleanup.h"
#include "common/s3_limits.h"
#include "dataplane/s3_object.h"
#include "dataplane/s3_tags.h"
#include "s3_ends.h"

#include <stdlib.h>

#define SIZE ((size_t)(S3_CHUNK_LEAST_BYTES + 5))

static const struct digest digest = {{1, 2, 3}};
static const char digest_tag[] = "sluice-digest=xxh3-128%3A01020300000000000000000000000000%2F";

// ---- the texts ----

static void a_tag_is_taken_out_of_others(void **state) {
    (void)state;
    char value[16];
    char only[] = "k=v%2F1", first[] = "k=1&l=2", middle[] = "a=0&k=1&l=2", last[] = "a=0&k=1";
    char none[] = "kk=1&a=k", empty[] = "", long_one[] = "a=1&k=0123456789abcdef";
    assert_true(s3_tags_take(only, "k", value, sizeof value));
    assert_string_equal(value, "v/1");
    assert_string_equal(only, "");
    assert_true(s3_tags_take(first, "k", value, sizeof value));
    assert_string_equal(first, "l=2");
    assert_true(s3_tags_take(middle, "k", value, sizeof value));
    assert_string_equal(middle, "a=0&l=2");
    assert_true(s3_tags_take(last, "k", value, sizeof value));
    assert_string_equal(value, "1");
    assert_string_equal(last, "a=0");
    assert_false(s3_tags_take(none, "k", value, sizeof value));
    assert_string_equal(none, "kk=1&a=k");
    assert_false(s3_tags_take(empty, "k", value, sizeof value));
    assert_false(s3_tags_take(NULL, "k", value, sizeof value));
    assert_false(s3_tags_take(long_one, "k", value, sizeof value)); // too long to be the one
    assert_string_equal(long_one, "a=1");
    assert_int_equal(s3_tags_count(NULL), 0);
    assert_int_equal(s3_tags_count(""), 0);
    assert_int_equal(s3_tags_count("a="), 1);
    assert_int_equal(s3_tags_count("a=1&b=2&c"), 3);
}

static void a_digest_is_of_one_version(void **state) {
    (void)state;
    char text[S3_DIGEST_TEXT_MAX], value[S3_DIGEST_TAG_MAX];
    struct digest found;
    s3_digest_text(HASH_XXH3_128, &digest, text);
    assert_true(s3_digest_tag(text, "abc-2", value));
    assert_string_equal(value, "xxh3-128:01020300000000000000000000000000/abc-2");
    assert_true(s3_digest_from_tag(HASH_XXH3_128, value, "abc-2", &found));
    assert_memory_equal(&found, &digest, sizeof found);
    assert_false(s3_digest_from_tag(HASH_XXH3_128, value, "abc-3", &found));
    assert_false(s3_digest_from_tag(HASH_SHA256, value, "abc-2", &found));
    assert_false(s3_digest_from_tag(HASH_XXH3_128, "", "", &found));
    assert_false(s3_digest_from_tag(HASH_XXH3_128, "xxh3-128:0102/abc-2", "abc-2", &found));
    assert_false(s3_digest_tag(text, "", value));
    assert_false(s3_digest_tag(text, "a\"b", value)); // no tag may have that
}

// ---- with a store ----

static struct sink *sink_with_tags(const char *tagging) {
    struct sink_s3_options o = {.take_client = s3_new_client(),
                                .root = (const uint8_t *)"b",
                                .root_len = 1,
                                .tagging = tagging};
    struct sink *s;
    assert_ok(sink_s3_new(&o, &s, NULL));
    return s;
}

static void upload(struct sink *s, const struct object_entry *e, struct receipt *ret_open,
                   struct receipt *ret_part) {
    AUTO(auto_free) uint8_t *bytes = tree_pattern(SIZE, 3);
    assert_ok(sink_open_large(s, e, s3_temp, ret_open, NULL));
    assert_ok(sink_open_part(s, e, s3_temp, ret_open, NULL));
    assert_ok(sink_write(s, 0, bytes, SIZE, NULL));
    assert_ok(sink_close_part(s, true, ret_part, NULL));
}

static enum err finish(struct sink *s, const struct object_entry *e, const struct receipt *open,
                       struct receipt *part) {
    struct receipt_list list = {part, 1};
    sink_set_digest(s, HASH_XXH3_128, &digest);
    return sink_finish_large(s, e, s3_temp, open, &list, NULL, DURABILITY_OBJECT, NULL);
}

static void put_large(struct sink *s, const char *path) {
    struct object_entry e = s3_file(path, SIZE);
    struct receipt open, part;
    upload(s, &e, &open, &part);
    assert_ok(finish(s, &e, &open, &part));
}

// free() them.
static char *tags_of(const char *key) {
    char *has = NULL;
    struct s3_client *c = s3_new_client();
    assert_ok(s3_tags_fetch(c, "b", key, strlen(key), &has, NULL));
    s3_client_free(c);
    return has;
}

static bool has_kept(const char *root, const char *name, const char *etag,
                     struct digest *ret_digest) {
    struct s3_listing l;
    struct object_table t;
    struct object_table_builder other;
    struct source *source;
    bool has = false;
    s3_list(root, "", UINT64_MAX, &l, &t);
    struct object_entry e;
    object_table_get(&t, s3_find(&t, name), &e);
    if (etag != NULL) { // as if it was another version that was listed
        e.target = (const uint8_t *)etag;
        e.target_len = strlen(etag);
    }
    object_table_init(&other);
    assert_ok(object_table_add(&other, &e));
    const uint8_t *bytes;
    size_t len;
    struct object_table one;
    assert_ok(object_table_bytes(&other, &bytes, &len));
    assert_ok(object_table_open(bytes, len, &one));
    s3_source(root, &one, &source);
    struct failure f = {0};
    assert_ok(source_kept_digest(source, 0, &has, ret_digest, &f));
    assert_int_equal(f.err, OK);
    source_free(source);
    object_table_close(&one);
    object_table_deinit(&other);
    s3_unlist(&l, &t);
    return has;
}

static void a_large_object_has_its_digest_as_a_tag(void **state) {
    (void)state;
    struct digest kept = {0};
    struct sink *s = s3_new_sink();
    put_large(s, "kept/large");
    AUTO(auto_free) char *has = tags_of("kept/large");
    assert_non_null(has);
    assert_true(strncmp(has, digest_tag, sizeof digest_tag - 1) == 0);
    assert_true(has_kept("b/kept", "large", NULL, &kept));
    assert_memory_equal(&kept, &digest, sizeof kept);
    assert_false(has_kept("b/kept", "large", "another-2", &kept));
    scripted_store_put(&scripted, "kept/plain", "bytes", 5);
    assert_false(has_kept("b/kept", "plain", NULL, &kept));
    // Who may not read tags reads the object all the same.
    scripted_store_rules(&scripted, "[{\"method\":\"GET\",\"in\":\"tagging=\",\"status\":403,"
                                    "\"code\":\"AccessDenied\"}]");
    assert_false(has_kept("b/kept", "large", NULL, &kept)); // and no failure is told
    sink_free(s);
}

static void it_comes_beside_the_tags_that_were_asked_for(void **state) {
    (void)state;
    struct sink *s = sink_with_tags("a=b%20c&d=");
    put_large(s, "beside");
    AUTO(auto_free) char *has = tags_of("beside");
    assert_non_null(has);
    assert_true(strncmp(has, "a=b%20c&d=&", 11) == 0);
    assert_true(strncmp(has + 11, digest_tag, sizeof digest_tag - 1) == 0);
    sink_free(s);
    const char *ten = "a=&b=&c=&d=&e=&f=&g=&h=&i=&j=";
    s = sink_with_tags(ten);
    put_large(s, "full");
    AUTO(auto_free) char *has_ten = tags_of("full");
    assert_non_null(has_ten);
    assert_string_equal(has_ten, ten); // an object can have no more
    sink_free(s);
}

static void a_store_that_refuses_is_not_asked_again(void **state) {
    (void)state;
    s3_ends_new_store(&(struct s3_store_options){0});
    struct sink *s = s3_new_sink();
    // Keys that are not allowed to say nothing about others of the same store.
    scripted_store_rules(&scripted, "[{\"method\":\"PUT\",\"in\":\"tagging=\",\"status\":403,"
                                    "\"code\":\"AccessDenied\"}]");
    put_large(s, "forbidden");
    assert_true(s3_store_tags_digest(tested_store));
    scripted_store_rules(&scripted, "[{\"method\":\"PUT\",\"in\":\"tagging=\",\"status\":501,"
                                    "\"code\":\"NotImplemented\",\"times\":9}]");
    put_large(s, "refused-1");
    put_large(s, "refused-2");
    assert_int_equal(scripted_store_count(&scripted, "PUT /b/refused-1?tagging="), 1);
    assert_int_equal(scripted_store_count(&scripted, "PUT /b/refused-2?tagging="), 0);
    sink_free(s);
    s3_ends_new_store(&(struct s3_store_options){.tags_no_digest = true});
    s = s3_new_sink();
    put_large(s, "unwanted");
    assert_int_equal(scripted_store_count(&scripted, "/b/unwanted?tagging="), 0);
    sink_free(s);
}

// Where nothing tells that it is this upload's object, its digest is not said to be.
static void an_object_that_may_be_anothers_gets_none(void **state) {
    (void)state;
    AUTO(auto_free) uint8_t *others = tree_pattern(SIZE, 4);
    struct object_entry e = s3_file("doubtful", SIZE);
    struct receipt open, part;
    struct sink *s = s3_new_sink();
    upload(s, &e, &open, &part);
    scripted_store_put(&scripted, "doubtful", others, SIZE); // its ETag is none of an upload
    scripted_store_rules(&scripted,
                         "[{\"method\":\"POST\",\"status\":404,\"code\":\"NoSuchUpload\"}]");
    assert_ok(finish(s, &e, &open, &part));
    assert_int_equal(scripted_store_count(&scripted, "PUT /b/doubtful?tagging="), 0);
    assert_ok(sink_abort_large(s, &e, s3_temp, &open, NULL));
    sink_free(s);
}

static void what_is_read_as_a_whole_has_it_and_its_copy_gets_its_own(void **state) {
    (void)state;
    const size_t size = (size_t)S3_WHOLE_MAX_BYTES + 7;
    AUTO(auto_free) uint8_t *bytes = tree_pattern(size, 5);
    struct object_entry e = s3_file("whole/large", size);
    struct sink *s = sink_with_tags("a=b");
    assert_ok(sink_begin(s, &e, s3_temp, NULL)); // a task of its own, as from another store
    assert_ok(sink_write(s, 0, bytes, size, NULL));
    sink_set_digest(s, HASH_XXH3_128, &digest);
    assert_ok(sink_stage(s, 1, NULL));
    s3_finish(s);
    assert_ok(s3_results[1]);
    sink_free(s);
    struct s3_listing l;
    struct object_table t;
    struct source *source;
    struct source_found found;
    struct source_closed closed;
    struct source_range all = {.length = size};
    s3_list("b/whole", "", UINT64_MAX, &l, &t);
    s3_source("b/whole", &t, &source);
    assert_ok(source_open(source, &all, &found, NULL));
    assert_true(found.has_digest);
    assert_memory_equal(&found.digest, &digest, sizeof digest);
    assert_string_equal(object_properties_get(found.properties, "x-amz-tagging"), "a=b");
    assert_ok(source_close(source, &closed, NULL));
    source_free(source);
    s3_unlist(&l, &t);
}

static void who_wants_no_such_tags_does_not_read_them(void **state) {
    struct digest found;
    (void)state;
    struct sink *s = sink_with_tags(NULL);
    put_large(s, "off/large");
    sink_free(s);
    assert_true(has_kept("b/off", "large", NULL, &found));
    unsigned n_read = scripted_store_count(&scripted, "GET /b/off/large?tagging");
    assert_int_not_equal(n_read, 0);
    s3_ends_new_store(&(struct s3_store_options){.tags_no_digest = true});
    assert_false(has_kept("b/off", "large", NULL, &found));
    assert_int_equal(scripted_store_count(&scripted, "GET /b/off/large?tagging"), n_read);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, s3_ends_setup)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tag_is_taken_out_of_others),
        cmocka_unit_test(a_digest_is_of_one_version),
        TEST(a_large_object_has_its_digest_as_a_tag),
        TEST(it_comes_beside_the_tags_that_were_asked_for),
        TEST(a_store_that_refuses_is_not_asked_again),
        TEST(an_object_that_may_be_anothers_gets_none),
        TEST(what_is_read_as_a_whole_has_it_and_its_copy_gets_its_own),
        TEST(who_wants_no_such_tags_does_not_read_them),
    };
    return cmocka_run_group_tests(tests, s3_ends_start, s3_ends_stop);
}
