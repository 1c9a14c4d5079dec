// SPDX-License-Identifier: Apache-2.0
// Digests of leaves, and of objects as a whole.
//
// A leaf is an aligned block of LEAF_BYTES (the last may be shorter). An object's digest is
// H("sluice-tree-1", algorithm, leaf size, object size, leaf digests): the same whatever the
// part size, transport or storage. Integers in it are little-endian: u8 algorithm, u32 leaf
// size, u64 object size. An empty object has no leaves.
#ifndef COMMON_HASH_H
#define COMMON_HASH_H

#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

#define LEAF_BYTES ((uint64_t)4 << 20)

enum hash_algorithm { HASH_XXH3_128 = 1, HASH_SHA256 = 2 };
enum { HASH_MAX_BYTES = 32 };

struct digest {
    uint8_t bytes[HASH_MAX_BYTES]; // hash_digest_bytes() of them count
};

size_t hash_digest_bytes(enum hash_algorithm a); // 16 or 32

// An incremental hash. Not thread-safe. NULL when out of memory.
struct hash;
struct hash *hash_new(enum hash_algorithm a);
void hash_free(struct hash *h);
void hash_update(struct hash *h, const void *data, size_t len_bytes);
// Gives the digest of what came since the last reset, and resets.
void hash_final(struct hash *h, struct digest *ret_digest);

// Cuts a stream of bytes, which starts at a leaf's boundary, into leaves.
struct leaf_hasher;
struct leaf_hasher *leaf_hasher_new(enum hash_algorithm a);
void leaf_hasher_free(struct leaf_hasher *l);
// Forget all and start anew at a leaf's boundary.
void leaf_hasher_reset(struct leaf_hasher *l);
// MUST_CHECK: ERR_NO_MEMORY.
MUST_CHECK enum err leaf_hasher_update(struct leaf_hasher *l, const void *data, size_t len_bytes);
// A run of zeros without reading any.
MUST_CHECK enum err leaf_hasher_update_zeros(struct leaf_hasher *l, uint64_t len_bytes);
// Ends the last leaf, if one is open. Then the digests, hash_digest_bytes() each, one after
// the other; they belong to @l and are valid until the next call.
MUST_CHECK enum err leaf_hasher_finish(struct leaf_hasher *l, const uint8_t **ret_digests,
                                       size_t *ret_n_leaves);
// The digests of the leaves that are complete so far, as above.
void leaf_hasher_complete(const struct leaf_hasher *l, const uint8_t **ret_digests,
                          size_t *ret_n_leaves);

// The object's digest from its leaves' digests. For a tree of millions of leaves use the
// incremental form: begin, add any number of times, end.
void tree_digest(enum hash_algorithm a, uint64_t object_bytes, const uint8_t *leaf_digests,
                 size_t n_leaves, struct digest *ret_digest);
MUST_CHECK enum err tree_digest_begin(enum hash_algorithm a, uint64_t object_bytes,
                                      struct hash **ret_hash);
void tree_digest_end(struct hash *take_hash, struct digest *ret_digest);

void hash_hex(const void *bytes, size_t n, char *ret_hex); // 2n + 1 characters
void sha256(const void *data, size_t len_bytes, uint8_t ret_digest[32]);

#endif
