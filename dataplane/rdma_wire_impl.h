// SPDX-License-Identifier: Apache-2.0
// The inside of a wire over RDMA. Included only by dataplane/rdma_wire*.c.
//
// rdma_wire.c makes and ends a wire. rdma_wire_stream.c is what transport.h promises: bytes in
// order. rdma_wire_queue.c is the queue pair below: what is posted, what completes, who waits.
// rdma_wire_message.c is what the peer says: nothing of it is trusted.
//
// A message is a SEND: a header of 8 bytes {u8 kind, u8 0, u16 credits, u32 length}, then
// `length` bytes: of the stream, or offers {u64 address, u32 rkey, u32 length}. A piece of the
// stream that is written to an offered buffer carries the running number of the offer as its
// immediate. Both take one receive request of the peer's, and arrive in the order of posting. The
// peer says with `credits` how many it has posted again.
#ifndef DATAPLANE_RDMA_WIRE_IMPL_H
#define DATAPLANE_RDMA_WIRE_IMPL_H

#include "dataplane/rdma_wire.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    RDMA_VERSION = 1,
    RDMA_SLOTS = 32,            // receive requests that are posted
    RDMA_SLOT_BYTES = 8 * 1024, // a message with its header
    RDMA_HEADER_BYTES = 8,
    RDMA_OFFER_BYTES = 16,
    RDMA_SENDS = 16, // messages that are being sent
    RDMA_CHUNKS = 8, // buffers that are offered
    RDMA_CHUNK_BYTES = 256 * 1024,
    RDMA_CHUNK_MIN = 4096, // a peer's shorter offers are a breach of the protocol
    RDMA_WRITES = 4,       // pieces that are being written
    RDMA_WRITES_BYTES = RDMA_WRITES * RDMA_CHUNK_BYTES,
    RDMA_WRITE_MIN = 16 * 1024, // shorter pieces are sent
    RDMA_OFFERS_MAX = 64,       // of a peer's, at a time
    RDMA_QUEUE = 64,            // requests to send, at a time
    RDMA_INLINE_BYTES = 220,    // messages up to that need no buffer, if the device agrees
    RDMA_SIGNAL_EVERY = 4,      // of the requests to send, one asks for a completion
    RDMA_SPIN_MAX_US = 50,      // polled for so long before sleeping, if that was of use lately
    RDMA_ARRIVALS = RDMA_SLOTS + RDMA_CHUNKS,
};

enum rdma_message_kind {
    RDMA_MESSAGE_BYTES = 1,  // of the stream
    RDMA_MESSAGE_CREDIT = 2, // nothing but credits
    RDMA_MESSAGE_OFFER = 3,  // buffers to write to
};

enum rdma_holds { // what a request to send holds until it is complete
    RDMA_HOLDS_NOTHING,
    RDMA_HOLDS_SLOT,
    RDMA_HOLDS_CHUNK,
};

struct rdma_offer { // of the peer's
    uint64_t address;
    uint32_t rkey, length;
};

struct rdma_arrival { // bytes of the stream
    bool is_chunk;
    uint32_t index;   // of the slot or chunk that holds them
    uint32_t at, len; // what is left there
};

struct rdma_wire {
    struct wire wire; // first member

    // set once
    struct rdma_pool *pool;
    struct rdma_cm_id *id;
    struct rdma_event_channel *events;
    struct ibv_comp_channel *channel;
    struct ibv_cq *cq;
    struct rdma_domain domain;
    int wake_fd; // eventfd: readable once aborted
    uint32_t inline_bytes;
    uint32_t peer_slots, peer_slot_bytes; // before the first call that sends
    uint8_t *slots;                       // RDMA_SLOTS to receive, then RDMA_SENDS to send
    uint8_t *landing;                     // RDMA_CHUNKS that are offered; NULL: none
    struct ibv_mr *landing_mr;            // the peer may write there, and nowhere else

    _Atomic bool aborted;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t changed;
    int64_t stall_ms;
    bool is_waited_for; // a thread sleeps on the descriptors; others wait for `changed`
    bool is_armed;      // the device will wake it
    uint32_t spin_us;
    bool ended;      // the peer is gone; what arrived before is still good
    enum err broken; // OK: it is not

    struct {
        uint32_t credits;          // receive requests that the peer has for us
        uint64_t posted, done;     // requests to send, ever
        uint64_t signalled;        // how many were posted when one last asked for completion
        uint8_t holds[RDMA_QUEUE]; // enum rdma_holds, by number % RDMA_QUEUE
        uint32_t slots_free, next_slot;
        uint8_t *chunks; // RDMA_WRITES; NULL: not needed so far
        uint32_t chunks_free, next_chunk;
        bool is_lent; // the next chunk, to be filled in place
        struct rdma_offer offers[RDMA_OFFERS_MAX];
        uint32_t n_offers, next_offer;
        uint32_t offer_number; // of the next one that is used
        bool is_offered;       // the peer does offer buffers
    } out;

    struct {
        struct rdma_arrival arrivals[RDMA_ARRIVALS];
        uint32_t n_arrivals, next_arrival;
        uint32_t borrowed; // bytes of the first arrival that the receiver has in use
        uint32_t owed;     // receive requests posted again, of which the peer was not told
        uint32_t to_offer; // chunks that are free and not offered
        uint32_t offered;  // offers made, ever
        uint32_t written;  // of them, those written to
    } in;
};

static inline struct rdma_wire *rdma_wire_of(struct wire *w) {
    return (struct rdma_wire *)(void *)w;
}

// Members of its struct wire_ops.
MUST_CHECK enum err rdma_wire_send(struct wire *wire, struct iovec *iov, int n_iov);
void *rdma_wire_lend(struct wire *wire, size_t len);
MUST_CHECK enum err rdma_wire_receive(struct wire *wire, void *buf, size_t len);
MUST_CHECK enum err rdma_wire_receive_some(struct wire *wire, void *buf, size_t cap,
                                           size_t *ret_len);
MUST_CHECK enum err rdma_wire_borrow(struct wire *wire, size_t cap, const void **ret_bytes,
                                     size_t *ret_len);
MUST_CHECK enum err rdma_wire_wait_readable(struct wire *wire, int64_t timeout_ms);

// All below: under the mutex.

// Why nothing can be sent any more; OK: it can.
MUST_CHECK enum err rdma_wire_cannot_send(const struct rdma_wire *w);

// Makes the wire useless for @e. The first reason counts; it is logged.
void rdma_wire_break(struct rdma_wire *w, enum err e, const char *why);
// Posts a receive request for @slot again; the peer will be told.
void rdma_wire_repost(struct rdma_wire *w, uint32_t slot);
// Posts @wr, which holds @holds until complete.
void rdma_wire_post(struct rdma_wire *w, struct ibv_send_wr *wr, enum rdma_holds holds,
                    bool is_last);
// Is there room for another message, which leaves @reserve credits?
bool rdma_wire_has_room(const struct rdma_wire *w, uint32_t length, uint32_t reserve);
// Sends a message whose bytes are those of @iov, from its first piece on, at most @length; there
// is room for it.
void rdma_wire_post_message(struct rdma_wire *w, enum rdma_message_kind kind,
                            const struct iovec *iov, uint32_t length, bool is_last);
// Takes what is complete, and tells the peer what it should know.
void rdma_wire_progress(struct rdma_wire *w);
// Waits until something may have changed, or @until_ms: ERR_TIMEOUT.
MUST_CHECK enum err rdma_wire_wait(struct rdma_wire *w, int64_t until_ms);

// What the peer did: a message in @slot, a piece written to an offered buffer.
void rdma_wire_take_message(struct rdma_wire *w, uint32_t slot, uint32_t length);
void rdma_wire_take_write(struct rdma_wire *w, uint32_t slot, uint32_t number, uint32_t length);
// Credits and offers that the peer should know of now.
void rdma_wire_tell(struct rdma_wire *w);

static inline uint8_t *rdma_wire_slot(const struct rdma_wire *w, uint32_t slot) {
    return w->slots + (size_t)slot * RDMA_SLOT_BYTES;
}

#endif
