// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/unpack.h"

#include <stdbool.h>
#include <stdlib.h>

struct budget {
    size_t left_bytes;
    bool overdrawn, no_memory;
};

enum { CHUNK_OVERHEAD = 16 }; // of malloc: what makes many small messages large

static void *take(void *arg, size_t size) {
    struct budget *b = arg;
    if (size > SIZE_MAX - CHUNK_OVERHEAD || size + CHUNK_OVERHEAD > b->left_bytes) {
        b->overdrawn = true;
        return NULL;
    }
    void *p = malloc(size > 0 ? size : 1);
    if (p == NULL) {
        b->no_memory = true;
    } else {
        b->left_bytes -= size + CHUNK_OVERHEAD;
    }
    return p;
}

static void give_back(void *arg, void *p) {
    (void)arg; // what was spent stays spent: simple, and a bound all the same
    free(p);
}

enum err message_unpack(const ProtobufCMessageDescriptor *d, const uint8_t *bytes, size_t len,
                        size_t max_bytes, ProtobufCMessage **ret_message) {
    struct budget b = {.left_bytes = max_bytes};
    ProtobufCAllocator allocator = {.alloc = take, .free = give_back, .allocator_data = &b};
    ProtobufCMessage *m = protobuf_c_message_unpack(d, &allocator, len, bytes);
    if (m == NULL) {
        return b.no_memory ? ERR_NO_MEMORY : b.overdrawn ? ERR_TOO_LARGE : ERR_INVALID;
    }
    *ret_message = m;
    return OK;
}
