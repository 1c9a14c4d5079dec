// SPDX-License-Identifier: Apache-2.0
// The functions of libibverbs and librdmacm that the linker puts in the place of the real ones,
// in those tests that ask for it (WRAP).
#include "tests/unit/dataplane/rdma_fake.h"

#include "common/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct fake fake;
static int channel_pipe[2], events_pipe[2];

static bool makes_none(void) {
    if (++fake.n_made == fake.fail_at) {
        errno = ENOMEM;
        return true;
    }
    fake.live++;
    return false;
}

static int unmake(void) {
    fake.live--;
    return 0;
}

static void wake(int fd) {
    assert_int_equal(write(fd, "x", 1), 1);
}

// ---- the device's own functions ----

static int post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad) {
    struct fake_posted *p = &fake.posted[fake.n_posted++ % FAKE_POSTED_MAX];
    (void)qp;
    if (fake.post_send_fails) {
        *bad = wr;
        return ENOMEM;
    }
    assert_int_equal(wr->num_sge, 1);
    *p = (struct fake_posted){.opcode = wr->opcode,
                              .flags = wr->send_flags,
                              .wr_id = wr->wr_id,
                              .remote_address = wr->wr.rdma.remote_addr,
                              .rkey = wr->wr.rdma.rkey,
                              .immediate = be32toh(wr->imm_data),
                              .length = wr->sg_list[0].length};
    memcpy(p->bytes, (const void *)(uintptr_t)wr->sg_list[0].addr,
           p->length < sizeof(p->bytes) ? p->length : sizeof(p->bytes));
    return 0;
}

static int post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad) {
    (void)qp;
    if (fake.post_recv_fails) {
        *bad = wr;
        return ENOMEM;
    }
    assert_true(fake.n_receives < RDMA_SLOTS);
    fake.receive_ids[fake.n_receives] = wr->wr_id;
    fake.receive_at[fake.n_receives++] = (uint8_t *)(uintptr_t)wr->sg_list[0].addr;
    return 0;
}

static int poll_cq(struct ibv_cq *cq, int n, struct ibv_wc *wc) {
    size_t take = fake.n_completions < (size_t)n ? fake.n_completions : (size_t)n;
    (void)cq;
    memcpy(wc, fake.completions, take * sizeof(*wc));
    fake.n_completions -= take;
    memmove(fake.completions, fake.completions + take, fake.n_completions * sizeof(*wc));
    return (int)take;
}

static int req_notify_cq(struct ibv_cq *cq, int solicited) {
    (void)cq;
    (void)solicited;
    return 0;
}

// ---- what the linker replaces ----

struct ibv_context **__wrap_rdma_get_devices(int *ret_n);
struct ibv_context **__wrap_rdma_get_devices(int *ret_n) {
    struct ibv_context **all = calloc(2, sizeof(*all));
    all[0] = &fake.verbs;
    *ret_n = 1;
    return all;
}

void __wrap_rdma_free_devices(struct ibv_context **all);
void __wrap_rdma_free_devices(struct ibv_context **all) {
    free(all);
}

struct ibv_pd *__wrap_ibv_alloc_pd(struct ibv_context *verbs);
struct ibv_pd *__wrap_ibv_alloc_pd(struct ibv_context *verbs) {
    static struct ibv_pd pd;
    pd.context = verbs;
    return makes_none() ? NULL : &pd;
}

int __wrap_ibv_dealloc_pd(struct ibv_pd *pd);
int __wrap_ibv_dealloc_pd(struct ibv_pd *pd) {
    (void)pd;
    return unmake();
}

struct ibv_mr *__wrap_ibv_reg_mr(struct ibv_pd *pd, void *at, size_t length, int access);
struct ibv_mr *__wrap_ibv_reg_mr(struct ibv_pd *pd, void *at, size_t length, int access) {
    static struct ibv_mr mrs[2];
    struct ibv_mr *mr = &mrs[(access & IBV_ACCESS_REMOTE_WRITE) != 0];
    *mr = (struct ibv_mr){.pd = pd, .addr = at, .length = length, .lkey = 11, .rkey = 22};
    return makes_none() ? NULL : mr;
}

int __wrap_ibv_dereg_mr(struct ibv_mr *mr);
int __wrap_ibv_dereg_mr(struct ibv_mr *mr) {
    (void)mr;
    return unmake();
}

struct ibv_comp_channel *__wrap_ibv_create_comp_channel(struct ibv_context *verbs);
struct ibv_comp_channel *__wrap_ibv_create_comp_channel(struct ibv_context *verbs) {
    static struct ibv_comp_channel channel;
    channel = (struct ibv_comp_channel){.context = verbs, .fd = channel_pipe[0]};
    return makes_none() ? NULL : &channel;
}

int __wrap_ibv_destroy_comp_channel(struct ibv_comp_channel *channel);
int __wrap_ibv_destroy_comp_channel(struct ibv_comp_channel *channel) {
    (void)channel;
    return unmake();
}

struct ibv_cq *__wrap_ibv_create_cq(struct ibv_context *verbs, int n, void *user,
                                    struct ibv_comp_channel *channel, int vector);
struct ibv_cq *__wrap_ibv_create_cq(struct ibv_context *verbs, int n, void *user,
                                    struct ibv_comp_channel *channel, int vector) {
    static struct ibv_cq cq;
    (void)user;
    (void)vector;
    cq = (struct ibv_cq){.context = verbs, .channel = channel, .cqe = n};
    return makes_none() ? NULL : &cq;
}

int __wrap_ibv_destroy_cq(struct ibv_cq *cq);
int __wrap_ibv_destroy_cq(struct ibv_cq *cq) {
    (void)cq;
    return unmake();
}

int __wrap_ibv_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **ret_cq,
                            void **ret_user);
int __wrap_ibv_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **ret_cq,
                            void **ret_user) {
    char byte;
    *ret_cq = NULL;
    *ret_user = NULL;
    return read(channel->fd, &byte, 1) == 1 ? 0 : -1;
}

void __wrap_ibv_ack_cq_events(struct ibv_cq *cq, unsigned n);
void __wrap_ibv_ack_cq_events(struct ibv_cq *cq, unsigned n) {
    (void)cq;
    (void)n;
}

int __wrap_rdma_create_qp(struct rdma_cm_id *id, struct ibv_pd *pd, struct ibv_qp_init_attr *a);
int __wrap_rdma_create_qp(struct rdma_cm_id *id, struct ibv_pd *pd, struct ibv_qp_init_attr *a) {
    (void)pd;
    if (a->cap.max_inline_data > fake.inline_max) {
        errno = EINVAL;
        return -1;
    }
    if (makes_none()) {
        return -1;
    }
    fake.qp = (struct ibv_qp){.context = &fake.verbs};
    id->qp = &fake.qp;
    return 0;
}

void __wrap_rdma_destroy_qp(struct rdma_cm_id *id);
void __wrap_rdma_destroy_qp(struct rdma_cm_id *id) {
    id->qp = NULL;
    unmake();
}

int __wrap_rdma_disconnect(struct rdma_cm_id *id);
int __wrap_rdma_disconnect(struct rdma_cm_id *id) {
    (void)id;
    fake.was_disconnected = true;
    return 0;
}

int __wrap_rdma_destroy_id(struct rdma_cm_id *id);
int __wrap_rdma_destroy_id(struct rdma_cm_id *id) {
    (void)id;
    return 0;
}

void __wrap_rdma_destroy_event_channel(struct rdma_event_channel *channel);
void __wrap_rdma_destroy_event_channel(struct rdma_event_channel *channel) {
    (void)channel;
}

int __wrap_rdma_get_cm_event(struct rdma_event_channel *channel, struct rdma_cm_event **ret_event);
int __wrap_rdma_get_cm_event(struct rdma_event_channel *channel, struct rdma_cm_event **ret_event) {
    char byte;
    if (!fake.has_event || read(channel->fd, &byte, 1) != 1) {
        errno = EAGAIN;
        return -1;
    }
    fake.has_event = false;
    *ret_event = &fake.event;
    return 0;
}

int __wrap_rdma_ack_cm_event(struct rdma_cm_event *event);
int __wrap_rdma_ack_cm_event(struct rdma_cm_event *event) {
    (void)event;
    return 0;
}

// ---- the script ----

enum err fake_make(bool offers) {
    return rdma_wire_new(&(struct rdma_wire_options){.pool = fake.pool,
                                                     .id = &fake.id,
                                                     .events = &fake.events,
                                                     .peer = "peer:1",
                                                     .offers = offers},
                         &fake.wire, NULL);
}

void fake_setup(bool offers, uint32_t peer_slots) {
    uint8_t greeting[RDMA_GREETING_BYTES];

    memset(&fake, 0, sizeof(fake));
    assert_int_equal(pipe2(channel_pipe, O_NONBLOCK | O_CLOEXEC), 0);
    assert_int_equal(pipe2(events_pipe, O_NONBLOCK | O_CLOEXEC), 0);
    strcpy(fake.device.name, "fake0");
    fake.verbs.device = &fake.device;
    fake.verbs.ops.post_send = post_send;
    fake.verbs.ops.post_recv = post_recv;
    fake.verbs.ops.poll_cq = poll_cq;
    fake.verbs.ops.req_notify_cq = req_notify_cq;
    fake.id.verbs = &fake.verbs;
    fake.events.fd = events_pipe[0];
    fake.inline_max = RDMA_INLINE_BYTES;
    assert_ok(rdma_pool_new(RDMA_POOL_UNIT * 128, &fake.pool, NULL));
    if (peer_slots > 0) {
        assert_ok(fake_make(offers));
        rdma_wire_greeting(greeting);
        put_u16(greeting + 6, (uint16_t)peer_slots);
        assert_ok(rdma_wire_greet(fake.wire, greeting, sizeof(greeting)));
        wire_set_stall_ms(fake.wire, 20);
        if (offers) {
            rdma_wire_begin(fake.wire);
        }
    }
}

void fake_teardown(void) {
    wire_close(fake.wire);
    assert_int_equal(rdma_pool_bytes_free(fake.pool), RDMA_POOL_UNIT * 128);
    rdma_pool_free(fake.pool);
    assert_int_equal(fake.live, 0);
    for (int i = 0; i < 2; i++) {
        close(channel_pipe[i]);
        close(events_pipe[i]);
    }
}

static void complete(const struct ibv_wc *wc) {
    assert_true(fake.n_completions < sizeof(fake.completions) / sizeof(fake.completions[0]));
    fake.completions[fake.n_completions++] = *wc;
    wake(channel_pipe[1]);
}

// Takes the next receive request; returns its buffer.
static uint8_t *take_receive(struct ibv_wc *wc) {
    uint8_t *at = fake.receive_at[0];

    assert_true(fake.n_receives > 0);
    wc->wr_id = fake.receive_ids[0];
    fake.n_receives--;
    memmove(fake.receive_ids, fake.receive_ids + 1, fake.n_receives * sizeof(fake.receive_ids[0]));
    memmove(fake.receive_at, fake.receive_at + 1, fake.n_receives * sizeof(fake.receive_at[0]));
    return at;
}

void fake_raw_message(const void *message, uint32_t length) {
    struct ibv_wc wc = {.opcode = IBV_WC_RECV, .byte_len = length};
    uint8_t *at = take_receive(&wc);

    memcpy(at, message, length);
    complete(&wc);
}

void fake_message(uint8_t kind, uint16_t credits, const void *bytes, uint32_t length) {
    static uint8_t message[RDMA_SLOT_BYTES];

    assert_true(length + RDMA_HEADER_BYTES <= sizeof(message));
    message[0] = kind;
    message[1] = 0;
    put_u16(message + 2, credits);
    put_u32(message + 4, length);
    if (length > 0) {
        memcpy(message + RDMA_HEADER_BYTES, bytes, length);
    }
    fake_raw_message(message, length + RDMA_HEADER_BYTES);
}

void fake_write(uint32_t number, uint32_t length) {
    struct ibv_wc wc = {.opcode = IBV_WC_RECV_RDMA_WITH_IMM,
                        .wc_flags = IBV_WC_WITH_IMM,
                        .byte_len = length,
                        .imm_data = htobe32(number)};

    (void)take_receive(&wc);
    complete(&wc);
}

void fake_offer(uint64_t address, uint32_t rkey, uint32_t length) {
    uint8_t offer[RDMA_OFFER_BYTES];

    put_u64(offer, address);
    put_u32(offer + 8, rkey);
    put_u32(offer + 12, length);
    fake_message(RDMA_MESSAGE_OFFER, 0, offer, sizeof(offer));
}

void fake_fail_receive(enum ibv_wc_status status) {
    struct ibv_wc wc = {.status = status};

    (void)take_receive(&wc);
    complete(&wc);
}

void fake_complete_sends(enum ibv_wc_status status) {
    for (; fake.n_completed < fake.n_posted; fake.n_completed++) {
        const struct fake_posted *p = &fake.posted[fake.n_completed % FAKE_POSTED_MAX];
        if (status != IBV_WC_SUCCESS || (p->flags & IBV_SEND_SIGNALED)) {
            complete(&(struct ibv_wc){.wr_id = p->wr_id, .status = status});
        }
    }
}

void fake_event(enum rdma_cm_event_type type) {
    fake.event = (struct rdma_cm_event){.event = type};
    fake.has_event = true;
    wake(events_pipe[1]);
}
