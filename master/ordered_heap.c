// SPDX-License-Identifier: Apache-2.0
#include "master/ordered_heap.h"

#include <stdlib.h>

void ordered_heap_init(struct ordered_heap *h,
                       bool (*before)(const struct heap_node *, const struct heap_node *)) {
    *h = (struct ordered_heap){.before = before};
}

void ordered_heap_deinit(struct ordered_heap *h) {
    free(h->nodes);
    h->nodes = NULL;
    h->n = h->cap = h->reserved = 0;
}

enum err ordered_heap_reserve(struct ordered_heap *h, size_t n) {
    if (h->reserved + n > h->cap) {
        size_t cap = h->cap * 2 > h->reserved + n ? h->cap * 2 : h->reserved + n + 8;
        struct heap_node **wider = realloc(h->nodes, cap * sizeof(struct heap_node *));
        if (wider == NULL) {
            return ERR_NO_MEMORY;
        }
        h->nodes = wider;
        h->cap = cap;
    }
    h->reserved += n;
    return OK;
}

void ordered_heap_unreserve(struct ordered_heap *h, size_t n) {
    h->reserved -= n;
}

static void set(struct ordered_heap *h, size_t i, struct heap_node *n) {
    h->nodes[i] = n;
    n->place = i + 1;
}

static void up(struct ordered_heap *h, size_t i, struct heap_node *n) {
    while (i > 0) {
        size_t parent = (i - 1) / 2;
        if (!h->before(n, h->nodes[parent])) {
            break;
        }
        set(h, i, h->nodes[parent]);
        i = parent;
    }
    set(h, i, n);
}

static void down(struct ordered_heap *h, size_t i, struct heap_node *n) {
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->n) {
            break;
        }
        if (child + 1 < h->n && h->before(h->nodes[child + 1], h->nodes[child])) {
            child++;
        }
        if (!h->before(h->nodes[child], n)) {
            break;
        }
        set(h, i, h->nodes[child]);
        i = child;
    }
    set(h, i, n);
}

void ordered_heap_put(struct ordered_heap *h, struct heap_node *n) {
    h->n++;
    up(h, h->n - 1, n);
}

void ordered_heap_moved(struct ordered_heap *h, struct heap_node *n) {
    size_t i = n->place - 1;
    if (i > 0 && h->before(n, h->nodes[(i - 1) / 2])) {
        up(h, i, n);
    } else {
        down(h, i, n);
    }
}

void ordered_heap_take(struct ordered_heap *h, struct heap_node *n) {
    if (n->place == 0) {
        return;
    }
    size_t i = n->place - 1;
    n->place = 0;
    h->n--;
    if (i < h->n) {
        struct heap_node *last = h->nodes[h->n];
        h->nodes[i] = last;
        last->place = i + 1;
        ordered_heap_moved(h, last);
    }
}
