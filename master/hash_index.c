// SPDX-License-Identifier: Apache-2.0
#include "master/hash_index.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_BUCKETS = 64 };

static uint64_t mixed(uint64_t h) {
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdULL;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53ULL;
    return h ^ (h >> 33);
}

uint64_t hash_bytes(const void *bytes, size_t len) {
    const uint8_t *p = bytes;
    uint64_t h = 0xcbf29ce484222325ULL;
    for (size_t i = 0; i < len; i++) {
        h = (h ^ p[i]) * 0x100000001b3ULL;
    }
    return mixed(h);
}

uint64_t hash_text(const char *text) {
    return hash_bytes(text, strlen(text));
}

uint64_t hash_u64(uint64_t value) {
    return mixed(value + 0x9e3779b97f4a7c15ULL);
}

enum err hash_index_init(struct hash_index *x) {
    *x = (struct hash_index){0};
    x->buckets = calloc(FIRST_BUCKETS, sizeof(struct hash_node *));
    if (x->buckets == NULL) {
        return ERR_NO_MEMORY;
    }
    x->n_buckets = FIRST_BUCKETS;
    return OK;
}

void hash_index_deinit(struct hash_index *x) {
    free(x->buckets);
    *x = (struct hash_index){0};
}

static struct hash_node **bucket_of(const struct hash_index *x, uint64_t hash) {
    return &x->buckets[hash & (x->n_buckets - 1)];
}

static void grow(struct hash_index *x) {
    struct hash_index wider = {.n_buckets = x->n_buckets * 2, .count = x->count};
    wider.buckets = calloc(wider.n_buckets, sizeof(struct hash_node *));
    if (wider.buckets == NULL) {
        return;
    }
    for (size_t i = 0; i < x->n_buckets; i++) {
        struct hash_node *n = x->buckets[i];
        while (n != NULL) {
            struct hash_node *next = n->next;
            struct hash_node **b = bucket_of(&wider, n->hash);
            n->next = *b;
            *b = n;
            n = next;
        }
    }
    free(x->buckets);
    *x = wider;
}

void hash_index_add(struct hash_index *x, struct hash_node *n, uint64_t hash) {
    if (x->count >= x->n_buckets) {
        grow(x);
    }
    struct hash_node **b = bucket_of(x, hash);
    *n = (struct hash_node){.next = *b, .hash = hash, .is_in = true};
    *b = n;
    x->count++;
}

void hash_index_remove(struct hash_index *x, struct hash_node *n) {
    if (!n->is_in) {
        return;
    }
    struct hash_node **p = bucket_of(x, n->hash);
    while (*p != n) {
        p = &(*p)->next;
    }
    *p = n->next;
    n->next = NULL;
    n->is_in = false;
    x->count--;
}

struct hash_node *hash_index_first(const struct hash_index *x, uint64_t hash) {
    struct hash_node *n = *bucket_of(x, hash);
    while (n != NULL && n->hash != hash) {
        n = n->next;
    }
    return n;
}

struct hash_node *hash_index_again(const struct hash_node *n) {
    struct hash_node *next = n->next;
    while (next != NULL && next->hash != n->hash) {
        next = next->next;
    }
    return next;
}

struct hash_node *hash_index_each(const struct hash_index *x, const struct hash_node *n) {
    size_t i = 0;
    if (n != NULL) {
        if (n->next != NULL) {
            return n->next;
        }
        i = (n->hash & (x->n_buckets - 1)) + 1;
    }
    for (; i < x->n_buckets; i++) {
        if (x->buckets[i] != NULL) {
            return x->buckets[i];
        }
    }
    return NULL;
}
