// SPDX-License-Identifier: Apache-2.0
#include "dataplane/transfer_copy.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum { WAIT_STEP_US = 50000 }; // a wait for the rate limit looks at `cancelled` so often

enum err transfer_copy_init(struct transfer_copy *c, const struct transfer_options *o,
                            struct failure *ret_failure) {
    *c = (struct transfer_copy){.options = o, .hasher = leaf_hasher_new(o->digest)};
    if (!c->hasher) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "transfer", NULL, 0, NULL);
    }
    pace_init(&c->pace, o->bytes_per_s);
    return OK;
}

void transfer_copy_deinit(struct transfer_copy *c) {
    leaf_hasher_free(c->hasher);
    c->hasher = NULL;
}

bool transfer_is_within_store(const struct transfer_options *o) {
    const void *store = sink_capabilities(o->sink)->store;
    return store != NULL && store == source_capabilities(o->source)->store;
}

bool transfer_is_cancelled(const struct transfer_options *o) {
    return atomic_load_explicit(&o->control->cancelled, memory_order_relaxed);
}

bool transfer_has_to_yield(const struct transfer_options *o) {
    return atomic_load_explicit(&o->control->yield, memory_order_relaxed);
}

static void keep_pace(struct transfer_copy *c, uint64_t bytes) {
    const struct transfer_options *o = c->options;
    if (o->bytes_per_s == 0) {
        return;
    }
    uint64_t start = clock_mono_us();
    uint64_t left = pace_delay_us(&c->pace, start, bytes);
    while (left > 0 && !transfer_is_cancelled(o)) {
        uint64_t step = left < WAIT_STEP_US ? left : WAIT_STEP_US;
        struct timespec t = {.tv_nsec = (long)step * 1000};
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
        left -= step;
    }
    o->times->wait_us += clock_mono_us() - start;
}

// What is read at once: up to the leaf's end if the range may be left there.
static size_t read_bytes(const struct transfer_copy *c, uint64_t pos, bool by_leaf) {
    size_t cap = c->options->buffer_bytes;
    uint64_t to_leaf = LEAF_BYTES - pos % LEAF_BYTES;
    return by_leaf && to_leaf < cap ? (size_t)to_leaf : cap;
}

// The next bytes: straight to where the sink gathers them, if it does, or they stay where the
// source has them.
static enum err read_next(const struct transfer_copy *c, uint64_t pos, bool by_leaf,
                          const void **ret_bytes, size_t *ret_len, uint64_t *ret_hole,
                          struct failure *ret_failure) {
    const struct transfer_options *o = c->options;
    size_t cap = read_bytes(c, pos, by_leaf), room = 0;
    void *to = sink_room(o->sink, pos, &room);
    if (to != NULL && room < cap) {
        cap = room;
    }
    return source_read_in_place(o->source, to != NULL ? to : o->buffer, cap, ret_bytes, ret_len,
                                ret_hole, ret_failure);
}

static enum err pass_on(struct transfer_copy *c, uint64_t pos, const void *bytes, size_t len,
                        uint64_t hole, struct failure *ret_failure) {
    const struct transfer_options *o = c->options;
    uint64_t start = clock_mono_us();
    enum err e = hole > 0 ? leaf_hasher_update_zeros(c->hasher, hole)
                          : leaf_hasher_update(c->hasher, bytes, len);
    if (e != OK) {
        return failure_set(ret_failure, e, "hash", NULL, 0, NULL);
    }
    uint64_t hashed = clock_mono_us();
    o->times->hash_us += hashed - start;
    e = hole > 0 ? sink_write_hole(o->sink, pos, hole, ret_failure)
                 : sink_write(o->sink, pos, bytes, len, ret_failure);
    o->times->write_us += clock_mono_us() - hashed;
    return e;
}

static void count_moved(struct transfer_control *c, uint64_t bytes) {
    atomic_fetch_add_explicit(&c->bytes, bytes, memory_order_relaxed);
    if (c->kept != NULL) {
        atomic_fetch_add_explicit(c->kept, bytes, memory_order_relaxed);
    }
}

static enum err copy_range(struct transfer_copy *c, uint64_t offset, uint64_t length, bool by_leaf,
                           uint64_t *ret_moved, struct failure *ret_failure) {
    const struct transfer_options *o = c->options;
    uint64_t *read_us =
        source_capabilities(o->source)->is_remote ? &o->times->receive_us : &o->times->read_us;
    uint64_t pos = offset;
    leaf_hasher_reset(c->hasher);
    *ret_moved = 0;
    enum err e = sink_check_fence(o->sink, ret_failure);
    if (e != OK) {
        return e;
    }
    o->control->path = path_name(o->source);
    for (;;) {
        if (transfer_is_cancelled(o)) {
            return failure_set(ret_failure, ERR_CANCELLED, "transfer", NULL, 0, NULL);
        }
        if (by_leaf && pos % LEAF_BYTES == 0 && transfer_has_to_yield(o)) {
            return OK;
        }
        const void *bytes;
        size_t len;
        uint64_t hole, start = clock_mono_us();
        e = read_next(c, pos, by_leaf, &bytes, &len, &hole, ret_failure);
        *read_us += clock_mono_us() - start;
        if (e != OK || (len == 0 && hole == 0)) {
            return e;
        }
        e = pass_on(c, pos, bytes, len, hole, ret_failure);
        if (e != OK) {
            return e;
        }
        pos += len + hole;
        *ret_moved = pos - offset;
        count_moved(o->control, len + hole);
        keep_pace(c, len);
        if (pos - offset >= length) {
            return OK; // a source knows its end, too; this saves asking
        }
    }
}

enum err transfer_copy_range(struct transfer_copy *c, uint64_t offset, uint64_t length,
                             bool by_leaf, uint64_t *ret_moved, struct failure *ret_failure) {
    enum err e = copy_range(c, offset, length, by_leaf, ret_moved, ret_failure);
    uint64_t start = clock_mono_us();
    enum err settle_e = sink_settle(c->options->sink, e == OK ? ret_failure : NULL);
    c->options->times->write_us += clock_mono_us() - start;
    if (settle_e != OK) {
        *ret_moved = 0; // how much of it was written is not known
    }
    return e != OK ? e : settle_e;
}

enum err transfer_copy_share(struct transfer_copy *c, uint64_t offset, uint64_t length, bool to_end,
                             bool *ret_shared, struct failure *ret_failure) {
    const struct transfer_options *o = c->options;
    enum err e = sink_check_fence(o->sink, ret_failure);
    if (e != OK) {
        return e;
    }
    *ret_shared = path_share(&c->choice, o->source, o->sink, offset, length, to_end);
    if (*ret_shared) {
        o->control->path = o->control->no_path = PATH_REFLINK;
        count_moved(o->control, length);
    }
    return OK;
}

size_t transfer_same_leaves(enum hash_algorithm a, const uint8_t *ours, size_t n_ours,
                            const uint8_t *theirs, size_t n_theirs) {
    size_t size = hash_digest_bytes(a), n = n_ours < n_theirs ? n_ours : n_theirs, same = 0;
    while (same < n && memcmp(ours + same * size, theirs + same * size, size) == 0) {
        same++;
    }
    return same;
}

enum err transfer_corrupt(const struct transfer_options *o, const struct object_entry *e,
                          uint64_t leaf, const uint8_t *ours, const uint8_t *theirs,
                          struct failure *ret_failure) {
    char here[2 * HASH_MAX_BYTES + 1], there[2 * HASH_MAX_BYTES + 1];
    hash_hex(ours, hash_digest_bytes(o->digest), here);
    hash_hex(theirs, hash_digest_bytes(o->digest), there);
    log_event(LOG_WARN, "leaf_corrupt", LOG_STR("flow", o->flow),
              LOG_PATH("path", e->path, e->path_len), LOG_U64("leaf", leaf),
              LOG_U64("offset_bytes", leaf * LEAF_BYTES), LOG_STR("digest_source", there),
              LOG_STR("digest_here", here));
    return failure_set(ret_failure, ERR_CORRUPT, "check digest", e->path, e->path_len,
                       "leaf %llu has digest %s at the source and %s here",
                       (unsigned long long)leaf, there, here);
}
