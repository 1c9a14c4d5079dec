// SPDX-License-Identifier: Apache-2.0
// What callbacks are signed with, and how. Pure but for reading the secret.
#ifndef MASTER_CALLBACK_SIGNATURE_H
#define MASTER_CALLBACK_SIGNATURE_H

#include "common/failure.h"

#include <stddef.h>
#include <stdint.h>

enum {
    CALLBACK_SECRET_MIN = 16, // bytes
    CALLBACK_SECRET_MAX = 4096,
    CALLBACK_SIGNATURE_SIZE = 96,
};

struct callback_secret {
    size_t len;
    char bytes[CALLBACK_SECRET_MAX];
};

// Line breaks at its end do not count. ERR_CONFIG: too short or too long; those of the file.
MUST_CHECK enum err callback_secret_read(const char *path, struct callback_secret *ret_secret,
                                         struct failure *ret_failure);
// "t=<@unix_s>,v1=<HMAC-SHA256 of "t.body" in hexadecimal>". ERR_NO_MEMORY.
MUST_CHECK enum err callback_sign(const struct callback_secret *s, int64_t unix_s, const void *body,
                                  size_t len, char ret_text[CALLBACK_SIGNATURE_SIZE]);

#endif
