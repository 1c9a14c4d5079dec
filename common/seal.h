// SPDX-License-Identifier: Apache-2.0
// Secrets at rest: AES-256-GCM under a key that the caller keeps elsewhere. What was sealed for one
// name opens for that name only. Pure functions but for the random nonce; any thread.
#ifndef COMMON_SEAL_H
#define COMMON_SEAL_H

#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

enum { SEAL_KEY_BYTES = 32, SEAL_OVERHEAD_BYTES = 1 + 12 + 16 }; // version, nonce, tag

// @ret_sealed has room for @len + SEAL_OVERHEAD_BYTES; all of it is written. ERR_NO_MEMORY,
// ERR_INTERNAL: there is no randomness.
MUST_CHECK enum err seal(const uint8_t key[SEAL_KEY_BYTES], const char *name, const void *secret,
                         size_t len, uint8_t *ret_sealed);
// @ret_secret has room for @len. ERR_CORRUPT: another key, another name, or not what was sealed.
MUST_CHECK enum err seal_open(const uint8_t key[SEAL_KEY_BYTES], const char *name,
                              const void *sealed, size_t len, uint8_t *ret_secret, size_t *ret_len);

#endif
