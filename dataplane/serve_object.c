// SPDX-License-Identifier: Apache-2.0
#include "dataplane/serve_object.h"

#include "common/clock.h"

#include <stdlib.h>

enum { UNCOUNTED_MAX = 64 }; // objects without a look at the processor time

// The range that is being sent.
struct sending {
    struct serve_task *task;
    uint64_t request;
    uint64_t start, pos, end;
    size_t digests_sent;
    uint64_t read_us, hash_us;
    struct failure reason; // why the object cannot be read
};

void object_sender_deinit(struct object_sender *o) {
    free(o->buffer);
    o->buffer = NULL;
}

static uint64_t low_32(uint64_t us) {
    return us < UINT32_MAX ? us : UINT32_MAX;
}

static enum err send_end(struct object_sender *o, const struct sending *s,
                         const struct frame_object_end *end, struct failure *ret_failure) {
    enum { ROOM = FRAME_END_FIXED_BYTES + SERVE_END_DIGESTS * HASH_MAX_BYTES };
    _Static_assert((int)ROOM > (int)FRAME_FAILURE_MAX, "an OBJECT_END has room for a failure");
    uint8_t buf[ROOM];
    // Asking for the processor time is a system call: not for each of many small objects.
    bool is_asked = !conn_has_buffered(o->conn) || o->n_uncounted >= UNCOUNTED_MAX;
    uint64_t cpu_us = is_asked ? clock_thread_cpu_us() : o->cpu_mark_us;
    struct frame_header h = {
        .type = FRAME_OBJECT_END,
        .request = s->request,
        .offset = low_32(s->read_us) | low_32(s->hash_us) << 32,
        .aux = cpu_us - o->cpu_mark_us,
        .length = (uint32_t)frame_object_end_encode(end, s->task->digest, buf),
    };
    enum err e;

    o->cpu_mark_us = cpu_us;
    o->n_uncounted = is_asked ? 0 : o->n_uncounted + 1;
    e = conn_put(o->conn, &h, buf, ret_failure);
    if (!e && conn_unflushed_us(o->conn) > SERVE_FLUSH_US) {
        e = conn_flush(o->conn, ret_failure);
    }
    return e;
}

// s->reason says why.
static enum err send_failed(struct object_sender *o, const struct sending *s,
                            struct failure *ret_failure) {
    struct frame_object_end end = {.failure = s->reason};

    return send_end(o, s, &end, ret_failure);
}

// Those digests that are known and were not sent yet.
static enum err send_digests(struct object_sender *o, struct sending *s, struct failure *f) {
    size_t each = hash_digest_bytes(s->task->digest), n = 0;
    const uint8_t *digests;
    enum err e;

    leaf_hasher_complete(s->task->hasher, &digests, &n);
    if (n == s->digests_sent) {
        return OK;
    }
    e = conn_put(o->conn,
                 &(struct frame_header){
                     .type = FRAME_DIGEST,
                     .request = s->request,
                     .offset = s->start + s->digests_sent * LEAF_BYTES,
                     .length = (uint32_t)((n - s->digests_sent) * each),
                 },
                 digests + s->digests_sent * each, f);
    s->digests_sent = n;
    return e;
}

// Reads and sends one step. OK with s->reason filled: the source failed.
static enum err send_step(struct object_sender *o, struct sending *s, struct failure *f) {
    struct frame_header h = {.request = s->request, .offset = s->pos};
    size_t len = 0;
    uint64_t hole = 0, start = clock_mono_us(), read;
    void *lent = conn_lend(o->conn, FRAME_DATA_BYTES), *buffer = lent ? lent : o->buffer;
    enum err e;

    if (source_read(s->task->source, buffer, FRAME_DATA_BYTES, &len, &hole, &s->reason)) {
        return OK;
    }
    read = clock_mono_us();
    s->read_us += read - start;
    if (len == 0 && hole == 0) {
        failure_set(&s->reason, ERR_SOURCE_CHANGED, "read", NULL, 0, "the object became shorter");
        return OK;
    }
    e = hole > 0 ? leaf_hasher_update_zeros(s->task->hasher, hole)
                 : leaf_hasher_update(s->task->hasher, buffer, len);
    if (e) {
        failure_set(&s->reason, e, "hash", NULL, 0, NULL);
        return OK;
    }
    s->hash_us += clock_mono_us() - read;
    h.type = hole > 0 ? FRAME_HOLE : FRAME_DATA;
    h.aux = hole;
    h.length = (uint32_t)len;
    e = conn_put(o->conn, &h, buffer, f);
    if (e) {
        return e;
    }
    atomic_fetch_add_explicit(&o->serve->bytes_served, len, memory_order_relaxed);
    s->pos += len + hole;
    return s->pos < s->end ? send_digests(o, s, f) : OK;
}

static enum err send_bytes(struct object_sender *o, struct sending *s, struct failure *f) {
    uint64_t look_at = s->pos + SERVE_CANCEL_LOOK;

    while (s->pos < s->end && s->reason.err == OK) {
        enum err e = send_step(o, s, f);
        if (e) {
            return e;
        }
        if (s->pos >= look_at && s->pos < s->end) {
            look_at = s->pos + SERVE_CANCEL_LOOK;
            if (conn_peek_cancel(o->conn, s->request)) {
                failure_set(&s->reason, ERR_CANCELLED, "read", NULL, 0, NULL);
            }
        }
    }
    return OK;
}

// The rest of the digests and the version; or why there is none.
static enum err send_closing(struct object_sender *o, struct sending *s, struct failure *f) {
    struct source_closed closed = {0};
    struct frame_object_end end = {0};
    size_t each = hash_digest_bytes(s->task->digest);
    bool failed = s->reason.err != OK;
    enum err e = source_close(s->task->source, &closed, failed ? NULL : &s->reason);

    if (e && !failed && s->reason.err == OK) {
        failure_set(&s->reason, e, "close", NULL, 0, NULL);
    }
    if (s->reason.err == OK) {
        e = leaf_hasher_finish(s->task->hasher, &end.digests, &end.n_digests);
        if (e) {
            failure_set(&s->reason, e, "hash", NULL, 0, NULL);
        }
    }
    if (s->reason.err != OK) {
        return send_failed(o, s, f);
    }
    if (end.n_digests - s->digests_sent > SERVE_END_DIGESTS) {
        e = send_digests(o, s, f);
        if (e) {
            return e;
        }
    }
    if (s->digests_sent > 0) {
        end.digests += s->digests_sent * each;
    }
    end.n_digests -= s->digests_sent;
    end.version = closed.version;
    return send_end(o, s, &end, f);
}

// What cannot be a range of this object. OK: it can.
static enum err check_range(const struct serve_task *t, const struct source_range *range,
                            struct failure *f) {
    struct object_entry want;

    object_table_get(&t->table, range->index, &want);
    if (want.type != OBJECT_FILE) {
        return failure_set(f, ERR_UNSUPPORTED_TYPE, "open", want.path, want.path_len,
                           "only the bytes of regular files can be read");
    }
    if (range->offset % LEAF_BYTES != 0) {
        return failure_set(f, ERR_INVALID, "open", want.path, want.path_len,
                           "a range begins at a leaf");
    }
    return OK;
}

static enum err open_range(struct serve_task *t, const struct source_range *range,
                           struct source_found *found, struct sending *s) {
    uint64_t size;
    enum err e = check_range(t, range, &s->reason);

    if (!e) {
        e = source_open(t->source, range, found, &s->reason);
    }
    if (e) {
        return e;
    }
    size = found->entry.version.size;
    s->start = s->pos = range->offset < size ? range->offset : size;
    s->end = range->length < size - s->start ? s->start + range->length : size;
    if (s->end - s->start > FRAME_RANGE_MAX_BYTES) {
        struct source_closed closed;
        enum err ignored = source_close(t->source, &closed, NULL); // the other failure counts
        (void)ignored;
        return failure_set(&s->reason, ERR_TOO_LARGE, "open", NULL, 0,
                           "a range of more than 16 GiB cannot be read at once");
    }
    return OK;
}

enum err object_sender_send(struct object_sender *o, struct serve_task *t, uint64_t request,
                            const struct source_range *range, struct failure *ret_failure) {
    struct sending s = {.task = t, .request = request};
    struct source_found found;
    uint8_t buf[FRAME_OBJECT_BYTES];
    struct frame_header h = {.type = FRAME_OBJECT, .request = request};
    uint64_t start_us;
    enum err e;

    if (!o->buffer) {
        o->buffer = aligned_alloc(4096, FRAME_DATA_BYTES);
    }
    if (!o->buffer) {
        failure_set(&s.reason, ERR_NO_MEMORY, "read", NULL, 0, NULL);
        return send_failed(o, &s, ret_failure);
    }
    start_us = clock_mono_us();
    if (open_range(t, range, &found, &s)) {
        return send_failed(o, &s, ret_failure);
    }
    s.read_us = clock_mono_us() - start_us;
    leaf_hasher_reset(t->hasher);
    h.offset = s.start;
    h.aux = s.end - s.start;
    h.length = (uint32_t)frame_object_encode(&found.entry, buf);
    e = conn_put(o->conn, &h, buf, ret_failure);
    if (!e) {
        e = send_bytes(o, &s, ret_failure);
    }
    if (e) {
        struct source_closed closed;
        enum err ignored = source_close(t->source, &closed, NULL); // the connection is lost
        (void)ignored;
        return e;
    }
    return send_closing(o, &s, ret_failure);
}
