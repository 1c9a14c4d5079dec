// SPDX-License-Identifier: Apache-2.0
// The queue pair of a wire: what is posted, what completes, and who waits for it.
#include "common/bytes.h"
#include "common/clock.h"
#include "common/log.h"
#include "dataplane/rdma_wire_impl.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

enum { POLLED_AT_ONCE = 16 };
#define RECEIVE_BIT ((uint64_t)1 << 63) // in wr_id: a receive request, with its slot

static const char *device_name(const struct rdma_wire *w) {
    return w->id->verbs ? ibv_get_device_name(w->id->verbs->device) : NULL;
}

void rdma_wire_break(struct rdma_wire *w, enum err e, const char *why) {
    if (w->broken) {
        return;
    }
    w->broken = e;
    if (!atomic_load(&w->aborted)) {
        log_event(LOG_WARN, "rdma_connection_broken", LOG_STR("address", w->wire.peer),
                  LOG_STR("device", device_name(w)), LOG_STR("code", err_name(e)),
                  LOG_STR("reason", why));
    }
}

// ---- posting ----

void rdma_wire_repost(struct rdma_wire *w, uint32_t slot) {
    struct ibv_sge sge = {.addr = (uintptr_t)rdma_wire_slot(w, slot),
                          .length = RDMA_SLOT_BYTES,
                          .lkey = w->domain.lkey};
    struct ibv_recv_wr wr = {.wr_id = RECEIVE_BIT | slot, .sg_list = &sge, .num_sge = 1};
    struct ibv_recv_wr *bad;

    if (ibv_post_recv(w->id->qp, &wr, &bad) != 0) {
        rdma_wire_break(w, ERR_IO, "the device takes no receive request");
        return;
    }
    w->in.owed++;
}

void rdma_wire_post(struct rdma_wire *w, struct ibv_send_wr *wr, enum rdma_holds holds,
                    bool is_last) {
    struct ibv_send_wr *bad;

    wr->wr_id = w->out.posted;
    if (is_last || w->out.posted + 1 - w->out.signalled >= RDMA_SIGNAL_EVERY) {
        wr->send_flags |= IBV_SEND_SIGNALED;
        w->out.signalled = w->out.posted + 1;
    }
    w->out.holds[w->out.posted % RDMA_QUEUE] = (uint8_t)holds;
    w->out.posted++;
    w->out.credits--;
    if (ibv_post_send(w->id->qp, wr, &bad) != 0) {
        rdma_wire_break(w, ERR_IO, "the device takes no request to send");
    }
}

bool rdma_wire_has_room(const struct rdma_wire *w, uint32_t length, uint32_t reserve) {
    return w->out.credits > reserve && w->out.posted - w->out.done < RDMA_QUEUE &&
           (RDMA_HEADER_BYTES + length <= w->inline_bytes || w->out.slots_free > 0);
}

static void gather(uint8_t *to, const struct iovec *iov, uint32_t length) {
    while (length > 0) {
        uint32_t n = iov->iov_len < length ? (uint32_t)iov->iov_len : length;
        if (n > 0) {
            memcpy(to, iov->iov_base, n);
        }
        to += n;
        length -= n;
        iov++;
    }
}

void rdma_wire_post_message(struct rdma_wire *w, enum rdma_message_kind kind,
                            const struct iovec *iov, uint32_t length, bool is_last) {
    uint8_t small[RDMA_INLINE_BYTES];
    bool is_inline = RDMA_HEADER_BYTES + length <= w->inline_bytes;
    uint8_t *to = is_inline ? small : rdma_wire_slot(w, RDMA_SLOTS + w->out.next_slot);
    uint32_t credits = w->in.owed < UINT16_MAX ? w->in.owed : UINT16_MAX;
    struct ibv_sge sge = {
        .addr = (uintptr_t)to, .length = RDMA_HEADER_BYTES + length, .lkey = w->domain.lkey};
    struct ibv_send_wr wr = {.sg_list = &sge,
                             .num_sge = 1,
                             .opcode = IBV_WR_SEND,
                             .send_flags = is_inline ? IBV_SEND_INLINE : 0};

    to[0] = (uint8_t)kind;
    to[1] = 0;
    put_u16(to + 2, (uint16_t)credits);
    put_u32(to + 4, length);
    gather(to + RDMA_HEADER_BYTES, iov, length);
    w->in.owed -= credits;
    if (!is_inline) {
        w->out.next_slot = (w->out.next_slot + 1) % RDMA_SENDS;
        w->out.slots_free--;
    }
    rdma_wire_post(w, &wr, is_inline ? RDMA_HOLDS_NOTHING : RDMA_HOLDS_SLOT, is_last);
}

// ---- completions ----

// Requests complete in their order: those before @number are complete too.
static void take_sent(struct rdma_wire *w, uint64_t number) {
    if (number >= w->out.posted) {
        rdma_wire_break(w, ERR_IO, "the device completed what it was not asked for");
        return;
    }
    while (w->out.done <= number) {
        switch ((enum rdma_holds)w->out.holds[w->out.done % RDMA_QUEUE]) {
        case RDMA_HOLDS_NOTHING: break;
        case RDMA_HOLDS_SLOT: w->out.slots_free++; break;
        case RDMA_HOLDS_CHUNK: w->out.chunks_free++; break;
        }
        w->out.done++;
    }
}

static enum err status_error(enum ibv_wc_status status) {
    switch ((int)status) {
    case IBV_WC_WR_FLUSH_ERR:
    case IBV_WC_RETRY_EXC_ERR:
    case IBV_WC_RNR_RETRY_EXC_ERR:
    case IBV_WC_RESP_TIMEOUT_ERR:
    case IBV_WC_REM_ABORT_ERR: return ERR_PEER_LOST;
    case IBV_WC_LOC_LEN_ERR: // it sent more than a slot holds
    case IBV_WC_BAD_RESP_ERR:
    case IBV_WC_REM_INV_REQ_ERR:
    case IBV_WC_REM_ACCESS_ERR: // what it offered is not there
    case IBV_WC_REM_OP_ERR: return ERR_PROTOCOL;
    default: return ERR_IO; // our device, or how we use it
    }
}

static void take_failed(struct rdma_wire *w, const struct ibv_wc *wc) {
    if (wc->status == IBV_WC_WR_FLUSH_ERR && (w->ended || w->broken)) {
        return; // of no interest: what came before it said why
    }
    rdma_wire_break(w, status_error(wc->status),
                    wc->status == IBV_WC_WR_FLUSH_ERR
                        ? "the queue pair failed: its device is gone, or the peer broke the rules "
                          "of remote access"
                        : ibv_wc_status_str(wc->status));
}

static void take_completion(struct rdma_wire *w, const struct ibv_wc *wc) {
    uint32_t slot = (uint32_t)(wc->wr_id & ~RECEIVE_BIT);

    if (wc->status != IBV_WC_SUCCESS) {
        take_failed(w, wc);
    } else if (!(wc->wr_id & RECEIVE_BIT)) {
        take_sent(w, wc->wr_id);
    } else if (w->broken || slot >= RDMA_SLOTS) {
        return;
    } else if (wc->opcode == IBV_WC_RECV_RDMA_WITH_IMM) {
        rdma_wire_take_write(w, slot, be32toh(wc->imm_data), wc->byte_len);
    } else if (wc->opcode == IBV_WC_RECV && !(wc->wc_flags & IBV_WC_WITH_IMM)) {
        rdma_wire_take_message(w, slot, wc->byte_len);
    } else {
        rdma_wire_break(w, ERR_PROTOCOL, "the peer sent what is no message");
    }
}

static int take_completions(struct rdma_wire *w) {
    struct ibv_wc wc[POLLED_AT_ONCE];
    int n, total = 0;

    do {
        n = ibv_poll_cq(w->cq, POLLED_AT_ONCE, wc);
        if (n < 0) {
            rdma_wire_break(w, ERR_IO, "the device's completions cannot be read");
            return total;
        }
        for (int i = 0; i < n; i++) {
            take_completion(w, &wc[i]);
        }
        total += n;
    } while (n == POLLED_AT_ONCE);
    return total;
}

void rdma_wire_progress(struct rdma_wire *w) {
    (void)take_completions(w);
    rdma_wire_tell(w);
}

// ---- waiting ----

static void take_event(struct rdma_wire *w, enum rdma_cm_event_type type) {
    switch ((int)type) {
    case RDMA_CM_EVENT_DISCONNECTED:
        (void)take_completions(w); // what arrived before
        w->ended = true;
        break;
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
        rdma_wire_break(w, ERR_PEER_LOST, "the device was removed");
        break;
    case RDMA_CM_EVENT_CONNECT_ERROR:
    case RDMA_CM_EVENT_UNREACHABLE:
    case RDMA_CM_EVENT_REJECTED:
        rdma_wire_break(w, ERR_PEER_LOST, "the peer went away while it connected");
        break;
    default: break; // ESTABLISHED, a path that changed, the end of the time to wait
    }
}

static void take_events(struct rdma_wire *w) {
    struct rdma_cm_event *event;

    while (rdma_get_cm_event(w->events, &event) == 0) {
        enum rdma_cm_event_type type = event->event;
        rdma_ack_cm_event(event);
        take_event(w, type);
    }
}

static void take_wakeup(struct rdma_wire *w) {
    struct ibv_cq *cq;
    void *user;

    if (ibv_get_cq_event(w->channel, &cq, &user) == 0) {
        ibv_ack_cq_events(cq, 1);
        w->is_armed = false;
    }
}

// Polls for a moment. Whether the sleep that follows is short says if that is worth while.
static bool spin(struct rdma_wire *w) {
    uint64_t until_us = w->spin_us > 0 ? clock_mono_us() + w->spin_us : 0;

    while (until_us > 0 && clock_mono_us() < until_us) {
        if (take_completions(w) > 0) {
            return true;
        }
    }
    return false;
}

static void sleep_on_descriptors(struct rdma_wire *w, int64_t ms) {
    struct pollfd fds[3] = {{.fd = w->channel->fd, .events = POLLIN},
                            {.fd = w->events->fd, .events = POLLIN},
                            {.fd = w->wake_fd, .events = POLLIN}};
    uint64_t begun_us = clock_mono_us(), slept_us;
    int n;

    w->is_waited_for = true;
    pthread_mutex_unlock(&w->mutex);
    n = poll(fds, 3, ms > INT32_MAX ? INT32_MAX : (int)ms);
    pthread_mutex_lock(&w->mutex);
    w->is_waited_for = false;
    if (n > 0 && (fds[0].revents & POLLIN)) {
        take_wakeup(w);
    }
    if (n > 0 && fds[1].revents) {
        take_events(w);
    }
    slept_us = clock_mono_us() - begun_us;
    w->spin_us = slept_us >= RDMA_SPIN_MAX_US            ? w->spin_us / 2
                 : w->spin_us + 1 < RDMA_SPIN_MAX_US / 2 ? 2 * (w->spin_us + 1)
                                                         : RDMA_SPIN_MAX_US;
    pthread_cond_broadcast(&w->changed);
}

static void wait_for_other(struct rdma_wire *w, int64_t ms) {
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)pthread_cond_timedwait(&w->changed, &w->mutex, &until);
}

enum err rdma_wire_wait(struct rdma_wire *w, int64_t until_ms) {
    int64_t left_ms = until_ms - clock_mono_ms(&clock_system);

    if (left_ms <= 0) {
        take_events(w); // a wait of no time looks, too
        return ERR_TIMEOUT;
    }
    if (w->is_waited_for) {
        wait_for_other(w, left_ms);
        return OK;
    }
    if (spin(w)) {
        return OK;
    }
    if (!w->is_armed) {
        if (ibv_req_notify_cq(w->cq, 0) != 0) {
            rdma_wire_break(w, ERR_IO, "the device tells of no completions");
            return OK;
        }
        w->is_armed = true;
        if (take_completions(w) > 0) { // that came before it was armed
            return OK;
        }
    }
    sleep_on_descriptors(w, left_ms);
    return OK;
}
