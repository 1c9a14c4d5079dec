// SPDX-License-Identifier: Apache-2.0
// The least that moving a file over RDMA can cost: file -> RDMA WRITE WITH IMM -> file, with both
// ends hashing the same leaves as Sluice, in messages of the same size. No protocol, one thread
// for each queue pair, which has a range of the file.
//
// Usage: rdma_loop source ADDRESS QUEUE_PAIRS FILE         prints the port, then a line at the end
//        rdma_loop sink ADDRESS PORT QUEUE_PAIRS FILE SIZE
// Both end with the same line if the bytes are the same: a hash of all leaves' hashes.
#include <arpa/inet.h>
#include <endian.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <rdma/rdma_cma.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h> // as Sluice does
#else
#include <xxhash.h>
#endif

enum {
    MAX_QUEUES = 16,
    MESSAGE = 256 * 1024,
    BUFFERS = 8,
    LEAF = 4 * 1024 * 1024,
    CREDITS_AT_ONCE = 2, // the sink tells of so many free buffers together
};

struct wanted { // what the sink asks for, in the private data of its rdma_connect()
    uint64_t offset, length, address;
    uint32_t rkey;
};

struct queue {
    struct rdma_event_channel *events;
    struct rdma_cm_id *id;
    struct ibv_comp_channel *channel;
    struct ibv_cq *cq;
    struct ibv_mr *mr;
    uint8_t *memory; // BUFFERS
    struct wanted wanted;
    int fd;
    pthread_t thread;
    XXH3_state_t *leaf, *all;
    uint32_t in_leaf;
};

static void hash(struct queue *q, const uint8_t *bytes, uint32_t n) {
    XXH3_128bits_update(q->leaf, bytes, n); // LEAF is a multiple of MESSAGE
    q->in_leaf += n;
    if (q->in_leaf == LEAF) {
        XXH128_hash_t h = XXH3_128bits_digest(q->leaf);
        XXH3_128bits_update(q->all, &h, sizeof h);
        XXH3_128bits_reset(q->leaf);
        q->in_leaf = 0;
    }
}

static void post_receive(struct queue *q) {
    struct ibv_recv_wr wr = {0}, *bad;
    if (ibv_post_recv(q->id->qp, &wr, &bad)) {
        err(1, "ibv_post_recv");
    }
}

static void make(struct queue *q, const char *path, int flags) {
    struct ibv_qp_init_attr a = {.qp_type = IBV_QPT_RC,
                                 .cap = {.max_send_wr = 4 * BUFFERS,
                                         .max_recv_wr = 2 * BUFFERS,
                                         .max_send_sge = 1,
                                         .max_recv_sge = 1}};
    q->channel = ibv_create_comp_channel(q->id->verbs);
    q->cq = q->channel ? ibv_create_cq(q->id->verbs, 8 * BUFFERS, NULL, q->channel, 0) : NULL;
    a.send_cq = a.recv_cq = q->cq;
    q->memory = aligned_alloc(4096, BUFFERS * MESSAGE);
    q->fd = open(path, flags, 0644);
    if (!q->cq || !q->memory || q->fd < 0 || rdma_create_qp(q->id, NULL, &a)) {
        err(1, "queue pair for %s", path);
    }
    memset(q->memory, 0, BUFFERS * MESSAGE);
    q->mr = ibv_reg_mr(q->id->pd, q->memory, BUFFERS * MESSAGE,
                       IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    q->leaf = XXH3_createState();
    q->all = XXH3_createState();
    if (!q->mr || !q->leaf || !q->all) {
        err(1, "ibv_reg_mr");
    }
    XXH3_128bits_reset(q->leaf);
    XXH3_128bits_reset(q->all);
    for (int i = 0; i < 2 * BUFFERS; i++) {
        post_receive(q);
    }
}

// The next completion; sleeps until there is one.
static struct ibv_wc next(struct queue *q) {
    struct ibv_wc wc;
    int n;
    while ((n = ibv_poll_cq(q->cq, 1, &wc)) == 0) {
        struct ibv_cq *cq;
        void *user;
        if (ibv_req_notify_cq(q->cq, 0)) {
            err(1, "ibv_req_notify_cq");
        }
        n = ibv_poll_cq(q->cq, 1, &wc);
        if (n != 0) {
            break;
        }
        if (ibv_get_cq_event(q->channel, &cq, &user)) {
            err(1, "ibv_get_cq_event");
        }
        ibv_ack_cq_events(cq, 1);
    }
    if (n < 0 || wc.status != IBV_WC_SUCCESS) {
        errx(1, "completion: %s", n < 0 ? "none" : ibv_wc_status_str(wc.status));
    }
    return wc;
}

static void post_send(struct queue *q, struct ibv_send_wr *wr) {
    struct ibv_send_wr *bad;
    wr->send_flags |= IBV_SEND_SIGNALED;
    if (ibv_post_send(q->id->qp, wr, &bad)) {
        err(1, "ibv_post_send");
    }
}

static void *run_source(void *arg) {
    struct queue *q = arg;
    uint64_t done = 0, messages = 0, free_there = BUFFERS, unsent = 0;
    while (done < q->wanted.length || unsent > 0) {
        if (done == q->wanted.length || free_there == 0 || unsent == BUFFERS) {
            struct ibv_wc wc = next(q);
            if (wc.opcode == IBV_WC_RECV) {
                free_there += CREDITS_AT_ONCE;
                post_receive(q);
            } else {
                unsent--;
            }
            continue;
        }
        uint64_t at = messages % BUFFERS * MESSAGE, left = q->wanted.length - done;
        uint32_t n = left < MESSAGE ? (uint32_t)left : MESSAGE;
        if (pread(q->fd, q->memory + at, n, (off_t)(q->wanted.offset + done)) != n) {
            err(1, "read");
        }
        hash(q, q->memory + at, n);
        struct ibv_sge sge = {(uintptr_t)q->memory + at, n, q->mr->lkey};
        struct ibv_send_wr wr = {
            .sg_list = &sge,
            .num_sge = 1,
            .opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
            .wr.rdma = {.remote_addr = q->wanted.address + at, .rkey = q->wanted.rkey}};
        post_send(q, &wr);
        done += n;
        messages++;
        free_there--;
        unsent++;
    }
    return NULL;
}

static void *run_sink(void *arg) {
    struct queue *q = arg;
    uint64_t done = 0, messages = 0;
    while (done < q->wanted.length) {
        struct ibv_wc wc = next(q);
        if (wc.opcode != IBV_WC_RECV_RDMA_WITH_IMM) {
            continue;
        }
        const uint8_t *bytes = q->memory + messages % BUFFERS * MESSAGE;
        hash(q, bytes, wc.byte_len);
        if (pwrite(q->fd, bytes, wc.byte_len, (off_t)(q->wanted.offset + done)) != wc.byte_len) {
            err(1, "write");
        }
        post_receive(q);
        done += wc.byte_len;
        messages++;
        if (messages % CREDITS_AT_ONCE == 0) {
            struct ibv_send_wr wr = {.opcode = IBV_WR_SEND};
            post_send(q, &wr);
        }
    }
    return NULL;
}

static struct rdma_cm_event *expect(struct rdma_event_channel *events,
                                    enum rdma_cm_event_type want) {
    struct rdma_cm_event *event;
    if (rdma_get_cm_event(events, &event)) {
        err(1, "rdma_get_cm_event");
    }
    if (event->event != want) {
        errx(1, "%s, not %s", rdma_event_str(event->event), rdma_event_str(want));
    }
    return event;
}

static void run(struct queue *queues, int n, void *(*work)(void *)) {
    XXH3_state_t *all = XXH3_createState();
    if (!all) {
        err(1, "XXH3_createState");
    }
    XXH3_128bits_reset(all);
    for (int i = 0; i < n; i++) {
        if (pthread_create(&queues[i].thread, NULL, work, &queues[i])) {
            errx(1, "pthread_create");
        }
    }
    for (int i = 0; i < n; i++) {
        pthread_join(queues[i].thread, NULL);
        XXH128_hash_t leaf = XXH3_128bits_digest(queues[i].leaf);
        XXH128_hash_t h = XXH3_128bits_digest(queues[i].all);
        XXH3_128bits_update(all, &leaf, sizeof leaf);
        XXH3_128bits_update(all, &h, sizeof h);
    }
    XXH128_hash_t h = XXH3_128bits_digest(all);
    printf("%016lx%016lx\n", h.high64, h.low64);
    XXH3_freeState(all);
}

static void source(struct queue *queues, int n, struct sockaddr_in at, const char *path) {
    struct rdma_event_channel *events = rdma_create_event_channel();
    struct rdma_cm_id *listening;
    if (!events || rdma_create_id(events, &listening, NULL, RDMA_PS_TCP) ||
        rdma_bind_addr(listening, (struct sockaddr *)&at) || rdma_listen(listening, MAX_QUEUES)) {
        err(1, "listen");
    }
    printf("%u\n", ntohs(rdma_get_src_port(listening)));
    fflush(stdout);
    for (int i = 0; i < n; i++) { // the sink connects one after the other
        struct rdma_conn_param p = {.retry_count = 6, .rnr_retry_count = 7};
        struct rdma_cm_event *event = expect(events, RDMA_CM_EVENT_CONNECT_REQUEST);
        queues[i].id = event->id;
        memcpy(&queues[i].wanted, event->param.conn.private_data, sizeof queues[i].wanted);
        rdma_ack_cm_event(event);
        make(&queues[i], path, O_RDONLY);
        if (rdma_accept(queues[i].id, &p)) {
            err(1, "rdma_accept");
        }
        rdma_ack_cm_event(expect(events, RDMA_CM_EVENT_ESTABLISHED));
    }
    run(queues, n, run_source);
    for (int i = 0; i < n; i++) {
        (void)rdma_disconnect(queues[i].id);
    }
}

static void sink(struct queue *queues, int n, struct sockaddr_in to, const char *path,
                 uint64_t size) {
    uint64_t each = (size / (uint64_t)n + LEAF - 1) / LEAF * LEAF;
    for (int i = 0; i < n; i++) {
        struct queue *q = &queues[i];
        q->events = rdma_create_event_channel();
        if (!q->events || rdma_create_id(q->events, &q->id, NULL, RDMA_PS_TCP) ||
            rdma_resolve_addr(q->id, NULL, (struct sockaddr *)&to, 10000)) {
            err(1, "rdma_resolve_addr");
        }
        rdma_ack_cm_event(expect(q->events, RDMA_CM_EVENT_ADDR_RESOLVED));
        if (rdma_resolve_route(q->id, 10000)) {
            err(1, "rdma_resolve_route");
        }
        rdma_ack_cm_event(expect(q->events, RDMA_CM_EVENT_ROUTE_RESOLVED));
        make(q, path, O_WRONLY | O_CREAT);
        uint64_t offset = (uint64_t)i * each < size ? (uint64_t)i * each : size;
        q->wanted = (struct wanted){.offset = offset,
                                    .length = size - offset < each ? size - offset : each,
                                    .address = (uintptr_t)q->memory,
                                    .rkey = q->mr->rkey};
        struct rdma_conn_param p = {.private_data = &q->wanted,
                                    .private_data_len = sizeof q->wanted,
                                    .retry_count = 6,
                                    .rnr_retry_count = 7};
        if (rdma_connect(q->id, &p)) {
            err(1, "rdma_connect");
        }
        rdma_ack_cm_event(expect(q->events, RDMA_CM_EVENT_ESTABLISHED));
    }
    run(queues, n, run_sink);
    for (int i = 0; i < n; i++) { // the source may still wait for its last completions
        rdma_ack_cm_event(expect(queues[i].events, RDMA_CM_EVENT_DISCONNECTED));
    }
}

int main(int argc, char **argv) {
    static struct queue queues[MAX_QUEUES];
    bool is_sink = argc == 7 && strcmp(argv[1], "sink") == 0;
    int n = argc > 4 ? atoi(argv[is_sink ? 4 : 3]) : 0;
    struct sockaddr_in at = {.sin_family = AF_INET};

    if (n < 1 || n > MAX_QUEUES || (!is_sink && argc != 5) ||
        inet_pton(AF_INET, argv[2], &at.sin_addr) != 1) {
        errx(2, "see the head of the source");
    }
    if (is_sink) {
        at.sin_port = htons((uint16_t)atoi(argv[3]));
        sink(queues, n, at, argv[5], strtoull(argv[6], NULL, 10));
    } else {
        source(queues, n, at, argv[4]);
    }
    return 0;
}
