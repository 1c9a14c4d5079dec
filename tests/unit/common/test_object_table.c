// SPDX-License-Identifier: Apache-2.0
#include "common/bytes.h"
#include "common/object_table.h"
#include "tests/lib/test.h"

#include <stdlib.h>
#include <string.h>

static struct object_entry entry(const char *path, const char *target) {
    return (struct object_entry){
        .id = 7,
        .type = target != NULL ? OBJECT_SYMLINK : OBJECT_FILE,
        .mode = 0100644,
        .uid = 1000,
        .gid = 100,
        .device = 0x801,
        .links = 2,
        .rdev = 3,
        .version = {.size = 1ULL << 40, .mtime_ns = -1, .ctime_ns = 5, .inode = 99},
        .path = (const uint8_t *)path,
        .path_len = strlen(path),
        .target = (const uint8_t *)target,
        .target_len = target != NULL ? strlen(target) : 0,
    };
}

static void what_is_added_is_read_again(void **state) {
    struct object_table_builder b;
    struct object_table t;
    struct object_entry got, a = entry("dir/\xff\n", NULL), s = entry("link", "../x"),
                             root = entry("", NULL);
    const uint8_t *bytes;
    size_t len;
    (void)state;
    object_table_init(&b);
    assert_ok(object_table_add(&b, &a));
    assert_ok(object_table_add(&b, &s));
    assert_ok(object_table_add(&b, &root));
    assert_ok(object_table_bytes(&b, &bytes, &len));
    assert_ok(object_table_open(bytes, len, &t));
    assert_int_equal(t.count, 3);
    object_table_get(&t, 0, &got);
    assert_int_equal(got.mode, 0644); // permission bits only
    assert_int_equal(got.uid, 1000);
    assert_int_equal(got.links, 2);
    assert_int_equal(got.rdev, 3);
    assert_int_equal(got.device, 0x801);
    assert_true(object_version_equal(&got.version, &a.version));
    assert_int_equal(got.path_len, a.path_len);
    assert_memory_equal(got.path, a.path, a.path_len);
    object_table_get(&t, 1, &got);
    assert_int_equal(got.type, OBJECT_SYMLINK);
    assert_memory_equal(got.target, "../x", 4);
    object_table_get(&t, 2, &got);
    assert_int_equal(got.path_len, 0);
    object_table_close(&t);
    object_table_deinit(&b);
}

static void an_empty_table_is_valid(void **state) {
    struct object_table_builder b;
    struct object_table t;
    const uint8_t *bytes;
    size_t len;
    (void)state;
    object_table_init(&b);
    assert_ok(object_table_bytes(&b, &bytes, &len));
    assert_ok(object_table_open(bytes, len, &t));
    assert_int_equal(t.count, 0);
    object_table_close(&t);
    object_table_deinit(&b);
}

static void paths_that_lead_elsewhere_are_refused(void **state) {
    static const struct {
        const char *path;
        size_t len;
        bool valid;
    } cases[] = {
        {"a", 1, true},     {"a/b", 3, true},     {"...", 3, true},   {".a/..b", 6, true},
        {"/a", 2, false},   {"a/", 2, false},     {"a//b", 4, false}, {".", 1, false},
        {"..", 2, false},   {"a/../b", 6, false}, {"a/.", 3, false},  {"a/..", 4, false},
        {"../a", 4, false}, {"a\0b", 3, false},   {"/", 1, false},    {"a/./b", 5, false},
    };
    struct object_table_builder b;
    (void)state;
    object_table_init(&b);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct object_entry e = entry("", NULL);
        e.path = (const uint8_t *)cases[i].path;
        e.path_len = cases[i].len;
        if (object_path_is_valid(e.path, e.path_len) != cases[i].valid) {
            fail_msg("%s", cases[i].path);
        }
        assert_err(object_table_add(&b, &e), cases[i].valid ? OK : ERR_INVALID);
    }
    object_table_deinit(&b);
}

static void the_limits_hold(void **state) {
    struct object_table_builder b;
    struct object_entry e = entry("x", NULL);
    static uint8_t long_path[OBJECT_PATH_MAX];
    (void)state;
    object_table_init(&b);
    for (int i = 0; i < OBJECT_TABLE_MAX_OBJECTS; i++) {
        assert_ok(object_table_add(&b, &e));
    }
    assert_err(object_table_add(&b, &e), ERR_FULL);
    object_table_reset(&b);
    memset(long_path, 'p', sizeof long_path);
    e.path = long_path;
    e.path_len = sizeof long_path;
    for (int i = 0; i < 3; i++) {
        assert_ok(object_table_add(&b, &e));
    }
    assert_err(object_table_add(&b, &e), ERR_FULL);
    assert_int_equal(b.count, 3);
    object_table_deinit(&b);
}

// A table of two entries in memory of just its size, so that a sanitizer sees a read past it.
static uint8_t *make(size_t *ret_len) {
    struct object_table_builder b;
    struct object_entry a = entry("dir/name", NULL), s = entry("l", "target");
    const uint8_t *bytes;
    object_table_init(&b);
    assert_ok(object_table_add(&b, &a));
    assert_ok(object_table_add(&b, &s));
    assert_ok(object_table_bytes(&b, &bytes, ret_len));
    uint8_t *copy = malloc(*ret_len);
    memcpy(copy, bytes, *ret_len);
    object_table_deinit(&b);
    return copy;
}

static void read_all(const void *bytes, size_t len) {
    struct object_table t;
    if (object_table_open(bytes, len, &t) == OK) {
        for (uint32_t i = 0; i < t.count; i++) {
            struct object_entry e;
            object_table_get(&t, i, &e);
            assert_true(object_path_is_valid(e.path, e.path_len));
            assert_true(e.target_len == 0 || memchr(e.target, 0, e.target_len) == NULL);
        }
        object_table_close(&t);
    }
}

static void truncated_tables_are_refused(void **state) {
    size_t len;
    uint8_t *whole = make(&len);
    struct object_table t;
    (void)state;
    for (size_t n = 0; n < len; n++) {
        uint8_t *part = malloc(n > 0 ? n : 1);
        memcpy(part, whole, n);
        assert_err(object_table_open(part, n, &t), ERR_INVALID);
        free(part);
    }
    uint8_t *longer = calloc(1, len + 1);
    memcpy(longer, whole, len);
    assert_err(object_table_open(longer, len + 1, &t), ERR_INVALID);
    free(longer);
    free(whole);
}

static void changed_bytes_never_lead_out_of_the_table(void **state) {
    size_t len;
    uint8_t *bytes = make(&len);
    static const uint8_t values[] = {0, 1, 0x2e, 0x2f, 0x7f, 0x80, 0xff};
    (void)state;
    for (size_t i = 0; i < len; i++) {
        uint8_t saved = bytes[i];
        for (size_t k = 0; k < sizeof values; k++) {
            bytes[i] = values[k];
            read_all(bytes, len);
        }
        bytes[i] = saved;
    }
    srand(11);
    for (int round = 0; round < 20000; round++) {
        uint8_t *copy = malloc(len);
        memcpy(copy, bytes, len);
        for (int k = 0; k < 3; k++) {
            copy[(size_t)rand() % len] = (uint8_t)rand();
        }
        read_all(copy, len);
        free(copy);
    }
    free(bytes);
}

static void a_count_that_lies_is_refused(void **state) {
    size_t len;
    uint8_t *bytes = make(&len);
    struct object_table t;
    (void)state;
    static const uint32_t counts[] = {0, 1, 3, 1001, 0xffffffff};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        put_u32(bytes + 4, counts[i]);
        assert_err(object_table_open(bytes, len, &t), ERR_INVALID);
    }
    put_u32(bytes + 4, 2);
    assert_ok(object_table_open(bytes, len, &t));
    object_table_close(&t);
    put_u32(bytes + 8 + 4 + 72, 0xffffffff); // the first path's length
    assert_err(object_table_open(bytes, len, &t), ERR_INVALID);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_added_is_read_again),
        cmocka_unit_test(an_empty_table_is_valid),
        cmocka_unit_test(paths_that_lead_elsewhere_are_refused),
        cmocka_unit_test(the_limits_hold),
        cmocka_unit_test(truncated_tables_are_refused),
        cmocka_unit_test(changed_bytes_never_lead_out_of_the_table),
        cmocka_unit_test(a_count_that_lies_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
