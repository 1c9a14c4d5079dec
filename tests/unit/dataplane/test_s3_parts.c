// SPDX-License-Identifier: Apache-2.0
// The pure parts of the S3 client: rate, XML, credentials, addresses, keys, metadata.
#include "common/cleanup.h"
#include "dataplane/s3_object.h"
#include "dataplane/s3_rate.h"
#include "dataplane/s3_upload.h"
#include "dataplane/s3_xml.h"
#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND ((uint64_t)1000000)

// Asks for requests as fast as they are allowed during a second; how many there were.
static unsigned requests_in_a_second(struct s3_rate *r, uint64_t *now) {
    uint64_t end = *now + SECOND;
    unsigned n = 0;
    while (*now < end) {
        uint64_t wait = s3_rate_take_us(r, *now);
        n += wait == 0;
        *now += wait > 0 ? wait : 1000; // a request a millisecond at most
    }
    return n;
}

static void a_store_that_is_busy_is_asked_less_and_then_more_again(void **state) {
    (void)state;
    struct s3_rate r = {0};
    uint64_t now = 10 * SECOND;
    unsigned free_n = requests_in_a_second(&r, &now);
    assert_true(free_n > 900);
    assert_true(s3_rate_slow_down(&r, now));
    assert_false(s3_rate_slow_down(&r, now + 1)); // another answer of the same burst
    unsigned slow_n = requests_in_a_second(&r, &now);
    assert_true(slow_n < free_n * 8 / 10 && slow_n > free_n / 2);
    for (int i = 0; i < 5; i++) {
        assert_true(s3_rate_slow_down(&r, now));
        now += SECOND;
    }
    unsigned slowest_n = requests_in_a_second(&r, &now);
    assert_true(slowest_n < slow_n / 2 && slowest_n > 0);
    bool is_free = false;
    for (int i = 0; i < 1000 && !is_free; i++) {
        now += SECOND / 4;
        is_free = s3_rate_served(&r, now);
    }
    assert_true(is_free);
    assert_true(requests_in_a_second(&r, &now) > 900);
}

static void the_rate_never_falls_to_nothing(void **state) {
    (void)state;
    struct s3_rate r = {0};
    uint64_t now = SECOND;
    for (int i = 0; i < 100; i++) {
        (void)s3_rate_take_us(&r, now);
        (void)s3_rate_slow_down(&r, now += SECOND);
    }
    assert_true(r.per_s >= 1.0);
}

static enum err count(void *user, const char *path, const char *text, size_t len) {
    (void)path;
    (void)text;
    (void)len;
    ++*(unsigned *)user;
    return OK;
}

static enum err parse(const char *text, unsigned *n) {
    *n = 0;
    return s3_xml_parse(text, strlen(text), count, n);
}

static void hostile_xml_is_refused(void **state) {
    (void)state;
    unsigned n;
    assert_ok(parse("<a><b>x</b><b/></a>", &n));
    assert_int_equal(n, 3);
    assert_err(parse("<a><b></a>", &n), ERR_PROTOCOL);
    assert_err(parse("", &n), ERR_PROTOCOL);
    assert_err(parse("<!DOCTYPE a [<!ENTITY e \"x\">]><a>&e;</a>", &n), ERR_PROTOCOL);
    assert_err(parse("<a><a><a><a><a><a><a><a><a/></a></a></a></a></a></a></a></a>", &n),
               ERR_PROTOCOL);
    AUTO(auto_free) char *huge = malloc(S3_XML_MAX_TEXT + 64);
    assert_non_null(huge);
    memcpy(huge, "<a>", 3);
    memset(huge + 3, 'x', S3_XML_MAX_TEXT + 1);
    memcpy(huge + 3 + S3_XML_MAX_TEXT + 1, "</a>", 5);
    assert_err(parse(huge, &n), ERR_PROTOCOL);
}

static void errors_and_times_are_read(void **state) {
    (void)state;
    struct s3_error_text e;
    static const char text[] = "<Error><Code>NoSuchKey</Code><Message>gone</Message>"
                               "<RequestId>r1</RequestId></Error>";
    assert_true(s3_xml_error(text, sizeof text - 1, &e));
    assert_string_equal(e.code, "NoSuchKey");
    assert_string_equal(e.request_id, "r1");
    assert_false(s3_xml_error("<Ok/>", 5, &e));
    assert_false(s3_xml_error("", 0, &e));
    int64_t ns;
    assert_ok(s3_time_parse("2009-10-12T17:50:30.250Z", &ns));
    assert_true(ns == 1255369830250000000);
    assert_err(s3_time_parse("yesterday", &ns), ERR_PROTOCOL);
    char url[] = "a%20b+c%2B%zz%4";
    assert_int_equal(s3_url_decode(url, strlen(url)), 11);
    assert_string_equal(url, "a b c+%zz%4");
}

// ---- credentials ----

static void write_file(const char *path, const char *text) {
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
}

static int forget_environment(void **state) {
    static const char *const names[] = {
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
        "AWS_REGION",        "AWS_DEFAULT_REGION",    "AWS_ENDPOINT_URL",  "AWS_ENDPOINT_URL_S3",
        "AWS_CA_BUNDLE"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        unsetenv(names[i]);
    }
    setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials", 1);
    setenv("AWS_CONFIG_FILE", "/nonexistent/config", 1);
    return 0;
}

static void credentials_come_from_the_configuration_the_environment_or_files(void **state) {
    (void)state;
    char path[] = "/tmp/sluice-credentials-XXXXXX";
    struct s3_credentials c;
    struct failure f = {0};
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    write_file(path, "[default]\naws_access_key_id = D\naws_secret_access_key=DS\n"
                     "[profile p]\n# no\n aws_access_key_id=P\naws_secret_access_key = PS \n"
                     "aws_session_token=PT\nregion = eu-x-1\n");
    struct s3_credentials_options none = {0}, given = {.access_key = "G", .secret_key = "GS"};
    assert_err(s3_credentials_find(&none, &c, &f), ERR_UNAUTHENTICATED);
    assert_true(f.remedy[0] != '\0');
    setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1);
    assert_ok(s3_credentials_find(&none, &c, NULL));
    assert_string_equal(c.access_key, "D");
    setenv("AWS_PROFILE", "p", 1);
    assert_ok(s3_credentials_find(&none, &c, NULL));
    assert_string_equal(c.secret_key, "PS");
    assert_string_equal(c.session_token, "PT");
    setenv("AWS_ACCESS_KEY_ID", "E", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "ES", 1);
    assert_ok(s3_credentials_find(&none, &c, NULL));
    assert_string_equal(c.access_key, "E");
    assert_ok(s3_credentials_find(&given, &c, NULL));
    assert_string_equal(c.access_key, "G");
    given.is_anonymous = true;
    assert_ok(s3_credentials_find(&given, &c, NULL));
    assert_true(c.is_anonymous);
    setenv("AWS_CONFIG_FILE", path, 1);
    char region[32];
    assert_ok(s3_profile_setting("p", "region", region, sizeof region));
    assert_string_equal(region, "eu-x-1");
    assert_err(s3_profile_setting("q", "region", region, sizeof region), ERR_NOT_FOUND);
    unlink(path);
}

// ---- addresses ----

static void assert_address(const char *endpoint, enum s3_style style, const char *bucket,
                           const char *url, const char *host) {
    struct s3_store *s;
    struct s3_target t;
    struct s3_store_options o = {
        .name = "x", .endpoint = endpoint, .style = style, .credentials = {.is_anonymous = true}};
    assert_ok(s3_store_new(&o, &s, NULL));
    assert_ok(s3_store_target(s, bucket, "k /\xc3\xa9", 5, "a=", &t, NULL));
    assert_string_equal(t.url, url);
    assert_string_equal(t.host, host);
    s3_target_deinit(&t);
    s3_store_free(s);
}

static void buckets_are_addressed_by_path_or_by_host(void **state) {
    (void)state;
    assert_address("http://h:9/", S3_STYLE_AUTO, "b", "http://h:9/b/k%20/%C3%A9?a=", "h:9");
    assert_address("http://h:9", S3_STYLE_VIRTUAL, "b", "http://b.h:9/k%20/%C3%A9?a=", "b.h:9");
    assert_address("https://h", S3_STYLE_VIRTUAL, "b.c", "https://h/b.c/k%20/%C3%A9?a=", "h");
    assert_address(NULL, S3_STYLE_AUTO, "b", "https://b.s3.us-east-1.amazonaws.com/k%20/%C3%A9?a=",
                   "b.s3.us-east-1.amazonaws.com");
    struct s3_store *s;
    struct s3_store_options bad = {
        .name = "x", .endpoint = "ftp://h", .credentials = {.is_anonymous = true}};
    assert_err(s3_store_new(&bad, &s, NULL), ERR_CONFIG);
}

// ---- keys and parts ----

static void keys_are_made_from_roots_and_paths(void **state) {
    (void)state;
    const struct {
        const char *root, *path;
        bool is_key;
        const char *key;
    } cases[] = {
        {"b", "x/y", false, "x/y"}, {"b/p", "x", false, "p/x"}, {"b/p", "", false, "p"},
        {"b/p", "", true, "p/"},    {"b/", "x", false, "/x"},   {"b/p", "/x", true, "p//x"},
        {"b", "d/", true, "d/"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct s3_place p;
        struct object_entry e = {.path = (const uint8_t *)cases[i].path,
                                 .path_len = strlen(cases[i].path),
                                 .is_key = cases[i].is_key};
        uint8_t *key;
        size_t len;
        assert_ok(s3_place_init((const uint8_t *)cases[i].root, strlen(cases[i].root), &p, NULL));
        assert_ok(s3_place_key(&p, &e, &key, &len, NULL));
        assert_string_equal((const char *)key, cases[i].key);
        free(key);
    }
    struct s3_place p;
    assert_err(s3_place_init((const uint8_t *)"/x", 2, &p, NULL), ERR_INVALID);
}

static void times_are_kept_as_rclone_keeps_them(void **state) {
    (void)state;
    const struct {
        int64_t ns;
        const char *text;
    } cases[] = {{1234567890123456789, "1234567890.123456789"},
                 {1500000000000000000, "1500000000"},
                 {100000000, "0.1"},
                 {-1500000000, "-1.5"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct object_properties p = {0};
        struct object_entry e = {.mode = 0755, .version.mtime_ns = cases[i].ns};
        assert_ok(s3_properties_from_entry(&e, &p));
        assert_string_equal(object_properties_get(&p, "x-amz-meta-mtime"), cases[i].text);
        assert_string_equal(object_properties_get(&p, "x-amz-meta-mode"), "100755");
        object_properties_deinit(&p);
    }
}

static void the_etag_of_an_upload_is_that_of_its_parts(void **state) {
    (void)state;
    struct s3_parts parts = {0};
    char etag[S3_ETAG_MAX];
    const struct s3_part two = {2, 1, "0cc175b9c0f1b6a831c399e269772661", ""};
    const struct s3_part one = {1, 1, "900150983cd24fb0d6963f7d28e17f72", ""};
    const struct s3_part odd = {3, 1, "no-md5", ""};
    assert_ok(s3_parts_put(&parts, &two));
    assert_ok(s3_parts_put(&parts, &one));
    assert_ok(s3_parts_put(&parts, &one));
    assert_int_equal(parts.n, 2);
    assert_int_equal(parts.items[0].number, 1);
    assert_true(s3_upload_etag(&parts, etag));
    assert_int_equal(strlen(etag), 34);
    assert_string_equal(etag + 32, "-2");
    assert_ok(s3_parts_put(&parts, &odd));
    assert_false(s3_upload_etag(&parts, etag));
    assert_null(s3_parts_find(&parts, 4));
    assert_string_equal(s3_parts_find(&parts, 3)->etag, "no-md5");
    s3_parts_deinit(&parts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_that_is_busy_is_asked_less_and_then_more_again),
        cmocka_unit_test(the_rate_never_falls_to_nothing),
        cmocka_unit_test(hostile_xml_is_refused),
        cmocka_unit_test(errors_and_times_are_read),
        cmocka_unit_test_setup(credentials_come_from_the_configuration_the_environment_or_files,
                               forget_environment),
        cmocka_unit_test_setup(buckets_are_addressed_by_path_or_by_host, forget_environment),
        cmocka_unit_test(keys_are_made_from_roots_and_paths),
        cmocka_unit_test(times_are_kept_as_rclone_keeps_them),
        cmocka_unit_test(the_etag_of_an_upload_is_that_of_its_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
