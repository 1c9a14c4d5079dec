// SPDX-License-Identifier: Apache-2.0
// OPEN, SYNC, FINISH, ABORT: what is done to the temporary of one large object as a whole.
#include "agent/run.h"

#include <stdlib.h>
#include <string.h>

// The sink, and the task's one object.
static enum err prepare(struct run *r, struct object_entry *ret_entry,
                        char ret_temp[TEMP_NAME_SIZE]) {
    if (r->table.count != 1) {
        return failure_set(&r->failure, ERR_INVALID, "task", NULL, 0,
                           "the task must be about one object, not %u", r->table.count);
    }
    object_table_get(&r->table, 0, ret_entry);
    run_large_temp_name(r, ret_entry, ret_temp);
    return run_open_sink(r);
}

enum err run_open_receipt(struct run *r, struct receipt *ret_receipt) {
    if (r->spec->n_receipts == 0 || r->spec->receipts[0]->opaque.len > RECEIPT_MAX_BYTES) {
        return failure_set(&r->failure, ERR_INVALID, "task", NULL, 0,
                           "the task lacks the receipt of the object's temporary");
    }
    memset(ret_receipt, 0, sizeof *ret_receipt);
    ret_receipt->len = r->spec->receipts[0]->opaque.len;
    if (ret_receipt->len > 0) {
        memcpy(ret_receipt->bytes, r->spec->receipts[0]->opaque.data, ret_receipt->len);
    }
    return OK;
}

// Is the object there already, so that nothing need be opened?
static enum err look_for_identical(struct run *r, const struct object_entry *e, bool *ret_is) {
    enum sink_identical same = SINK_DIFFERS;
    enum err err = sink_compare(r->sink, e, &same, &r->failure);
    if (err == OK) {
        err = sink_check_replaced(r->sink, e, same, &r->failure);
    }
    if (err != OK || same != SINK_SAME) {
        *ret_is = false;
        return err;
    }
    if (r->durability != DURABILITY_NONE) {
        err = sink_sync_directories(r->sink, &r->failure);
    }
    if (err == OK) {
        err = task_result_add_objects(r->result, 1);
    }
    if (err == OK) {
        err = task_result_object_done(r->result, 0, SLUICE__V1__OBJECT_OUTCOME__OBJECT_IDENTICAL,
                                      e->version.size, NULL, 0);
    }
    *ret_is = err == OK;
    return err;
}

enum err run_open(struct run *r) {
    struct object_entry e = {0};
    struct receipt receipt = {0};
    char temp[TEMP_NAME_SIZE];
    enum err err = prepare(r, &e, temp);
    bool is_there = false;
    if (err == OK && (r->spec->skip_identical || r->spec->if_none_match)) {
        err = look_for_identical(r, &e, &is_there);
    }
    if (err != OK || is_there) {
        return err;
    }
    struct source_found found = {0};
    bool looks = r->spec->source != NULL;
    if (looks) { // what the one store knows of it, the other shall know
        const struct source_range nothing = {.offset = e.version.size, .length = 0};
        err = run_open_source(r);
        if (err == OK) {
            err = source_open(r->source, &nothing, &found, &r->failure);
        }
        if (err != OK) {
            return err;
        }
        sink_set_properties(r->sink, found.properties);
    }
    err = sink_open_large(r->sink, &e, temp, &receipt, &r->failure);
    if (looks) {
        struct source_closed closed;
        enum err close_err = source_close(r->source, &closed, err == OK ? &r->failure : NULL);
        err = err != OK ? err : close_err;
    }
    if (err == OK && r->durability != DURABILITY_NONE) {
        err = sink_sync_directories(r->sink, &r->failure);
    }
    return err == OK ? task_result_set_receipt(r->result, &receipt, true, r->tools->boot_id) : err;
}

enum err run_sync(struct run *r) {
    struct object_entry e = {0};
    struct receipt open;
    char temp[TEMP_NAME_SIZE];
    enum err err = prepare(r, &e, temp);
    if (err == OK) {
        err = run_open_receipt(r, &open);
    }
    if (err == OK) {
        err = sink_sync_large(r->sink, &e, temp, &open, &r->failure);
    }
    if (err == OK) {
        r->result->synced = true;
        err = task_result_set_text(&r->result->boot_id, r->tools->boot_id);
    }
    return err;
}

// The receipts of the parts, after that of the object itself. free() the items; none is fine.
static enum err part_receipts(struct run *r, struct receipt_list *ret_parts) {
    size_t n = r->spec->n_receipts > 0 ? r->spec->n_receipts - 1 : 0;
    *ret_parts = (struct receipt_list){0};
    if (n == 0) {
        return OK;
    }
    struct receipt *items = calloc(n, sizeof *items);
    if (items == NULL) {
        return failure_set(&r->failure, ERR_NO_MEMORY, "finish", NULL, 0, NULL);
    }
    for (size_t i = 0; i < n; i++) {
        const ProtobufCBinaryData *b = &r->spec->receipts[i + 1]->opaque;
        if (b->len == 0 || b->len > RECEIPT_MAX_BYTES) {
            free(items);
            return failure_set(&r->failure, ERR_INVALID, "task", NULL, 0,
                               "a part's receipt has %zu bytes", b->len);
        }
        memcpy(items[i].bytes, b->data, b->len);
        items[i].len = b->len;
    }
    *ret_parts = (struct receipt_list){items, n};
    return OK;
}

// The object's digest, for what is kept with it; where whoever put it into the source kept one too,
// it has to be the same.
static enum err use_digest(struct run *r, const struct object_entry *e) {
    struct digest ours = {0}, kept;
    bool has = false;
    size_t n = hash_digest_bytes(r->digest);
    if (!r->spec->has_digest || r->spec->object_digest.len != n) {
        return OK;
    }
    memcpy(ours.bytes, r->spec->object_digest.data, n);
    sink_set_digest(r->sink, r->digest, &ours);
    enum err err = OK;
    if (r->spec->source != NULL) {
        err = run_open_source(r);
        if (err == OK) {
            err = source_kept_digest(r->source, 0, &has, &kept, &r->failure);
        }
    }
    return err == OK && has ? source_check_kept(r->digest, e, &ours, &kept, &r->failure) : err;
}

enum err run_finish(struct run *r) {
    struct object_entry e = {0};
    struct receipt open;
    char temp[TEMP_NAME_SIZE], fresh[TEMP_NAME_SIZE];
    enum err err = prepare(r, &e, temp);
    if (err == OK) {
        err = run_open_receipt(r, &open);
    }
    if (err == OK) {
        err = use_digest(r, &e);
    }
    if (err != OK) {
        return err;
    }
    struct receipt_list parts;
    err = part_receipts(r, &parts);
    if (err != OK) {
        return err;
    }
    run_temp_name(r, &e, fresh);
    err = sink_finish_large(r->sink, &e, temp, &open, &parts, r->spec->copy_to_fresh ? fresh : NULL,
                            r->durability, &r->failure);
    free((struct receipt *)(uintptr_t)parts.items);
    if (err == OK && r->spec->has_digest) {
        err = task_result_set_bytes(&r->result->object_digest, r->spec->object_digest.data,
                                    r->spec->object_digest.len);
    }
    return err;
}

enum err run_abort(struct run *r) {
    struct object_entry e = {0};
    char temp[TEMP_NAME_SIZE];
    struct receipt open;
    enum err err = prepare(r, &e, temp);
    if (err == OK && r->spec->n_receipts == 0) {
        return sink_remove_temp(r->sink, &e, temp, &r->failure);
    }
    if (err == OK) {
        err = run_open_receipt(r, &open);
    }
    return err == OK ? sink_abort_large(r->sink, &e, temp, &open, &r->failure) : err;
}
