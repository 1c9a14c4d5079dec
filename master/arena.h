// SPDX-License-Identifier: Apache-2.0
// Memory that is released all at once: what belongs to one request to the database.
// One thread at a time.
#ifndef MASTER_ARENA_H
#define MASTER_ARENA_H

#include <stddef.h>

// Zeroed is empty and ready.
struct arena {
    struct arena_chunk *chunks;
    size_t bytes; // in all
};

// Zeroed, aligned for anything. NULL: out of memory.
void *arena_alloc(struct arena *a, size_t n_bytes);
void *arena_copy(struct arena *a, const void *bytes, size_t n_bytes); // with a NUL behind it
const char *arena_text(struct arena *a, const char *text);            // NULL gives ""
void arena_deinit(struct arena *a);

#endif
