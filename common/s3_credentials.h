// SPDX-License-Identifier: Apache-2.0
// Where the keys to a store come from: the configuration, the standard environment
// (AWS_ACCESS_KEY_ID, …), or the files that the AWS tools share (~/.aws/credentials and config).
#ifndef COMMON_S3_CREDENTIALS_H
#define COMMON_S3_CREDENTIALS_H

#include "common/failure.h"

#include <stdbool.h>

enum { S3_ACCESS_KEY_MAX = 160, S3_SECRET_KEY_MAX = 240, S3_TOKEN_MAX = 4096 };

// Plain value; wipe it with s3_credentials_wipe().
struct s3_credentials {
    bool is_anonymous;
    char access_key[S3_ACCESS_KEY_MAX];
    char secret_key[S3_SECRET_KEY_MAX];
    char session_token[S3_TOKEN_MAX]; // "": none
};

// Where to look. Absent ones are NULL.
struct s3_credentials_options {
    bool is_anonymous;
    const char *access_key, *secret_key, *session_token; // from the configuration
    const char *profile;          // of the AWS files; NULL: $AWS_PROFILE, or "default"
    const char *credentials_file; // NULL: $AWS_SHARED_CREDENTIALS_FILE, or ~/.aws/credentials
};
// In this order: anonymous, the configuration, a profile named there, the environment, the files.
// ERR_UNAUTHENTICATED: there are none; the failure says where they were looked for.
MUST_CHECK enum err s3_credentials_find(const struct s3_credentials_options *o,
                                        struct s3_credentials *ret_credentials,
                                        struct failure *ret_failure);
void s3_credentials_wipe(struct s3_credentials *c);

// A setting of the profile in the AWS configuration file ("region", "endpoint_url").
// ERR_NOT_FOUND: it is not there.
MUST_CHECK enum err s3_profile_setting(const char *profile, const char *name, char *ret_value,
                                       size_t cap);

#endif
