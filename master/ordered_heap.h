// SPDX-License-Identifier: Apache-2.0
// An intrusive binary heap: the least is at hand, and any member can be taken out. Room is
// reserved ahead, so that putting in cannot fail. One thread.
#ifndef MASTER_ORDERED_HEAP_H
#define MASTER_ORDERED_HEAP_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>

// Lives in the member. Zeroed: not in a heap.
struct heap_node {
    size_t place; // 1 + index; 0: not in
};

struct ordered_heap {
    struct heap_node **nodes;
    size_t n, cap, reserved;
    bool (*before)(const struct heap_node *a, const struct heap_node *b);
};

void ordered_heap_init(struct ordered_heap *h,
                       bool (*before)(const struct heap_node *, const struct heap_node *));
void ordered_heap_deinit(struct ordered_heap *h);
// Room for @n more members than were reserved so far; give it back with unreserve().
MUST_CHECK enum err ordered_heap_reserve(struct ordered_heap *h, size_t n);
void ordered_heap_unreserve(struct ordered_heap *h, size_t n);
void ordered_heap_put(struct ordered_heap *h, struct heap_node *n);   // not in: goes in
void ordered_heap_moved(struct ordered_heap *h, struct heap_node *n); // its order has changed
void ordered_heap_take(struct ordered_heap *h, struct heap_node *n);  // does nothing if not in
static inline struct heap_node *ordered_heap_first(const struct ordered_heap *h) {
    return h->n > 0 ? h->nodes[0] : NULL;
}
static inline bool heap_node_is_in(const struct heap_node *n) {
    return n->place != 0;
}

#endif
