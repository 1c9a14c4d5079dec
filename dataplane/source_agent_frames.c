// SPDX-License-Identifier: Apache-2.0
// What a source agent answers, frame by frame. It is not trusted: whatever does not follow from
// what it was asked and has said before is a breach of the protocol.
#include "dataplane/source_agent_impl.h"

#include <stdlib.h>
#include <string.h>

static enum err broke_protocol(const struct source_agent *a, struct agent_trouble *t,
                               const char *what) {
    return failure_set(&t->reason, ERR_PROTOCOL, "receive", NULL, 0, "'%s' sent %s",
                       a->peers[a->peer].name, what);
}

static size_t n_leaves(const struct agent_object *o) {
    return (size_t)((o->end - o->start + LEAF_BYTES - 1) / LEAF_BYTES);
}

static enum err add_digests(struct source_agent *a, const uint8_t *digests, size_t n,
                            struct agent_trouble *t) {
    struct agent_object *o = &a->object;
    size_t each = hash_digest_bytes(a->digest);

    if (n > n_leaves(o) - o->n_digests) {
        return broke_protocol(a, t, "more digests than there are leaves");
    }
    if (o->n_digests + n > o->cap_digests) {
        size_t cap = n_leaves(o); // at most FRAME_RANGE_MAX_BYTES / LEAF_BYTES
        uint8_t *grown = realloc(o->digests, cap * each);
        if (!grown) {
            t->is_object = true;
            return failure_set(&t->reason, ERR_NO_MEMORY, "read", NULL, 0, NULL);
        }
        o->digests = grown;
        o->cap_digests = cap;
    }
    if (n > 0) {
        memcpy(o->digests + o->n_digests * each, digests, n * each);
    }
    o->n_digests += n;
    return OK;
}

// Takes an OBJECT_END. Its failure is the object's.
static enum err take_end(struct source_agent *a, const struct frame_header *h, bool is_at_end,
                         struct agent_trouble *t) {
    uint8_t *buf = malloc(h->length > 0 ? h->length : 1);
    struct frame_object_end end;
    enum err e;

    if (!buf) {
        return failure_set(&t->reason, ERR_NO_MEMORY, "read", NULL, 0, NULL);
    }
    e = conn_receive_payload(a->conn, buf, h->length, &t->reason);
    if (!e && frame_object_end_decode(buf, h->length, a->digest, &end)) {
        e = broke_protocol(a, t, "a malformed end of an object");
    }
    if (!e) {
        a->spent.cpu_us += h->aux;
        a->spent.read_us += h->offset & UINT32_MAX;
        a->spent.hash_us += h->offset >> 32;
        a->object.ended = true;
        if (end.failure.err) {
            t->is_object = true;
            t->reason = end.failure;
            e = end.failure.err;
        } else if (!is_at_end) {
            e = broke_protocol(a, t, "the end of an object too early");
        } else {
            a->object.closed = end.version;
            e = add_digests(a, end.digests, end.n_digests, t);
        }
    }
    if (!e && a->object.n_digests != n_leaves(&a->object)) {
        e = broke_protocol(a, t, "too few digests");
    }
    free(buf);
    return e;
}

static enum err take_digests(struct source_agent *a, const struct frame_header *h,
                             struct agent_trouble *t) {
    struct agent_object *o = &a->object;
    size_t each = hash_digest_bytes(a->digest);
    uint8_t *buf;
    enum err e;

    if (h->length == 0 || h->length % each != 0 ||
        h->offset != o->start + o->n_digests * LEAF_BYTES) {
        return broke_protocol(a, t, "digests of other leaves");
    }
    buf = malloc(h->length);
    if (!buf) {
        return failure_set(&t->reason, ERR_NO_MEMORY, "read", NULL, 0, NULL);
    }
    e = conn_receive_payload(a->conn, buf, h->length, &t->reason);
    if (!e) {
        e = add_digests(a, buf, h->length / each, t);
    }
    free(buf);
    return e;
}

enum err agent_advance(struct source_agent *a, struct agent_trouble *t) {
    struct agent_object *o = &a->object;
    struct frame_header h;
    enum err e = agent_receive(a, &h, &t->reason);

    if (e) {
        return e;
    }
    switch ((enum frame_type)h.type) {
    case FRAME_DATA:
        if (h.offset != o->wire_pos || h.length == 0 || h.length > o->end - o->wire_pos) {
            return broke_protocol(a, t, "bytes of another place");
        }
        return OK;
    case FRAME_HOLE:
        if (h.offset != o->wire_pos || h.aux == 0 || h.aux > o->end - o->wire_pos) {
            return broke_protocol(a, t, "a hole of another place");
        }
        o->hole_left = h.aux;
        return OK;
    case FRAME_DIGEST: return take_digests(a, &h, t);
    case FRAME_OBJECT_END: return take_end(a, &h, o->wire_pos == o->end, t);
    case FRAME_HELLO:
    case FRAME_WELCOME:
    case FRAME_OPEN_TASK:
    case FRAME_TASK_OPEN:
    case FRAME_READ:
    case FRAME_OBJECT:
    case FRAME_ERROR:
    case FRAME_CANCEL:
    case FRAME_CLOSE_TASK:
    case FRAME_PING:
    case FRAME_PONG:
    case FRAME_GOAWAY: break;
    }
    return broke_protocol(a, t, "a frame out of its order");
}

// Is that the range that @r asks for, of an object of @size?
static bool is_asked_range(const struct agent_request *r, const struct frame_header *h,
                           uint64_t size) {
    uint64_t from = r->from < size ? r->from : size; // beyond the end there is nothing
    uint64_t length = size - from;

    if (r->range.length != SOURCE_TO_END) {
        uint64_t asked = r->range.offset + r->range.length - r->from;
        length = asked < length ? asked : length;
    }
    return h->offset == from && h->aux == length && length <= FRAME_RANGE_MAX_BYTES;
}

enum err agent_take_object(struct source_agent *a, struct frame_header *ret_header,
                           struct object_entry *ret_entry, struct agent_trouble *t) {
    uint8_t buf[FRAME_OBJECT_BYTES];
    const struct agent_request *r = &a->requests[a->head];
    struct frame_header h;
    enum err e = agent_receive(a, &h, &t->reason);

    if (e) {
        return e;
    }
    if (h.type == FRAME_OBJECT_END) {
        e = take_end(a, &h, false, t);
        return e ? e : broke_protocol(a, t, "an end without a beginning");
    }
    if (h.type != FRAME_OBJECT || h.length != sizeof(buf)) {
        return broke_protocol(a, t, "a frame out of its order");
    }
    e = conn_receive_payload(a->conn, buf, sizeof(buf), &t->reason);
    if (e) {
        return e;
    }
    if (frame_object_decode(buf, sizeof(buf), ret_entry) || ret_entry->type != OBJECT_FILE ||
        !is_asked_range(r, &h, ret_entry->version.size)) {
        return broke_protocol(a, t, "an object that was not asked for");
    }
    a->served_by = a->peers[a->peer].name;
    *ret_header = h;
    return OK;
}
