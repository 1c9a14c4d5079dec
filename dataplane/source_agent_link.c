// SPDX-License-Identifier: Apache-2.0
#include "common/log.h"
#include "dataplane/source_agent_impl.h"

#include <stdlib.h>
#include <string.h>

// ---- what is asked for ----

static uint64_t range_bytes(const struct source_agent *a, const struct source_range *r) {
    struct object_entry e;

    if (r->length != SOURCE_TO_END || r->index >= a->table.count) {
        return r->length == SOURCE_TO_END ? LEAF_BYTES : r->length;
    }
    object_table_get(&a->table, r->index, &e);
    return e.version.size > r->offset ? e.version.size - r->offset : 0;
}

static enum err reserve(struct source_agent *a) {
    struct agent_request *grown;
    size_t cap;

    if (a->n_requests < a->cap_requests) {
        return OK;
    }
    if (a->head > a->cap_requests / 2) { // half of it is done with
        memmove(a->requests, a->requests + a->head,
                (a->n_requests - a->head) * sizeof(a->requests[0]));
        a->n_requests -= a->head;
        a->sent -= a->head;
        a->head = 0;
        return OK;
    }
    cap = a->cap_requests > 0 ? a->cap_requests * 2 : 64;
    grown = realloc(a->requests, cap * sizeof(*grown));
    if (!grown) {
        return ERR_NO_MEMORY;
    }
    a->requests = grown;
    a->cap_requests = cap;
    return OK;
}

static struct agent_request make_request(const struct source_agent *a,
                                         const struct source_range *range) {
    return (struct agent_request){
        .range = *range, .from = range->offset, .bytes = range_bytes(a, range)};
}

enum err agent_request_add(struct source_agent *a, const struct source_range *range) {
    enum err e = reserve(a);

    if (!e) {
        a->requests[a->n_requests++] = make_request(a, range);
    }
    return e;
}

enum err agent_request_front(struct source_agent *a, const struct source_range *range) {
    enum err e = reserve(a);

    if (e) {
        return e;
    }
    if (a->sent > a->head) { // answers to others are on their way already
        agent_drop(a);
    }
    memmove(a->requests + a->head + 1, a->requests + a->head,
            (a->n_requests - a->head) * sizeof(a->requests[0]));
    a->requests[a->head] = make_request(a, range);
    a->n_requests++;
    return OK;
}

void agent_request_pop(struct source_agent *a) {
    if (a->sent > a->head) {
        a->bytes_ahead -= a->requests[a->head].bytes;
    }
    a->head++;
    if (a->sent < a->head) {
        a->sent = a->head;
    }
    if (a->head == a->n_requests) {
        a->head = a->sent = a->n_requests = 0;
    }
}

static enum err put_request(struct source_agent *a, struct agent_request *r, struct failure *f) {
    const struct frame_read read = {
        .task_id = a->task_id, .index = r->range.index, .accept_changed = r->range.accept_changed};
    uint64_t skipped = r->from - r->range.offset;
    uint8_t buf[FRAME_READ_BYTES];
    struct frame_header h = {
        .type = FRAME_READ,
        .request = a->next_id,
        .offset = r->from,
        .aux = r->range.length == SOURCE_TO_END ? SOURCE_TO_END : r->range.length - skipped,
        .length = (uint32_t)frame_read_encode(&read, buf),
    };

    r->id = a->next_id++;
    return conn_put(a->conn, &h, buf, f);
}

// Fills the window, once half of it is empty. It is small beside a socket's buffers: we cannot
// block here while the peer blocks in sending.
static enum err send_requests(struct source_agent *a, struct failure *f) {
    size_t n = a->sent - a->head;

    if (n > AGENT_REQUESTS_AHEAD / 2 || (n > 1 && a->bytes_ahead > AGENT_BYTES_AHEAD / 2)) {
        return OK;
    }
    while (a->sent < a->n_requests && n < AGENT_REQUESTS_AHEAD &&
           (n < 2 || a->bytes_ahead < AGENT_BYTES_AHEAD)) {
        struct agent_request *r = &a->requests[a->sent];
        enum err e = put_request(a, r, f);
        if (e) {
            return e;
        }
        a->bytes_ahead += r->bytes;
        a->sent++;
        n++;
    }
    return conn_flush(a->conn, f);
}

// ---- whom ----

static void set_conn(struct source_agent *a, struct conn *c) {
    pthread_mutex_lock(&a->mutex);
    a->conn = c;
    if (c && atomic_load(&a->aborted)) {
        conn_abort(c);
    }
    pthread_mutex_unlock(&a->mutex);
}

void agent_drop(struct source_agent *a) {
    struct conn *c = a->conn;

    set_conn(a, NULL);
    conn_pool_drop(a->pool, c);
    a->sent = a->head;
    a->bytes_ahead = 0;
}

static enum err open_task(struct source_agent *a, struct conn *c, struct failure *f) {
    const struct source_agent_peer *peer = &a->peers[a->peer];
    uint8_t proof[SIGNATURE_BYTES];
    const struct frame_open_task open = {.ticket = peer->ticket,
                                         .ticket_len = peer->ticket_len,
                                         .objects = a->objects,
                                         .objects_len = a->objects_len,
                                         .proof = proof};
    struct frame_header h = {.type = FRAME_OPEN_TASK, .aux = a->task_id};
    size_t len = frame_open_task_bytes(&open);
    uint8_t *payload = malloc(len);
    enum err e;

    if (!payload) {
        return failure_set(f, ERR_NO_MEMORY, "open task", NULL, 0, NULL);
    }
    e = conn_pool_prove(a->pool, c, peer->ticket, peer->ticket_len, proof);
    if (e) {
        failure_set(f, e, "open task", NULL, 0, "the ticket cannot be signed");
    } else {
        h.length = (uint32_t)frame_open_task_encode(&open, payload);
        e = conn_put(c, &h, payload, f);
    }
    free(payload);
    return e;
}

static struct conn_pool_target target_of(struct source_agent *a) {
    const struct source_agent_peer *peer = &a->peers[a->peer];

    return (struct conn_pool_target){.agent = peer->name,
                                     .addresses = peer->addresses,
                                     .n_addresses = peer->n_addresses,
                                     .choice = a->choice,
                                     .timeout_ms = a->stall_ms,
                                     .cancelled = &a->aborted,
                                     .fresh = a->want_fresh};
}

static enum err connect_peer(struct source_agent *a, struct failure *f) {
    const struct conn_pool_target target = target_of(a);
    struct conn *c = NULL;
    enum err e = conn_pool_take(a->pool, &target, &c, &a->is_reused, f);

    if (e) {
        a->is_reused = false;
        return e;
    }
    a->want_fresh = a->is_answered = a->is_leaving = false;
    a->source.capabilities.transport = conn_transport(c);
    conn_set_stall_ms(c, a->stall_ms);
    set_conn(a, c);
    return open_task(a, c, f);
}

enum err agent_ask(struct source_agent *a, struct failure *ret_failure) {
    for (;;) {
        struct failure reason = {0};
        enum err e = OK;

        if (a->lost.err) {
            if (ret_failure) {
                *ret_failure = a->lost;
            }
            return a->lost.err;
        }
        if (!a->conn) {
            e = connect_peer(a, &reason);
        }
        if (!e) {
            e = send_requests(a, &reason);
        }
        if (!e) {
            return OK;
        }
        e = agent_fail_over(a, &reason, ret_failure);
        if (e) {
            return e;
        }
    }
}

bool agent_next_peer(struct source_agent *a) {
    for (size_t i = 1; i < a->n_peers; i++) {
        size_t next = (a->peer + i) % a->n_peers;
        if (a->n_failed[next] < AGENT_FAILURES_PER_PEER) {
            agent_drop(a);
            a->peer = next;
            return true;
        }
    }
    return false;
}

// What a caller must take as the end of the source, not of one object.
static enum err lost_code(enum err e) {
    bool is_link = e == ERR_PEER_LOST || e == ERR_TIMEOUT || e == ERR_PROTOCOL;

    return is_link ? e : ERR_UNREACHABLE;
}

// Does it say that the way there failed, rather than the peer?
static bool is_link_failure(enum err e) {
    return e == ERR_PEER_LOST || e == ERR_TIMEOUT || e == ERR_PROTOCOL || e == ERR_IO;
}

enum err agent_fail_over(struct source_agent *a, const struct failure *reason,
                         struct failure *ret_failure) {
    const char *name = a->peers[a->peer].name;
    // An idle connection that the peer had just closed says nothing about the peer.
    bool is_stale = a->is_reused && !a->is_answered && reason->err == ERR_PEER_LOST;
    bool is_verbs = a->conn && a->choice == CONN_AUTO && conn_pool_is_rdma(a->pool, a->conn) &&
                    is_link_failure(reason->err);

    if (is_verbs && !is_stale && !a->lost.err && !atomic_load(&a->aborted)) {
        const struct conn_pool_target target = target_of(a);
        conn_pool_rest_rdma(a->pool, &target, a->conn, reason);
    }
    agent_drop(a);
    if (a->lost.err) {
        if (ret_failure) {
            *ret_failure = a->lost;
        }
        return a->lost.err;
    }
    if (atomic_load(&a->aborted)) {
        return failure_set(ret_failure, ERR_CANCELLED, "read", NULL, 0, NULL);
    }
    a->is_reused = false;
    a->want_fresh = true;
    if (is_stale || is_verbs) { // the same peer over another rail or TCP, from the same byte on
        return OK;
    }
    a->n_failed[a->peer]++;
    if (agent_next_peer(a) || a->n_failed[a->peer] < AGENT_FAILURES_PER_PEER) {
        log_event(LOG_WARN, "source_agent_failed", LOG_STR("source_agent", name),
                  LOG_STR("next", a->peers[a->peer].name), LOG_U64("task", a->task_id),
                  LOG_FAILURE(reason));
        return OK;
    }
    failure_set(&a->lost, lost_code(reason->err), reason->operation, reason->object,
                reason->object_len, "no source agent is left to ask; the last one, '%s': %s", name,
                reason->message);
    a->lost.errnum = reason->errnum;
    if (ret_failure) {
        *ret_failure = a->lost;
    }
    return a->lost.err;
}

// ---- what comes back ----

enum err agent_receive(struct source_agent *a, struct frame_header *ret_header,
                       struct failure *ret_failure) {
    for (;;) {
        struct frame_header h;
        uint8_t buf[FRAME_FAILURE_MAX];
        struct failure reason;
        enum err e = conn_receive(a->conn, 0, &h, ret_failure);

        if (e) {
            return e;
        }
        a->is_answered = true;
        switch ((enum frame_type)h.type) {
        case FRAME_TASK_OPEN:
        case FRAME_PONG: break;
        case FRAME_GOAWAY: a->is_leaving = true; break;
        case FRAME_PING:
            e = conn_put(a->conn, &(struct frame_header){.type = FRAME_PONG, .request = h.request},
                         NULL, ret_failure);
            e = e ? e : conn_flush(a->conn, ret_failure);
            break;
        case FRAME_OBJECT:
        case FRAME_DATA:
        case FRAME_HOLE:
        case FRAME_DIGEST:
        case FRAME_OBJECT_END:
            if (a->sent == a->head || h.request != a->requests[a->head].id) {
                return failure_set(ret_failure, ERR_PROTOCOL, "receive", NULL, 0,
                                   "'%s' answered what it was not asked", conn_agent(a->conn));
            }
            *ret_header = h;
            return OK;
        case FRAME_ERROR:
            if (h.length <= sizeof(buf) &&
                conn_receive_payload(a->conn, buf, h.length, ret_failure) == OK &&
                frame_failure_decode(buf, h.length, &reason) == OK) {
                *ret_failure = reason;
                return reason.err;
            }
            return failure_set(ret_failure, ERR_PROTOCOL, "receive", NULL, 0,
                               "'%s' refused without a proper reason", conn_agent(a->conn));
        case FRAME_HELLO:
        case FRAME_WELCOME:
        case FRAME_OPEN_TASK:
        case FRAME_READ:
        case FRAME_CANCEL:
        case FRAME_CLOSE_TASK:
            return failure_set(ret_failure, ERR_PROTOCOL, "receive", NULL, 0,
                               "'%s' sent a frame that a source does not send",
                               conn_agent(a->conn));
        }
        if (e) {
            return e;
        }
    }
}

enum err agent_cancel(struct source_agent *a, struct failure *ret_failure) {
    const struct frame_header h = {.type = FRAME_CANCEL, .request = a->requests[a->head].id};
    enum err e = conn_put(a->conn, &h, NULL, ret_failure);

    return e ? e : conn_flush(a->conn, ret_failure);
}

void agent_release(struct source_agent *a) {
    const struct frame_header h = {.type = FRAME_CLOSE_TASK, .aux = a->task_id};
    struct conn *c = a->conn;

    if (!c) {
        return;
    }
    if (a->sent > a->head || a->is_leaving || !a->is_answered || atomic_load(&a->aborted) ||
        conn_put(c, &h, NULL, NULL) != OK || conn_flush(c, NULL) != OK) {
        agent_drop(a);
        return;
    }
    set_conn(a, NULL);
    conn_pool_give(a->pool, c);
}
