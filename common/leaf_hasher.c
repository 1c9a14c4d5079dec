// SPDX-License-Identifier: Apache-2.0
#include "common/hash.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct leaf_hasher {
    enum hash_algorithm algorithm;
    struct hash *hash;
    uint64_t filled;  // of the open leaf
    uint8_t *digests; // of the complete ones
    size_t n_leaves, cap_leaves;
    bool has_zero_leaf;
    struct digest zero_leaf; // of a whole leaf of zeros, computed when first needed
};

static const uint8_t zeros[64 * 1024];

struct leaf_hasher *leaf_hasher_new(enum hash_algorithm a) {
    struct leaf_hasher *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return NULL;
    }
    l->algorithm = a;
    l->hash = hash_new(a);
    if (l->hash == NULL) {
        free(l);
        return NULL;
    }
    return l;
}

void leaf_hasher_free(struct leaf_hasher *l) {
    if (l != NULL) {
        hash_free(l->hash);
        free(l->digests);
        free(l);
    }
}

void leaf_hasher_reset(struct leaf_hasher *l) {
    struct digest ignored;
    if (l->filled > 0) {
        hash_final(l->hash, &ignored);
    }
    l->filled = 0;
    l->n_leaves = 0;
}

// Room for @more digests.
static enum err reserve(struct leaf_hasher *l, size_t more) {
    if (more <= l->cap_leaves - l->n_leaves) {
        return OK;
    }
    size_t width = hash_digest_bytes(l->algorithm), cap = l->cap_leaves * 2;
    if (more > SIZE_MAX / width / 2 - l->n_leaves) {
        return ERR_NO_MEMORY;
    }
    cap = cap < l->n_leaves + more ? l->n_leaves + more : cap;
    cap = cap < 16 ? 16 : cap;
    uint8_t *grown = realloc(l->digests, cap * width);
    if (grown == NULL) {
        return ERR_NO_MEMORY;
    }
    l->digests = grown;
    l->cap_leaves = cap;
    return OK;
}

static void append(struct leaf_hasher *l, const struct digest *d) {
    size_t width = hash_digest_bytes(l->algorithm);
    memcpy(l->digests + l->n_leaves * width, d->bytes, width);
    l->n_leaves++;
}

static enum err end_leaf(struct leaf_hasher *l) {
    enum err err = reserve(l, 1);
    if (err == OK) {
        struct digest d;
        hash_final(l->hash, &d);
        append(l, &d);
        l->filled = 0;
    }
    return err;
}

// Up to the end of the open leaf; *@ret_took is how much that was.
static enum err fill(struct leaf_hasher *l, const void *data, size_t len, size_t *ret_took) {
    uint64_t room = LEAF_BYTES - l->filled;
    size_t n = len < room ? len : (size_t)room;
    enum err err = reserve(l, 1); // first, so that nothing was taken if it fails
    if (err != OK) {
        return err;
    }
    hash_update(l->hash, data, n);
    l->filled += n;
    *ret_took = n;
    return l->filled == LEAF_BYTES ? end_leaf(l) : OK;
}

enum err leaf_hasher_update(struct leaf_hasher *l, const void *data, size_t len_bytes) {
    const uint8_t *p = data;
    while (len_bytes > 0) {
        size_t took = 0;
        enum err err = fill(l, p, len_bytes, &took);
        if (err != OK) {
            return err;
        }
        p += took;
        len_bytes -= took;
    }
    return OK;
}

static void hash_zero_leaf(struct leaf_hasher *l) {
    for (uint64_t done = 0; done < LEAF_BYTES; done += sizeof zeros) {
        hash_update(l->hash, zeros, sizeof zeros);
    }
    hash_final(l->hash, &l->zero_leaf);
    l->has_zero_leaf = true;
}

enum err leaf_hasher_update_zeros(struct leaf_hasher *l, uint64_t len_bytes) {
    uint64_t whole = 0;
    while (len_bytes > 0) {
        if (l->filled == 0 && len_bytes >= LEAF_BYTES) {
            whole = len_bytes / LEAF_BYTES;
            enum err err = whole > SIZE_MAX ? ERR_NO_MEMORY : reserve(l, (size_t)whole);
            if (err != OK) {
                return err;
            }
            if (!l->has_zero_leaf) {
                hash_zero_leaf(l);
            }
            for (uint64_t i = 0; i < whole; i++) {
                append(l, &l->zero_leaf);
            }
            len_bytes -= whole * LEAF_BYTES;
            continue;
        }
        size_t n = len_bytes < sizeof zeros ? (size_t)len_bytes : sizeof zeros, took = 0;
        enum err err = fill(l, zeros, n, &took);
        if (err != OK) {
            return err;
        }
        len_bytes -= took;
    }
    return OK;
}

enum err leaf_hasher_finish(struct leaf_hasher *l, const uint8_t **ret_digests,
                            size_t *ret_n_leaves) {
    if (l->filled > 0) {
        enum err err = end_leaf(l);
        if (err != OK) {
            return err;
        }
    }
    leaf_hasher_complete(l, ret_digests, ret_n_leaves);
    return OK;
}

void leaf_hasher_complete(const struct leaf_hasher *l, const uint8_t **ret_digests,
                          size_t *ret_n_leaves) {
    *ret_digests = l->digests;
    *ret_n_leaves = l->n_leaves;
}
