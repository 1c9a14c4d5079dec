// SPDX-License-Identifier: Apache-2.0
// Base 64 with padding (RFC 4648, section 4).
#ifndef COMMON_BASE64_H
#define COMMON_BASE64_H

#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

#define BASE64_LEN(n) (((n) + 2) / 3 * 4) // without a NUL

// Writes BASE64_LEN(@n) characters and a NUL.
void base64_encode(const void *bytes, size_t n, char *ret_text);
// @ret_bytes has room for @len / 4 * 3. ERR_INVALID: not base 64.
MUST_CHECK enum err base64_decode(const char *text, size_t len, uint8_t *ret_bytes, size_t *ret_n);

#endif
