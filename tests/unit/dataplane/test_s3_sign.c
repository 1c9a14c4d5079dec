// SPDX-License-Identifier: Apache-2.0
// The published examples of signature version 4: those of the S3 manual ("Signature
// Calculations for the Authorization Header"), and of the general test suite.
#include "common/cleanup.h"
#include "common/hash.h"
#include "dataplane/s3_sign.h"
#include "tests/lib/test.h"

#include <string.h>

#define KEY    "AKIAIOSFODNN7EXAMPLE"
#define SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

static struct s3_signing example(const char *method, const char *path, const char *query,
                                 const struct s3_header *headers, size_t n) {
    return (struct s3_signing){
        .method = method,
        .path = path,
        .query = query,
        .headers = headers,
        .n_headers = n,
        .payload = S3_EMPTY_PAYLOAD,
        .time = "20130524T000000Z",
        .access_key = KEY,
        .secret_key = SECRET,
        .region = "us-east-1",
        .service = "s3",
    };
}

static void assert_signature(const struct s3_signing *s, const char *want) {
    char authorization[S3_AUTHORIZATION_SIZE];
    assert_ok(s3_sign(s, authorization));
    const char *got = strstr(authorization, "Signature=");
    assert_non_null(got);
    assert_string_equal(got + strlen("Signature="), want);
}

static void the_example_of_a_ranged_get_is_met(void **state) {
    (void)state;
    const struct s3_header headers[] = {
        {"host", "examplebucket.s3.amazonaws.com"},
        {"range", "bytes=0-9"},
        {"x-amz-content-sha256", S3_EMPTY_PAYLOAD},
        {"x-amz-date", "20130524T000000Z"},
    };
    struct s3_signing s = example("GET", "/test.txt", "", headers, ARRAY_LEN(headers));
    char authorization[S3_AUTHORIZATION_SIZE];
    assert_ok(s3_sign(&s, authorization));
    assert_string_equal(
        authorization,
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void the_example_of_a_put_is_met(void **state) {
    (void)state;
    static const char body[] = "Welcome to Amazon S3.";
    uint8_t digest[32];
    char hex[S3_PAYLOAD_SIZE], path[64];
    sha256(body, sizeof body - 1, digest);
    hash_hex(digest, sizeof digest, hex);
    const struct s3_header headers[] = {
        {"date", "Fri, 24 May 2013 00:00:00 GMT"},
        {"host", "examplebucket.s3.amazonaws.com"},
        {"x-amz-content-sha256", hex},
        {"x-amz-date", "20130524T000000Z"},
        {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
    };
    s3_encode("/test$file.text", 15, 1, path);
    struct s3_signing s = example("PUT", path, "", headers, ARRAY_LEN(headers));
    s.payload = hex;
    assert_signature(&s, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static const struct s3_header bucket_headers[] = {
    {"host", "examplebucket.s3.amazonaws.com"},
    {"x-amz-content-sha256", S3_EMPTY_PAYLOAD},
    {"x-amz-date", "20130524T000000Z"},
};

static void the_example_of_a_parameter_without_value_is_met(void **state) {
    (void)state;
    struct s3_signing s =
        example("GET", "/", "lifecycle=", bucket_headers, ARRAY_LEN(bucket_headers));
    assert_signature(&s, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

static void the_example_of_a_listing_is_met(void **state) {
    (void)state;
    struct s3_signing s =
        example("GET", "/", "max-keys=2&prefix=J", bucket_headers, ARRAY_LEN(bucket_headers));
    assert_signature(&s, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

// get-vanilla and get-header-value-trim of the general suite.
static void the_general_suite_is_met(void **state) {
    (void)state;
    struct s3_header headers[] = {
        {"host", "example.amazonaws.com"}, {"x-amz-date", "20150830T123600Z"}, {NULL, NULL}};
    struct s3_signing s = example("GET", "/", "", headers, 2);
    s.time = "20150830T123600Z";
    s.access_key = "AKIDEXAMPLE";
    s.secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    s.service = "service";
    assert_signature(&s, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    const struct s3_header trimmed[] = {{"host", "example.amazonaws.com"},
                                        {"my-header1", " value1"},
                                        {"my-header2", " \"a   b   c\""},
                                        {"x-amz-date", "20150830T123600Z"}};
    s.headers = trimmed;
    s.n_headers = ARRAY_LEN(trimmed);
    assert_signature(&s, "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736");
}

static void every_byte_of_a_key_is_encoded_strictly(void **state) {
    (void)state;
    char text[64];
    assert_int_equal(s3_encode("a b/\xc3\xa9+~\xff", 9, 1, text), 19);
    assert_string_equal(text, "a%20b/%C3%A9%2B~%FF");
    s3_encode("a/b=c&", 6, 0, text);
    assert_string_equal(text, "a%2Fb%3Dc%26");
}

static void what_is_too_long_is_refused(void **state) {
    (void)state;
    char secret[512], authorization[S3_AUTHORIZATION_SIZE];
    memset(secret, 'x', sizeof secret - 1);
    secret[sizeof secret - 1] = '\0';
    struct s3_signing s = example("GET", "/", "", bucket_headers, ARRAY_LEN(bucket_headers));
    s.secret_key = secret;
    assert_err(s3_sign(&s, authorization), ERR_FULL);
    s.secret_key = SECRET;
    s.n_headers = S3_SIGNED_HEADERS_MAX + 1;
    assert_err(s3_sign(&s, authorization), ERR_FULL);
}

static void times_are_written_in_utc(void **state) {
    (void)state;
    char text[S3_TIME_SIZE];
    s3_time(1369353600999, text);
    assert_string_equal(text, "20130524T000000Z");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_a_ranged_get_is_met),
        cmocka_unit_test(the_example_of_a_put_is_met),
        cmocka_unit_test(the_example_of_a_parameter_without_value_is_met),
        cmocka_unit_test(the_example_of_a_listing_is_met),
        cmocka_unit_test(the_general_suite_is_met),
        cmocka_unit_test(every_byte_of_a_key_is_encoded_strictly),
        cmocka_unit_test(what_is_too_long_is_refused),
        cmocka_unit_test(times_are_written_in_utc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
