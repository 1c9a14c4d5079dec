// SPDX-License-Identifier: Apache-2.0
// The low-level SHA-256 of libcrypto is used on purpose: it neither allocates nor fails.
#define OPENSSL_SUPPRESS_DEPRECATED
#define XXH_STATIC_LINKING_ONLY
#include "common/hash.h"

#include "common/bytes.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
// Debian's library picks AVX2 or AVX-512 at run time, but only by these names.
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

struct hash {
    enum hash_algorithm algorithm;
    union {
        XXH3_state_t xxh3; // wants 64-byte alignment, which aligned_alloc() gives
        SHA256_CTX sha256;
    } state;
};

size_t hash_digest_bytes(enum hash_algorithm a) {
    return a == HASH_SHA256 ? 32 : 16;
}

static void hash_reset(struct hash *h) {
    if (h->algorithm == HASH_SHA256) {
        SHA256_Init(&h->state.sha256);
    } else {
        XXH3_128bits_reset(&h->state.xxh3);
    }
}

static void hash_init(struct hash *h, enum hash_algorithm a) {
    h->algorithm = a;
    if (a != HASH_SHA256) {
        XXH3_INITSTATE(&h->state.xxh3);
    }
    hash_reset(h);
}

struct hash *hash_new(enum hash_algorithm a) {
    struct hash *h = aligned_alloc(_Alignof(struct hash), sizeof *h);
    if (h != NULL) {
        hash_init(h, a);
    }
    return h;
}

void hash_free(struct hash *h) {
    free(h);
}

void hash_update(struct hash *h, const void *data, size_t len_bytes) {
    if (len_bytes == 0) {
        return;
    }
    if (h->algorithm == HASH_SHA256) {
        SHA256_Update(&h->state.sha256, data, len_bytes);
    } else {
        XXH3_128bits_update(&h->state.xxh3, data, len_bytes);
    }
}

void hash_final(struct hash *h, struct digest *ret_digest) {
    memset(ret_digest, 0, sizeof *ret_digest);
    if (h->algorithm == HASH_SHA256) {
        SHA256_Final(ret_digest->bytes, &h->state.sha256);
    } else {
        XXH128_canonical_t canonical;
        XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&h->state.xxh3));
        memcpy(ret_digest->bytes, canonical.digest, sizeof canonical.digest);
    }
    hash_reset(h);
}

// ---- the tree ----

static void tree_head(struct hash *h, enum hash_algorithm a, uint64_t object_bytes) {
    static const char name[] = "sluice-tree-1";
    uint8_t head[13];
    head[0] = (uint8_t)a;
    put_u32(head + 1, (uint32_t)LEAF_BYTES);
    put_u64(head + 5, object_bytes);
    hash_update(h, name, sizeof name - 1);
    hash_update(h, head, sizeof head);
}

void tree_digest(enum hash_algorithm a, uint64_t object_bytes, const uint8_t *leaf_digests,
                 size_t n_leaves, struct digest *ret_digest) {
    struct hash h;
    hash_init(&h, a);
    tree_head(&h, a, object_bytes);
    hash_update(&h, leaf_digests, n_leaves * hash_digest_bytes(a));
    hash_final(&h, ret_digest);
}

enum err tree_digest_begin(enum hash_algorithm a, uint64_t object_bytes, struct hash **ret_hash) {
    struct hash *h = hash_new(a);
    if (h == NULL) {
        return ERR_NO_MEMORY;
    }
    tree_head(h, a, object_bytes);
    *ret_hash = h;
    return OK;
}

void tree_digest_end(struct hash *take_hash, struct digest *ret_digest) {
    hash_final(take_hash, ret_digest);
    hash_free(take_hash);
}

void hash_hex(const void *bytes, size_t n, char *ret_hex) {
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i++) {
        ret_hex[2 * i] = digits[p[i] >> 4];
        ret_hex[2 * i + 1] = digits[p[i] & 15];
    }
    ret_hex[2 * n] = '\0';
}

void sha256(const void *data, size_t len_bytes, uint8_t ret_digest[32]) {
    SHA256_CTX c;
    SHA256_Init(&c);
    if (len_bytes > 0) {
        SHA256_Update(&c, data, len_bytes);
    }
    SHA256_Final(ret_digest, &c);
}
