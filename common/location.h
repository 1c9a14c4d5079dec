// SPDX-License-Identifier: Apache-2.0
// Where a flow reads from or writes to. Users write SITE:/abs/path, SITE/AGENT:/abs/path,
// s3://BUCKET/KEY, s3+NAME://BUCKET/KEY or https://…; inside the system it is this structure.
//
// A trailing '/' of a path or key means "the contents of", as in rsync, and is kept. Doubled
// slashes and "." components of paths are dropped; ".." is refused, because what it means
// depends on symbolic links.
#ifndef COMMON_LOCATION_H
#define COMMON_LOCATION_H

#include "common/err.h"
#include "common/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LOCATION_NAME_MAX = 128, // of sites, agents, stores; with the NUL
    LOCATION_BUCKET_MAX = 256,
    LOCATION_MAX_BYTES = 64 * 1024, // as text
};

enum location_kind { LOCATION_POSIX = 1, LOCATION_S3, LOCATION_HTTPS };

// Plain values, but it owns its bytes: location_deinit().
struct location {
    enum location_kind kind;
    char site[LOCATION_NAME_MAX];  // POSIX
    char agent[LOCATION_NAME_MAX]; // POSIX: only this one; "": any
    char store[LOCATION_NAME_MAX]; // S3: name of a configured endpoint; "": the default one
    char bucket[LOCATION_BUCKET_MAX];
    // POSIX: the absolute path; S3: the key; HTTPS: the URL. Any bytes but NUL, with a NUL after
    // them that does not count.
    uint8_t *bytes;
    size_t len;
};

// Letters, digits, and inside also '-', '_', '.'; shorter than LOCATION_NAME_MAX. What sites,
// agents, volumes and stores may be called.
bool location_name_is_valid(const char *name, size_t len);

// ERR_INVALID: the failure says what is wrong and how to write it. ERR_NO_MEMORY.
MUST_CHECK enum err location_parse(const void *text, size_t len, struct location *ret_location,
                                   struct failure *ret_failure);
// From the parts; they are checked as those of a text. @path need not be normal.
MUST_CHECK enum err location_posix(const char *site, const char *agent, const void *path,
                                   size_t path_len, struct location *ret_location,
                                   struct failure *ret_failure);
MUST_CHECK enum err location_s3(const char *store, const char *bucket, const void *key,
                                size_t key_len, struct location *ret_location,
                                struct failure *ret_failure);
MUST_CHECK enum err location_https(const char *url, size_t len, struct location *ret_location,
                                   struct failure *ret_failure);
void location_deinit(struct location *l);

bool location_ends_with_slash(const struct location *l);
bool location_equal(const struct location *a, const struct location *b);

// As the user would write it, byte for byte: location_parse() gives the same again. free() it.
// NULL: out of memory. *@ret_len does not count the NUL at its end.
char *location_text(const struct location *l, size_t *ret_len);
// The same for people, logs and JSON: bytes that cannot be printed are escaped as \xNN.
char *location_printable(const struct location *l);

#endif
