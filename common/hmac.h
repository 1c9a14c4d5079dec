// SPDX-License-Identifier: Apache-2.0
// HMAC-SHA-256 (RFC 2104), and MD5 where a protocol asks for it.
#ifndef COMMON_HMAC_H
#define COMMON_HMAC_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HMAC_SHA256_BYTES = 32, MD5_BYTES = 16 };

// ERR_NO_MEMORY.
MUST_CHECK enum err hmac_sha256(const void *key, size_t key_len, const void *text, size_t len,
                                uint8_t ret_mac[HMAC_SHA256_BYTES]);
// MD5: no protection against anybody, but object stores name what they hold by it.
struct md5_sum;
struct md5_sum *md5_sum_new(void); // NULL: out of memory
void md5_sum_free(struct md5_sum *m);
void md5_sum_reset(struct md5_sum *m);
void md5_sum_update(struct md5_sum *m, const void *bytes, size_t len);
// Ends it; reset before the next use. false: this machine's policy forbids MD5.
bool md5_sum_final(struct md5_sum *m, uint8_t ret_digest[MD5_BYTES]);

#endif
