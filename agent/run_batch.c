// SPDX-License-Identifier: Apache-2.0
// BATCH: whole objects. PART: one range of a large one.
#include "agent/run.h"

#include "common/cleanup.h"

#include <string.h>

static enum err report_object(struct run *r, uint32_t index, const struct transfer_object *o) {
    struct object_entry e;
    object_table_get(&r->table, index, &e);
    size_t digest_bytes = e.type == OBJECT_FILE ? hash_digest_bytes(r->digest) : 0;
    switch (o->outcome) {
    case TRANSFER_DELIVERED:
        return task_result_object_done(
            r->result, index, SLUICE__V1__OBJECT_OUTCOME__OBJECT_DELIVERED, o->bytes,
            o->has_digest ? &o->digest : NULL, o->has_digest ? digest_bytes : 0);
    case TRANSFER_IDENTICAL:
        return task_result_object_done(
            r->result, index, SLUICE__V1__OBJECT_OUTCOME__OBJECT_IDENTICAL, o->bytes, NULL, 0);
    case TRANSFER_FAILED: return run_object_failed(r, index, &o->failure);
    case TRANSFER_UNSTARTED: break;
    }
    return OK;
}

enum err run_batch(struct run *r) {
    enum err e = run_open_source(r);
    if (e == OK) {
        e = run_open_sink(r);
    }
    if (e != OK) {
        return e;
    }
    uint32_t n = r->table.count;
    AUTO(auto_free) struct transfer_object *objects = calloc((size_t)n + 1, sizeof *objects);
    if (objects == NULL || task_result_add_objects(r->result, n) != OK) {
        return failure_set(&r->failure, ERR_NO_MEMORY, "batch", NULL, 0, NULL);
    }
    struct transfer_options o = run_transfer_options(r);
    e = transfer_batch(&o, objects, &r->failure);
    for (uint32_t i = 0; i < n; i++) {
        enum err told = report_object(r, i, &objects[i]);
        if (told != OK) { // without its outcome the object counts as not begun
            r->result->objects[i]->outcome = SLUICE__V1__OBJECT_OUTCOME__OBJECT_UNSTARTED;
            e = failure_set(&r->failure, told, "batch", NULL, 0, NULL);
        }
    }
    return e;
}

enum err run_part(struct run *r) {
    struct receipt open;
    struct transfer_part part = {0};
    enum err e = run_open_source(r);
    if (e == OK) {
        e = run_open_sink(r);
    }
    if (e == OK) {
        e = run_open_receipt(r, &open);
    }
    if (e != OK) {
        return e;
    }
    struct transfer_options o = run_transfer_options(r);
    o.major = 0;
    o.minor = r->spec->generation;
    e = transfer_part(&o, r->spec->offset, r->spec->length, &open, &part, &r->failure);
    if (part.done_bytes > 0) {
        // Also after a failure: what was written and checked need not be sent again.
        enum err told =
            task_result_set_receipt(r->result, &part.receipt, part.synced, r->tools->boot_id);
        if (told != OK) {
            free(part.leaf_digests);
            return failure_set(&r->failure, told, "part", NULL, 0, NULL);
        }
        r->result->done_bytes = part.done_bytes;
        r->result->leaf_digests = (ProtobufCBinaryData){
            .len = part.n_leaves * hash_digest_bytes(r->digest),
            .data = take_ptr(part.leaf_digests),
        };
    }
    free(part.leaf_digests);
    return e;
}
