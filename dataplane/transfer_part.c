// SPDX-License-Identifier: Apache-2.0
// A range of one large object, read in steps that are announced ahead and checked one by one,
// so that little is lost when the range is left in the middle.
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "dataplane/transfer_copy.h"

#include <stdlib.h>
#include <string.h>

#define STEP_BYTES ((uint64_t)32 << 20)
enum {
    STEPS_MAX = 64,   // of a part; a longer one has longer steps
    ATTEMPTS_MAX = 2, // at each step
};

struct step {
    uint64_t offset, length; // of the object
    uint64_t done;           // bytes that are written and the same at both ends
};

struct part {
    const struct transfer_options *options;
    struct object_entry entry;
    struct transfer_copy copy;
    struct step steps[STEPS_MAX];
    size_t n_steps;
    uint64_t offset, align;
    uint8_t *leaf_digests; // of all steps, each at its place
};

static void cut_steps(struct part *p, uint64_t offset, uint64_t length) {
    uint64_t step = STEP_BYTES;
    if (length > step * STEPS_MAX) {
        step = (length / STEPS_MAX / LEAF_BYTES + 1) * LEAF_BYTES;
    }
    for (uint64_t at = 0; at < length; at += step) {
        uint64_t n = length - at < step ? length - at : step;
        p->steps[p->n_steps++] = (struct step){.offset = offset + at, .length = n};
    }
}

static uint8_t *digests_at(struct part *p, uint64_t object_offset) {
    return p->leaf_digests +
           (object_offset - p->offset) / LEAF_BYTES * hash_digest_bytes(p->options->digest);
}

static struct source_range range_of(const struct step *s) {
    return (struct source_range){.offset = s->offset + s->done, .length = s->length - s->done};
}

static enum err announce(struct part *p, const struct step *steps, size_t n,
                         struct failure *ret_failure) {
    struct source_range ranges[STEPS_MAX];
    for (size_t i = 0; i < n; i++) {
        ranges[i] = range_of(&steps[i]);
    }
    return source_expect(p->options->source, ranges, n, ret_failure);
}

// What of a step's bytes, @moved of them, is the same at both ends? Adds it to the step.
static enum err check_step(struct part *p, struct step *s, uint64_t moved,
                           const struct source_closed *closed, struct failure *ret_failure) {
    const struct transfer_options *o = p->options;
    uint64_t start = s->offset + s->done;
    bool is_whole = moved == s->length - s->done;
    const uint8_t *ours;
    size_t n_ours, size = hash_digest_bytes(o->digest);
    if (is_whole) {
        enum err e = leaf_hasher_finish(p->copy.hasher, &ours, &n_ours);
        if (e != OK) {
            return failure_set(ret_failure, e, "hash", NULL, 0, NULL);
        }
    } else {
        leaf_hasher_complete(p->copy.hasher, &ours, &n_ours);
        // The last one may have been hashed and then not written to its end.
        n_ours = n_ours < moved / LEAF_BYTES ? n_ours : (size_t)(moved / LEAF_BYTES);
    }
    size_t n_theirs = n_ours, n = n_ours;
    if (source_capabilities(o->source)->has_digests) {
        n_theirs = closed->n_leaves;
        n = transfer_same_leaves(o->digest, ours, n_ours, closed->leaf_digests, n_theirs);
    }
    if (n > 0) {
        memcpy(digests_at(p, start), ours, n * size);
    }
    s->done += n * LEAF_BYTES < moved ? n * LEAF_BYTES : moved;
    if (n < n_ours && n < n_theirs) {
        return transfer_corrupt(o, &p->entry, start / LEAF_BYTES + n, ours + n * size,
                                closed->leaf_digests + n * size, ret_failure);
    }
    if (is_whole && n_theirs != n_ours) {
        return failure_set(ret_failure, ERR_PROTOCOL, "check digest", p->entry.path,
                           p->entry.path_len, "the source has digests of %zu leaves, here are %zu",
                           n_theirs, n_ours);
    }
    return OK;
}

static enum err move_step(struct part *p, struct step *s, struct failure *ret_failure) {
    const struct transfer_options *o = p->options;
    struct source_range range = range_of(s);
    struct source_found found;
    uint64_t *reading =
        source_capabilities(o->source)->is_remote ? &o->times->receive_us : &o->times->read_us;
    uint64_t start = clock_mono_us();
    enum err e = source_open(o->source, &range, &found, ret_failure);
    *reading += clock_mono_us() - start;
    if (e != OK) {
        return e;
    }
    uint64_t moved;
    e = transfer_copy_range(&p->copy, range.offset, range.length, true, &moved, ret_failure);
    struct source_closed closed = {0};
    start = clock_mono_us();
    enum err close_e = source_close(o->source, &closed, e == OK ? ret_failure : NULL);
    *reading += clock_mono_us() - start;
    if (close_e != OK) {
        return e != OK ? e : close_e; // unchecked: none of it counts
    }
    if (e == OK && moved < range.length && !transfer_has_to_yield(o)) {
        e = failure_set(ret_failure, ERR_SOURCE_CHANGED, "read", p->entry.path, p->entry.path_len,
                        "it is shorter than when it was listed");
    }
    enum err check_e = check_step(p, s, moved, &closed, e == OK ? ret_failure : NULL);
    return e != OK ? e : check_e;
}

// The whole part at once, where the file system can share blocks. Nothing of it counts if it
// fails.
static enum err share_part(struct part *p, uint64_t length, bool *ret_shared,
                           struct failure *ret_failure) {
    const struct transfer_options *o = p->options;
    const struct source_range range = {.offset = p->offset, .length = length};
    if (!path_may_share(&p->copy.choice, o->source, o->sink, length)) {
        return OK;
    }
    struct source_found found;
    enum err e = source_expect(o->source, &range, 1, ret_failure);
    if (e == OK) {
        e = source_open(o->source, &range, &found, ret_failure);
    }
    if (e != OK) {
        return e;
    }
    bool to_end = p->offset + length >= p->entry.version.size;
    e = transfer_copy_share(&p->copy, p->offset, length, to_end, ret_shared, ret_failure);
    struct source_closed closed;
    enum err close_e = source_close(o->source, &closed, e == OK ? ret_failure : NULL);
    return e != OK ? e : close_e;
}

static enum err move_steps(struct part *p, struct failure *ret_failure) {
    const struct transfer_options *o = p->options;
    uint8_t order[STEPS_MAX * ATTEMPTS_MAX]; // a step that is tried again comes again at the end
    size_t n = 0;
    for (; n < p->n_steps; n++) {
        order[n] = (uint8_t)n;
    }
    enum err e = announce(p, p->steps, p->n_steps, ret_failure);
    for (size_t i = 0; i < n && e == OK; i++) {
        if (transfer_has_to_yield(o)) {
            break;
        }
        struct step *s = &p->steps[order[i]];
        struct failure failure = {0};
        e = move_step(p, s, &failure);
        // A sink that takes bytes in their order only leaves the rest to another attempt.
        if (e == ERR_CORRUPT && i < p->n_steps && p->align == 1) {
            log_event(LOG_WARN, "part_retried", LOG_PATH("path", p->entry.path, p->entry.path_len),
                      LOG_U64("offset_bytes", s->offset + s->done), LOG_FAILURE(&failure));
            order[n++] = order[i];
            e = announce(p, s, 1, &failure);
        }
        if (e != OK && ret_failure) {
            *ret_failure = failure;
        }
    }
    return e;
}

// From the offset on, without gaps.
static uint64_t done_bytes(const struct part *p) {
    uint64_t done = 0;
    for (size_t i = 0; i < p->n_steps; i++) {
        done += p->steps[i].done;
        if (p->steps[i].done < p->steps[i].length) {
            break;
        }
    }
    // What the sink keeps of a part ends where a next one may begin.
    return p->offset + done < p->entry.version.size ? done / p->align * p->align : done;
}

// Does nothing of what was written count after this?
static bool voids_all(enum err e) {
    return e == ERR_SOURCE_CHANGED || e == ERR_FENCED || e == ERR_DEST_CHANGED;
}

static enum err move_part(struct part *p, uint64_t length, const struct receipt *open,
                          struct transfer_part *ret_part, struct failure *ret_failure) {
    const struct transfer_options *o = p->options;
    char temp[TEMP_NAME_SIZE];
    temp_name(o->flow, p->entry.id, o->major, o->minor, temp);
    enum err e = sink_open_part(o->sink, &p->entry, temp, open, ret_failure);
    if (e != OK) {
        return e;
    }
    bool is_shared = false;
    e = share_part(p, length, &is_shared, ret_failure);
    uint64_t done = e == OK ? length : 0;
    if (!is_shared) {
        e = e == OK ? move_steps(p, ret_failure) : e;
        done = voids_all(e) ? 0 : done_bytes(p);
    }
    if (done == 0 && e != OK) {
        sink_drop(o->sink);
        return e;
    }
    bool sync = o->durability != DURABILITY_NONE;
    uint64_t start = clock_mono_us();
    struct receipt receipt;
    enum err close_e = sink_close_part(o->sink, sync, &receipt, e == OK ? ret_failure : NULL);
    o->times->sync_us += clock_mono_us() - start;
    if (close_e != OK) {
        return e != OK ? e : close_e; // what could not be synced was not written
    }
    ret_part->done_bytes = done;
    if (!is_shared) {
        ret_part->leaf_digests = take_ptr(p->leaf_digests);
        ret_part->n_leaves = (size_t)((done + LEAF_BYTES - 1) / LEAF_BYTES);
    }
    ret_part->receipt = receipt;
    ret_part->synced = sync;
    return e;
}

// The store moves the bytes: there is nothing to hash.
static enum err copy_within_store(const struct transfer_options *o, const struct object_entry *e,
                                  uint64_t offset, uint64_t length, const struct receipt *open,
                                  struct transfer_part *ret_part, struct failure *ret_failure) {
    char temp[TEMP_NAME_SIZE];
    struct object_origin origin;
    temp_name(o->flow, e->id, o->major, o->minor, temp);
    o->control->path = o->control->no_path = PATH_WITHIN_STORE;
    enum err err = source_origin(o->source, 0, &origin);
    if (err != OK) {
        return failure_set(ret_failure, err, "copy", e->path, e->path_len, NULL);
    }
    err = sink_open_part(o->sink, e, temp, open, ret_failure);
    if (err != OK) {
        return err;
    }
    uint64_t start = clock_mono_us();
    err = sink_copy_part(o->sink, e, &origin, offset, length, ret_failure);
    o->times->write_us += clock_mono_us() - start;
    if (err != OK) {
        sink_drop(o->sink);
        return err;
    }
    struct receipt receipt = {0};
    err = sink_close_part(o->sink, true, &receipt, ret_failure);
    if (err == OK) {
        ret_part->done_bytes = length;
        ret_part->receipt = receipt;
        ret_part->synced = true;
    }
    return err;
}

enum err transfer_part(const struct transfer_options *o, uint64_t offset, uint64_t length,
                       const struct receipt *open, struct transfer_part *ret_part,
                       struct failure *ret_failure) {
    *ret_part = (struct transfer_part){0};
    struct object_entry entry = {0};
    if (o->table->count > 0) {
        object_table_get(o->table, 0, &entry);
    }
    uint64_t align = sink_part_align(o->sink, &entry);
    if (o->table->count != 1 || offset % LEAF_BYTES != 0 || offset % align != 0 || length == 0 ||
        offset > entry.version.size || length > entry.version.size - offset) {
        return failure_set(ret_failure, ERR_INVALID, "transfer part", entry.path, entry.path_len,
                           "the range is not one of the object's, or starts inside a leaf");
    }
    if (transfer_is_within_store(o)) {
        return copy_within_store(o, &entry, offset, length, open, ret_part, ret_failure);
    }
    AUTO(auto_free) struct part *p = calloc(1, sizeof(*p));
    size_t n_leaves = (size_t)((length + LEAF_BYTES - 1) / LEAF_BYTES);
    AUTO(auto_free) uint8_t *digests = calloc(n_leaves, hash_digest_bytes(o->digest));
    if (!p || !digests) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "transfer part", entry.path, entry.path_len,
                           NULL);
    }
    p->options = o;
    p->entry = entry;
    p->offset = offset;
    p->align = align;
    cut_steps(p, offset, length);
    enum err e = transfer_copy_init(&p->copy, o, ret_failure);
    if (e != OK) {
        return e;
    }
    p->leaf_digests = take_ptr(digests);
    e = move_part(p, length, open, ret_part, ret_failure);
    free(p->leaf_digests);
    transfer_copy_deinit(&p->copy);
    return e;
}
