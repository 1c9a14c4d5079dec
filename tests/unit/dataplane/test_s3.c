// SPDX-License-Identifier: Apache-2.0
// The S3 client, source, sink and walk against a scripted store: what they send, and what they
// make of answers that are late, wrong, cut, or refusals.
#include "common/cleanup.h"
#include "common/s3_limits.h"
#include "dataplane/sink_s3.h"
#include "dataplane/source_s3.h"
#include "dataplane/walk_s3.h"
#include "scripted_store.h"
#include "tests/lib/tree.h"

#define ROOT ((const uint8_t *)"b")
#define MIB  ((size_t)1 << 20)

static struct scripted_store scripted;

static int start(void **state) {
    (void)state;
    scripted_store_start(&scripted);
    return 0;
}

static int stop(void **state) {
    (void)state;
    scripted_store_stop(&scripted);
    return 0;
}

static int setup(void **state) {
    (void)state;
    scripted_store_rules(&scripted, "[]");
    return 0;
}

// ---- helpers for each end ----

static struct object_entry file(const char *path, uint64_t size) {
    return (struct object_entry){
        .id = 1,
        .type = OBJECT_FILE,
        .mode = 0640,
        .uid = 12,
        .gid = 34,
        .version = {.size = size, .mtime_ns = 1234567890123456789},
        .path = (const uint8_t *)path,
        .path_len = strlen(path),
        .is_key = !object_path_is_valid((const uint8_t *)path, strlen(path)),
    };
}

static struct s3_client *new_client(void) {
    struct s3_client *c = NULL;
    assert_ok(s3_client_new(scripted.store, NULL, &c, NULL));
    return c;
}

static struct sink *make_sink(void) {
    struct sink_s3_options o = {.take_client = new_client(), .root = ROOT, .root_len = 1};
    struct sink *s;
    assert_ok(sink_s3_new(&o, &s, NULL));
    return s;
}

static char temp[TEMP_NAME_SIZE];
static enum err results[16];
static struct failure failures[16];

static void on_each(void *user, uint32_t tag, enum err result, const struct failure *failure) {
    (void)user;
    results[tag] = result;
    failures[tag] = *failure;
}

static void put(struct sink *s, const char *path, const void *bytes, size_t len, uint32_t tag) {
    struct object_entry e = file(path, len);
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, 1, 1, temp);
    results[tag] = ERR_COUNT;
    assert_ok(sink_begin(s, &e, temp, NULL));
    assert_ok(sink_write(s, 0, bytes, len, NULL));
    assert_ok(sink_stage(s, tag, NULL));
}

static void finish(struct sink *s) {
    assert_ok(sink_finish_staged(s, DURABILITY_OBJECT, on_each, NULL, NULL));
}

static void assert_object(const char *key, const void *bytes, size_t len) {
    size_t n = 0;
    AUTO(auto_free) uint8_t *body = scripted_store_get(&scripted, key, &n);
    assert_non_null(body);
    assert_int_equal(n, len);
    assert_memory_equal(body, bytes, len);
}

struct listing {
    struct object_table_builder all;
    unsigned n_pages, n_done;
};

static enum err on_page(void *user, const uint8_t *bytes, size_t len, bool done) {
    struct listing *l = user;
    struct object_table t;
    assert_ok(object_table_open(bytes, len, &t));
    for (uint32_t i = 0; i < t.count; i++) {
        struct object_entry e;
        object_table_get(&t, i, &e);
        if (l->all.count < OBJECT_TABLE_MAX_OBJECTS) {
            assert_ok(object_table_add(&l->all, &e));
        }
    }
    object_table_close(&t);
    l->n_pages++;
    l->n_done += done;
    return OK;
}

static enum err on_failed(void *user, const struct failure *f) {
    (void)user;
    (void)f;
    return OK;
}

static void list(const char *root, const char *path, uint64_t look_bytes, struct listing *l,
                 struct object_table *ret_table) {
    struct s3_client *c;
    const uint8_t *bytes;
    size_t len;
    struct walk_sink sink = {on_page, on_failed, l};
    assert_ok(s3_client_new(scripted.store, NULL, &c, NULL));
    struct walk_s3_options o = {.client = c,
                                .root = (const uint8_t *)root,
                                .root_len = strlen(root),
                                .look_bytes = look_bytes};
    *l = (struct listing){0};
    object_table_init(&l->all);
    assert_ok(walk_s3_directory(&o, (const uint8_t *)path, strlen(path), &sink, NULL));
    assert_int_equal(l->n_done, 1);
    s3_client_free(c);
    assert_ok(object_table_bytes(&l->all, &bytes, &len));
    assert_ok(object_table_open(bytes, len, ret_table));
}

static void unlist(struct listing *l, struct object_table *t) {
    object_table_close(t);
    object_table_deinit(&l->all);
}

// The index of @path in the table.
static uint32_t find(const struct object_table *t, const char *path) {
    for (uint32_t i = 0; i < t->count; i++) {
        struct object_entry e;
        object_table_get(t, i, &e);
        if (e.path_len == strlen(path) && memcmp(e.path, path, e.path_len) == 0) {
            return i;
        }
    }
    fail_msg("%s is not listed", path);
    return 0;
}

static enum err read_all(struct source *s, const struct source_range *r, uint8_t *to, size_t cap,
                         size_t *ret_len, struct source_found *ret_found, struct failure *f) {
    struct source_closed closed;
    enum err e = source_open(s, r, ret_found, f);
    *ret_len = 0;
    if (e != OK) {
        return e;
    }
    for (;;) {
        size_t n;
        uint64_t hole;
        e = source_read(s, to + *ret_len, cap - *ret_len + (*ret_len == cap), &n, &hole, f);
        if (e != OK || n == 0) {
            break;
        }
        *ret_len += n;
    }
    enum err closing = source_close(s, &closed, f);
    return e != OK ? e : closing;
}

// ---- the sink ----

static void objects_are_put_with_their_metadata(void **state) {
    (void)state;
    struct sink *s = make_sink();
    struct listing l;
    struct object_table t;
    struct object_entry e;
    put(s, "meta/one", "one", 3, 1);
    put(s, "meta/empty", "", 0, 2);
    put(s, "meta/a b+\xc3\xa9%", "odd", 3, 3);
    put(s, "meta//double", "double", 6, 4);
    finish(s);
    assert_ok(results[1]);
    assert_ok(results[4]);
    assert_object("meta/one", "one", 3);
    assert_object("meta/empty", "", 0);
    assert_object("meta/a b+\xc3\xa9%", "odd", 3);
    assert_object("meta//double", "double", 6);
    list("b/meta", "", 0, &l, &t);
    object_table_get(&t, find(&t, "one"), &e);
    assert_int_equal(e.mode, 0640);
    assert_int_equal(e.uid, 12);
    assert_int_equal(e.gid, 34);
    assert_true(e.version.mtime_ns == 1234567890123456789);
    unlist(&l, &t);
    enum sink_identical same = SINK_DIFFERS;
    e = file("meta/one", 3);
    assert_ok(sink_compare(s, &e, &same, NULL));
    assert_int_equal(same, SINK_SAME);
    e.version.mtime_ns++;
    assert_ok(sink_compare(s, &e, &same, NULL));
    assert_int_equal(same, SINK_DIFFERS);
    e = file("meta/nothing", 3);
    assert_ok(sink_compare(s, &e, &same, NULL));
    assert_int_equal(same, SINK_DIFFERS);
    sink_free(s);
}

static void failures_of_the_store_are_retried(void **state) {
    (void)state;
    struct sink *s = make_sink();
    scripted_store_rules(&scripted, "[{\"method\":\"PUT\",\"status\":503,\"code\":\"SlowDown\","
                                    "\"times\":2},{\"method\":\"PUT\",\"drop\":true},"
                                    "{\"method\":\"PUT\",\"late\":true}]");
    struct s3_store_counts before, after;
    s3_store_counts(scripted.store, &before);
    put(s, "retried", "retried", 7, 1);
    finish(s);
    assert_ok(results[1]);
    assert_object("retried", "retried", 7);
    s3_store_counts(scripted.store, &after);
    assert_int_equal(after.slow_downs - before.slow_downs, 2);
    assert_true(after.retries - before.retries >= 3);
    sink_free(s);
}

static void a_refusal_names_bucket_key_and_request(void **state) {
    (void)state;
    struct sink *s = make_sink();
    scripted_store_rules(&scripted,
                         "[{\"method\":\"PUT\",\"status\":403,\"code\":\"AccessDenied\"}]");
    put(s, "refused", "x", 1, 1);
    finish(s);
    assert_err(results[1], ERR_DENIED);
    assert_int_equal(failures[1].object_len, strlen("b/refused"));
    assert_memory_equal(failures[1].object, "b/refused", strlen("b/refused"));
    assert_non_null(strstr(failures[1].message, "AccessDenied"));
    assert_non_null(strstr(failures[1].message, "request scripted"));
    sink_free(s);
}

static void a_skewed_clock_and_a_wrong_region_are_corrected(void **state) {
    (void)state;
    struct sink *s = make_sink();
    scripted_store_rules(
        &scripted,
        "[{\"method\":\"PUT\",\"in\":\"skewed\",\"status\":403,\"code\":\"RequestTimeTooSkewed\","
        "\"headers\":{\"Date\":\"Fri, 24 May 2013 00:00:00 GMT\"}},"
        "{\"method\":\"PUT\",\"in\":\"elsewhere\",\"status\":301,\"code\":\"PermanentRedirect\","
        "\"headers\":{\"x-amz-bucket-region\":\"eu-west-7\"}}]");
    put(s, "skewed", "x", 1, 1);
    put(s, "elsewhere", "y", 1, 2);
    finish(s);
    assert_ok(results[1]);
    assert_ok(results[2]);
    struct s3_target t;
    assert_ok(s3_store_target(scripted.store, "b", "k", 1, "", &t, NULL));
    assert_string_equal(t.region, "eu-west-7");
    s3_target_deinit(&t);
    sink_free(s);
}

// ---- large objects ----

static uint8_t *pattern(size_t n) {
    return tree_pattern(n, 3);
}

static void large_objects_travel_in_parts_that_are_not_sent_twice(void **state) {
    (void)state;
    size_t size = S3_CHUNK_LEAST_BYTES * 2 + 5, half = S3_CHUNK_LEAST_BYTES;
    AUTO(auto_free) uint8_t *bytes = pattern(size);
    struct sink *s = make_sink();
    struct object_entry e = file("large", size);
    struct receipt open, parts[2];
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, 0, 1, temp);
    assert_ok(sink_open_large(s, &e, temp, &open, NULL));
    assert_ok(sink_open_part(s, &e, temp, &open, NULL));
    assert_ok(sink_write(s, half, bytes + half, MIB, NULL));
    assert_ok(sink_write(s, half + MIB, bytes + half + MIB, size - half - MIB, NULL));
    assert_ok(sink_close_part(s, true, &parts[1], NULL));
    // The first one is written half way, and then again by another.
    assert_ok(sink_open_part(s, &e, temp, &open, NULL));
    assert_ok(sink_write(s, 0, bytes, half, NULL));
    sink_free(s);
    s = make_sink();
    assert_ok(sink_open_part(s, &e, temp, &open, NULL));
    assert_ok(sink_write(s, 0, bytes, half, NULL));
    assert_ok(sink_close_part(s, true, &parts[0], NULL));
    struct receipt again;
    assert_ok(sink_open_part(s, &e, temp, &open, NULL));
    unsigned n_sent = scripted_store_count(&scripted, "PUT /b/large?partNumber=1");
    assert_ok(sink_write(s, 0, bytes, half, NULL));
    assert_ok(sink_close_part(s, true, &again, NULL));
    assert_int_equal(scripted_store_count(&scripted, "PUT /b/large?partNumber=1"), n_sent);
    assert_int_equal(again.len, parts[0].len);
    assert_memory_equal(again.bytes, parts[0].bytes, again.len);
    struct receipt_list list = {parts, 2};
    scripted_store_rules(&scripted, "[{\"method\":\"POST\",\"late\":true}]"); // done, but not told
    assert_ok(sink_finish_large(s, &e, temp, &open, &list, NULL, DURABILITY_OBJECT, NULL));
    assert_object("large", bytes, size);
    assert_ok(sink_finish_large(s, &e, temp, &open, &list, NULL, DURABILITY_OBJECT, NULL)); // again
    scripted_store_put(&scripted, "large", "other", 5);
    assert_err(sink_finish_large(s, &e, temp, &open, &list, NULL, DURABILITY_OBJECT, NULL),
               ERR_DEST_CHANGED);
    sink_free(s);
}

static void an_upload_that_lacks_a_part_is_not_completed(void **state) {
    (void)state;
    size_t size = S3_CHUNK_LEAST_BYTES + 5;
    AUTO(auto_free) uint8_t *bytes = pattern(size);
    struct sink *s = make_sink();
    struct object_entry e = file("lacking", size);
    struct receipt open, part;
    struct failure f = {0};
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, 0, 1, temp);
    assert_ok(sink_open_large(s, &e, temp, &open, NULL));
    assert_ok(sink_open_part(s, &e, temp, &open, NULL));
    assert_ok(sink_write(s, 0, bytes, S3_CHUNK_LEAST_BYTES + 3, NULL)); // the rest is dropped
    assert_ok(sink_close_part(s, true, &part, NULL));
    assert_err(sink_finish_large(s, &e, temp, &open, NULL, NULL, DURABILITY_OBJECT, &f),
               ERR_DEST_CHANGED);
    assert_ok(sink_abort_large(s, &e, temp, &open, NULL));
    assert_ok(sink_abort_large(s, &e, temp, &open, NULL)); // not there is success
    assert_err(sink_open_part(s, &e, temp, &open, NULL) == OK ? sink_write(s, 0, bytes, size, NULL)
                                                              : OK,
               ERR_DEST_CHANGED);
    sink_free(s);
}

static void larger_objects_of_a_batch_are_uploaded_in_parts_too(void **state) {
    (void)state;
    size_t size = S3_WHOLE_MAX_BYTES + MIB;
    AUTO(auto_free) uint8_t *bytes = pattern(size);
    struct sink *s = make_sink();
    put(s, "batch-large", bytes, size, 1);
    finish(s);
    assert_ok(results[1]);
    assert_object("batch-large", bytes, size);
    sink_free(s);
}

static void chunks_of_any_object_are_at_most_ten_thousand(void **state) {
    (void)state;
    const uint64_t sizes[] = {1, S3_CHUNK_LEAST_BYTES * S3_CHUNKS_MAX,
                              S3_CHUNK_LEAST_BYTES * S3_CHUNKS_MAX + 1, S3_OBJECT_MAX_BYTES};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        uint64_t chunk = s3_chunk_bytes(sizes[i]);
        assert_true((sizes[i] + chunk - 1) / chunk <= S3_CHUNKS_MAX);
        assert_int_equal(chunk % LEAF_BYTES, 0);
        assert_int_equal(s3_part_bytes(sizes[i], 256 * MIB) % chunk, 0);
    }
}

// ---- the source ----

static void reads_survive_what_breaks_off_and_see_what_changed(void **state) {
    (void)state;
    size_t size = 3 * MIB, n;
    AUTO(auto_free) uint8_t *bytes = pattern(size);
    AUTO(auto_free) uint8_t *got = malloc(size + 1);
    struct listing l;
    struct object_table t;
    struct source *s;
    struct source_found found;
    struct failure f = {0};
    scripted_store_put(&scripted, "src/big", bytes, size);
    scripted_store_put(&scripted, "src/small", "small", 5);
    scripted_store_put(&scripted, "src/empty", "", 0);
    list("b/src", "", UINT64_MAX, &l, &t);
    assert_int_equal(t.count, 3);
    assert_ok(source_s3_new(new_client(), (const uint8_t *)"b/src", 5, &t, &s, NULL));
    struct source_range big = {.index = find(&t, "big"), .length = size};
    struct source_range middle = {.index = find(&t, "big"), .offset = MIB + 1, .length = MIB};
    struct source_range small = {.index = find(&t, "small"), .length = 5};
    struct source_range empty = {.index = find(&t, "empty"), .length = 0};
    scripted_store_rules(&scripted, "[{\"method\":\"GET\",\"in\":\"big\",\"cut\":1000000},"
                                    "{\"method\":\"GET\",\"in\":\"big\",\"cut\":70000},"
                                    "{\"method\":\"GET\",\"in\":\"small\",\"drop\":true}]");
    const struct source_range ranges[] = {big, middle, small, empty};
    assert_ok(source_expect(s, ranges, 4, NULL));
    assert_ok(read_all(s, &big, got, size, &n, &found, NULL));
    assert_int_equal(n, size);
    assert_memory_equal(got, bytes, size);
    assert_ok(read_all(s, &middle, got, size, &n, &found, NULL));
    assert_int_equal(n, MIB);
    assert_memory_equal(got, bytes + MIB + 1, MIB);
    assert_ok(read_all(s, &small, got, size, &n, &found, NULL));
    assert_int_equal(n, 5);
    assert_ok(read_all(s, &empty, got, size, &n, &found, NULL));
    assert_int_equal(n, 0);
    // A flipped bit.
    scripted_store_rules(&scripted, "[{\"method\":\"GET\",\"in\":\"big\",\"flip\":5}]");
    assert_err(read_all(s, &big, got, size, &n, &found, NULL), ERR_CORRUPT);
    assert_ok(read_all(s, &big, got, size, &n, &found, NULL));
    // Another version.
    scripted_store_put(&scripted, "src/small", "SMALL!", 6);
    assert_err(read_all(s, &small, got, size, &n, &found, &f), ERR_SOURCE_CHANGED);
    small.accept_changed = true;
    small.length = SOURCE_TO_END;
    assert_ok(read_all(s, &small, got, size, &n, &found, NULL));
    assert_int_equal(found.entry.version.size, 6);
    source_free(s);
    unlist(&l, &t);
}

static void a_copy_within_the_store_moves_no_bytes(void **state) {
    (void)state;
    struct listing l;
    struct object_table t;
    struct object_entry e;
    struct object_origin origin;
    struct source *source;
    struct sink *s = make_sink();
    scripted_store_put(&scripted, "from/k", "copied", 6);
    list("b/from", "", UINT64_MAX, &l, &t);
    assert_ok(source_s3_new(new_client(), (const uint8_t *)"b/from", 6, &t, &source, NULL));
    assert_ptr_equal(source_capabilities(source)->store, sink_capabilities(s)->store);
    object_table_get(&t, 0, &e);
    assert_ok(source_origin(source, 0, &origin));
    e.path = (const uint8_t *)"to/k";
    e.path_len = 4;
    assert_ok(sink_copy(s, &e, &origin, 1, NULL));
    finish(s);
    assert_ok(results[1]);
    assert_object("to/k", "copied", 6);
    assert_int_equal(scripted_store_count(&scripted, "GET /b/from/k"), 0);
    scripted_store_put(&scripted, "from/k", "other!", 6);
    assert_ok(sink_copy(s, &e, &origin, 1, NULL));
    finish(s);
    assert_err(results[1], ERR_SOURCE_CHANGED);
    scripted_store_rules(&scripted, "[{\"method\":\"PUT\",\"hidden\":\"InternalError\"}]");
    origin.etag = "";
    assert_ok(sink_copy(s, &e, &origin, 1, NULL));
    finish(s);
    assert_ok(results[1]); // an error in a 200 was retried
    source_free(source);
    sink_free(s);
    unlist(&l, &t);
}

// ---- the walk ----

static void a_bucket_is_listed_like_a_tree(void **state) {
    (void)state;
    static const char *const keys[] = {"w/file",  "w/dir/", "w/dir/in",  "w/dir//odd",  "w//lead",
                                       "w/../up", "w/",     "w/sp ace+", "w/sub/deep/x"};
    struct listing l;
    struct object_table t;
    struct object_entry e;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        scripted_store_put(&scripted, keys[i], keys[i], strlen(keys[i]));
    }
    list("b/w", "", UINT64_MAX, &l, &t);
    object_table_get(&t, find(&t, "dir"), &e);
    assert_int_equal(e.type, OBJECT_DIRECTORY);
    object_table_get(&t, find(&t, "sub"), &e);
    assert_int_equal(e.type, OBJECT_DIRECTORY);
    object_table_get(&t, find(&t, "/lead"), &e);
    assert_true(e.is_key);
    object_table_get(&t, find(&t, "../up"), &e);
    assert_true(e.is_key);
    object_table_get(&t, find(&t, ""), &e); // "w/" itself
    assert_true(e.is_key);
    object_table_get(&t, find(&t, "sp ace+"), &e);
    assert_false(e.is_key);
    assert_int_equal(t.count, 7);
    unlist(&l, &t);
    list("b/w", "dir", UINT64_MAX, &l, &t);
    object_table_get(&t, find(&t, "dir/"), &e);
    assert_true(e.is_key);
    object_table_get(&t, find(&t, "dir//odd"), &e);
    assert_true(e.is_key);
    (void)find(&t, "dir/in");
    assert_int_equal(t.count, 3);
    unlist(&l, &t);
}

static void a_long_listing_comes_in_pages(void **state) {
    (void)state;
    struct listing l;
    struct object_table t;
    char key[32];
    for (int i = 0; i < 1100; i++) {
        snprintf(key, sizeof key, "pages/%04d", i);
        scripted_store_put(&scripted, key, "", 0);
    }
    list("b/pages", "", UINT64_MAX, &l, &t);
    assert_int_equal(t.count, OBJECT_TABLE_MAX_OBJECTS); // what this test keeps of them
    assert_true(l.n_pages >= 2);
    unlist(&l, &t);
}

static void what_is_there_is_told_of_objects_prefixes_and_nothing(void **state) {
    (void)state;
    struct s3_client *c;
    struct object_table_builder b;
    scripted_store_put(&scripted, "look/obj", "12345", 5);
    assert_ok(s3_client_new(scripted.store, NULL, &c, NULL));
    struct walk_s3_options o = {.client = c, .root = ROOT, .root_len = 1};
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
    assert_ok(s3_client_new(scripted.store, NULL, &c, NULL));
    s3_client_abort(c);
    assert_err(s3_run(c, &call, NULL), ERR_CANCELLED);
    s3_end(&call);
    s3_client_free(c);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        TEST(objects_are_put_with_their_metadata),
        TEST(failures_of_the_store_are_retried),
        TEST(a_refusal_names_bucket_key_and_request),
        TEST(a_skewed_clock_and_a_wrong_region_are_corrected),
        TEST(large_objects_travel_in_parts_that_are_not_sent_twice),
        TEST(an_upload_that_lacks_a_part_is_not_completed),
        TEST(larger_objects_of_a_batch_are_uploaded_in_parts_too),
        TEST(chunks_of_any_object_are_at_most_ten_thousand),
        TEST(reads_survive_what_breaks_off_and_see_what_changed),
        TEST(a_copy_within_the_store_moves_no_bytes),
        TEST(a_bucket_is_listed_like_a_tree),
        TEST(a_long_listing_comes_in_pages),
        TEST(what_is_there_is_told_of_objects_prefixes_and_nothing),
        TEST(an_aborted_client_says_cancelled),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
