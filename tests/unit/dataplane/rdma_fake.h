// SPDX-License-Identifier: Apache-2.0
// An RDMA device that a test plays: what a wire posts is recorded, what it gets is scripted.
#ifndef TESTS_UNIT_DATAPLANE_RDMA_FAKE_H
#define TESTS_UNIT_DATAPLANE_RDMA_FAKE_H

#include "tests/lib/test.h"

#include "dataplane/rdma_wire_impl.h"

enum { FAKE_POSTED_MAX = 4096 };

struct fake_posted { // a request to send
    enum ibv_wr_opcode opcode;
    unsigned flags;
    uint64_t wr_id;
    uint64_t remote_address;
    uint32_t rkey, immediate; // as the peer would see it
    uint32_t length;
    uint8_t bytes[64]; // the first ones
};

struct fake {
    struct ibv_device device;
    struct ibv_context verbs;
    struct rdma_cm_id id;
    struct ibv_qp qp;
    struct rdma_event_channel events;
    struct rdma_pool *pool;
    struct wire *wire;

    int live;    // objects of the libraries that are not destroyed
    int fail_at; // the n-th call that makes something fails; 0: none
    int n_made;
    bool post_send_fails, post_recv_fails;
    uint32_t inline_max;

    struct fake_posted posted[FAKE_POSTED_MAX];
    size_t n_posted, n_completed;
    uint64_t receive_ids[RDMA_SLOTS];
    uint8_t *receive_at[RDMA_SLOTS];
    size_t n_receives;
    struct ibv_wc completions[512];
    size_t n_completions;
    struct rdma_cm_event event;
    bool has_event;
    bool was_disconnected;
};

extern struct fake fake;

// A pool on the device, and a wire on it with a peer that has @peer_slots receive requests.
void fake_setup(bool offers, uint32_t peer_slots);
void fake_teardown(void);                   // and nothing of the libraries is left
MUST_CHECK enum err fake_make(bool offers); // the wire alone

// The peer's message or write arrives.
void fake_message(uint8_t kind, uint16_t credits, const void *bytes, uint32_t length);
void fake_raw_message(const void *message, uint32_t length);
void fake_write(uint32_t number, uint32_t length);
void fake_offer(uint64_t address, uint32_t rkey, uint32_t length);
// The next request to receive, or all those to send, complete with that status.
void fake_fail_receive(enum ibv_wc_status status);
void fake_complete_sends(enum ibv_wc_status status);
void fake_event(enum rdma_cm_event_type type);

#endif
