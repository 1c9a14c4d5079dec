// SPDX-License-Identifier: Apache-2.0
// Objects that the store encrypts: their ETags are its own.
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

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, s3_ends_setup)
    const struct CMUnitTest tests[] = {
        TEST(an_etag_of_encrypted_bytes_does_not_disprove_an_upload),
        TEST(an_etag_of_encrypted_bytes_does_not_prove_an_upload),
    };
    return cmocka_run_group_tests(tests, s3_ends_start, s3_ends_stop);
}
