// SPDX-License-Identifier: Apache-2.0
// What a plan remembers beside its rows, as bytes: version 1, then numbers (little-endian, 64
// bits each), then the table with the source's root.
#include "common/cleanup.h"
#include "master/planner_impl.h"

#include <stdlib.h>
#include <string.h>

enum { BODY_VERSION = 1, BODY_NUMBERS = 26 };

enum err blob_copy(struct blob from, struct blob *ret_copy) {
    uint8_t *bytes = malloc(from.len + 1);
    if (bytes == NULL) {
        return ERR_NO_MEMORY;
    }
    if (from.len > 0) {
        memcpy(bytes, from.bytes, from.len);
    }
    *ret_copy = (struct blob){bytes, from.len};
    return OK;
}

void blob_free(struct blob *b) {
    free((void *)(uintptr_t)b->bytes);
    *b = (struct blob){0};
}

// The numbers of a body, in the order in which they are stored.
static void body_numbers(struct plan_body *b, uint64_t n[BODY_NUMBERS], bool read) {
    struct flow_progress *p = &b->exact;
    uint64_t stage = b->stage;
    uint64_t resolved = b->resolved;
    uint64_t sink_known = b->sink_known;
    uint64_t sink_type = b->sink_type;
    uint64_t listing = p->listing;
    uint64_t *const at[] = {
        &stage,
        &b->next_object,
        &resolved,
        &sink_known,
        &sink_type,
        &b->n_unlisted,
        &p->bytes_done,
        &p->bytes_total,
        &p->bytes_resent,
        &p->objects_done,
        &p->objects_total,
        &p->objects_failed,
        &p->objects_skipped,
        &p->cpu_us_source,
        &p->cpu_us_sink,
        &p->walk_us,
        &p->read_us,
        &p->hash_us,
        &p->send_us,
        &p->receive_us,
        &p->write_us,
        &p->sync_us,
        &p->wait_us,
        &listing,
        &p->store_retries,
        &b->n_retries,
    };
    _Static_assert(ARRAY_LEN(at) <= BODY_NUMBERS, "room for all numbers");
    for (size_t i = 0; i < ARRAY_LEN(at); i++) {
        if (read) {
            *at[i] = n[i];
        } else {
            n[i] = *at[i];
        }
    }
    if (read) {
        b->stage = (uint32_t)stage;
        b->resolved = resolved != 0;
        b->sink_known = sink_known != 0;
        b->sink_type = (uint8_t)sink_type;
        p->listing = listing != 0;
    }
}

enum err plan_body_encode(const struct plan_body *b, struct blob *ret_bytes) {
    size_t len = 1 + BODY_NUMBERS * 8 + b->source.len;
    uint8_t *bytes = calloc(1, len);
    if (bytes == NULL) {
        return ERR_NO_MEMORY;
    }
    struct plan_body copy = *b;
    uint64_t n[BODY_NUMBERS] = {0};
    body_numbers(&copy, n, false);
    bytes[0] = BODY_VERSION;
    for (size_t i = 0; i < sizeof n; i++) {
        bytes[1 + i] = (uint8_t)(n[i / 8] >> (i % 8 * 8));
    }
    if (b->source.len > 0) {
        memcpy(bytes + 1 + sizeof n, b->source.bytes, b->source.len);
    }
    *ret_bytes = (struct blob){bytes, len};
    return OK;
}

enum err plan_body_decode(struct blob bytes, struct plan_body *ret_body) {
    uint64_t n[BODY_NUMBERS] = {0};
    if (bytes.len < 1 + sizeof n || bytes.bytes[0] != BODY_VERSION) {
        return ERR_DATABASE;
    }
    for (size_t i = 0; i < sizeof n; i++) {
        n[i / 8] |= (uint64_t)bytes.bytes[1 + i] << (i % 8 * 8);
    }
    struct plan_body b = {0};
    body_numbers(&b, n, true);
    struct blob source = {bytes.bytes + 1 + sizeof n, bytes.len - 1 - sizeof n};
    if (source.len > 0 && blob_copy(source, &b.source) != OK) {
        return ERR_NO_MEMORY;
    }
    *ret_body = b;
    return OK;
}
