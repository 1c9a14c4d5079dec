// SPDX-License-Identifier: Apache-2.0
#include "dataplane/source_agent_impl.h"

#include <stdlib.h>
#include <string.h>

static struct source_agent *impl(struct source *s) {
    return (struct source_agent *)(void *)s;
}

// ---- going on with another peer ----

// May another agent be able to read what this one cannot?
static bool is_elsewhere(const struct failure *reason) {
    return err_retry_class(reason->err) == RETRY_ELSEWHERE || reason->err == ERR_STALE;
}

static bool is_same_version(const struct object_version *a, const struct object_version *b) {
    return a->size == b->size && a->mtime_ns == b->mtime_ns;
}

// The object's own failure goes to the caller.
static enum err give_up_object(const struct source_agent *a, struct agent_trouble *t,
                               struct failure *ret_failure) {
    struct object_entry e;

    if (t->reason.object_len == 0 && a->requests[a->head].range.index < a->table.count) {
        struct failure named;
        object_table_get(&a->table, a->requests[a->head].range.index, &e);
        failure_set(&named, t->reason.err, t->reason.operation, e.path, e.path_len, "%s",
                    t->reason.message);
        named.errnum = t->reason.errnum;
        t->reason = named;
    }
    if (ret_failure) {
        *ret_failure = t->reason;
    }
    return t->reason.err;
}

// Asks for the open object from another peer, from the first leaf on whose digest is missing;
// bytes that the caller has are passed over. OK: go on; else the object or the source is lost.
static enum err resume(struct source_agent *a, struct agent_trouble *t,
                       struct failure *ret_failure) {
    struct agent_object *o = &a->object;

    while (!t->is_object) {
        struct agent_request *r;
        struct frame_header h;
        struct object_entry entry;
        enum err e = agent_fail_over(a, &t->reason, ret_failure);

        if (e) {
            return e;
        }
        if (o->n_digests > 0 && o->start + o->n_digests * LEAF_BYTES >= o->end) {
            o->n_digests--; // all is known but the end: the last leaf once more
        }
        r = &a->requests[a->head];
        r->from = o->start + o->n_digests * LEAF_BYTES;
        r->range.length = o->end - r->range.offset; // of the version that is pinned
        e = agent_ask(a, ret_failure);
        if (e) {
            return e;
        }
        *t = (struct agent_trouble){0};
        o->hole_left = 0;
        o->ended = false;
        e = agent_take_object(a, &h, &entry, t);
        if (!e && (!is_same_version(&entry.version, &o->version) || h.offset != r->from ||
                   h.aux != o->end - r->from)) {
            t->is_object = true;
            failure_set(&t->reason, ERR_SOURCE_CHANGED, "read", NULL, 0,
                        "'%s' has another version of it than the agent that was asked before",
                        a->peers[a->peer].name);
            agent_drop(a); // its bytes would still come
        } else if (!e) {
            o->wire_pos = h.offset;
            return OK;
        }
    }
    return give_up_object(a, t, ret_failure);
}

// ---- the source's operations ----

static enum err source_agent_expect(struct source *s, const struct source_range *ranges, size_t n,
                                    struct failure *ret_failure) {
    for (size_t i = 0; i < n; i++) {
        if (ranges[i].index >= impl(s)->table.count) {
            return failure_set(ret_failure, ERR_INVALID, "read", NULL, 0,
                               "no such object in the task");
        }
        if (agent_request_add(impl(s), &ranges[i])) {
            return failure_set(ret_failure, ERR_NO_MEMORY, "read", NULL, 0, NULL);
        }
    }
    return OK;
}

static bool is_first(const struct source_agent *a, const struct source_range *range) {
    const struct source_range *r;

    if (a->head == a->n_requests) {
        return false;
    }
    r = &a->requests[a->head].range;
    return r->index == range->index && r->offset == range->offset && r->length == range->length &&
           r->accept_changed == range->accept_changed;
}

static enum err source_agent_open(struct source *s, const struct source_range *range,
                                  struct source_found *ret_found, struct failure *ret_failure) {
    struct source_agent *a = impl(s);
    struct agent_object *o = &a->object;
    struct frame_header h;
    size_t n_elsewhere = 0;

    if (range->index >= a->table.count) {
        return failure_set(ret_failure, ERR_INVALID, "open", NULL, 0, "no such object in the task");
    }
    if (!is_first(a, range) && agent_request_front(a, range)) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "read", NULL, 0, NULL);
    }
    for (;;) {
        struct agent_trouble t = {0};
        struct source_found found = {0};
        enum err e = agent_ask(a, ret_failure);

        if (!e) {
            o->n_digests = 0;
            o->ended = false;
            o->hole_left = 0;
            if (agent_take_object(a, &h, &found.entry, &t) == OK) {
                o->version = found.entry.version;
                o->start = o->pos = o->wire_pos = h.offset;
                o->end = h.offset + h.aux;
                *ret_found = found;
                return OK;
            }
            if (!t.is_object) {
                e = agent_fail_over(a, &t.reason, ret_failure);
            } else if (!is_elsewhere(&t.reason) || n_elsewhere++ >= a->n_peers ||
                       !agent_next_peer(a)) {
                e = give_up_object(a, &t, ret_failure);
            }
        }
        if (e) {
            agent_request_pop(a);
            return e;
        }
    }
}

// What a caller gets: bytes, or a hole.
struct delivery {
    void *buf;
    size_t cap;
    bool is_in_place;  // the bytes may stay where they are
    const void *bytes; // where they are
    size_t len;
    uint64_t hole;
};

static enum err deliver_bytes(struct source_agent *a, struct delivery *d, size_t most,
                              struct agent_trouble *t) {
    enum err e = OK;

    if (d->is_in_place) {
        e = conn_borrow_payload(a->conn, most, &d->bytes, &d->len, &t->reason);
    }
    if (!e && d->len == 0) {
        e = conn_receive_payload(a->conn, d->buf, most, &t->reason);
        d->bytes = d->buf;
        d->len = e ? 0 : most;
    }
    a->object.wire_pos += d->len;
    a->object.pos += d->len;
    return e;
}

// What there is for the caller, if anything: bytes of a DATA, or a hole.
static enum err deliver(struct source_agent *a, struct delivery *d, struct agent_trouble *t) {
    struct agent_object *o = &a->object;
    size_t left = conn_payload_left(a->conn);
    uint64_t again = o->pos - o->wire_pos; // what the caller has already

    if (left > 0 && again > 0) {
        size_t n = again < left ? (size_t)again : left;
        o->wire_pos += n;
        return conn_skip_payload(a->conn, n, &t->reason);
    }
    if (left > 0) {
        return deliver_bytes(a, d, d->cap < left ? d->cap : left, t);
    }
    if (o->hole_left > 0) {
        uint64_t n = o->hole_left;
        o->hole_left = 0;
        o->wire_pos += n;
        if (n > again) {
            d->hole = n - again;
            o->pos += n - again;
        }
        return OK;
    }
    return agent_advance(a, t);
}

static enum err read_on(struct source_agent *a, struct delivery *d, struct failure *ret_failure) {
    if (atomic_load(&a->aborted)) { // even if there are bytes here already
        return failure_set(ret_failure, ERR_CANCELLED, "read", NULL, 0, NULL);
    }
    while (a->object.pos < a->object.end && d->len == 0 && d->hole == 0) {
        struct agent_trouble t = {0};
        enum err e = a->conn ? deliver(a, d, &t)
                             : failure_set(&t.reason, ERR_PEER_LOST, "read", NULL, 0, NULL);

        if (e) {
            e = resume(a, &t, ret_failure);
        }
        if (e) {
            return e;
        }
    }
    return OK;
}

static enum err source_agent_read(struct source *s, void *buf, size_t cap, size_t *ret_len,
                                  uint64_t *ret_hole, struct failure *ret_failure) {
    struct delivery d = {.buf = buf, .cap = cap};
    enum err e = read_on(impl(s), &d, ret_failure);

    if (!e) {
        *ret_len = d.len;
        *ret_hole = d.hole;
    }
    return e;
}

static enum err source_agent_read_in_place(struct source *s, void *buf, size_t cap,
                                           const void **ret_bytes, size_t *ret_len,
                                           uint64_t *ret_hole, struct failure *ret_failure) {
    struct delivery d = {.buf = buf, .cap = cap, .is_in_place = true, .bytes = buf};
    enum err e = read_on(impl(s), &d, ret_failure);

    if (!e) {
        *ret_bytes = d.bytes;
        *ret_len = d.len;
        *ret_hole = d.hole;
    }
    return e;
}

// Lets the rest of a range that was closed early pass by. Whatever goes wrong, the connection
// is given up, and the next object is asked for on another one.
static void pass_by(struct source_agent *a) {
    struct agent_object *o = &a->object;
    struct agent_trouble t = {0};

    if (!a->conn || o->ended) {
        return;
    }
    if (o->end - o->wire_pos > AGENT_DRAIN_BYTES && agent_cancel(a, &t.reason)) {
        agent_drop(a);
        return;
    }
    while (!o->ended) {
        o->wire_pos += conn_payload_left(a->conn) + o->hole_left;
        o->hole_left = 0;
        if (agent_advance(a, &t) && !o->ended) {
            agent_drop(a);
            return;
        }
    }
}

// Receives the end of a range that was read to its end.
static enum err await_end(struct source_agent *a, struct failure *ret_failure) {
    struct agent_object *o = &a->object;

    while (!o->ended) {
        struct agent_trouble t = {0};
        struct delivery none = {0};
        // After a fail-over there may be bytes before the end which the caller has.
        enum err e = a->conn ? deliver(a, &none, &t)
                             : failure_set(&t.reason, ERR_PEER_LOST, "read", NULL, 0, NULL);

        if (e) {
            e = resume(a, &t, ret_failure);
        }
        if (e) {
            return e;
        }
    }
    return is_same_version(&o->closed, &o->version)
               ? OK
               : failure_set(ret_failure, ERR_SOURCE_CHANGED, "read", NULL, 0,
                             "it was written to while it was read");
}

static enum err source_agent_close(struct source *s, struct source_closed *ret_closed,
                                   struct failure *ret_failure) {
    struct source_agent *a = impl(s);
    struct agent_object *o = &a->object;
    size_t read_whole = (size_t)((o->pos - o->start) / LEAF_BYTES);
    enum err e = OK;

    if (o->pos == o->end) {
        e = await_end(a, ret_failure);
    } else {
        pass_by(a);
    }
    if (!e) {
        ret_closed->version = o->pos == o->end ? o->closed : o->version;
        ret_closed->leaf_digests = o->digests;
        ret_closed->n_leaves =
            o->pos == o->end || o->n_digests < read_whole ? o->n_digests : read_whole;
    } else if (!o->ended) {
        pass_by(a);
    }
    agent_request_pop(a);
    return e;
}

static void source_agent_abort(struct source *s) {
    struct source_agent *a = impl(s);

    atomic_store(&a->aborted, true);
    pthread_mutex_lock(&a->mutex);
    if (a->conn) {
        conn_abort(a->conn);
    }
    pthread_mutex_unlock(&a->mutex);
}

static void source_agent_destroy(struct source *s) {
    struct source_agent *a = impl(s);

    agent_release(a);
    pthread_mutex_destroy(&a->mutex);
    object_table_close(&a->table);
    free(a->object.digests);
    free(a->requests);
    free(a->n_failed);
    free(a);
}

static struct source_spent source_agent_remote_spent(const struct source *s) {
    return ((const struct source_agent *)(const void *)s)->spent;
}

static const struct source_ops ops = {
    .kind = "agent",
    .open = source_agent_open,
    .read = source_agent_read,
    .close = source_agent_close,
    .abort = source_agent_abort,
    .destroy = source_agent_destroy,
    .expect = source_agent_expect,
    .read_in_place = source_agent_read_in_place,
    .remote_spent = source_agent_remote_spent,
};

enum err source_agent_new(const struct source_agent_options *o, struct source **ret_source,
                          struct failure *ret_failure) {
    struct source_agent *a;
    enum err e;

    if (!o->pool || o->n_peers == 0 || (o->digest != HASH_XXH3_128 && o->digest != HASH_SHA256)) {
        return failure_set(ret_failure, ERR_INVALID, "open source", NULL, 0,
                           "a remote source needs an agent to ask and a digest");
    }
    for (size_t i = 0; i < o->n_peers; i++) {
        if (o->peers[i].ticket_len > TICKET_MAX_BYTES) {
            return failure_set(ret_failure, ERR_INVALID, "open source", NULL, 0,
                               "a ticket is longer than the limit");
        }
    }
    a = calloc(1, sizeof(*a));
    if (a) {
        a->n_failed = calloc(o->n_peers, sizeof(*a->n_failed));
    }
    if (!a || !a->n_failed || pthread_mutex_init(&a->mutex, NULL) != 0) {
        if (a) {
            free(a->n_failed);
        }
        free(a);
        return failure_set(ret_failure, ERR_NO_MEMORY, "open source", NULL, 0, NULL);
    }
    a->source.ops = &ops;
    a->source.capabilities =
        (struct source_capabilities){.has_digests = true,
                                     .is_remote = true,
                                     .is_agent = true,
                                     .transport = conn_pool_transport_name(o->pool)};
    a->pool = o->pool;
    a->peers = o->peers;
    a->n_peers = o->n_peers;
    a->objects = o->objects;
    a->objects_len = o->objects_len;
    a->task_id = o->task_id;
    a->digest = o->digest;
    a->choice = o->choice;
    a->stall_ms = o->stall_ms > 0 ? o->stall_ms : WIRE_STALL_MS;
    a->next_id = 1;
    atomic_init(&a->aborted, false);
    e = object_table_open(o->objects, o->objects_len, &a->table);
    if (e) {
        failure_set(ret_failure, e, "open source", NULL, 0, "the object table is malformed");
        source_agent_destroy(&a->source);
        return e;
    }
    *ret_source = &a->source;
    return OK;
}

const char *source_agent_peer_name(const struct source *s) {
    const struct source_agent *a = (const struct source_agent *)(const void *)s;

    return a->served_by ? a->served_by : "";
}
