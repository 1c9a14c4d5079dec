// SPDX-License-Identifier: Apache-2.0
#include "master/watch.h"

#include "common/rpc/rpc.h"
#include "master/database.h"
#include "master/flow_table.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

struct watch {
    struct watch *prev, *next; // in its flow's list, while that is in memory
    struct core *core;
    struct rpc *rpc;          // NULL: the call is over
    struct flow_entry *entry; // NULL: not in memory
    char flow[IDENT_SIZE];
    uint64_t next_seq; // what is older is known to the client
    bool reading;      // the database is being asked; the watch stays until it has answered
    bool live;         // nothing stored is missing
    bool again;        // something was stored while it was read
    bool finished;     // rpc_finish() was called
};

static void read_on(struct watch *w);

static void detach(struct watch *w) {
    if (w->entry != NULL) {
        DL_DELETE(w->entry->watches, w);
        w->entry = NULL;
    }
}

static void finish(struct watch *w, const struct failure *f) {
    if (w->rpc != NULL && !w->finished) {
        w->finished = true;
        if (f == NULL) {
            rpc_finish(w->rpc, 0, NULL);
        } else {
            rpc_finish_failure(w->rpc, f);
        }
    }
}

static void send_event(struct watch *w, const Sluice__V1__FlowEvent *m) {
    // One that is not stored has the number of the newest that is.
    uint64_t known = m->seq + (m->live ? 1 : 0);
    if (w->rpc == NULL || w->finished || known < w->next_seq) {
        return;
    }
    w->next_seq = m->seq + 1;
    (void)rpc_send(w->rpc, &m->base);
}

static bool is_final(const Sluice__V1__FlowEvent *m) {
    return m->flow != NULL && flow_state_is_final((enum flow_state)m->flow->state);
}

// ---- the past ----
static void on_events(void *arg, enum err result, const struct flow_event_row *rows, size_t n_rows,
                      bool more) {
    struct watch *w = arg;
    bool over = false;
    w->reading = false;
    if (w->rpc == NULL) {
        free(w);
        return;
    }
    if (result != OK) {
        struct failure f = {0};
        (void)failure_set(&f, result, "watch", w->flow, strlen(w->flow),
                          "the flow's events cannot be read");
        finish(w, &f);
        return;
    }
    for (size_t i = 0; i < n_rows && !over; i++) {
        Sluice__V1__FlowEvent *m =
            sluice__v1__flow_event__unpack(NULL, rows[i].message.len, rows[i].message.bytes);
        if (m != NULL) {
            send_event(w, m);
            over = is_final(m);
            sluice__v1__flow_event__free_unpacked(m, NULL);
        }
    }
    if (over || (w->entry == NULL && !more && !w->again)) {
        finish(w, NULL);
    } else if (more || w->again) {
        read_on(w);
    } else {
        w->live = true;
    }
}

static void read_on(struct watch *w) {
    w->live = false;
    if (w->reading || w->finished) {
        w->again = true;
    } else if (rpc_queued_messages(w->rpc) <= WATCH_QUEUE_STATES) { // if not: when it is writable
        w->reading = true;
        w->again = false;
        database_events_read(w->core->database, w->flow, w->next_seq, WATCH_PAGE, on_events, w);
    }
}

// ---- the present ----
void watch_tell(struct flow_entry *e, const Sluice__V1__FlowEvent *m, bool is_stored) {
    struct watch *w, *next;
    for (w = e->watches; w != NULL; w = next) {
        next = w->next;
        size_t queued = rpc_queued_messages(w->rpc);
        if (!w->live) {
            w->again = w->again || is_stored;
        } else if (queued <= WATCH_QUEUE_PROGRESS || (is_stored && queued <= WATCH_QUEUE_STATES)) {
            send_event(w, m);
            if (is_final(m)) {
                finish(w, NULL);
            }
        } else if (is_stored) {
            read_on(w);
        }
    }
}

void watch_fell_behind(struct flow_entry *e) {
    for (struct watch *w = e->watches; w != NULL; w = w->next) {
        read_on(w);
    }
}

void watch_flow_gone(struct flow_entry *e) {
    while (e->watches != NULL) {
        struct watch *w = e->watches;
        bool live = w->live;
        detach(w);
        w->again = true; // the final event may not have been seen
        if (live && !w->finished) {
            read_on(w);
        }
    }
}

void watches_stop(struct flows *fl) {
    struct failure f = {0};
    (void)failure_set(&f, ERR_AGAIN, "watch", NULL, 0, "the master is stopping");
    failure_remedy(&f, "watch again from the last seq + 1 when it is back");
    for (struct flow_entry *e = fl->by_id; e != NULL; e = e->hh.next) {
        for (struct watch *w = e->watches; w != NULL; w = w->next) {
            finish(w, &f);
        }
    }
}

// ---- the call ----
static void on_found(void *arg, enum err result, const struct flow_row *rows, size_t n_rows,
                     bool more) {
    struct watch *w = arg;
    (void)rows;
    (void)more;
    w->reading = false;
    if (w->rpc == NULL) {
        free(w);
        return;
    }
    if (result != OK || n_rows == 0) {
        struct failure f = {0};
        (void)failure_set(&f, result == OK ? ERR_NOT_FOUND : result, "watch", w->flow,
                          strlen(w->flow), result == OK ? "there is no such flow" : NULL);
        finish(w, &f);
        return;
    }
    read_on(w);
}

static void on_watch(struct rpc *r, const ProtobufCMessage *message) {
    const Sluice__V1__WatchFlowRequest *m = (const Sluice__V1__WatchFlowRequest *)message;
    struct core *c = rpc_server_user(r);
    struct failure f = {0};
    struct watch *w = NULL;
    if (!ident_is_valid(m->flow_id)) {
        (void)failure_set(&f, ERR_NOT_FOUND, "watch", m->flow_id, strlen(m->flow_id),
                          "there is no such flow");
    } else if (c->flows->n_watches >= c->options->watchers) {
        c->flows->n_watches_refused++;
        (void)failure_set(&f, ERR_FULL, "watch", m->flow_id, strlen(m->flow_id),
                          "%u calls watch flows already, and no more are allowed",
                          c->flows->n_watches);
        failure_remedy(&f, "poll GetFlow, or raise limits.watchers");
    } else {
        w = calloc(1, sizeof *w);
        if (w == NULL) {
            (void)failure_set(&f, ERR_NO_MEMORY, "watch", m->flow_id, strlen(m->flow_id), NULL);
        }
    }
    if (w == NULL) {
        rpc_finish_failure(r, &f);
        return;
    }
    w->core = c;
    w->rpc = r;
    w->next_seq = m->from_seq;
    memcpy(w->flow, m->flow_id, IDENT_SIZE);
    rpc_set_user(r, w);
    c->flows->n_watches++;
    w->entry = flows_entry(c->flows, w->flow);
    if (w->entry != NULL) {
        DL_APPEND(w->entry->watches, w);
        read_on(w);
    } else {
        w->reading = true;
        database_flow_get(c->database, w->flow, on_found, w);
    }
}

static void on_writable(struct rpc *r) {
    struct watch *w = rpc_user(r);
    if (w != NULL && !w->live && !w->reading && !w->finished) {
        read_on(w);
    }
}

static void on_closed(struct rpc *r, const struct rpc_status *status) {
    struct watch *w = rpc_user(r);
    (void)status;
    if (w == NULL) {
        return;
    }
    w->core->flows->n_watches--;
    detach(w);
    w->rpc = NULL;
    if (!w->reading) {
        free(w);
    }
}

static const struct rpc_method method_watch = {
    .path = "/sluice.v1.FlowService/WatchFlow",
    .input = &sluice__v1__watch_flow_request__descriptor,
    .message = on_watch,
    .writable = on_writable,
    .closed = on_closed,
};

void watch_add(struct rpc_server *s, struct core *c) {
    rpc_server_add(s, &method_watch, c);
}
