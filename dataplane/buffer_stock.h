// SPDX-License-Identifier: Apache-2.0
// Large buffers that come and go with tasks: those given back are kept for the next, so that the
// kernel need not clear their pages each time, of huge pages where there are some. It may take back
// the memory of idle ones whenever it is short of it (MADV_FREE). Thread-safe.
#ifndef DATAPLANE_BUFFER_STOCK_H
#define DATAPLANE_BUFFER_STOCK_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

enum { BUFFER_STOCK_MAX = 8 }; // idle ones

struct buffer_stock {
    size_t bytes; // of each that is kept; constant
    // under the lock
    pthread_mutex_t lock;
    void *idle[BUFFER_STOCK_MAX];
    size_t n;
};

void buffer_stock_init(struct buffer_stock *s, size_t bytes);
void buffer_stock_deinit(struct buffer_stock *s); // after all buffers were given back
// A buffer of @bytes (at least one), with anything in it; those above the stock's size are not
// kept. NULL: out of memory.
void *buffer_stock_take(struct buffer_stock *s, size_t bytes);
// @bytes as it was taken. NULL is fine.
void buffer_stock_give(struct buffer_stock *s, void *buffer, size_t bytes);

#endif
