// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/dataplane/rdma_hostile.h"

#include "common/address.h"
#include "common/bytes.h"
#include "common/clock.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    PATIENCE_MS = 60 * 1000,
    RECEIVES = 4, // of RDMA_SLOT_BYTES, in the second half of the memory
    HALF = HOSTILE_BYTES / 2,
    PAGE = 4096,
};
#define RECEIVED ((uint64_t)1 << 32) // in wr_id

static void map_memory(struct hostile *h) {
    uint8_t *all =
        mmap(NULL, HOSTILE_BYTES + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(all, MAP_FAILED);
    h->memory = all + PAGE;
    assert_int_equal(mprotect(h->memory, HOSTILE_BYTES, PROT_READ | PROT_WRITE), 0);
    memset(h->memory, 0xee, HOSTILE_BYTES);
}

static void post_receive(struct hostile *h, uint32_t i) {
    struct ibv_sge sge = {.addr = (uintptr_t)h->memory + HALF + (size_t)i * RDMA_SLOT_BYTES,
                          .length = RDMA_SLOT_BYTES,
                          .lkey = h->mr->lkey};
    struct ibv_recv_wr wr = {.wr_id = RECEIVED | i, .sg_list = &sge, .num_sge = 1}, *bad;

    assert_int_equal(ibv_post_recv(h->id->qp, &wr, &bad), 0);
}

static void make_queue(struct hostile *h) {
    struct ibv_qp_init_attr a = {
        .qp_type = IBV_QPT_RC,
        .cap = {.max_send_wr = 64, .max_recv_wr = RECEIVES, .max_send_sge = 1, .max_recv_sge = 1}};

    map_memory(h);
    h->pd = ibv_alloc_pd(h->id->verbs);
    h->cq = ibv_create_cq(h->id->verbs, 128, NULL, NULL, 0);
    assert_true(h->pd && h->cq);
    h->mr = ibv_reg_mr(h->pd, h->memory, HOSTILE_BYTES,
                       IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    assert_non_null(h->mr);
    a.send_cq = a.recv_cq = h->cq;
    assert_int_equal(rdma_create_qp(h->id, h->pd, &a), 0);
    for (uint32_t i = 0; i < RECEIVES; i++) {
        post_receive(h, i);
    }
}

// The next event, which is @want; the id that it is about.
static struct rdma_cm_id *expect(struct hostile *h, enum rdma_cm_event_type want) {
    struct pollfd p = {.fd = h->events->fd, .events = POLLIN};
    struct rdma_cm_event *event;
    struct rdma_cm_id *id;

    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    assert_int_equal(rdma_get_cm_event(h->events, &event), 0);
    assert_string_equal(rdma_event_str(event->event), rdma_event_str(want));
    id = event->id;
    assert_int_equal(rdma_ack_cm_event(event), 0);
    return id;
}

static struct sockaddr_in address_of(const char *text) {
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct address a;

    assert_ok(address_parse(text, &a, NULL));
    assert_int_equal(inet_pton(AF_INET, a.host, &in.sin_addr), 1);
    in.sin_port = htons((uint16_t)a.port);
    return in;
}

void hostile_connect(struct hostile *h, const char *address) {
    struct sockaddr_in to = address_of(address);
    uint8_t greeting[RDMA_GREETING_BYTES] = {0};
    struct rdma_conn_param parameters = rdma_wire_parameters(greeting);

    *h = (struct hostile){.events = rdma_create_event_channel()};
    assert_non_null(h->events);
    assert_int_equal(rdma_create_id(h->events, &h->id, NULL, RDMA_PS_TCP), 0);
    assert_int_equal(rdma_resolve_addr(h->id, NULL, (struct sockaddr *)&to, PATIENCE_MS), 0);
    (void)expect(h, RDMA_CM_EVENT_ADDR_RESOLVED);
    assert_int_equal(rdma_resolve_route(h->id, PATIENCE_MS), 0);
    (void)expect(h, RDMA_CM_EVENT_ROUTE_RESOLVED);
    make_queue(h);
    rdma_wire_greeting(greeting);
    assert_int_equal(rdma_connect(h->id, &parameters), 0);
    (void)expect(h, RDMA_CM_EVENT_ESTABLISHED);
}

void hostile_listen(struct hostile *h, const char *ip, char ret_address[64]) {
    struct sockaddr_in at = {.sin_family = AF_INET};

    *h = (struct hostile){.events = rdma_create_event_channel()};
    assert_non_null(h->events);
    assert_int_equal(inet_pton(AF_INET, ip, &at.sin_addr), 1);
    assert_int_equal(rdma_create_id(h->events, &h->listening, NULL, RDMA_PS_TCP), 0);
    assert_int_equal(rdma_bind_addr(h->listening, (struct sockaddr *)&at), 0);
    assert_int_equal(rdma_listen(h->listening, 1), 0);
    (void)snprintf(ret_address, 64, "%s:%u", ip, ntohs(rdma_get_src_port(h->listening)));
}

void hostile_accept(struct hostile *h) {
    uint8_t greeting[RDMA_GREETING_BYTES] = {0};
    struct rdma_conn_param parameters = rdma_wire_parameters(greeting);

    h->id = expect(h, RDMA_CM_EVENT_CONNECT_REQUEST);
    make_queue(h);
    rdma_wire_greeting(greeting);
    assert_int_equal(rdma_accept(h->id, &parameters), 0);
    (void)expect(h, RDMA_CM_EVENT_ESTABLISHED);
}

void hostile_close(struct hostile *h) {
    if (h->id) {
        (void)rdma_disconnect(h->id);
        rdma_destroy_qp(h->id);
        assert_int_equal(ibv_dereg_mr(h->mr), 0);
        assert_int_equal(ibv_destroy_cq(h->cq), 0);
        (void)rdma_destroy_id(h->id);
        assert_int_equal(ibv_dealloc_pd(h->pd), 0);
        munmap(h->memory - PAGE, HOSTILE_BYTES + 2 * PAGE);
    }
    if (h->listening) {
        (void)rdma_destroy_id(h->listening);
    }
    rdma_destroy_event_channel(h->events);
    *h = (struct hostile){0};
}

static struct ibv_wc next_completion(struct hostile *h) {
    int64_t until_ms = clock_mono_ms(&clock_system) + PATIENCE_MS;
    struct ibv_wc wc;
    int n;

    while ((n = ibv_poll_cq(h->cq, 1, &wc)) == 0) {
        assert_true(clock_mono_ms(&clock_system) < until_ms);
        (void)poll(NULL, 0, 1);
    }
    assert_int_equal(n, 1);
    return wc;
}

// Posts @wr, and waits for it; what arrives meanwhile is of no interest.
static enum ibv_wc_status post(struct hostile *h, struct ibv_send_wr *wr) {
    struct ibv_send_wr *bad;
    struct ibv_wc wc;

    wr->wr_id = h->sent++;
    wr->send_flags = IBV_SEND_SIGNALED;
    assert_int_equal(ibv_post_send(h->id->qp, wr, &bad), 0);
    do {
        wc = next_completion(h);
    } while (wc.wr_id != wr->wr_id);
    return wc.status;
}

void hostile_message(struct hostile *h, uint8_t kind, const void *bytes, uint32_t length,
                     const uint32_t *immediate) {
    struct ibv_sge sge = {
        .addr = (uintptr_t)h->memory, .length = RDMA_HEADER_BYTES + length, .lkey = h->mr->lkey};
    struct ibv_send_wr wr = {.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND};

    h->memory[0] = kind;
    h->memory[1] = 0;
    put_u16(h->memory + 2, 0);
    put_u32(h->memory + 4, length);
    if (length > 0) {
        memcpy(h->memory + RDMA_HEADER_BYTES, bytes, length);
    }
    if (immediate) {
        wr.opcode = IBV_WR_SEND_WITH_IMM;
        wr.imm_data = htobe32(*immediate);
    }
    assert_int_equal(post(h, &wr), IBV_WC_SUCCESS);
    memset(h->memory, 0xee, HALF);
}

void hostile_offer(struct hostile *h, uint64_t address, uint32_t rkey, uint32_t length) {
    uint8_t offer[RDMA_OFFER_BYTES];

    put_u64(offer, address);
    put_u32(offer + 8, rkey);
    put_u32(offer + 12, length);
    hostile_message(h, RDMA_MESSAGE_OFFER, offer, sizeof(offer), NULL);
}

enum ibv_wc_status hostile_write(struct hostile *h, uint64_t address, uint32_t rkey,
                                 uint32_t length, uint32_t immediate) {
    struct ibv_sge sge = {.addr = (uintptr_t)h->memory, .length = length, .lkey = h->mr->lkey};
    struct ibv_send_wr wr = {.sg_list = &sge,
                             .num_sge = length > 0 ? 1 : 0,
                             .opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
                             .imm_data = htobe32(immediate),
                             .wr.rdma = {.remote_addr = address, .rkey = rkey}};

    assert_true(length <= HALF);
    return post(h, &wr);
}

struct rdma_offer hostile_await_offer(struct hostile *h) {
    for (int i = 0; i < RECEIVES; i++) {
        struct ibv_wc wc = next_completion(h);
        const uint8_t *at = h->memory + HALF + (size_t)(wc.wr_id % RECEIVED) * RDMA_SLOT_BYTES;

        assert_int_equal(wc.status, IBV_WC_SUCCESS);
        if ((wc.wr_id & RECEIVED) && at[0] == RDMA_MESSAGE_OFFER) {
            at += RDMA_HEADER_BYTES;
            return (struct rdma_offer){
                .address = get_u64(at), .rkey = get_u32(at + 8), .length = get_u32(at + 12)};
        }
    }
    fail_msg("no buffer was offered");
    return (struct rdma_offer){0};
}
