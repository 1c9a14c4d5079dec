// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/test.h"

#include "dataplane/frame.h"

#include <stdlib.h>
#include <string.h>

static void a_header_survives_and_is_little_endian(void **state) {
    const struct frame_header h = {.length = 0x01020304,
                                   .type = FRAME_READ,
                                   .flags = FRAME_FLAG_OPTIONAL,
                                   .request = 0x1122334455667788,
                                   .offset = UINT64_MAX,
                                   .aux = 7};
    uint8_t buf[FRAME_HEADER_BYTES];
    struct frame_header got;

    (void)state;
    frame_header_encode(&h, buf);
    assert_int_equal(buf[0], 4);
    assert_int_equal(buf[4], FRAME_READ);
    assert_int_equal(buf[7], 0x80);
    assert_int_equal(buf[8], 0x88);
    frame_header_decode(buf, &got);
    assert_int_equal(got.length, h.length);
    assert_int_equal(got.type, h.type);
    assert_int_equal(got.flags, h.flags);
    assert_int_equal(got.request, h.request);
    assert_int_equal(got.offset, h.offset);
    assert_int_equal(got.aux, h.aux);
}

static void every_type_has_a_name(void **state) {
    (void)state;
    for (uint16_t t = FRAME_HELLO; t <= FRAME_GOAWAY; t++) {
        assert_string_not_equal(frame_type_name(t), "unknown");
    }
    assert_string_equal(frame_type_name(0), "unknown");
    assert_string_equal(frame_type_name(UINT16_MAX), "unknown");
}

// One decoder over bytes in a buffer of exactly their length, so that the sanitizer sees every
// step beyond it.
typedef enum err decode_fn(const uint8_t *buf, size_t len);

static enum err decode_hello(const uint8_t *buf, size_t len) {
    struct frame_hello f;
    return frame_hello_decode(buf, len, &f);
}
static enum err decode_welcome(const uint8_t *buf, size_t len) {
    struct frame_welcome f;
    return frame_welcome_decode(buf, len, &f);
}
static enum err decode_open_task(const uint8_t *buf, size_t len) {
    struct frame_open_task f;
    return frame_open_task_decode(buf, len, &f);
}
static enum err decode_read(const uint8_t *buf, size_t len) {
    struct frame_read f;
    return frame_read_decode(buf, len, &f);
}
static enum err decode_object(const uint8_t *buf, size_t len) {
    struct object_entry e;
    return frame_object_decode(buf, len, &e);
}
static enum err decode_failure(const uint8_t *buf, size_t len) {
    struct failure f;
    return frame_failure_decode(buf, len, &f);
}
static enum err decode_end(const uint8_t *buf, size_t len) {
    struct frame_object_end f;
    return frame_object_end_decode(buf, len, HASH_XXH3_128, &f);
}

static enum err decode_exact(decode_fn *decode, const uint8_t *bytes, size_t len) {
    uint8_t *exact = malloc(len > 0 ? len : 1);
    enum err e;

    assert_non_null(exact);
    if (len > 0) {
        memcpy(exact, bytes, len);
    }
    e = decode(exact, len);
    free(exact);
    return e;
}

// The whole is good; whatever is cut off is refused; whatever is flipped does no harm.
static void check_hostile(decode_fn *decode, const uint8_t *bytes, size_t len, bool may_grow) {
    uint8_t longer[8192];

    assert_true(len < sizeof(longer));
    assert_ok(decode_exact(decode, bytes, len));
    for (size_t n = 0; n < len; n++) {
        assert_err(decode_exact(decode, bytes, n), ERR_PROTOCOL);
    }
    memcpy(longer, bytes, len);
    longer[len] = 0;
    assert_err(decode_exact(decode, longer, len + 1), may_grow ? OK : ERR_PROTOCOL);
    for (size_t i = 0; i < len; i++) {
        for (int bit = 0; bit < 8; bit++) {
            longer[i] = (uint8_t)(longer[i] ^ (1 << bit));
            enum err e = decode_exact(decode, longer, len);
            assert_true(e == OK || e == ERR_PROTOCOL);
            longer[i] = bytes[i];
        }
    }
}

static void greetings_survive_and_bad_ones_are_refused(void **state) {
    struct frame_hello hello = {.version_min = 1,
                                .version_max = 3,
                                .role = FRAME_ROLE_EXECUTOR,
                                .capabilities = 5,
                                .nonce = {1, 2, 3},
                                .cluster = "cluster",
                                .agent = "agent"};
    struct frame_hello got;
    struct frame_welcome welcome = {
        .version = 2, .capabilities = 5, .nonce = {9}, .cluster = "c", .agent = "a"};
    struct frame_welcome got_welcome;
    uint8_t buf[FRAME_HELLO_MAX];
    size_t len;

    (void)state;
    len = frame_hello_encode(&hello, buf);
    assert_ok(frame_hello_decode(buf, len, &got));
    assert_int_equal(got.version_max, 3);
    assert_string_equal(got.cluster, "cluster");
    assert_string_equal(got.agent, "agent");
    assert_memory_equal(got.nonce, hello.nonce, sizeof(got.nonce));
    check_hostile(decode_hello, buf, len, true);
    len = frame_welcome_encode(&welcome, buf);
    assert_ok(frame_welcome_decode(buf, len, &got_welcome));
    assert_string_equal(got_welcome.agent, "a");
    check_hostile(decode_welcome, buf, len, false);

    memset(hello.agent, 'x', sizeof(hello.agent) - 1); // the longest there is
    memset(hello.cluster, 'y', sizeof(hello.cluster) - 1);
    len = frame_hello_encode(&hello, buf);
    assert_true(len <= sizeof(buf));
    assert_ok(frame_hello_decode(buf, len, &got));
}

static void a_task_survives_and_bad_ones_are_refused(void **state) {
    const uint8_t ticket[] = "ticket", objects[] = "objects", proof[SIGNATURE_BYTES] = {42};
    const struct frame_open_task f = {
        .ticket = ticket, .ticket_len = 6, .objects = objects, .objects_len = 7, .proof = proof};
    struct frame_open_task got;
    uint8_t buf[256];
    size_t len = frame_open_task_encode(&f, buf);

    (void)state;
    assert_int_equal(len, frame_open_task_bytes(&f));
    assert_ok(frame_open_task_decode(buf, len, &got));
    assert_int_equal(got.objects_len, 7);
    assert_memory_equal(got.objects, "objects", 7);
    assert_memory_equal(got.proof, proof, sizeof(proof));
    check_hostile(decode_open_task, buf, len, false);
}

static void a_read_survives_and_bad_ones_are_refused(void **state) {
    const struct frame_read f = {.task_id = 1234567890123, .index = 999, .accept_changed = true};
    struct frame_read got;
    uint8_t buf[FRAME_READ_BYTES];

    (void)state;
    assert_int_equal(frame_read_encode(&f, buf), FRAME_READ_BYTES);
    assert_ok(frame_read_decode(buf, sizeof(buf), &got));
    assert_int_equal(got.task_id, f.task_id);
    assert_int_equal(got.index, 999);
    assert_true(got.accept_changed);
    check_hostile(decode_read, buf, sizeof(buf), false);
}

static void an_object_survives_and_bad_ones_are_refused(void **state) {
    const struct object_entry e = {
        .type = OBJECT_FILE,
        .mode = 04755,
        .uid = 1,
        .gid = 2,
        .device = 3,
        .links = 4,
        .rdev = 5,
        .version = {.size = 6, .mtime_ns = -7, .ctime_ns = 8, .inode = 9},
    };
    struct object_entry got;
    uint8_t buf[FRAME_OBJECT_BYTES];

    (void)state;
    assert_int_equal(frame_object_encode(&e, buf), FRAME_OBJECT_BYTES);
    assert_ok(frame_object_decode(buf, sizeof(buf), &got));
    assert_int_equal(got.mode, 04755);
    assert_int_equal(got.links, 4);
    assert_true(object_version_equal(&got.version, &e.version));
    check_hostile(decode_object, buf, sizeof(buf), false);
}

static void a_failure_survives_even_the_longest(void **state) {
    struct failure f, got;
    uint8_t buf[FRAME_FAILURE_MAX];
    size_t len;

    (void)state;
    failure_errno(&f, 13, "open", "dir/\377name", 9);
    len = frame_failure_encode(&f, buf);
    assert_ok(frame_failure_decode(buf, len, &got));
    assert_err(got.err, ERR_DENIED);
    assert_int_equal(got.errnum, 13);
    assert_string_equal(got.message, f.message);
    assert_string_equal(got.remedy, f.remedy);
    assert_int_equal(got.object_len, 9);
    assert_memory_equal(got.object, "dir/\377name", 9);
    check_hostile(decode_failure, buf, len, false);

    f.object_len = sizeof(f.object);
    memset(f.object, 'o', sizeof(f.object));
    memset(f.operation, 'p', sizeof(f.operation) - 1);
    memset(f.message, 'm', sizeof(f.message) - 1);
    memset(f.remedy, 'r', sizeof(f.remedy) - 1);
    len = frame_failure_encode(&f, buf);
    assert_true(len <= sizeof(buf));
    assert_ok(frame_failure_decode(buf, len, &got));
    assert_int_equal(strlen(got.message), sizeof(f.message) - 1);
}

static void a_failure_that_is_none_is_refused(void **state) {
    const struct failure none = {0};
    uint8_t buf[FRAME_FAILURE_MAX];
    struct failure got;
    size_t len = frame_failure_encode(&none, buf);

    (void)state;
    assert_err(frame_failure_decode(buf, len, &got), ERR_PROTOCOL);
}

static void an_end_survives_with_digests_or_a_failure(void **state) {
    const uint8_t digests[3 * 16] = {1, 2, 3};
    struct frame_object_end end = {.version = {.size = 1, .mtime_ns = 2, .ctime_ns = 3, .inode = 4},
                                   .digests = digests,
                                   .n_digests = 3};
    struct frame_object_end got;
    uint8_t buf[FRAME_FAILURE_MAX + 1];
    size_t len = frame_object_end_encode(&end, HASH_XXH3_128, buf);

    (void)state;
    assert_int_equal(len, FRAME_END_FIXED_BYTES + sizeof(digests));
    assert_ok(frame_object_end_decode(buf, len, HASH_XXH3_128, &got));
    assert_int_equal(got.n_digests, 3);
    assert_memory_equal(got.digests, digests, sizeof(digests));
    assert_err(frame_object_end_decode(buf, len, HASH_SHA256, &got), ERR_PROTOCOL);
    check_hostile(decode_end, buf, len, false);

    failure_set(&end.failure, ERR_SOURCE_CHANGED, "read", "x", 1, NULL);
    len = frame_object_end_encode(&end, HASH_XXH3_128, buf);
    assert_ok(frame_object_end_decode(buf, len, HASH_XXH3_128, &got));
    assert_err(got.failure.err, ERR_SOURCE_CHANGED);
    check_hostile(decode_end, buf, len, false);
}

static void each_part_of_a_proof_counts(void **state) {
    const uint8_t sum[32] = {1}, one[FRAME_NONCE_BYTES] = {1}, two[FRAME_NONCE_BYTES] = {2};
    const struct frame_proof right = {.ticket_sha256 = sum,
                                      .source_nonce = one,
                                      .executor_nonce = two,
                                      .cluster = "c",
                                      .executor = "e",
                                      .source = "s"};
    struct frame_proof others[] = {right, right, right, right, right, right};
    uint8_t text[FRAME_PROOF_TEXT_MAX], other[FRAME_PROOF_TEXT_MAX];
    size_t len = frame_proof_text(&right, text);

    (void)state;
    others[0].ticket_sha256 = two;
    others[1].source_nonce = two;
    others[2].executor_nonce = one;
    others[3].cluster = "d";
    others[4].executor = "es";
    others[5].source = "";
    for (size_t i = 0; i < 6; i++) {
        size_t n = frame_proof_text(&others[i], other);
        assert_false(n == len && memcmp(text, other, len) == 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_survives_and_is_little_endian),
        cmocka_unit_test(every_type_has_a_name),
        cmocka_unit_test(greetings_survive_and_bad_ones_are_refused),
        cmocka_unit_test(a_task_survives_and_bad_ones_are_refused),
        cmocka_unit_test(a_read_survives_and_bad_ones_are_refused),
        cmocka_unit_test(an_object_survives_and_bad_ones_are_refused),
        cmocka_unit_test(a_failure_survives_even_the_longest),
        cmocka_unit_test(a_failure_that_is_none_is_refused),
        cmocka_unit_test(an_end_survives_with_digests_or_a_failure),
        cmocka_unit_test(each_part_of_a_proof_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
