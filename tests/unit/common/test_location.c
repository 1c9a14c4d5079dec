// SPDX-License-Identifier: Apache-2.0
#include "common/cleanup.h"
#include "common/location.h"
#include "common/rpc/location_message.h"
#include "common/utf8.h"
#include "tests/lib/test.h"

#include <stdlib.h>
#include <string.h>

// What @text means, written again, there and back through its message.
static void assert_means(const char *text, const char *expected) {
    struct location l, again;
    struct location_message m;
    struct failure f;
    size_t len = 0;
    enum err err = location_parse(text, strlen(text), &l, &f);
    if (err != OK) {
        fail_msg("%s: %s", text, f.message);
    }
    location_to_message(&l, &m);
    assert_ok(location_from_message(&m.message, &again, &f));
    assert_true(location_equal(&l, &again));
    AUTO(auto_free) char *written = location_text(&again, &len);
    assert_string_equal(written, expected);
    assert_int_equal(len, strlen(expected));
    location_deinit(&l);
    location_deinit(&again);
}

static void what_users_write_is_understood(void **state) {
    (void)state;
    assert_means("hpc:/data/x", "hpc:/data/x");
    assert_means("hpc:/data/x/", "hpc:/data/x/");
    assert_means("hpc/node-7.a:/data", "hpc/node-7.a:/data");
    assert_means("hpc://data//./x/.", "hpc:/data/x/");
    assert_means("hpc:/", "hpc:/");
    assert_means("hpc:/a:b/...", "hpc:/a:b/...");
    assert_means("s3://bucket/key/../x", "s3://bucket/key/../x"); // keys are no paths
    assert_means("s3://bucket", "s3://bucket/");
    assert_means("s3+minio://bucket/dir/", "s3+minio://bucket/dir/");
    assert_means("https://host/x?y=1", "https://host/x?y=1");
}

static void parts_are_told_apart(void **state) {
    struct location l;
    struct failure f;
    (void)state;
    assert_ok(location_parse("hpc/n1:/a/", 10, &l, &f));
    assert_int_equal(l.kind, LOCATION_POSIX);
    assert_string_equal(l.site, "hpc");
    assert_string_equal(l.agent, "n1");
    assert_true(location_ends_with_slash(&l));
    location_deinit(&l);
    assert_ok(location_parse("s3+m://b/k/l", 12, &l, &f));
    assert_int_equal(l.kind, LOCATION_S3);
    assert_string_equal(l.store, "m");
    assert_string_equal(l.bucket, "b");
    assert_string_equal((char *)l.bytes, "k/l");
    location_deinit(&l);
}

static void the_failure_says_what_is_wrong(void **state) {
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"", "names no site"},
        {"/data/x", "names no site"},
        {"data", "names no site"},
        {":/data", "names no site"},
        {"a b:/data", "no name of a site"},
        {"-x:/data", "no name of a site"},
        {"hpc/:/data", "no agent after"},
        {"hpc/a/b:/data", "no name of an agent"},
        {"hpc:data", "not absolute"},
        {"hpc:", "not absolute"},
        {"hpc:/a/../b", "'..'"},
        {"hpc:/..", "'..'"},
        {"s3://", "names no bucket"},
        {"s3:///key", "names no bucket"},
        {"s3+://b/k", "no store"},
        {"s3+a b://b/k", "no name of a store"},
        {"s3://b b/k", "no name of a bucket"},
        {"https://", "names no host"},
        {"https:///x", "names no host"},
        {"https://host/a b", "no blanks"},
        {"http://host/a", "without TLS"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct location l;
        struct failure f;
        assert_err(location_parse(cases[i].text, strlen(cases[i].text), &l, &f), ERR_INVALID);
        if (strstr(f.message, cases[i].reason) == NULL || strstr(f.remedy, "write") == NULL) {
            fail_msg("%s: %s; %s", cases[i].text, f.message, f.remedy);
        }
    }
}

static void a_nul_is_refused(void **state) {
    struct location l;
    struct failure f;
    (void)state;
    assert_err(location_parse("hpc:/a\0b", 8, &l, &f), ERR_INVALID);
    assert_err(location_parse("s3://b/a\0b", 10, &l, &f), ERR_INVALID);
    assert_err(location_parse("s3://b\0b/k", 10, &l, &f), ERR_INVALID);
    assert_err(location_from_message(NULL, &l, &f), ERR_INVALID);
}

static void parts_are_not_longer_than_a_text_may_be(void **state) {
    AUTO(auto_free) char *bytes = malloc(LOCATION_MAX_BYTES + 1);
    struct location l;
    struct failure f;
    (void)state;
    memset(bytes, 'a', LOCATION_MAX_BYTES + 1);
    assert_err(location_s3("", "b", bytes, LOCATION_MAX_BYTES + 1, &l, &f), ERR_INVALID);
    assert_ok(location_s3("", "b", bytes, LOCATION_MAX_BYTES, &l, &f));
    location_deinit(&l);
    bytes[0] = '/';
    assert_err(location_posix("x", "", bytes, LOCATION_MAX_BYTES + 1, &l, &f), ERR_INVALID);
    memcpy(bytes, "https://", 8);
    assert_err(location_https(bytes, LOCATION_MAX_BYTES + 1, &l, &f), ERR_INVALID);
    assert_string_equal(f.message, "it is too long");
}

static void names_that_are_no_text_stay_as_they_are(void **state) {
    struct location l;
    struct failure f;
    size_t len = 0;
    (void)state;
    assert_ok(location_parse("hpc:/\xff\n\\", 8, &l, &f));
    AUTO(auto_free) char *text = location_text(&l, &len);
    assert_memory_equal(text, "hpc:/\xff\n\\", 8);
    AUTO(auto_free) char *printable = location_printable(&l);
    assert_string_equal(printable, "hpc:/\\xff\\x0a\\\\");
    assert_true(utf8_is_valid(printable, strlen(printable)));
    location_deinit(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_users_write_is_understood),
        cmocka_unit_test(parts_are_told_apart),
        cmocka_unit_test(the_failure_says_what_is_wrong),
        cmocka_unit_test(a_nul_is_refused),
        cmocka_unit_test(parts_are_not_longer_than_a_text_may_be),
        cmocka_unit_test(names_that_are_no_text_stay_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
