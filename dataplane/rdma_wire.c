// SPDX-License-Identifier: Apache-2.0
#include "common/bytes.h"
#include "common/clock.h"
#include "dataplane/rdma_wire_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    SLOTS_BYTES = (RDMA_SLOTS + RDMA_SENDS) * RDMA_SLOT_BYTES,
    LANDING_BYTES = RDMA_CHUNKS * RDMA_CHUNK_BYTES,
    CLOSE_MS = 2000, // what was sent has arrived by then, or is given up
};
static const uint8_t magic[4] = {'S', 'L', 'R', 'D'};

static int64_t now_ms(void) {
    return clock_mono_ms(&clock_system);
}

// ---- life ----

static void rdma_set_stall_ms(struct wire *wire, int64_t stall_ms) {
    struct rdma_wire *w = rdma_wire_of(wire);

    pthread_mutex_lock(&w->mutex);
    w->stall_ms = stall_ms;
    pthread_mutex_unlock(&w->mutex);
}

static void rdma_abort(struct wire *wire) {
    struct rdma_wire *w = rdma_wire_of(wire);
    uint64_t one = 1;

    if (atomic_exchange(&w->aborted, true)) {
        return;
    }
    (void)!write(w->wake_fd, &one, sizeof(one));
    (void)rdma_disconnect(w->id); // fails if there is no connection any more
    pthread_mutex_lock(&w->mutex);
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->mutex);
}

// Until the peer has what was sent, so that a disconnection does not overtake it.
static void drain(struct rdma_wire *w) {
    int64_t until_ms = now_ms() + CLOSE_MS;
    enum err e = OK;

    pthread_mutex_lock(&w->mutex);
    while (!e && w->out.done < w->out.signalled && rdma_wire_cannot_send(w) == OK) {
        (void)rdma_wire_progress(w);
        if (w->out.done < w->out.signalled && rdma_wire_cannot_send(w) == OK) {
            e = rdma_wire_wait(w, until_ms);
        }
    }
    pthread_mutex_unlock(&w->mutex);
}

// Also of one that is half built; the id and its channel stay if they were not taken yet.
static void release(struct rdma_wire *w) {
    if (w->id && w->id->qp) {
        rdma_destroy_qp(w->id);
    }
    if (w->landing_mr) {
        (void)ibv_dereg_mr(w->landing_mr); // fails for a device that is gone, which forgot it
    }
    if (w->cq) {
        (void)ibv_destroy_cq(w->cq);
    }
    if (w->channel) {
        (void)ibv_destroy_comp_channel(w->channel);
    }
    if (w->wake_fd >= 0) {
        close(w->wake_fd);
    }
    rdma_pool_give(w->pool, w->slots, SLOTS_BYTES);
    rdma_pool_give(w->pool, w->landing, LANDING_BYTES);
    rdma_pool_give(w->pool, w->out.chunks, RDMA_WRITES_BYTES);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}

static void rdma_destroy(struct wire *wire) {
    struct rdma_wire *w = rdma_wire_of(wire);
    struct rdma_cm_id *id = w->id;
    struct rdma_event_channel *events = w->events;

    drain(w);
    (void)rdma_disconnect(id);
    release(w);
    (void)rdma_destroy_id(id);
    rdma_destroy_event_channel(events);
}

static const struct wire_ops rdma_ops = {
    .send = rdma_wire_send,
    .lend = rdma_wire_lend,
    .receive = rdma_wire_receive,
    .receive_some = rdma_wire_receive_some,
    .borrow = rdma_wire_borrow,
    .wait_readable = rdma_wire_wait_readable,
    .set_stall_ms = rdma_set_stall_ms,
    .abort = rdma_abort,
    .destroy = rdma_destroy,
};

static enum err init_sync(struct rdma_wire *w) {
    pthread_condattr_t attr;
    int errnum;

    if (pthread_mutex_init(&w->mutex, NULL) != 0) {
        return ERR_NO_MEMORY;
    }
    errnum = pthread_condattr_init(&attr);
    if (errnum == 0) {
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        errnum = pthread_cond_init(&w->changed, &attr);
        pthread_condattr_destroy(&attr);
    }
    if (errnum != 0) {
        pthread_mutex_destroy(&w->mutex);
        return ERR_NO_MEMORY;
    }
    return OK;
}

static enum err take_memory(struct rdma_wire *w, bool offers, struct failure *f) {
    w->slots = rdma_pool_take(w->pool, SLOTS_BYTES, w->domain.numa_node);
    w->landing = offers ? rdma_pool_take(w->pool, LANDING_BYTES, w->domain.numa_node) : NULL;
    if (!w->slots || (offers && !w->landing)) {
        enum err e = failure_set(f, ERR_FULL, "connect", w->wire.peer, strlen(w->wire.peer),
                                 "the registered memory for RDMA is used up");
        failure_remedy(f, "raise rdma: {pool: BYTES} of the agent");
        return e;
    }
    if (offers) {
        w->landing_mr = ibv_reg_mr(w->domain.pd, w->landing, LANDING_BYTES,
                                   IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
        if (!w->landing_mr) {
            return failure_errno(f, errno, "register memory", w->wire.peer, strlen(w->wire.peer));
        }
        w->in.to_offer = RDMA_CHUNKS;
    }
    return OK;
}

static int create_queue_pair(struct rdma_wire *w, uint32_t inline_bytes) {
    struct ibv_qp_init_attr a = {
        .send_cq = w->cq,
        .recv_cq = w->cq,
        .qp_type = IBV_QPT_RC,
        .cap = {.max_send_wr = RDMA_QUEUE,
                .max_recv_wr = RDMA_SLOTS,
                .max_send_sge = 1,
                .max_recv_sge = 1,
                .max_inline_data = inline_bytes},
    };

    if (rdma_create_qp(w->id, w->domain.pd, &a) != 0) {
        return errno;
    }
    w->inline_bytes = a.cap.max_inline_data < RDMA_INLINE_BYTES ? a.cap.max_inline_data
                                                                : (uint32_t)RDMA_INLINE_BYTES;
    return 0;
}

static enum err make_queue(struct rdma_wire *w, struct failure *f) {
    const char *peer = w->wire.peer;
    int errnum = 0;

    w->channel = ibv_create_comp_channel(w->id->verbs);
    if (w->channel) {
        w->cq = ibv_create_cq(w->id->verbs, RDMA_QUEUE + RDMA_SLOTS, NULL, w->channel, 0);
    }
    if (!w->channel || !w->cq || fcntl(w->channel->fd, F_SETFL, O_NONBLOCK) != 0 ||
        fcntl(w->events->fd, F_SETFL, O_NONBLOCK) != 0) {
        return failure_errno(f, errno, "make completion queue", peer, strlen(peer));
    }
    errnum = create_queue_pair(w, RDMA_INLINE_BYTES);
    if (errnum == EINVAL || errnum == ENOTSUP) { // a device without inline messages, or short ones
        errnum = create_queue_pair(w, 0);
    }
    if (errnum != 0) {
        return failure_errno(f, errnum, "make queue pair", peer, strlen(peer));
    }
    for (uint32_t i = 0; i < RDMA_SLOTS && !w->broken; i++) {
        rdma_wire_repost(w, i);
    }
    w->in.owed = 0; // the greeting tells of them
    return w->broken ? failure_set(f, w->broken, "make queue pair", peer, strlen(peer), NULL) : OK;
}

enum err rdma_wire_new(const struct rdma_wire_options *o, struct wire **ret_wire,
                       struct failure *ret_failure) {
    struct rdma_wire *w = calloc(1, sizeof(*w));
    enum err e;

    if (!w || init_sync(w)) {
        free(w);
        return failure_set(ret_failure, ERR_NO_MEMORY, "connect", o->peer, strlen(o->peer), NULL);
    }
    w->wire.ops = &rdma_ops;
    (void)snprintf(w->wire.peer, sizeof(w->wire.peer), "%s", o->peer);
    w->pool = o->pool;
    w->id = o->id;
    w->events = o->events;
    w->stall_ms = WIRE_STALL_MS;
    w->out.slots_free = RDMA_SENDS;
    atomic_init(&w->aborted, false);
    w->wake_fd = eventfd(0, EFD_CLOEXEC);
    e = w->wake_fd >= 0 ? rdma_pool_domain(o->pool, o->id->verbs, &w->domain, ret_failure)
                        : failure_errno(ret_failure, errno, "eventfd", o->peer, strlen(o->peer));
    if (!e) {
        e = take_memory(w, o->offers, ret_failure);
    }
    if (!e) {
        e = make_queue(w, ret_failure);
    }
    if (e) {
        release(w);
        return e;
    }
    *ret_wire = &w->wire;
    return OK;
}

void rdma_wire_greeting(uint8_t ret_greeting[RDMA_GREETING_BYTES]) {
    memset(ret_greeting, 0, RDMA_GREETING_BYTES);
    memcpy(ret_greeting, magic, sizeof(magic));
    put_u16(ret_greeting + 4, RDMA_VERSION);
    put_u16(ret_greeting + 6, RDMA_SLOTS);
    put_u32(ret_greeting + 8, RDMA_SLOT_BYTES);
}

enum err rdma_wire_greet(struct wire *wire, const void *greeting, size_t len) {
    struct rdma_wire *w = rdma_wire_of(wire);
    const uint8_t *g = greeting;
    uint32_t slots, slot_bytes;

    if (!g || len < RDMA_GREETING_BYTES || memcmp(g, magic, sizeof(magic)) != 0 ||
        get_u16(g + 4) != RDMA_VERSION) {
        return ERR_PROTOCOL;
    }
    slots = get_u16(g + 6);
    slot_bytes = get_u32(g + 8);
    if (slots < 4 || slot_bytes < 1024) {
        return ERR_PROTOCOL;
    }
    pthread_mutex_lock(&w->mutex);
    w->peer_slots = w->out.credits = slots;
    w->peer_slot_bytes = slot_bytes;
    pthread_mutex_unlock(&w->mutex);
    return OK;
}

struct rdma_conn_param rdma_wire_parameters(const uint8_t greeting[RDMA_GREETING_BYTES]) {
    // Six retries, as some devices take seven for "for ever". A peer that is gone without a word
    // is noticed by the stall time in any case; receive requests are counted by credits.
    return (struct rdma_conn_param){.private_data = greeting,
                                    .private_data_len = RDMA_GREETING_BYTES,
                                    .retry_count = 6,
                                    .rnr_retry_count = 7,
                                    .flow_control = 1};
}

void rdma_wire_begin(struct wire *wire) {
    struct rdma_wire *w = rdma_wire_of(wire);

    pthread_mutex_lock(&w->mutex);
    rdma_wire_progress(w);
    pthread_mutex_unlock(&w->mutex);
}
