// SPDX-License-Identifier: Apache-2.0
// Signature version 4 of Amazon's web services, as S3 wants it
// (https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html): the path is
// encoded once and not normalised. Pure functions; any thread.
#ifndef DATAPLANE_S3_SIGN_H
#define DATAPLANE_S3_SIGN_H

#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

struct s3_header {
    const char *name; // lower case
    const char *value;
};

enum {
    S3_TIME_SIZE = 17,    // "20130524T000000Z" and a NUL
    S3_PAYLOAD_SIZE = 65, // hexadecimal SHA-256 and a NUL
    S3_AUTHORIZATION_SIZE = 2048,
    S3_SIGNED_HEADERS_MAX = 48,
};
// Instead of a SHA-256: the signature does not cover the body.
#define S3_UNSIGNED_PAYLOAD "UNSIGNED-PAYLOAD"
// SHA-256 of no bytes.
#define S3_EMPTY_PAYLOAD "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct s3_signing {
    const char *method;
    const char *path;  // encoded, with the leading '/'
    const char *query; // encoded, sorted by name, each with its '='; "": none
    // All are signed: host and x-amz-date must be among them. Sorted by name.
    const struct s3_header *headers;
    size_t n_headers;
    const char *payload; // hexadecimal SHA-256 of the body
    const char *time;    // as s3_time() gives it
    const char *access_key, *secret_key, *region;
    const char *service; // "s3"
};
// The value of the Authorization header. ERR_FULL: too many headers, or names that are too long.
MUST_CHECK enum err s3_sign(const struct s3_signing *s,
                            char ret_authorization[S3_AUTHORIZATION_SIZE]);

void s3_time(int64_t wall_ms, char ret_time[S3_TIME_SIZE]);

// Percent-encodes all but letters, digits and "-._~" (and '/' if @keep_slash): 3 * @len + 1
// bytes are enough. Returns the length.
size_t s3_encode(const void *bytes, size_t len, int keep_slash, char *ret_text);

#endif
