// SPDX-License-Identifier: Apache-2.0
#include "agent/list_stream.h"

#include "common/cleanup.h"
#include "common/rpc/failure_message.h"
#include "sluice/v1/agent_service.pb-c.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

struct list_stream {
    struct list_lane *lane;
    // constant
    uint64_t task_id, term, counter;
    char agent[128];
    // the loop's
    struct rpc *call; // NULL: not open (yet), or over
    // the slot's
    uint64_t n_sent;
    _Atomic int n_refs; // the slot's, the call's, and one for each closure under way
    pthread_mutex_t lock;
    pthread_cond_t changed;
    // under the lock
    uint64_t n_committed;
    bool done, over, interrupted;
    struct failure why; // of `over`
};

// A page on its way to the loop; owns what it points to.
struct page_item {
    struct list_stream *stream;
    struct list_page page;
    bool first;
    bool has_failure;
    struct failure failure;
    uint8_t entries[];
};

static void unref(struct list_stream *s) {
    if (atomic_fetch_sub(&s->n_refs, 1) == 1) {
        pthread_cond_destroy(&s->changed);
        pthread_mutex_destroy(&s->lock);
        free(s);
    }
}

static struct list_stream *ref(struct list_stream *s) {
    atomic_fetch_add(&s->n_refs, 1);
    return s;
}

static void end(struct list_stream *s, const struct failure *why) {
    pthread_mutex_lock(&s->lock);
    if (!s->over) {
        s->over = true;
        s->why = *why;
    }
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

// ---- on the loop ----

static void reply_arrived(struct rpc *r, const ProtobufCMessage *m) {
    struct list_stream *s = rpc_user(r);
    const Sluice__V1__ListReply *reply = (const Sluice__V1__ListReply *)m;
    if (reply->failure != NULL) {
        struct failure f;
        failure_from_message(reply->failure, &f);
        end(s, &f);
        return;
    }
    pthread_mutex_lock(&s->lock);
    if (reply->pages_committed > s->n_committed) {
        s->n_committed = reply->pages_committed;
    }
    s->done = s->done || reply->done;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void call_closed(struct rpc *r, const struct rpc_status *status) {
    struct list_stream *s = rpc_user(r);
    struct failure f;
    if (status->failure != NULL) {
        rpc_status_failure(status, &f);
    } else {
        memset(&f, 0, sizeof f);
        (void)failure_set(&f, ERR_PEER_LOST, "List", NULL, 0,
                          "the listing's connection to the master ended: %.150s",
                          status->detail == NULL ? "" : status->detail);
    }
    end(s, &f);
    s->call = NULL;
    struct list_lane *lane = s->lane;
    unref(s);
    lane->n_open--;
    if (lane->n_open == 0 && lane->idle != NULL) {
        lane->idle(lane->user);
    }
}

static const struct rpc_method list_method = {
    .path = "/sluice.v1.AgentService/List",
    .input = &sluice__v1__list_reply__descriptor,
    .input_stream = true,
    .message = reply_arrived,
    .closed = call_closed,
};

static void open_call(void *arg) {
    struct list_stream *s = arg;
    struct list_lane *lane = s->lane;
    s->call = rpc_call(lane->loop, lane->channel, &list_method, 0, false, s);
    if (s->call == NULL) {
        struct failure f = {0};
        (void)failure_set(&f, ERR_NO_MEMORY, "List", NULL, 0, NULL);
        end(s, &f);
        unref(s); // that of this closure
        return;
    }
    lane->n_open++; // the closure's reference is the call's now
}

static void send_page(void *arg) {
    struct page_item *item = arg;
    struct list_stream *s = item->stream;
    Sluice__V1__Epoch epoch = SLUICE__V1__EPOCH__INIT;
    Sluice__V1__LeaseRef lease = SLUICE__V1__LEASE_REF__INIT;
    Sluice__V1__ListPage m = SLUICE__V1__LIST_PAGE__INIT;
    struct failure_message fm;
    epoch.term = s->term;
    epoch.counter = s->counter;
    lease.task_id = s->task_id;
    lease.epoch = &epoch;
    m.lease = item->first ? &lease : NULL;
    m.directory = item->page.directory;
    m.entries = (ProtobufCBinaryData){item->page.entries_len, item->entries};
    m.directory_done = item->page.directory_done;
    m.last = item->page.last;
    m.walk_us = item->page.walk_us;
    if (item->has_failure) {
        failure_to_message(&item->failure, s->agent, &fm);
        m.failure = &fm.message;
    }
    if (s->call != NULL) {
        (void)rpc_send(s->call, &m.base); // false: `closed` comes
        if (m.last) {
            rpc_half_close(s->call);
        }
    }
    free(item);
    unref(s);
}

static void cancel_call(void *arg) {
    struct list_stream *s = arg;
    if (s->call != NULL) {
        rpc_cancel(s->call);
    }
    unref(s);
}

// ---- on the slot's thread ----

enum err list_stream_new(struct list_lane *lane, const Sluice__V1__Lease *lease, const char *agent,
                         struct list_stream **ret_stream) {
    struct list_stream *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return ERR_NO_MEMORY;
    }
    s->lane = lane;
    s->task_id = lease->spec->task_id;
    s->term = lease->epoch->term;
    s->counter = lease->epoch->counter;
    memcpy(s->agent, agent, strnlen(agent, sizeof s->agent - 1));
    atomic_init(&s->n_refs, 1);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    loop_post(lane->loop, open_call, ref(s));
    *ret_stream = s;
    return OK;
}

// Waits until at most @ahead pages are not committed, or, with @done, for the end.
static enum err wait_for(struct list_stream *s, uint64_t ahead, bool done, struct failure *f) {
    enum err e = OK;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        if (done ? s->done : !s->over && s->n_sent - s->n_committed <= ahead) {
            break;
        }
        if (s->interrupted) {
            e = failure_set(f, ERR_CANCELLED, "List", NULL, 0, NULL);
            break;
        }
        if (s->over) {
            e = s->why.err;
            *f = s->why;
            break;
        }
        pthread_cond_wait(&s->changed, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return e;
}

enum err list_stream_send(struct list_stream *s, const struct list_page *p,
                          struct failure *ret_failure) {
    enum err e = wait_for(s, LIST_PAGES_AHEAD - 1, false, ret_failure);
    if (e != OK) {
        return e;
    }
    struct page_item *item = malloc(sizeof *item + p->entries_len);
    if (item == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "List", NULL, 0, NULL);
    }
    item->stream = ref(s);
    item->page = *p;
    item->first = s->n_sent == 0;
    item->has_failure = p->failure != NULL;
    if (p->failure != NULL) {
        item->failure = *p->failure;
    }
    if (p->entries_len > 0) {
        memcpy(item->entries, p->entries, p->entries_len);
    }
    s->n_sent++;
    loop_post(s->lane->loop, send_page, item);
    return OK;
}

enum err list_stream_finish(struct list_stream *s, struct failure *ret_failure) {
    return wait_for(s, 0, true, ret_failure);
}

void list_stream_interrupt(void *stream) {
    struct list_stream *s = stream;
    pthread_mutex_lock(&s->lock);
    s->interrupted = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void list_stream_free(struct list_stream *s) {
    if (s == NULL) {
        return;
    }
    loop_post(s->lane->loop, cancel_call, ref(s));
    unref(s);
}
