// SPDX-License-Identifier: Apache-2.0
// Arrays that grow as things are added: doubled, so that adding n of them costs n.
#ifndef COMMON_ARRAY_H
#define COMMON_ARRAY_H

#include <stdint.h>
#include <stdlib.h>

// Room for one more behind the @n that are there: @items as they are, or somewhere else, with
// *@cap raised. NULL: out of memory, and nothing was changed.
static inline void *array_grown(void *items, size_t item_bytes, size_t n, size_t *cap) {
    if (n < *cap) {
        return items;
    }
    size_t more = *cap == 0 ? 16 : 2 * *cap;
    void *grown = more <= SIZE_MAX / item_bytes ? realloc(items, more * item_bytes) : NULL;
    if (grown != NULL) {
        *cap = more;
    }
    return grown;
}

#endif
