// SPDX-License-Identifier: Apache-2.0
// A peer that speaks to a wire over RDMA with verbs of its own, and so can say and write anything.
//
// Its calls wait for at most a minute each, and fail the test after that.
#ifndef TESTS_CONTRACT_DATAPLANE_RDMA_HOSTILE_H
#define TESTS_CONTRACT_DATAPLANE_RDMA_HOSTILE_H

#include "tests/lib/test.h"

#include "dataplane/rdma_wire_impl.h"

enum { HOSTILE_BYTES = 64 * 1024 }; // of its memory, which ends at a guard page

struct hostile {
    struct rdma_event_channel *events;
    struct rdma_cm_id *listening, *id;
    struct ibv_pd *pd;
    struct ibv_cq *cq;
    struct ibv_mr *mr;
    uint8_t *memory; // the first half is for writes, the second for what it receives
    uint32_t sent;   // requests that it posted
};

// Connects to the wire's listener at @address ("a.b.c.d:port").
void hostile_connect(struct hostile *h, const char *address);
// Listens at a free port of @ip; answers who connects, after that.
void hostile_listen(struct hostile *h, const char *ip, char ret_address[64]);
void hostile_accept(struct hostile *h);
void hostile_close(struct hostile *h);

// Sends a message of the wire's protocol, with an immediate if @immediate is not NULL.
void hostile_message(struct hostile *h, uint8_t kind, const void *bytes, uint32_t length,
                     const uint32_t *immediate);
void hostile_offer(struct hostile *h, uint64_t address, uint32_t rkey, uint32_t length);
// Writes @length bytes of 0xee to the wire's memory, with an immediate; how the device likes it.
enum ibv_wc_status hostile_write(struct hostile *h, uint64_t address, uint32_t rkey,
                                 uint32_t length, uint32_t immediate);
// The first buffer that the wire offers.
struct rdma_offer hostile_await_offer(struct hostile *h);

#endif
