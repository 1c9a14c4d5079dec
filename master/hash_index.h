// SPDX-License-Identifier: Apache-2.0
// An intrusive hash index. Adding never fails: when no memory is left to grow, chains get longer.
// One thread.
#ifndef MASTER_HASH_INDEX_H
#define MASTER_HASH_INDEX_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Lives in the indexed thing. Zeroed: not in an index.
struct hash_node {
    struct hash_node *next;
    uint64_t hash;
    bool is_in;
};

struct hash_index {
    struct hash_node **buckets;
    size_t n_buckets; // a power of two
    size_t count;
};

uint64_t hash_bytes(const void *bytes, size_t len); // FNV-1a, well mixed
uint64_t hash_text(const char *text);
uint64_t hash_u64(uint64_t value);

MUST_CHECK enum err hash_index_init(struct hash_index *x);
void hash_index_deinit(struct hash_index *x);
void hash_index_add(struct hash_index *x, struct hash_node *n, uint64_t hash);
void hash_index_remove(struct hash_index *x, struct hash_node *n); // does nothing if not in
// The first candidate with this hash, then the next one; the caller compares keys. NULL: none.
struct hash_node *hash_index_first(const struct hash_index *x, uint64_t hash);
struct hash_node *hash_index_again(const struct hash_node *n);
// All nodes, in no order: @n NULL gives the first. To remove @n, ask for the one after it before.
struct hash_node *hash_index_each(const struct hash_index *x, const struct hash_node *n);

#endif
