// SPDX-License-Identifier: Apache-2.0
// The master's signature (Ed25519) that lets one executor read one task's objects from one
// source agent until it expires.
//
// Encoded: "STK1", the fields below in order (little-endian; texts as u16 length and bytes),
// then 64 bytes of signature over all before it.
#ifndef COMMON_TICKET_H
#define COMMON_TICKET_H

#include "common/err.h"
#include "common/failure.h"
#include "common/ident.h"

#include <stddef.h>
#include <stdint.h>

enum {
    TICKET_MAX_BYTES = 8192,
    TICKET_NAME_MAX = 128,
    TICKET_ROOT_MAX = 4096,
    SIGNING_KEY_BYTES = 32, // Ed25519, public and private alike
    SIGNATURE_BYTES = 64,
};

enum ticket_direction { TICKET_READ = 1 };

struct ticket {
    char cluster[IDENT_SIZE];
    char flow[IDENT_SIZE];
    uint64_t revision; // of the flow
    uint64_t task_id;
    uint64_t term, counter; // the lease's epoch
    char executor[TICKET_NAME_MAX];
    char source[TICKET_NAME_MAX];
    uint8_t executor_key[SIGNING_KEY_BYTES]; // who holds the ticket proves it with this key
    enum ticket_direction direction;
    uint8_t digest;     // enum hash_algorithm for the leaves
    int64_t expires_ms; // wall clock
    char volume[TICKET_NAME_MAX];
    uint8_t root[TICKET_ROOT_MAX]; // below the volume's root
    size_t root_len;
    uint8_t objects_sha256[32]; // of the encoded object table
};

// An Ed25519 key. Immutable after it was made; any thread.
struct signing_key;
void signing_key_free(struct signing_key *k);
MUST_CHECK enum err signing_key_generate(struct signing_key **ret_key);
// Reads the key from @path, or makes one there (mode 0600, synced).
MUST_CHECK enum err signing_key_load_or_create(const char *path, struct signing_key **ret_key,
                                               struct failure *ret_failure);
MUST_CHECK enum err signing_key_from_private(const uint8_t private_key[SIGNING_KEY_BYTES],
                                             struct signing_key **ret_key);
void signing_key_private(const struct signing_key *k, uint8_t ret_key[SIGNING_KEY_BYTES]);
void signing_key_public(const struct signing_key *k, uint8_t ret_key[SIGNING_KEY_BYTES]);
MUST_CHECK enum err signing_key_sign(const struct signing_key *k, const void *data, size_t len,
                                     uint8_t ret_signature[SIGNATURE_BYTES]);
// ERR_DENIED: it is not that key's signature.
MUST_CHECK enum err signature_check(const uint8_t public_key[SIGNING_KEY_BYTES], const void *data,
                                    size_t len, const uint8_t signature[SIGNATURE_BYTES]);

// ERR_FULL: @cap is too small (TICKET_MAX_BYTES is enough).
MUST_CHECK enum err ticket_sign(const struct ticket *t, const struct signing_key *master,
                                uint8_t *buf, size_t cap, size_t *ret_len);
// ERR_INVALID: malformed; ERR_DENIED: not signed by @master_public; ERR_TIMEOUT: expired at
// @now_ms (the ticket is given all the same, for the log).
MUST_CHECK enum err ticket_open(const void *bytes, size_t len,
                                const uint8_t master_public[SIGNING_KEY_BYTES], int64_t now_ms,
                                struct ticket *ret_ticket);

#endif
