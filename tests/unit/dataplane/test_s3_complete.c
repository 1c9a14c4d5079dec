// SPDX-License-Identifier: Apache-2.0
// WRAP: malloc calloc realloc aligned_alloc strdup strndup asprintf
// TIMEOUT: 240
// What counts as stored: answers with another checksum, ends of uploads whose answers are lost,
// lies or find something else, and each allocation on the way failing once.
#include "common/cleanup.h"
#include "common/s3_limits.h"
#include "s3_ends.h"
#include "tests/lib/allocation.h"

#include <stdlib.h>
#include <string.h>

#define SIZE ((size_t)(S3_CHUNK_LEAST_BYTES + 5))

static uint8_t *bytes, *others; // SIZE of them

static int start(void **state) {
    bytes = tree_pattern(SIZE, 7);
    others = tree_pattern(SIZE, 8);
    return s3_ends_start(state);
}

static int stop(void **state) {
    free(bytes);
    free(others);
    return s3_ends_stop(state);
}

static void choose_crc(void) {
    scripted_store_settings(&scripted, "{\"checksums\":[\"crc64nvme\"]}");
    s3_ends_new_store(&(struct s3_store_options){.checksum = "crc64nvme"});
}

// Both parts of an object of SIZE.
static void upload(struct sink *s, const struct object_entry *e, struct receipt *ret_open,
                   struct receipt *ret_part) {
    assert_ok(sink_open_large(s, e, s3_temp, ret_open, NULL));
    assert_ok(sink_open_part(s, e, s3_temp, ret_open, NULL));
    assert_ok(sink_write(s, 0, bytes, SIZE, NULL));
    assert_ok(sink_close_part(s, true, ret_part, NULL));
}

static enum err complete(struct sink *s, const struct object_entry *e, const struct receipt *open,
                         struct receipt *part, struct failure *ret_failure) {
    struct receipt_list list = {part, 1};
    return sink_finish_large(s, e, s3_temp, open, &list, NULL, DURABILITY_OBJECT, ret_failure);
}

// ---- answers ----

static void an_object_with_another_checksum_is_sent_again(void **state) {
    (void)state;
    choose_crc();
    struct sink *s = s3_new_sink();
    scripted_store_rules(&scripted, "[{\"method\":\"PUT\",\"status\":200,\"headers\":"
                                    "{\"x-amz-checksum-crc64nvme\":\"AAAAAAAAAAA=\"}}]");
    s3_put(s, "lied", "some bytes", 10, 1);
    s3_finish(s);
    assert_ok(s3_results[1]);
    assert_int_equal(scripted_store_count(&scripted, "PUT /b/lied"), 2);
    assert_object("lied", "some bytes", 10);
    sink_free(s);
}

static void a_part_with_another_checksum_is_sent_again(void **state) {
    (void)state;
    choose_crc();
    struct object_entry e = s3_file("lied-part", SIZE);
    struct receipt open, part;
    struct sink *s = s3_new_sink();
    scripted_store_rules(
        &scripted, "[{\"method\":\"PUT\",\"in\":\"partNumber=1&\",\"status\":200,\"headers\":"
                   "{\"x-amz-checksum-crc64nvme\":\"AAAAAAAAAAA=\",\"ETag\":\"\\\"x\\\"\"}}]");
    upload(s, &e, &open, &part);
    assert_int_equal(scripted_store_count(&scripted, "PUT /b/lied-part?partNumber=1&"), 2);
    assert_int_equal(scripted_store_count(&scripted, "PUT /b/lied-part?partNumber=2&"), 1);
    assert_ok(complete(s, &e, &open, &part, NULL));
    assert_object("lied-part", bytes, SIZE);
    sink_free(s);
}

// ---- the end of an upload ----

static void an_error_in_a_200_is_none(void **state) {
    (void)state;
    struct object_entry e = s3_file("hidden", SIZE);
    struct receipt open, part;
    struct sink *s = s3_new_sink();
    upload(s, &e, &open, &part);
    // The store has done it, and says that it has not: the next attempt finds no upload.
    scripted_store_rules(&scripted, "[{\"method\":\"POST\",\"hidden\":\"InternalError\"}]");
    assert_ok(complete(s, &e, &open, &part, NULL));
    assert_int_equal(scripted_store_count(&scripted, "POST /b/hidden?uploadId"), 2);
    assert_object("hidden", bytes, SIZE);
    sink_free(s);
}

static void an_upload_that_is_gone_is_no_object(void **state) {
    (void)state;
    struct object_entry e = s3_file("gone", SIZE);
    struct receipt open, part;
    struct failure f = {0};
    struct sink *s = s3_new_sink();
    upload(s, &e, &open, &part);
    const char *gone = "[{\"method\":\"POST\",\"status\":404,\"code\":\"NoSuchUpload\"}]";
    scripted_store_rules(&scripted, gone);
    assert_err(complete(s, &e, &open, &part, &f), ERR_DEST_CHANGED); // nothing is there
    assert_err(f.err, ERR_DEST_CHANGED);
    scripted_store_put(&scripted, "gone", others, SIZE - 1);
    scripted_store_rules(&scripted, gone);
    assert_err(complete(s, &e, &open, &part, NULL), ERR_DEST_CHANGED); // of another size
    assert_ok(sink_abort_large(s, &e, s3_temp, &open, NULL));
    sink_free(s);
}

// Another upload's bytes in its place, of the same size: the ETag tells, or the checksum.
static void another_object_is_not_taken_for_the_upload(void **state) {
    (void)state;
    for (int has_crc = 0; has_crc < 2; has_crc++) {
        if (has_crc) {
            choose_crc();
        }
        struct object_entry e = s3_file("taken", SIZE);
        struct receipt open, part, their_open, their_part;
        struct sink *s = s3_new_sink();
        upload(s, &e, &open, &part);
        uint8_t *ours = bytes;
        bytes = others;
        upload(s, &e, &their_open, &their_part);
        bytes = ours;
        assert_ok(complete(s, &e, &their_open, &their_part, NULL));
        scripted_store_rules(&scripted,
                             "[{\"method\":\"POST\",\"status\":404,\"code\":\"NoSuchUpload\"}]");
        assert_err(complete(s, &e, &open, &part, NULL), ERR_DEST_CHANGED);
        assert_object("taken", others, SIZE);
        assert_ok(sink_abort_large(s, &e, s3_temp, &open, NULL));
        sink_free(s);
    }
}

// With "never replace" the store refuses an end that it has done itself: proven by what is there.
static void an_own_end_whose_answer_was_lost_is_recognised(void **state) {
    (void)state;
    struct object_entry e = s3_file("own-end", SIZE);
    struct receipt open, part;
    scripted_store_settings(&scripted, "{\"conditions\":true}");
    struct sink *s = s3_new_careful_sink();
    upload(s, &e, &open, &part);
    scripted_store_rules(&scripted, "[{\"method\":\"POST\",\"late\":true},"
                                    "{\"method\":\"POST\",\"status\":412,"
                                    "\"code\":\"PreconditionFailed\"}]");
    assert_ok(complete(s, &e, &open, &part, NULL));
    assert_object("own-end", bytes, SIZE);
    sink_free(s);
}

// ---- no memory ----

static struct sink *tortured;
static int n_tortured;

static void complete_tortured(void) {
    char path[32];
    int fail_at = atomic_exchange(&allocation.fail_at, 0);
    snprintf(path, sizeof path, "tortured-%d", n_tortured++);
    struct object_entry e = s3_file(path, SIZE);
    struct receipt open, part;
    struct failure f = {0};
    upload(tortured, &e, &open, &part);
    atomic_store(&allocation.calls, 0);
    atomic_store(&allocation.fail_at, fail_at);
    enum err err = complete(tortured, &e, &open, &part, &f);
    atomic_store(&allocation.fail_at, 0);
    int n_calls = atomic_load(&allocation.calls);
    if (err != OK) {
        assert_err(err, ERR_NO_MEMORY);
        assert_err(f.err, ERR_NO_MEMORY);
    } else {
        assert_object(path, bytes, SIZE);
    }
    assert_ok(complete(tortured, &e, &open, &part, NULL)); // whatever became of the first attempt
    assert_object(path, bytes, SIZE);
    struct object_entry gone = e;
    assert_ok(sink_remove(tortured, &gone, NULL));
    atomic_store(&allocation.calls, n_calls);
}

static void an_end_without_memory_is_told_and_can_be_repeated(void **state) {
    (void)state;
    tortured = s3_new_sink();
    assert_true(allocation_torture(complete_tortured) > 10);
    sink_free(tortured);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, s3_ends_setup)
    const struct CMUnitTest tests[] = {
        TEST(an_object_with_another_checksum_is_sent_again),
        TEST(a_part_with_another_checksum_is_sent_again),
        TEST(an_error_in_a_200_is_none),
        TEST(an_upload_that_is_gone_is_no_object),
        TEST(another_object_is_not_taken_for_the_upload),
        TEST(an_own_end_whose_answer_was_lost_is_recognised),
        TEST(an_end_without_memory_is_told_and_can_be_repeated),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
