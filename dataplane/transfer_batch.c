// SPDX-License-Identifier: Apache-2.0
// Whole objects, many of them. They pass through one queue: looked at (is it there already?),
// announced to the source, moved, staged at the sink; then all staged ones become visible and
// durable together, and only then are reported.
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "dataplane/transfer_batch_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    WINDOW_MAX = 128, // objects announced and not yet opened
    WINDOW_LOW = 64,  // then the next are announced
};

static void temp_of(const struct batch *b, const struct object_entry *e,
                    char ret_temp[TEMP_NAME_SIZE]) {
    temp_name(b->options->flow, e->id, b->options->major, b->options->minor, ret_temp);
}

// An empty key "dir/" stands for a directory where there are such.
static bool is_directory_marker(const struct transfer_options *o, struct object_entry *e) {
    if (!e->is_key || sink_capabilities(o->sink)->holds_keys || e->version.size > 0) {
        return false;
    }
    size_t len = e->path_len > 0 ? e->path_len - 1 : 0;
    if (e->path_len > 0 && (e->path[len] != '/' || !object_path_is_valid(e->path, len))) {
        return false;
    }
    e->path_len = len;
    e->is_key = false;
    e->type = OBJECT_DIRECTORY;
    return true;
}

// Decides what to do with the next object of the table: nothing, make it at once, or move it.
static enum err look_at(struct batch *b, uint32_t index, struct failure *ret_failure) {
    const struct transfer_options *o = b->options;
    struct batch_object *object = &b->objects[index];
    struct object_entry entry;
    object_table_get(o->table, index, &entry);
    struct failure failure = {0};
    enum sink_identical identical = SINK_DIFFERS;
    enum err e = OK;
    bool is_marker = is_directory_marker(o, &entry);
    if ((o->skip_identical || sink_capabilities(o->sink)->never_replaces) && !is_marker) {
        e = sink_compare(o->sink, &entry, &identical, &failure);
        if (e == OK) {
            e = sink_check_replaced(o->sink, &entry, identical, &failure);
        }
    }
    if (e == OK && identical == SINK_SAME) {
        object->progress = PROGRESS_IDENTICAL;
        object->bytes = entry.version.size;
        b->n_made++;
        return OK;
    }
    if (e == OK && entry.type == OBJECT_FILE) {
        b->queue[b->tail++] = index;
        return OK;
    }
    if (e == OK) {
        char temp[TEMP_NAME_SIZE];
        temp_of(b, &entry, temp);
        e = entry.type == OBJECT_DIRECTORY ? sink_make_directory(o->sink, &entry, &failure)
                                           : sink_make_special(o->sink, &entry, temp, &failure);
    }
    if (e == OK) {
        object->progress = PROGRESS_MADE;
        b->n_made++;
        return OK;
    }
    return batch_object_failed(b, index, e, &failure, ret_failure);
}

// Fills the window and tells the source what comes.
static enum err look_ahead(struct batch *b, struct failure *ret_failure) {
    const struct transfer_options *o = b->options;
    if (b->tail - b->head > WINDOW_LOW) {
        return OK;
    }
    while (b->n_looked_at < o->table->count && b->tail - b->head < WINDOW_MAX &&
           !transfer_is_cancelled(o) && !transfer_has_to_yield(o)) {
        enum err e = look_at(b, b->n_looked_at++, ret_failure);
        if (e != OK) {
            return e;
        }
    }
    struct source_range ranges[WINDOW_MAX];
    size_t n = 0;
    while (b->n_announced < b->tail && n < WINDOW_MAX) {
        uint32_t index = b->queue[b->n_announced++];
        struct object_entry entry;
        object_table_get(o->table, index, &entry);
        bool any = b->objects[index].accept_changed;
        ranges[n++] = (struct source_range){
            .index = index,
            .accept_changed = any,
            .length = any ? SOURCE_TO_END : entry.version.size,
        };
    }
    return transfer_is_within_store(o) ? OK : source_expect(o->source, ranges, n, ret_failure);
}

static enum err check_digests(struct batch *b, const struct source_found *found,
                              const struct source_closed *closed, struct failure *ret_failure) {
    const struct transfer_options *o = b->options;
    const struct object_entry *e = &found->entry;
    const uint8_t *ours;
    size_t n_ours;
    enum err err = leaf_hasher_finish(b->copy.hasher, &ours, &n_ours);
    if (err != OK) {
        return failure_set(ret_failure, err, "hash", e->path, e->path_len, NULL);
    }
    if (source_capabilities(o->source)->has_digests) {
        size_t n =
            transfer_same_leaves(o->digest, ours, n_ours, closed->leaf_digests, closed->n_leaves);
        size_t size = hash_digest_bytes(o->digest);
        if (n < n_ours && n < closed->n_leaves) {
            return transfer_corrupt(o, e, n, ours + n * size, closed->leaf_digests + n * size,
                                    ret_failure);
        }
        if (n_ours != closed->n_leaves) {
            return failure_set(ret_failure, ERR_PROTOCOL, "check digest", e->path, e->path_len,
                               "the source has digests of %zu leaves, here are %zu",
                               closed->n_leaves, n_ours);
        }
    }
    struct batch_object *object = &b->objects[b->queue[b->head]];
    object->bytes = e->version.size;
    tree_digest(o->digest, e->version.size, ours, n_ours, &object->digest);
    object->has_digest = true;
    return found->has_digest
               ? source_check_kept(o->digest, e, &object->digest, &found->digest, ret_failure)
               : OK;
}

static enum err begin(struct batch *b, const struct object_entry *e, struct failure *ret_failure) {
    char temp[TEMP_NAME_SIZE];
    temp_of(b, e, temp);
    enum err err = sink_begin(b->options->sink, e, temp, ret_failure);
    if (err == ERR_FULL && b->n_staged > 0) { // out of descriptors: staged objects hold some
        err = batch_finish_staged(b, ret_failure);
        if (err == OK) {
            err = sink_begin(b->options->sink, e, temp, ret_failure);
        }
    }
    return err;
}

// The bytes of the open source into a temporary, or its blocks (*@ret_shared). The source is open
// afterwards if it fails.
static enum err move_bytes(struct batch *b, const struct object_entry *e, bool *ret_shared,
                           struct failure *ret_failure) {
    uint64_t start = clock_mono_us();
    enum err err = begin(b, e, ret_failure);
    b->options->times->write_us += clock_mono_us() - start;
    if (err != OK) {
        return err;
    }
    uint64_t moved = 0;
    leaf_hasher_reset(b->copy.hasher);
    if (e->version.size > 0) {
        err = transfer_copy_share(&b->copy, 0, e->version.size, true, ret_shared, ret_failure);
    }
    if (err == OK && e->version.size > 0 && !*ret_shared) {
        err = transfer_copy_range(&b->copy, 0, e->version.size, false, &moved, ret_failure);
    }
    if (err == OK && !*ret_shared && moved != e->version.size) {
        err = failure_set(ret_failure, ERR_SOURCE_CHANGED, "read", e->path, e->path_len,
                          "it has another size than when it was opened");
    }
    return err;
}

// The store that both ends are in copies it by itself: no byte passes through here.
static enum err copy_object(struct batch *b, uint32_t index, struct failure *ret_failure) {
    const struct transfer_options *o = b->options;
    struct object_entry e;
    struct object_origin origin;
    object_table_get(o->table, index, &e);
    enum err err = source_origin(o->source, index, &origin);
    if (err != OK) {
        return failure_set(ret_failure, err, "copy", e.path, e.path_len, NULL);
    }
    if (b->objects[index].accept_changed) {
        origin.etag = "";
    }
    o->control->path = PATH_WITHIN_STORE;
    uint64_t start = clock_mono_us();
    err = sink_copy(o->sink, &e, &origin, index, ret_failure);
    o->times->write_us += clock_mono_us() - start;
    if (err == OK) {
        b->objects[index].bytes = e.version.size;
        b->objects[index].progress = PROGRESS_STAGED;
        b->n_staged++;
    }
    return err;
}

static enum err move_object(struct batch *b, uint32_t index, struct failure *ret_failure) {
    const struct transfer_options *o = b->options;
    struct object_entry listed;
    if (batch_is_copied(b, index)) {
        struct failure failure = {0};
        enum err copy_e = copy_object(b, index, &failure);
        if (copy_e != ERR_UNIMPLEMENTED) {
            *ret_failure = failure;
            return copy_e;
        }
        batch_stream_instead(b, index, &failure);
    }
    object_table_get(o->table, index, &listed);
    bool any = b->objects[index].accept_changed;
    struct source_range range = {
        .index = index,
        .accept_changed = any,
        .length = any ? SOURCE_TO_END : listed.version.size,
    };
    struct source_found found = {0};
    uint64_t start = clock_mono_us();
    enum err e = source_open(o->source, &range, &found, ret_failure);
    uint64_t *reading =
        source_capabilities(o->source)->is_remote ? &o->times->receive_us : &o->times->read_us;
    *reading += clock_mono_us() - start;
    if (e != OK) {
        return e;
    }
    found.entry.path = listed.path;
    found.entry.path_len = listed.path_len;
    found.entry.id = listed.id;
    found.entry.is_key = listed.is_key;

    sink_set_properties(o->sink, found.properties);
    bool is_shared = false;
    e = move_bytes(b, &found.entry, &is_shared, ret_failure);
    struct source_closed closed;
    start = clock_mono_us();
    enum err close_e = source_close(o->source, &closed, e == OK ? ret_failure : NULL);
    *reading += clock_mono_us() - start;
    if (e == OK) {
        e = close_e;
    }
    if (e == OK && is_shared) {
        b->objects[index].bytes = found.entry.version.size;
    } else if (e == OK) {
        e = check_digests(b, &found, &closed, ret_failure);
    }
    if (e == OK) {
        if (!is_shared) {
            sink_set_digest(o->sink, o->digest, &b->objects[index].digest);
        }
        start = clock_mono_us();
        e = sink_stage(o->sink, index, ret_failure);
        o->times->write_us += clock_mono_us() - start;
    }
    if (e != OK) {
        sink_drop(o->sink);
        return e;
    }
    b->objects[index].progress = PROGRESS_STAGED;
    b->n_staged++;
    return OK;
}

static enum err run(struct batch *b, struct failure *ret_failure) {
    const struct transfer_options *o = b->options;
    uint32_t max_staged =
        o->durability == DURABILITY_NONE ? 1 : sink_capabilities(o->sink)->max_staged;
    for (;;) {
        if (transfer_is_cancelled(o)) {
            return failure_set(ret_failure, ERR_CANCELLED, "transfer", NULL, 0, NULL);
        }
        enum err e = look_ahead(b, ret_failure);
        if (e != OK) {
            return e;
        }
        if (b->head == b->tail && b->n_staged > 0 && transfer_is_within_store(o)) {
            e = batch_finish_staged(b, ret_failure); // what the store did not copy comes again
            if (e != OK) {
                return e;
            }
        }
        if (b->head == b->tail || transfer_has_to_yield(o)) {
            return OK;
        }
        struct failure failure = {0};
        uint32_t index = b->queue[b->head];
        e = move_object(b, index, &failure);
        b->head++;
        if (e != OK) {
            e = batch_object_failed(b, index, e, &failure, ret_failure);
        } else if (b->n_staged >= max_staged) {
            e = batch_finish_staged(b, ret_failure);
        }
        if (e != OK) {
            return e;
        }
    }
}

enum err transfer_batch(const struct transfer_options *o, struct transfer_object *results,
                        struct failure *ret_failure) {
    uint32_t n = o->table->count;
    AUTO(auto_free) struct batch_object *objects = calloc((size_t)n + 1, sizeof(*objects));
    AUTO(auto_free)
    uint32_t *queue = calloc((size_t)n * (BATCH_ATTEMPTS_MAX + 1) + 1, sizeof(*queue));
    AUTO(auto_free) struct batch *b = calloc(1, sizeof(*b));
    if (!objects || !queue || !b) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "transfer", NULL, 0, NULL);
    }
    b->options = o;
    b->results = results;
    b->objects = objects;
    b->queue = queue;
    enum err e = transfer_copy_init(&b->copy, o, ret_failure);
    if (e != OK) {
        return e;
    }
    e = run(b, ret_failure);
    if (e != ERR_CANCELLED && e != ERR_FENCED) {
        // What is complete is not lost, whatever ended the task.
        enum err finish_e = batch_finish_all(b, e == OK ? ret_failure : NULL);
        e = e != OK ? e : finish_e;
    }
    transfer_copy_deinit(&b->copy);
    return e;
}
