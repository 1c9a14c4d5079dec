// SPDX-License-Identifier: Apache-2.0
// The bytes once as a ticket with a signature, once as what a master signed. What is accepted
// can be written again as it was.
#include "common/ticket.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static struct signing_key *key;
static uint8_t public_key[SIGNING_KEY_BYTES];

static void make_key(void) {
    static const uint8_t private_key[SIGNING_KEY_BYTES] = "a key that is known to everybody";
    if (key == NULL) {
        MUST(signing_key_from_private(private_key, &key) == OK);
        signing_key_public(key, public_key);
    }
}

__attribute__((destructor)) static void free_key(void) {
    signing_key_free(key);
}

static void check(const uint8_t *bytes, size_t len) {
    struct ticket t;
    uint8_t again[TICKET_MAX_BYTES];
    size_t n = 0;
    enum err e = ticket_open(bytes, len, public_key, 1000, &t);
    MUST(e == OK || e == ERR_INVALID || e == ERR_DENIED || e == ERR_TIMEOUT);
    if (e == OK || e == ERR_TIMEOUT) {
        MUST((e == OK) == (t.expires_ms > 1000));
        MUST(ticket_sign(&t, key, again, sizeof again, &n) == OK);
        MUST(n == len && memcmp(again, bytes, len) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    uint8_t bytes[TICKET_MAX_BYTES + 1];
    make_key();
    check(data, len);
    if (len > 0 && len <= sizeof bytes - SIGNATURE_BYTES) {
        memcpy(bytes, data, len);
        MUST(signing_key_sign(key, bytes, len, bytes + len) == OK);
        check(bytes, len + SIGNATURE_BYTES);
    }
    return 0;
}
