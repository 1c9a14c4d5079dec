// SPDX-License-Identifier: Apache-2.0
// The S3 source, copies within a store, and the walk, against a scripted store: what they make of
// bodies that are cut or wrong, of objects that changed, and of odd keys.
#include "common/cleanup.h"
#include "s3_ends.h"

// ---- the source ----

static void reads_survive_what_breaks_off_and_see_what_changed(void **state) {
    (void)state;
    size_t size = 3 * MIB, n;
    AUTO(auto_free) uint8_t *bytes = tree_pattern(size, 3);
    AUTO(auto_free) uint8_t *got = malloc(size + 1);
    struct s3_listing l;
    struct object_table t;
    struct source *s;
    struct source_found found;
    struct failure f = {0};
    scripted_store_put(&scripted, "src/big", bytes, size);
    scripted_store_put(&scripted, "src/small", "small", 5);
    scripted_store_put(&scripted, "src/empty", "", 0);
    s3_list("b/src", "", UINT64_MAX, &l, &t);
    assert_int_equal(t.count, 3);
    s3_source("b/src", &t, &s);
    struct source_range big = {.index = s3_find(&t, "big"), .length = size};
    struct source_range middle = {.index = s3_find(&t, "big"), .offset = MIB + 1, .length = MIB};
    struct source_range small = {.index = s3_find(&t, "small"), .length = 5};
    struct source_range empty = {.index = s3_find(&t, "empty"), .length = 0};
    scripted_store_rules(&scripted, "[{\"method\":\"GET\",\"in\":\"big\",\"cut\":1000000},"
                                    "{\"method\":\"GET\",\"in\":\"big\",\"cut\":70000},"
                                    "{\"method\":\"GET\",\"in\":\"small\",\"drop\":true}]");
    const struct source_range ranges[] = {big, middle, small, empty};
    assert_ok(source_expect(s, ranges, 4, NULL));
    assert_ok(s3_read_all(s, &big, got, size, &n, &found, NULL));
    assert_int_equal(n, size);
    assert_memory_equal(got, bytes, size);
    assert_ok(s3_read_all(s, &middle, got, size, &n, &found, NULL));
    assert_int_equal(n, MIB);
    assert_memory_equal(got, bytes + MIB + 1, MIB);
    assert_ok(s3_read_all(s, &small, got, size, &n, &found, NULL));
    assert_int_equal(n, 5);
    assert_ok(s3_read_all(s, &empty, got, size, &n, &found, NULL));
    assert_int_equal(n, 0);
    // A flipped bit.
    scripted_store_rules(&scripted, "[{\"method\":\"GET\",\"in\":\"big\",\"flip\":5}]");
    assert_err(s3_read_all(s, &big, got, size, &n, &found, NULL), ERR_CORRUPT);
    assert_ok(s3_read_all(s, &big, got, size, &n, &found, NULL));
    // Another version.
    scripted_store_put(&scripted, "src/small", "SMALL!", 6);
    assert_err(s3_read_all(s, &small, got, size, &n, &found, &f), ERR_SOURCE_CHANGED);
    small.accept_changed = true;
    small.length = SOURCE_TO_END;
    assert_ok(s3_read_all(s, &small, got, size, &n, &found, NULL));
    assert_int_equal(found.entry.version.size, 6);
    source_free(s);
    s3_unlist(&l, &t);
}

static void a_copy_within_the_store_moves_no_bytes(void **state) {
    (void)state;
    struct s3_listing l;
    struct object_table t;
    struct object_entry e;
    struct object_origin origin;
    struct source *source;
    struct sink *s = s3_new_sink();
    scripted_store_put(&scripted, "from/k", "copied", 6);
    s3_list("b/from", "", UINT64_MAX, &l, &t);
    s3_source("b/from", &t, &source);
    assert_ptr_equal(source_capabilities(source)->store, sink_capabilities(s)->store);
    object_table_get(&t, 0, &e);
    assert_ok(source_origin(source, 0, &origin));
    e.path = (const uint8_t *)"to/k";
    e.path_len = 4;
    assert_ok(sink_copy(s, &e, &origin, 1, NULL));
    s3_finish(s);
    assert_ok(s3_results[1]);
    assert_object("to/k", "copied", 6);
    assert_int_equal(scripted_store_count(&scripted, "GET /b/from/k"), 0);
    scripted_store_put(&scripted, "from/k", "other!", 6);
    assert_ok(sink_copy(s, &e, &origin, 1, NULL));
    s3_finish(s);
    assert_err(s3_results[1], ERR_SOURCE_CHANGED);
    scripted_store_rules(&scripted, "[{\"method\":\"PUT\",\"hidden\":\"InternalError\"}]");
    origin.etag = "";
    assert_ok(sink_copy(s, &e, &origin, 1, NULL));
    s3_finish(s);
    assert_ok(s3_results[1]); // an error in a 200 was retried
    source_free(source);
    sink_free(s);
    s3_unlist(&l, &t);
}

// ---- the walk ----

static void a_bucket_is_listed_like_a_tree(void **state) {
    (void)state;
    static const char *const keys[] = {"w/file",  "w/dir/", "w/dir/in",  "w/dir//odd",  "w//lead",
                                       "w/../up", "w/",     "w/sp ace+", "w/sub/deep/x"};
    struct s3_listing l;
    struct object_table t;
    struct object_entry e;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        scripted_store_put(&scripted, keys[i], keys[i], strlen(keys[i]));
    }
    s3_list("b/w", "", UINT64_MAX, &l, &t);
    object_table_get(&t, s3_find(&t, "dir"), &e);
    assert_int_equal(e.type, OBJECT_DIRECTORY);
    object_table_get(&t, s3_find(&t, "sub"), &e);
    assert_int_equal(e.type, OBJECT_DIRECTORY);
    object_table_get(&t, s3_find(&t, "/lead"), &e);
    assert_true(e.is_key);
    object_table_get(&t, s3_find(&t, "../up"), &e);
    assert_true(e.is_key);
    object_table_get(&t, s3_find(&t, ""), &e); // "w/" itself
    assert_true(e.is_key);
    object_table_get(&t, s3_find(&t, "sp ace+"), &e);
    assert_false(e.is_key);
    assert_int_equal(t.count, 7);
    s3_unlist(&l, &t);
    s3_list("b/w", "dir", UINT64_MAX, &l, &t);
    object_table_get(&t, s3_find(&t, "dir/"), &e);
    assert_true(e.is_key);
    object_table_get(&t, s3_find(&t, "dir//odd"), &e);
    assert_true(e.is_key);
    (void)s3_find(&t, "dir/in");
    assert_int_equal(t.count, 3);
    s3_unlist(&l, &t);
}

static void a_long_listing_comes_in_pages(void **state) {
    (void)state;
    struct s3_listing l;
    struct object_table t;
    char key[32];
    for (int i = 0; i < 1100; i++) {
        snprintf(key, sizeof key, "pages/%04d", i);
        scripted_store_put(&scripted, key, "", 0);
    }
    s3_list("b/pages", "", UINT64_MAX, &l, &t);
    assert_int_equal(t.count, OBJECT_TABLE_MAX_OBJECTS); // what this test keeps of them
    assert_true(l.n_pages >= 2);
    s3_unlist(&l, &t);
}

static void what_is_there_is_told_of_objects_prefixes_and_nothing(void **state) {
    (void)state;
    struct s3_client *c;
    struct object_table_builder b;
    scripted_store_put(&scripted, "look/obj", "12345", 5);
    assert_ok(s3_client_new(tested_store, NULL, &c, NULL));
    struct walk_s3_options o = {.client = c, .root = (const uint8_t *)"b", .root_len = 1};
    object_table_init(&b);
    assert_ok(walk_s3_look(&o, (const uint8_t *)"look/obj", 8, &b, NULL));
    assert_ok(walk_s3_look(&o, (const uint8_t *)"look", 4, &b, NULL));
    assert_ok(walk_s3_look(&o, NULL, 0, &b, NULL));
    assert_err(walk_s3_look(&o, (const uint8_t *)"lo", 2, &b, NULL), ERR_NOT_FOUND);
    const uint8_t *bytes;
    size_t len;
    struct object_table t;
    struct object_entry e;
    assert_ok(object_table_bytes(&b, &bytes, &len));
    assert_ok(object_table_open(bytes, len, &t));
    object_table_get(&t, 0, &e);
    assert_int_equal(e.type, OBJECT_FILE);
    assert_int_equal(e.version.size, 5);
    object_table_get(&t, 1, &e);
    assert_int_equal(e.type, OBJECT_DIRECTORY);
    object_table_get(&t, 2, &e);
    assert_int_equal(e.type, OBJECT_DIRECTORY);
    object_table_close(&t);
    object_table_deinit(&b);
    s3_client_free(c);
}

static void an_aborted_client_says_cancelled(void **state) {
    (void)state;
    struct s3_client *c;
    struct s3_call call = {.operation = "ListBuckets", .method = "GET", .bucket = "b"};
    assert_ok(s3_client_new(tested_store, NULL, &c, NULL));
    s3_client_abort(c);
    assert_err(s3_run(c, &call, NULL), ERR_CANCELLED);
    s3_end(&call);
    s3_client_free(c);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, s3_ends_setup)
    const struct CMUnitTest tests[] = {
        TEST(reads_survive_what_breaks_off_and_see_what_changed),
        TEST(a_copy_within_the_store_moves_no_bytes),
        TEST(a_bucket_is_listed_like_a_tree),
        TEST(a_long_listing_comes_in_pages),
        TEST(what_is_there_is_told_of_objects_prefixes_and_nothing),
        TEST(an_aborted_client_says_cancelled),
    };
    return cmocka_run_group_tests(tests, s3_ends_start, s3_ends_stop);
}
