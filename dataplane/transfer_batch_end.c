// SPDX-License-Identifier: Apache-2.0
// How objects of a batch end: staged ones are finished together; what failed is tried again, or
// told, or ends the task.
#include "common/clock.h"
#include "common/log.h"
#include "dataplane/transfer_batch_impl.h"

// Errors that the next object would meet as well.
static bool ends_task(enum err e) {
    switch ((int)e) { // the others are an object's own
    case ERR_UNAUTHENTICATED:
    case ERR_STATE:
    case ERR_NO_MEMORY:
    case ERR_CANCELLED:
    case ERR_TIMEOUT:
    case ERR_PEER_LOST:
    case ERR_UNREACHABLE:
    case ERR_PROTOCOL:
    case ERR_FENCED:
    case ERR_NO_SPACE:
    case ERR_QUOTA:
    case ERR_READ_ONLY:
    case ERR_FULL:
    case ERR_NO_VOLUME:
    case ERR_INTERNAL: return true;
    default: return false;
    }
}

static bool is_no_space(enum err e) {
    return e == ERR_NO_SPACE || e == ERR_QUOTA;
}

static void set_failed(struct batch *b, uint32_t index, enum err e, const struct failure *failure) {
    struct transfer_object *r = &b->results[index];
    r->outcome = TRANSFER_FAILED;
    r->failure = *failure;
    if (r->failure.err == OK) { // there was no memory to say more
        struct object_entry entry;
        object_table_get(b->options->table, index, &entry);
        failure_set(&r->failure, e, "transfer", entry.path, entry.path_len, NULL);
    }
}

static void set_done(struct batch *b, uint32_t index, enum transfer_outcome outcome) {
    struct transfer_object *r = &b->results[index];
    r->bytes = b->objects[index].bytes;
    r->digest = b->objects[index].digest;
    r->has_digest = b->objects[index].has_digest;
    r->outcome = outcome;
    atomic_fetch_add_explicit(&b->options->control->objects, 1, memory_order_relaxed);
}

enum err batch_object_failed(struct batch *b, uint32_t index, enum err e, struct failure *failure,
                             struct failure *ret_failure) {
    struct batch_object *object = &b->objects[index];
    object->attempts++;
    if ((e == ERR_SOURCE_CHANGED || e == ERR_CORRUPT) && object->attempts < BATCH_ATTEMPTS_MAX) {
        struct object_entry entry;
        object_table_get(b->options->table, index, &entry);
        log_event(LOG_WARN, "object_retried", LOG_PATH("path", entry.path, entry.path_len),
                  LOG_FAILURE(failure));
        object->accept_changed |= e == ERR_SOURCE_CHANGED;
        b->queue[b->tail++] = index;
        return OK;
    }
    if (!ends_task(e) || is_no_space(e)) {
        set_failed(b, index, e, failure);
    }
    if (!ends_task(e)) {
        return OK;
    }
    if (ret_failure) {
        *ret_failure = *failure;
    }
    return e;
}

bool batch_is_copied(const struct batch *b, uint32_t index) {
    return transfer_is_within_store(b->options) && !b->objects[index].is_streamed;
}

void batch_stream_instead(struct batch *b, uint32_t index, const struct failure *why) {
    struct object_entry entry;
    object_table_get(b->options->table, index, &entry);
    log_event(LOG_DEBUG, "object_streamed", LOG_PATH("path", entry.path, entry.path_len),
              LOG_FAILURE(why));
    b->objects[index].is_streamed = true;
}

static void on_finished(void *user, uint32_t index, enum err result,
                        const struct failure *failure) {
    struct batch *b = user;
    struct batch_object *object = &b->objects[index];
    if (result == ERR_UNIMPLEMENTED && batch_is_copied(b, index)) {
        object->progress = PROGRESS_NONE;
        batch_stream_instead(b, index, failure);
        b->queue[b->tail++] = index;
        return;
    }
    if (result == OK && batch_is_copied(b, index)) {
        b->options->control->no_path = PATH_WITHIN_STORE;
    }
    if (result == OK && b->options->durability == DURABILITY_TASK) {
        object->progress = PROGRESS_MADE; // its directory is synced at the end
        b->n_made++;
        return;
    }
    object->progress = PROGRESS_NONE;
    if (result == OK) {
        set_done(b, index, TRANSFER_DELIVERED);
        return;
    }
    set_failed(b, index, result, failure);
    if (is_no_space(result) && b->sink_full == OK) {
        b->sink_full = result;
        b->sink_full_failure = b->results[index].failure;
    }
}

enum err batch_finish_staged(struct batch *b, struct failure *ret_failure) {
    const struct transfer_options *o = b->options;
    if (b->n_staged == 0) {
        return OK;
    }
    b->n_staged = 0;
    uint64_t start = clock_mono_us();
    enum err e = sink_finish_staged(o->sink, o->durability, on_finished, b, ret_failure);
    o->times->sync_us += clock_mono_us() - start;
    if (e == OK && b->sink_full != OK) {
        if (ret_failure) {
            *ret_failure = b->sink_full_failure;
        }
        return b->sink_full;
    }
    return e;
}

enum err batch_finish_all(struct batch *b, struct failure *ret_failure) {
    const struct transfer_options *o = b->options;
    enum err e = batch_finish_staged(b, ret_failure);
    if (e == ERR_FENCED || b->n_made == 0) {
        return e;
    }
    enum err sync_e = OK;
    if (o->durability != DURABILITY_NONE) {
        uint64_t start = clock_mono_us();
        sync_e = sink_sync_directories(o->sink, e == OK ? ret_failure : NULL);
        o->times->sync_us += clock_mono_us() - start;
    }
    if (sync_e != OK) {
        return e != OK ? e : sync_e;
    }
    for (uint32_t i = 0; i < o->table->count && b->n_made > 0; i++) {
        struct batch_object *object = &b->objects[i];
        if (object->progress == PROGRESS_MADE || object->progress == PROGRESS_IDENTICAL) {
            set_done(b, i,
                     object->progress == PROGRESS_MADE ? TRANSFER_DELIVERED : TRANSFER_IDENTICAL);
            object->progress = PROGRESS_NONE;
            b->n_made--;
        }
    }
    return e;
}
