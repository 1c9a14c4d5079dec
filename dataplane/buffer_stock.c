// SPDX-License-Identifier: Apache-2.0
#include "dataplane/buffer_stock.h"

#include <stdbool.h>
#include <sys/mman.h>

void buffer_stock_init(struct buffer_stock *s, size_t bytes) {
    *s = (struct buffer_stock){.bytes = bytes};
    pthread_mutex_init(&s->lock, NULL);
}

void buffer_stock_deinit(struct buffer_stock *s) {
    while (s->n > 0) {
        (void)munmap(s->idle[--s->n], s->bytes);
    }
    pthread_mutex_destroy(&s->lock);
}

static size_t size_of(const struct buffer_stock *s, size_t bytes) {
    return bytes > s->bytes ? bytes : s->bytes;
}

void *buffer_stock_take(struct buffer_stock *s, size_t bytes) {
    void *buffer = NULL;
    if (bytes <= s->bytes) {
        pthread_mutex_lock(&s->lock);
        buffer = s->n > 0 ? s->idle[--s->n] : NULL;
        pthread_mutex_unlock(&s->lock);
    }
    if (buffer != NULL) {
        return buffer;
    }
    buffer =
        mmap(NULL, size_of(s, bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer == MAP_FAILED) {
        return NULL;
    }
    (void)madvise(buffer, size_of(s, bytes), MADV_HUGEPAGE); // where the kernel has such
    return buffer;
}

void buffer_stock_give(struct buffer_stock *s, void *buffer, size_t bytes) {
    if (buffer == NULL) {
        return;
    }
    bool is_kept = false;
    if (bytes <= s->bytes) {
        (void)madvise(buffer, s->bytes, MADV_FREE);
        pthread_mutex_lock(&s->lock);
        if (s->n < BUFFER_STOCK_MAX) {
            s->idle[s->n++] = buffer;
            is_kept = true;
        }
        pthread_mutex_unlock(&s->lock);
    }
    if (!is_kept) {
        (void)munmap(buffer, size_of(s, bytes));
    }
}
