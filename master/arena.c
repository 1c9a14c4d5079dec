// SPDX-License-Identifier: Apache-2.0
#include "master/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 2048 };

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, cap;
    alignas(max_align_t) unsigned char bytes[];
};

static struct arena_chunk *add_chunk(struct arena *a, size_t n_bytes) {
    size_t cap = n_bytes > CHUNK_BYTES ? n_bytes : CHUNK_BYTES;
    struct arena_chunk *c = calloc(1, sizeof *c + cap);
    if (c == NULL) {
        return NULL;
    }
    c->cap = cap;
    a->bytes += cap;
    // A big piece goes behind the chunk that still has room.
    if (n_bytes > CHUNK_BYTES && a->chunks != NULL) {
        c->next = a->chunks->next;
        a->chunks->next = c;
    } else {
        c->next = a->chunks;
        a->chunks = c;
    }
    return c;
}

void *arena_alloc(struct arena *a, size_t n_bytes) {
    if (n_bytes > SIZE_MAX / 2) {
        return NULL;
    }
    size_t align = alignof(max_align_t);
    size_t need = (n_bytes + align - 1) / align * align;
    if (need == 0) {
        need = align;
    }
    struct arena_chunk *c = a->chunks;
    if (c == NULL || c->cap - c->used < need) {
        c = add_chunk(a, need);
        if (c == NULL) {
            return NULL;
        }
    }
    void *p = c->bytes + c->used;
    c->used += need;
    return p;
}

void *arena_copy(struct arena *a, const void *bytes, size_t n_bytes) {
    unsigned char *p = arena_alloc(a, n_bytes + 1);
    if (p != NULL && n_bytes > 0) {
        memcpy(p, bytes, n_bytes);
    }
    return p;
}

const char *arena_text(struct arena *a, const char *text) {
    return text == NULL ? "" : arena_copy(a, text, strlen(text));
}

void arena_deinit(struct arena *a) {
    struct arena_chunk *c = a->chunks;
    while (c != NULL) {
        struct arena_chunk *next = c->next;
        free(c);
        c = next;
    }
    *a = (struct arena){0};
}
