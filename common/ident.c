// SPDX-License-Identifier: Apache-2.0
#include "common/ident.h"

#include "common/hash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
static const char temp_prefix[] = ".sluice-";

// The lowest bits of the big-endian number @bytes, five to a character.
static void encode(const uint8_t *bytes, size_t n_bytes, char *ret_text, size_t n_chars) {
    for (size_t i = 0; i < n_chars; i++) {
        unsigned value = 0;
        for (size_t b = 0; b < 5; b++) {
            size_t from_end = (n_chars - i) * 5 - 1 - b; // of the bit, from the number's end
            if (from_end / 8 < n_bytes) {
                unsigned byte = bytes[n_bytes - 1 - from_end / 8];
                value |= (byte >> (from_end % 8) & 1U) << (4 - b);
            }
        }
        ret_text[i] = alphabet[value];
    }
    ret_text[n_chars] = '\0';
}

static void fill_random(uint8_t *bytes, size_t n) {
    while (n > 0) {
        ssize_t got = getrandom(bytes, n, 0);
        if (got > 0) {
            bytes += got;
            n -= (size_t)got;
        } else if (errno != EINTR) {
            abort(); // no kernel that Sluice runs on lacks it
        }
    }
}

void ident_new(int64_t wall_ms, char ret_ident[IDENT_SIZE]) {
    uint8_t bytes[16];
    for (int i = 0; i < 6; i++) {
        bytes[i] = (uint8_t)((uint64_t)wall_ms >> (40 - 8 * i));
    }
    fill_random(bytes + 6, sizeof bytes - 6);
    encode(bytes, sizeof bytes, ret_ident, IDENT_LEN);
}

static bool all_in_alphabet(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\0' || strchr(alphabet, text[i]) == NULL) {
            return false;
        }
    }
    return true;
}

bool ident_is_valid(const char *text) {
    return strnlen(text, IDENT_SIZE) == IDENT_LEN && text[0] <= '7' &&
           all_in_alphabet(text, IDENT_LEN);
}

void temp_name(const char *flow, uint64_t object_id, uint64_t major, uint64_t minor,
               char ret_name[TEMP_NAME_SIZE]) {
    char text[IDENT_SIZE + 3 * 24];
    uint8_t digest[32];
    int n = snprintf(text, sizeof text, "%.26s/%llu/%llu/%llu", flow, (unsigned long long)object_id,
                     (unsigned long long)major, (unsigned long long)minor);
    sha256(text, (size_t)n, digest);
    memcpy(ret_name, temp_prefix, sizeof temp_prefix - 1);
    encode(digest, sizeof digest, ret_name + sizeof temp_prefix - 1, IDENT_LEN);
}

bool temp_name_matches(const void *name, size_t len) {
    return len == TEMP_NAME_LEN && memcmp(name, temp_prefix, sizeof temp_prefix - 1) == 0 &&
           all_in_alphabet((const char *)name + sizeof temp_prefix - 1, IDENT_LEN);
}
