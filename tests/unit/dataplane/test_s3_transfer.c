// SPDX-License-Identifier: Apache-2.0
// Batches within one store: it copies what it can as it was asked to, the rest is streamed.
#include "common/cleanup.h"
#include "dataplane/path_choice.h"
#include "dataplane/transfer.h"
#include "s3_ends.h"

#include <stdlib.h>
#include <string.h>

enum { BUFFER_BYTES = 64 * 1024, N = 3 };

static struct transfer_object results[N];
static struct transfer_control control;

static struct sink *new_sink(const char *encryption, bool never_replaces) {
    struct sink_s3_options o = {.take_client = s3_new_client(),
                                .root = (const uint8_t *)"b/to",
                                .root_len = 4,
                                .encryption = encryption,
                                .never_replaces = never_replaces};
    struct sink *s;
    assert_ok(sink_s3_new(&o, &s, NULL));
    return s;
}

// What is below b/FROM, into the sink.
static void transfer(const char *from, struct sink *sink) {
    struct s3_listing l;
    struct object_table t;
    struct source *source;
    struct transfer_times times = {0};
    char root[32];
    AUTO(auto_free) void *buffer = aligned_alloc(4096, BUFFER_BYTES);
    snprintf(root, sizeof root, "b/%s", from);
    s3_list(root, "", UINT64_MAX, &l, &t);
    assert_int_equal(t.count, N);
    s3_source(root, &t, &source);
    memset(results, 0, sizeof results);
    memset(&control, 0, sizeof control);
    struct transfer_options o = {.source = source,
                                 .sink = sink,
                                 .table = &t,
                                 .digest = HASH_XXH3_128,
                                 .durability = DURABILITY_OBJECT,
                                 .flow = "01ARZ3NDEKTSV4RRFFQ69G5FAV",
                                 .major = 1,
                                 .minor = 1,
                                 .buffer = buffer,
                                 .buffer_bytes = BUFFER_BYTES,
                                 .control = &control,
                                 .times = &times};
    assert_ok(transfer_batch(&o, results, NULL));
    source_free(source);
    s3_unlist(&l, &t);
}

static void assert_delivered(uint64_t bytes_streamed) {
    for (int i = 0; i < N; i++) {
        assert_int_equal(results[i].outcome, TRANSFER_DELIVERED);
    }
    assert_int_equal(atomic_load(&control.bytes), bytes_streamed);
    assert_object("to/a", "of a", 4);
    assert_object("to/b", "of bb", 5);
    assert_object("to/c", "", 0);
}

static int put_three(void **state) {
    int e = s3_ends_setup(state);
    struct sink *s = s3_new_sink();
    struct object_entry gone[] = {s3_file("to/a", 0), s3_file("to/b", 0), s3_file("to/c", 0)};
    for (size_t i = 0; i < ARRAY_LEN(gone); i++) {
        assert_ok(sink_remove(s, &gone[i], NULL));
    }
    sink_free(s);
    scripted_store_put(&scripted, "three/a", "of a", 4);
    scripted_store_put(&scripted, "three/b", "of bb", 5);
    scripted_store_put(&scripted, "three/c", "", 0);
    return e;
}

static void what_the_store_copies_is_not_streamed(void **state) {
    (void)state;
    struct sink *s = new_sink("aws:kms", false);
    transfer("three", s);
    assert_delivered(0);
    assert_string_equal(control.no_path, PATH_WITHIN_STORE);
    assert_sent("PUT /b/to/b ", "x-amz-copy-source", "/b/three/b");
    sink_free(s);
}

static void what_the_store_refuses_to_copy_is_streamed(void **state) {
    (void)state;
    struct sink *s = new_sink(NULL, false);
    scripted_store_rules(&scripted, "[{\"method\":\"PUT\",\"in\":\"/to/b\",\"status\":501,"
                                    "\"code\":\"NotImplemented\"}]");
    transfer("three", s);
    assert_delivered(5);
    assert_sent("PUT /b/to/b ", "x-amz-copy-source", NULL); // the last one
    assert_sent("PUT /b/to/a ", "x-amz-copy-source", "/b/three/a");
    for (int i = 0; i < N; i++) {
        assert_int_equal(results[i].has_digest, results[i].bytes == 5);
    }
    sink_free(s);
}

static void what_the_store_leaves_plain_is_streamed(void **state) {
    (void)state;
    for (int never_replaces = 0; never_replaces < 2; never_replaces++) {
        assert_int_equal(put_three(state), 0);
        scripted_store_settings(&scripted, "{\"copies_plain\":true,\"conditions\":true}");
        struct sink *s = new_sink("aws:kms", never_replaces);
        transfer("three", s);
        assert_delivered(9);
        assert_null(control.no_path);
        assert_sent("PUT /b/to/b ", "x-amz-copy-source", NULL);
        assert_sent("PUT /b/to/b ", "x-amz-server-side-encryption", "aws:kms");
        sink_free(s);
    }
}

// It is tried once as a copy and once as a stream, and then told.
static void what_can_be_neither_copied_nor_streamed_fails_alone(void **state) {
    (void)state;
    struct sink *s = new_sink(NULL, false);
    s3_put(s, "before", "x", 1, 1); // which checksums it takes is known then
    s3_finish(s);
    scripted_store_rules(&scripted, "[{\"method\":\"PUT\",\"in\":\"/to/b\",\"times\":9,"
                                    "\"status\":501,\"code\":\"NotImplemented\"}]");
    unsigned before = scripted_store_count(&scripted, "PUT /b/to/b ");
    transfer("three", s);
    assert_int_equal(scripted_store_count(&scripted, "PUT /b/to/b ") - before, 2);
    unsigned n_failed = 0;
    for (int i = 0; i < N; i++) {
        bool failed = results[i].outcome == TRANSFER_FAILED;
        n_failed += failed;
        assert_true(failed || results[i].outcome == TRANSFER_DELIVERED);
        assert_true(!failed || results[i].failure.err == ERR_UNIMPLEMENTED);
    }
    assert_int_equal(n_failed, 1);
    sink_free(s);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, put_three)
    const struct CMUnitTest tests[] = {
        TEST(what_the_store_copies_is_not_streamed),
        TEST(what_the_store_refuses_to_copy_is_streamed),
        TEST(what_the_store_leaves_plain_is_streamed),
        TEST(what_can_be_neither_copied_nor_streamed_fails_alone),
    };
    return cmocka_run_group_tests(tests, s3_ends_start, s3_ends_stop);
}
