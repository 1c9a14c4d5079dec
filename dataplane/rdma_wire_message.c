// SPDX-License-Identifier: Apache-2.0
// What the peer of a wire says about its buffers and ours. It is not trusted: a number that does
// not follow from what was said before breaks the connection.
#include "common/bytes.h"
#include "dataplane/rdma_wire_impl.h"

static struct rdma_arrival *last_arrival(struct rdma_wire *w) {
    return w->in.n_arrivals == 0
               ? NULL
               : &w->in.arrivals[(w->in.next_arrival + w->in.n_arrivals - 1) % RDMA_ARRIVALS];
}

// There is room: an arrival holds a slot or a chunk, and there are no more than RDMA_ARRIVALS.
static void add_arrival(struct rdma_wire *w, const struct rdma_arrival *a) {
    w->in.arrivals[(w->in.next_arrival + w->in.n_arrivals++) % RDMA_ARRIVALS] = *a;
}

static void take_bytes(struct rdma_wire *w, uint32_t slot, uint32_t length) {
    const struct rdma_arrival arrived = {.index = slot, .at = RDMA_HEADER_BYTES, .len = length};
    struct rdma_arrival *last = last_arrival(w);

    // Small messages share a slot, so that many of them do not use up the receive requests.
    if (last && !last->is_chunk && last->at + last->len + length <= RDMA_SLOT_BYTES) {
        memcpy(rdma_wire_slot(w, last->index) + last->at + last->len,
               rdma_wire_slot(w, slot) + RDMA_HEADER_BYTES, length);
        last->len += length;
        rdma_wire_repost(w, slot);
        return;
    }
    add_arrival(w, &arrived);
}

static void take_offers(struct rdma_wire *w, const uint8_t *bytes, uint32_t length) {
    for (uint32_t at = 0; at < length; at += RDMA_OFFER_BYTES) {
        const struct rdma_offer offer = {.address = get_u64(bytes + at),
                                         .rkey = get_u32(bytes + at + 8),
                                         .length = get_u32(bytes + at + 12)};
        if (w->out.n_offers == RDMA_OFFERS_MAX) {
            rdma_wire_break(w, ERR_PROTOCOL, "the peer offered more buffers than the limit");
            return;
        }
        if (offer.length < RDMA_CHUNK_MIN || offer.address > UINT64_MAX - offer.length) {
            rdma_wire_break(w, ERR_PROTOCOL, "the peer offered a buffer that cannot be one");
            return;
        }
        w->out.offers[(w->out.next_offer + w->out.n_offers++) % RDMA_OFFERS_MAX] = offer;
        w->out.is_offered = true;
    }
}

void rdma_wire_take_message(struct rdma_wire *w, uint32_t slot, uint32_t length) {
    const uint8_t *bytes = rdma_wire_slot(w, slot);
    uint32_t credits, rest;

    if (length < RDMA_HEADER_BYTES || length > RDMA_SLOT_BYTES || bytes[1] != 0 ||
        get_u32(bytes + 4) != length - RDMA_HEADER_BYTES) {
        rdma_wire_break(w, ERR_PROTOCOL, "the peer sent a malformed message");
        return;
    }
    rest = length - RDMA_HEADER_BYTES;
    credits = get_u16(bytes + 2);
    if (credits > w->peer_slots - w->out.credits) {
        rdma_wire_break(w, ERR_PROTOCOL, "the peer gave more credits than it has");
        return;
    }
    w->out.credits += credits;
    if (bytes[0] == RDMA_MESSAGE_BYTES && rest > 0) {
        take_bytes(w, slot, rest);
        return;
    }
    if (bytes[0] == RDMA_MESSAGE_OFFER && rest > 0 && rest % RDMA_OFFER_BYTES == 0) {
        take_offers(w, bytes + RDMA_HEADER_BYTES, rest);
    } else if (bytes[0] != RDMA_MESSAGE_CREDIT || rest > 0) {
        rdma_wire_break(w, ERR_PROTOCOL, "the peer sent a message of an unknown kind");
        return;
    }
    rdma_wire_repost(w, slot);
}

void rdma_wire_take_write(struct rdma_wire *w, uint32_t slot, uint32_t number, uint32_t length) {
    const struct rdma_arrival arrived = {
        .is_chunk = true, .index = w->in.written % RDMA_CHUNKS, .len = length};

    if (w->in.written == w->in.offered || number != w->in.written) {
        rdma_wire_break(w, ERR_PROTOCOL, "the peer wrote to a buffer that it was not offered");
        return;
    }
    if (length == 0 || length > RDMA_CHUNK_BYTES) {
        rdma_wire_break(w, ERR_PROTOCOL, "the peer wrote more than the buffer holds, or nothing");
        return;
    }
    w->in.written++;
    add_arrival(w, &arrived);
    rdma_wire_repost(w, slot);
}

static void send_offers(struct rdma_wire *w) {
    uint8_t offers[RDMA_CHUNKS * RDMA_OFFER_BYTES];
    uint32_t n = 0;

    for (; w->in.to_offer > 0; n++) {
        const uint8_t *chunk =
            w->landing + (size_t)(w->in.offered % RDMA_CHUNKS) * RDMA_CHUNK_BYTES;
        put_u64(offers + n * RDMA_OFFER_BYTES, (uintptr_t)chunk);
        put_u32(offers + n * RDMA_OFFER_BYTES + 8, w->landing_mr->rkey);
        put_u32(offers + n * RDMA_OFFER_BYTES + 12, RDMA_CHUNK_BYTES);
        w->in.offered++;
        w->in.to_offer--;
    }
    rdma_wire_post_message(w, RDMA_MESSAGE_OFFER,
                           &(struct iovec){.iov_base = offers, .iov_len = n * RDMA_OFFER_BYTES},
                           n * RDMA_OFFER_BYTES, false);
}

void rdma_wire_tell(struct rdma_wire *w) {
    // Both wait until there is enough to tell, so that messages are few; they may use the last
    // credit, which messages with bytes leave: else both ends might wait for credits for ever.
    bool is_worth_it = w->in.to_offer >= RDMA_CHUNKS / 4;

    if (w->broken || w->ended) {
        return;
    }
    if (is_worth_it && rdma_wire_has_room(w, w->in.to_offer * RDMA_OFFER_BYTES, 0)) {
        send_offers(w);
    }
    if (w->in.owed >= RDMA_SLOTS / 2 && rdma_wire_has_room(w, 0, 0)) {
        rdma_wire_post_message(w, RDMA_MESSAGE_CREDIT, NULL, 0, false);
    }
}
