// SPDX-License-Identifier: Apache-2.0
// The S3 client and sink against a scripted store: what they send, and what they make of answers
// that are late, wrong, or refusals.
#include "common/cleanup.h"
#include "common/s3_limits.h"
#include "s3_ends.h"

static uint8_t *pattern(size_t n) {
    return tree_pattern(n, 3);
}

// ---- the sink ----

static void objects_are_put_with_their_metadata(void **state) {
    (void)state;
    struct sink *s = s3_new_sink();
    struct s3_listing l;
    struct object_table t;
    struct object_entry e;
    s3_put(s, "meta/one", "one", 3, 1);
    s3_put(s, "meta/empty", "", 0, 2);
    s3_put(s, "meta/a b+\xc3\xa9%", "odd", 3, 3);
    s3_put(s, "meta//double", "double", 6, 4);
    s3_finish(s);
    assert_ok(s3_results[1]);
    assert_ok(s3_results[4]);
    assert_object("meta/one", "one", 3);
    assert_object("meta/empty", "", 0);
    assert_object("meta/a b+\xc3\xa9%", "odd", 3);
    assert_object("meta//double", "double", 6);
    s3_list("b/meta", "", 0, &l, &t);
    object_table_get(&t, s3_find(&t, "one"), &e);
    assert_int_equal(e.mode, 0640);
    assert_int_equal(e.uid, 12);
    assert_int_equal(e.gid, 34);
    assert_true(e.version.mtime_ns == 1234567890123456789);
    s3_unlist(&l, &t);
    enum sink_identical same = SINK_DIFFERS;
    e = s3_file("meta/one", 3);
    assert_ok(sink_compare(s, &e, &same, NULL));
    assert_int_equal(same, SINK_SAME);
    e.version.mtime_ns++;
    assert_ok(sink_compare(s, &e, &same, NULL));
    assert_int_equal(same, SINK_DIFFERS);
    e = s3_file("meta/nothing", 3);
    assert_ok(sink_compare(s, &e, &same, NULL));
    assert_int_equal(same, SINK_ABSENT);
    sink_free(s);
}

static void failures_of_the_store_are_retried(void **state) {
    (void)state;
    struct sink *s = s3_new_sink();
    scripted_store_rules(&scripted, "[{\"method\":\"PUT\",\"status\":503,\"code\":\"SlowDown\","
                                    "\"times\":2},{\"method\":\"PUT\",\"drop\":true},"
                                    "{\"method\":\"PUT\",\"late\":true}]");
    struct s3_store_counts before, after;
    s3_store_counts(tested_store, &before);
    s3_put(s, "retried", "retried", 7, 1);
    s3_finish(s);
    assert_ok(s3_results[1]);
    assert_object("retried", "retried", 7);
    s3_store_counts(tested_store, &after);
    assert_int_equal(after.slow_downs - before.slow_downs, 2);
    assert_true(after.retries - before.retries >= 3);
    sink_free(s);
}

static void a_refusal_names_bucket_key_and_request(void **state) {
    (void)state;
    struct sink *s = s3_new_sink();
    scripted_store_rules(&scripted,
                         "[{\"method\":\"PUT\",\"status\":403,\"code\":\"AccessDenied\"}]");
    s3_put(s, "refused", "x", 1, 1);
    s3_finish(s);
    assert_err(s3_results[1], ERR_DENIED);
    assert_int_equal(s3_failures[1].object_len, strlen("b/refused"));
    assert_memory_equal(s3_failures[1].object, "b/refused", strlen("b/refused"));
    assert_non_null(strstr(s3_failures[1].message, "AccessDenied"));
    assert_non_null(strstr(s3_failures[1].message, "request scripted"));
    sink_free(s);
}

static void a_skewed_clock_and_a_wrong_region_are_corrected(void **state) {
    (void)state;
    struct sink *s = s3_new_sink();
    scripted_store_rules(
        &scripted,
        "[{\"method\":\"PUT\",\"in\":\"skewed\",\"status\":403,\"code\":\"RequestTimeTooSkewed\","
        "\"headers\":{\"Date\":\"Fri, 24 May 2013 00:00:00 GMT\"}},"
        "{\"method\":\"PUT\",\"in\":\"elsewhere\",\"status\":301,\"code\":\"PermanentRedirect\","
        "\"headers\":{\"x-amz-bucket-region\":\"eu-west-7\"}}]");
    s3_put(s, "skewed", "x", 1, 1);
    s3_put(s, "elsewhere", "y", 1, 2);
    s3_finish(s);
    assert_ok(s3_results[1]);
    assert_ok(s3_results[2]);
    struct s3_target t;
    assert_ok(s3_store_target(tested_store, "b", "k", 1, "", &t, NULL));
    assert_string_equal(t.region, "eu-west-7");
    s3_target_deinit(&t);
    sink_free(s);
}

// ---- what is there already ----

static void what_is_there_is_not_replaced(void **state) {
    (void)state;
    struct sink *s = s3_new_careful_sink();
    struct object_entry e = s3_file("there", 4);
    enum sink_identical found;
    scripted_store_settings(&scripted, "{\"conditions\":true}");
    scripted_store_put(&scripted, "there", "old", 3);
    assert_ok(sink_compare(s, &e, &found, NULL));
    assert_int_equal(found, SINK_DIFFERS);
    assert_err(sink_check_replaced(s, &e, found, NULL), ERR_EXISTS);
    s3_put(s, "there", "new!", 4, 1); // it came after the look
    s3_put(s, "not there", "new!", 4, 2);
    s3_finish(s);
    assert_err(s3_results[1], ERR_EXISTS);
    assert_memory_equal(s3_failures[1].object, "b/there", 7);
    assert_true(s3_failures[1].remedy[0] != '\0');
    assert_ok(s3_results[2]);
    assert_object("there", "old", 3);
    assert_object("not there", "new!", 4);
    assert_sent("PUT /b/there", "if-none-match", "*");
    sink_free(s);
    s = s3_new_sink();
    s3_put(s, "there", "new!", 4, 1);
    s3_finish(s);
    assert_ok(s3_results[1]);
    assert_sent("PUT /b/there", "if-none-match", NULL);
    sink_free(s);
}

static void an_own_object_whose_answer_was_lost_is_recognised(void **state) {
    (void)state;
    struct sink *s = s3_new_careful_sink();
    scripted_store_settings(&scripted, "{\"conditions\":true}");
    scripted_store_rules(&scripted, "[{\"method\":\"PUT\",\"in\":\"lost\",\"late\":true}]");
    s3_put(s, "lost", "lost", 4, 1);
    s3_finish(s);
    assert_ok(s3_results[1]);
    assert_object("lost", "lost", 4);
    sink_free(s);
}

static void a_store_without_conditions_is_sent_none(void **state) {
    (void)state;
    s3_ends_new_store(&(struct s3_store_options){0});
    struct sink *s = s3_new_careful_sink();
    scripted_store_rules(&scripted, "[{\"method\":\"PUT\",\"status\":501,"
                                    "\"code\":\"NotImplemented\"}]");
    s3_put(s, "unconditional", "x", 1, 1);
    s3_finish(s);
    assert_ok(s3_results[1]);
    assert_sent("PUT /b/unconditional", "if-none-match", NULL);
    assert_false(s3_store_takes_conditions(tested_store));
    sink_free(s);
}

static void an_upload_does_not_replace_what_came_meanwhile(void **state) {
    (void)state;
    size_t size = S3_CHUNK_LEAST_BYTES + 5;
    AUTO(auto_free) uint8_t *bytes = pattern(size);
    struct object_entry e = s3_file("meanwhile", size);
    struct receipt open, part;
    struct receipt_list list = {&part, 1};
    struct sink *s = s3_new_careful_sink();
    scripted_store_settings(&scripted, "{\"conditions\":true}");
    assert_ok(sink_open_large(s, &e, s3_temp, &open, NULL));
    assert_ok(sink_open_part(s, &e, s3_temp, &open, NULL));
    assert_ok(sink_write(s, 0, bytes, size, NULL));
    assert_ok(sink_close_part(s, true, &part, NULL));
    scripted_store_put(&scripted, "meanwhile", "other", 5);
    for (int i = 0; i < 2; i++) { // found by the look; by the store alone
        assert_err(sink_finish_large(s, &e, s3_temp, &open, &list, NULL, DURABILITY_OBJECT, NULL),
                   ERR_EXISTS);
        assert_object("meanwhile", "other", 5);
        scripted_store_rules(&scripted, "[{\"method\":\"HEAD\",\"status\":404}]");
    }
    assert_sent("POST /b/meanwhile?uploadId", "if-none-match", "*");
    assert_ok(sink_abort_large(s, &e, s3_temp, &open, NULL));
    sink_free(s);
}

// ---- large objects ----

static void large_objects_travel_in_parts_that_are_not_sent_twice(void **state) {
    (void)state;
    size_t size = S3_CHUNK_LEAST_BYTES * 2 + 5, half = S3_CHUNK_LEAST_BYTES;
    AUTO(auto_free) uint8_t *bytes = pattern(size);
    struct sink *s = s3_new_sink();
    struct object_entry e = s3_file("large", size);
    struct receipt open, parts[2];
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, 0, 1, s3_temp);
    assert_ok(sink_open_large(s, &e, s3_temp, &open, NULL));
    assert_ok(sink_open_part(s, &e, s3_temp, &open, NULL));
    assert_ok(sink_write(s, half, bytes + half, MIB, NULL));
    assert_ok(sink_write(s, half + MIB, bytes + half + MIB, size - half - MIB, NULL));
    assert_ok(sink_close_part(s, true, &parts[1], NULL));
    // The first one is written half way, and then again by another.
    assert_ok(sink_open_part(s, &e, s3_temp, &open, NULL));
    assert_ok(sink_write(s, 0, bytes, half, NULL));
    sink_free(s);
    s = s3_new_sink();
    assert_ok(sink_open_part(s, &e, s3_temp, &open, NULL));
    assert_ok(sink_write(s, 0, bytes, half, NULL));
    assert_ok(sink_close_part(s, true, &parts[0], NULL));
    struct receipt again;
    assert_ok(sink_open_part(s, &e, s3_temp, &open, NULL));
    unsigned n_sent = scripted_store_count(&scripted, "PUT /b/large?partNumber=1");
    assert_ok(sink_write(s, 0, bytes, half, NULL));
    assert_ok(sink_close_part(s, true, &again, NULL));
    assert_int_equal(scripted_store_count(&scripted, "PUT /b/large?partNumber=1"), n_sent);
    assert_int_equal(again.len, parts[0].len);
    assert_memory_equal(again.bytes, parts[0].bytes, again.len);
    struct receipt_list list = {parts, 2};
    scripted_store_rules(&scripted, "[{\"method\":\"POST\",\"late\":true}]"); // done, but not told
    assert_ok(sink_finish_large(s, &e, s3_temp, &open, &list, NULL, DURABILITY_OBJECT, NULL));
    assert_object("large", bytes, size);
    assert_ok(
        sink_finish_large(s, &e, s3_temp, &open, &list, NULL, DURABILITY_OBJECT, NULL)); // again
    scripted_store_put(&scripted, "large", "other", 5);
    assert_err(sink_finish_large(s, &e, s3_temp, &open, &list, NULL, DURABILITY_OBJECT, NULL),
               ERR_DEST_CHANGED);
    sink_free(s);
}

static void an_upload_that_lacks_a_part_is_not_completed(void **state) {
    (void)state;
    size_t size = S3_CHUNK_LEAST_BYTES + 5;
    AUTO(auto_free) uint8_t *bytes = pattern(size);
    struct sink *s = s3_new_sink();
    struct object_entry e = s3_file("lacking", size);
    struct receipt open, part;
    struct failure f = {0};
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, 0, 1, s3_temp);
    assert_ok(sink_open_large(s, &e, s3_temp, &open, NULL));
    assert_ok(sink_open_part(s, &e, s3_temp, &open, NULL));
    assert_ok(sink_write(s, 0, bytes, S3_CHUNK_LEAST_BYTES + 3, NULL)); // the rest is dropped
    assert_ok(sink_close_part(s, true, &part, NULL));
    assert_err(sink_finish_large(s, &e, s3_temp, &open, NULL, NULL, DURABILITY_OBJECT, &f),
               ERR_DEST_CHANGED);
    assert_ok(sink_abort_large(s, &e, s3_temp, &open, NULL));
    assert_ok(sink_abort_large(s, &e, s3_temp, &open, NULL)); // not there is success
    assert_err(sink_open_part(s, &e, s3_temp, &open, NULL) == OK
                   ? sink_write(s, 0, bytes, size, NULL)
                   : OK,
               ERR_DEST_CHANGED);
    sink_free(s);
}

static void larger_objects_of_a_batch_are_uploaded_in_parts_too(void **state) {
    (void)state;
    size_t size = S3_WHOLE_MAX_BYTES + MIB;
    AUTO(auto_free) uint8_t *bytes = pattern(size);
    struct sink *s = s3_new_sink();
    s3_put(s, "batch-large", bytes, size, 1);
    s3_finish(s);
    assert_ok(s3_results[1]);
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

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, s3_ends_setup)
    const struct CMUnitTest tests[] = {
        TEST(objects_are_put_with_their_metadata),
        TEST(failures_of_the_store_are_retried),
        TEST(a_refusal_names_bucket_key_and_request),
        TEST(a_skewed_clock_and_a_wrong_region_are_corrected),
        TEST(what_is_there_is_not_replaced),
        TEST(an_own_object_whose_answer_was_lost_is_recognised),
        TEST(a_store_without_conditions_is_sent_none),
        TEST(an_upload_does_not_replace_what_came_meanwhile),
        TEST(large_objects_travel_in_parts_that_are_not_sent_twice),
        TEST(an_upload_that_lacks_a_part_is_not_completed),
        TEST(larger_objects_of_a_batch_are_uploaded_in_parts_too),
        TEST(chunks_of_any_object_are_at_most_ten_thousand),
    };
    return cmocka_run_group_tests(tests, s3_ends_start, s3_ends_stop);
}
