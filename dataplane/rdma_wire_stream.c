// SPDX-License-Identifier: Apache-2.0
// The stream of bytes on a wire: what transport.h promises of sending and receiving.
#include "common/clock.h"
#include "dataplane/rdma_wire_impl.h"

// ---- receiving ----

// Until there are bytes. An end is ERR_PEER_LOST with w->ended.
static enum err await_arrival(struct rdma_wire *w, int64_t until_ms) {
    for (;;) {
        enum err e;

        rdma_wire_progress(w);
        if (atomic_load(&w->aborted)) {
            return ERR_CANCELLED;
        }
        if (w->in.n_arrivals > 0) {
            return OK;
        }
        if (w->broken) {
            return w->broken;
        }
        if (w->ended) {
            return ERR_PEER_LOST;
        }
        e = rdma_wire_wait(w, until_ms);
        if (e && w->in.n_arrivals == 0 && !w->ended && !w->broken) {
            return e;
        }
    }
}

static uint8_t *arrival_bytes(const struct rdma_wire *w, const struct rdma_arrival *a) {
    return (a->is_chunk ? w->landing + (size_t)a->index * RDMA_CHUNK_BYTES
                        : rdma_wire_slot(w, a->index)) +
           a->at;
}

// The first arrival's first @len bytes are done with.
static void consume(struct rdma_wire *w, size_t len) {
    struct rdma_arrival *a = &w->in.arrivals[w->in.next_arrival];

    a->at += (uint32_t)len;
    a->len -= (uint32_t)len;
    if (a->len > 0) {
        return;
    }
    if (a->is_chunk) {
        w->in.to_offer++;
    } else if (!w->broken) {
        rdma_wire_repost(w, a->index);
    }
    w->in.next_arrival = (w->in.next_arrival + 1) % RDMA_ARRIVALS;
    w->in.n_arrivals--;
    rdma_wire_tell(w);
}

// What the last call lent is not in use any more.
static void end_borrowing(struct rdma_wire *w) {
    uint32_t n = w->in.borrowed;

    w->in.borrowed = 0;
    if (n > 0) {
        consume(w, n);
    }
}

// At least one byte, at most @cap.
static enum err take(struct rdma_wire *w, void *buf, size_t cap, size_t *ret_len) {
    const struct rdma_arrival *a;
    size_t n;
    enum err e;

    end_borrowing(w);
    e = await_arrival(w, clock_mono_ms(&clock_system) + w->stall_ms);
    if (e) {
        return e;
    }
    a = &w->in.arrivals[w->in.next_arrival];
    n = a->len < cap ? a->len : cap;
    memcpy(buf, arrival_bytes(w, a), n);
    consume(w, n);
    *ret_len = n;
    return OK;
}

enum err rdma_wire_receive_some(struct wire *wire, void *buf, size_t cap, size_t *ret_len) {
    struct rdma_wire *w = rdma_wire_of(wire);
    enum err e;

    pthread_mutex_lock(&w->mutex);
    e = take(w, buf, cap, ret_len);
    if (e == ERR_PEER_LOST && w->ended && !w->broken) {
        *ret_len = 0;
        e = OK;
    }
    pthread_mutex_unlock(&w->mutex);
    return e;
}

enum err rdma_wire_receive(struct wire *wire, void *buf, size_t len) {
    struct rdma_wire *w = rdma_wire_of(wire);
    uint8_t *to = buf;
    enum err e = OK;

    pthread_mutex_lock(&w->mutex);
    while (len > 0 && !e) {
        size_t n = 0;
        e = take(w, to, len, &n);
        to += n;
        len -= n;
    }
    pthread_mutex_unlock(&w->mutex);
    return e;
}

// Slots are not lent: they are short, and a message that comes later may be put behind what is
// there.
enum err rdma_wire_borrow(struct wire *wire, size_t cap, const void **ret_bytes, size_t *ret_len) {
    struct rdma_wire *w = rdma_wire_of(wire);
    enum err e;

    pthread_mutex_lock(&w->mutex);
    end_borrowing(w);
    e = await_arrival(w, clock_mono_ms(&clock_system) + w->stall_ms);
    if (!e) {
        const struct rdma_arrival *a = &w->in.arrivals[w->in.next_arrival];
        if (a->is_chunk) {
            w->in.borrowed = a->len < cap ? a->len : (uint32_t)cap;
            *ret_bytes = arrival_bytes(w, a);
        }
        *ret_len = w->in.borrowed;
    }
    pthread_mutex_unlock(&w->mutex);
    return e;
}

enum err rdma_wire_wait_readable(struct wire *wire, int64_t timeout_ms) {
    struct rdma_wire *w = rdma_wire_of(wire);
    enum err e;

    pthread_mutex_lock(&w->mutex);
    end_borrowing(w);
    e = await_arrival(w, clock_mono_ms(&clock_system) + timeout_ms);
    if (e == ERR_PEER_LOST && w->ended) {
        e = OK;
    }
    pthread_mutex_unlock(&w->mutex);
    return e;
}

// ---- sending ----

static void advance(struct iovec **iov, int *n_iov, size_t sent) {
    while (*n_iov > 0 && sent >= (*iov)->iov_len) {
        sent -= (*iov)->iov_len;
        (*iov)++;
        (*n_iov)--;
    }
    if (*n_iov > 0) {
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + sent;
        (*iov)->iov_len -= sent;
    }
}

// Are there buffers to write from? They are taken when the peer offers some for the first time.
static bool has_chunks(struct rdma_wire *w) {
    if (!w->out.chunks) {
        w->out.chunks = rdma_pool_take(w->pool, RDMA_WRITES_BYTES, w->domain.numa_node);
        w->out.chunks_free = w->out.chunks ? RDMA_WRITES : 0;
    }
    return w->out.chunks != NULL;
}

static uint8_t *next_chunk(const struct rdma_wire *w) {
    return w->out.chunks + (size_t)w->out.next_chunk * RDMA_CHUNK_BYTES;
}

// While a chunk is lent, only what is in it is written: another piece would need its place.
static bool is_written(struct rdma_wire *w, const struct iovec *iov) {
    return w->out.is_offered && iov->iov_len >= RDMA_WRITE_MIN && has_chunks(w) &&
           (!w->out.is_lent || iov->iov_base == next_chunk(w));
}

static bool can_write(const struct rdma_wire *w) {
    return w->out.n_offers > 0 && w->out.chunks_free > 0 && w->out.credits > 1 &&
           w->out.posted - w->out.done < RDMA_QUEUE;
}

// Writes the beginning of the first piece to an offered buffer. Returns how much.
static size_t write_piece(struct rdma_wire *w, const struct iovec *iov) {
    const struct rdma_offer *offer = &w->out.offers[w->out.next_offer];
    uint8_t *chunk = next_chunk(w);
    size_t most = offer->length < RDMA_CHUNK_BYTES ? offer->length : RDMA_CHUNK_BYTES;
    size_t n = iov->iov_len < most ? iov->iov_len : most;
    struct ibv_sge sge = {.addr = (uintptr_t)chunk, .length = (uint32_t)n, .lkey = w->domain.lkey};
    struct ibv_send_wr wr = {
        .sg_list = &sge,
        .num_sge = 1,
        .opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
        .imm_data = htobe32(w->out.offer_number),
        .wr.rdma = {.remote_addr = offer->address, .rkey = offer->rkey},
    };

    if (iov->iov_base != chunk) {         // else it was filled in place
        memmove(chunk, iov->iov_base, n); // it may be the rest of what was, if offers are short
    }
    w->out.is_lent = false;
    w->out.offer_number++;
    w->out.next_offer = (w->out.next_offer + 1) % RDMA_OFFERS_MAX;
    w->out.n_offers--;
    w->out.next_chunk = (w->out.next_chunk + 1) % RDMA_WRITES;
    w->out.chunks_free--;
    rdma_wire_post(w, &wr, RDMA_HOLDS_CHUNK, true);
    return n;
}

// Sends the beginning of the pieces, up to one that is to be written. Returns how much.
static size_t send_pieces(struct rdma_wire *w, const struct iovec *iov, int n_iov) {
    uint32_t most = w->peer_slot_bytes < RDMA_SLOT_BYTES ? w->peer_slot_bytes : RDMA_SLOT_BYTES;
    size_t n = 0, all = 0;
    int i = 0;

    most -= RDMA_HEADER_BYTES;
    for (; i < n_iov && n == all && (i == 0 || !is_written(w, &iov[i])); i++) {
        all += iov[i].iov_len;
        n = all < most ? all : most;
    }
    rdma_wire_post_message(w, RDMA_MESSAGE_BYTES, iov, (uint32_t)n, i == n_iov && n == all);
    return n;
}

// A chunk is free, as soon as what it had before was sent.
static bool await_chunk(struct rdma_wire *w) {
    int64_t until_ms = clock_mono_ms(&clock_system) + w->stall_ms;
    enum err e = OK;

    rdma_wire_progress(w);
    while (!e && w->out.is_offered && has_chunks(w) && w->out.chunks_free == 0) {
        e = rdma_wire_cannot_send(w);
        e = e ? e : rdma_wire_wait(w, until_ms);
        rdma_wire_progress(w);
    }
    return !e && w->out.is_offered && has_chunks(w);
}

void *rdma_wire_lend(struct wire *wire, size_t len) {
    struct rdma_wire *w = rdma_wire_of(wire);
    void *chunk = NULL;

    pthread_mutex_lock(&w->mutex);
    if (len <= RDMA_CHUNK_BYTES && await_chunk(w)) {
        chunk = next_chunk(w);
        w->out.is_lent = true;
    }
    pthread_mutex_unlock(&w->mutex);
    return chunk;
}

enum err rdma_wire_cannot_send(const struct rdma_wire *w) {
    return atomic_load(&w->aborted) ? ERR_CANCELLED
           : w->broken              ? w->broken
           : w->ended               ? ERR_PEER_LOST
                                    : OK;
}

enum err rdma_wire_send(struct wire *wire, struct iovec *iov, int n_iov) {
    struct rdma_wire *w = rdma_wire_of(wire);
    int64_t until_ms;
    enum err e = OK;

    pthread_mutex_lock(&w->mutex);
    advance(&iov, &n_iov, 0); // drops empty pieces
    rdma_wire_progress(w);    // it may have been offered buffers
    until_ms = clock_mono_ms(&clock_system) + w->stall_ms;
    while (n_iov > 0) {
        bool writes = is_written(w, iov);

        e = rdma_wire_cannot_send(w);
        if (e) {
            break;
        }
        if (writes ? can_write(w) : rdma_wire_has_room(w, RDMA_SLOT_BYTES, 1)) {
            size_t n = writes ? write_piece(w, iov) : send_pieces(w, iov, n_iov);
            advance(&iov, &n_iov, n);
            until_ms = clock_mono_ms(&clock_system) + w->stall_ms;
            continue;
        }
        rdma_wire_progress(w);
        if (writes ? !can_write(w) : !rdma_wire_has_room(w, RDMA_SLOT_BYTES, 1)) {
            e = rdma_wire_cannot_send(w);
            e = e ? e : rdma_wire_wait(w, until_ms);
        }
        if (e) {
            break;
        }
    }
    if (!e) {
        e = rdma_wire_cannot_send(w);
    }
    pthread_mutex_unlock(&w->mutex);
    return e;
}
