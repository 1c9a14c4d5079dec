// SPDX-License-Identifier: Apache-2.0
#include "cli/watch.h"

#include "common/flow_state.h"

#include <stdio.h>
#include <string.h>

enum {
    RETRY_MIN_MS = 100,
    RETRY_MAX_MS = 5000,
    QUIET_MS = 1000, // see until_seq
};

// Everything belongs to the loop's thread: the caller of watch_run().
struct watch {
    struct client *client;
    struct loop *loop;
    struct loop_timer *timer; // asks again, or ends the wait for until_seq
    struct watch_options options;
    struct rpc *call;   // WatchFlow; NULL between two of them
    struct rpc *cancel; // TerminateFlow
    uint64_t next_seq;
    int64_t retry_ms;
    bool running;
    bool lost;      // the connection is lost and the user knows
    bool cancelled; // asked to cancel, or to do so as soon as watch_run() runs
    bool done;
    Sluice__V1__Flow *flow; // as it ended
    enum err result;
    struct failure failure;
};

Sluice__V1__Flow *flow_copy(const Sluice__V1__Flow *flow) {
    size_t len = sluice__v1__flow__get_packed_size(flow);
    uint8_t *packed = malloc(len + 1);
    if (!packed) {
        return NULL;
    }
    sluice__v1__flow__pack(flow, packed);
    Sluice__V1__Flow *copy = sluice__v1__flow__unpack(NULL, len, packed);
    free(packed);
    return copy;
}

static void note(struct watch *w, const char *text) {
    if (w->options.note) {
        w->options.note(text, w->options.user);
    }
}

// The loop stops when both calls are over.
static void stop_when_quiet(struct watch *w) {
    if (w->done && !w->call && !w->cancel) {
        loop_timer_disarm(w->timer);
        loop_stop(w->loop);
    }
}

static void finish(struct watch *w) {
    w->done = true;
    if (w->call) {
        rpc_cancel(w->call);
    }
    if (w->cancel) {
        rpc_cancel(w->cancel);
    }
    stop_when_quiet(w);
}

static void finish_failed(struct watch *w, enum err e) {
    w->result = e;
    finish(w);
}

static void finish_with_flow(struct watch *w, const Sluice__V1__Flow *flow) {
    if (w->done) {
        return;
    }
    w->flow = flow_copy(flow);
    if (!w->flow) {
        finish_failed(w, failure_set(&w->failure, ERR_NO_MEMORY, "follow flow", w->options.flow_id,
                                     strlen(w->options.flow_id), NULL));
        return;
    }
    finish(w);
}

static bool is_final(const Sluice__V1__Flow *flow) {
    return flow && flow_state_is_final((enum flow_state)flow->state);
}

static void on_event(struct rpc *r, const ProtobufCMessage *m) {
    struct watch *w = rpc_user(r);
    const Sluice__V1__FlowEvent *event = (const Sluice__V1__FlowEvent *)m;
    if (w->done) {
        return;
    }
    if (w->lost) {
        w->lost = false;
        note(w, "the master is back");
    }
    w->retry_ms = RETRY_MIN_MS;
    w->next_seq = event->seq + 1;
    w->options.event(event, w->options.user);
    if (w->options.until_seq > 0) {
        if (event->seq >= w->options.until_seq) {
            finish(w);
        } else {
            loop_timer_arm(w->timer, QUIET_MS);
        }
    } else if (is_final(event->flow)) {
        finish_with_flow(w, event->flow);
    }
}

// Would the same question have another answer later?
static bool is_transient(enum err e) {
    return e == ERR_CANCELLED || err_retry_class(e) != RETRY_NEVER;
}

static void on_watch_closed(struct rpc *r, const struct rpc_status *status) {
    struct watch *w = rpc_user(r);
    w->call = NULL;
    if (w->done) {
        stop_when_quiet(w);
        return;
    }
    if (status->code == 0 && w->options.until_seq > 0) {
        finish(w);
        return;
    }
    if (status->code != 0) {
        struct failure f;
        rpc_status_failure(status, &f);
        if (!is_transient(f.err) || w->options.until_seq > 0) {
            client_explain_unreachable(w->client->master, &f);
            w->failure = f;
            finish_failed(w, f.err);
            return;
        }
        if (rpc_channel_next(w->client->channel)) { // another master may have taken over
            w->retry_ms = RETRY_MIN_MS;
        }
        if (!w->lost) {
            w->lost = true;
            char text[512];
            snprintf(text, sizeof(text),
                     "lost the master at %s; the flow %s goes on, waiting for the master",
                     w->client->master, w->options.flow_id);
            note(w, text);
        }
    }
    loop_timer_arm(w->timer, w->retry_ms);
    w->retry_ms = w->retry_ms * 2 < RETRY_MAX_MS ? w->retry_ms * 2 : RETRY_MAX_MS;
}

static const struct rpc_method watch_method = {
    .path = "/sluice.v1.FlowService/WatchFlow",
    .input = &sluice__v1__flow_event__descriptor,
    .input_stream = true,
    .message = on_event,
    .closed = on_watch_closed,
};

static void ask(struct watch *w) {
    // Once it is lost, gRPC itself waits until the master can be reached again.
    w->call = rpc_call(w->loop, w->client->channel, &watch_method, 0, w->lost, w);
    if (!w->call) {
        finish_failed(w, failure_set(&w->failure, ERR_NO_MEMORY, "watch flow", NULL, 0, NULL));
        return;
    }
    Sluice__V1__WatchFlowRequest request = SLUICE__V1__WATCH_FLOW_REQUEST__INIT;
    request.flow_id = (char *)w->options.flow_id;
    request.from_seq = w->next_seq;
    if (rpc_send(w->call, &request.base)) {
        rpc_half_close(w->call);
    }
}

static void on_timer(void *arg) {
    struct watch *w = arg;
    if (w->done) {
        return;
    }
    if (!w->call) {
        ask(w);
    } else if (w->next_seq > w->options.from_seq) { // beside a call it ends the wait for until_seq
        finish(w);
    } else {
        finish_failed(w, failure_set(&w->failure, ERR_TIMEOUT, "watch flow", w->options.flow_id,
                                     strlen(w->options.flow_id), NULL));
    }
}

static void on_cancel_reply(struct rpc *r, const ProtobufCMessage *m) {
    struct watch *w = rpc_user(r);
    const Sluice__V1__Flow *flow = (const Sluice__V1__Flow *)m;
    if (is_final(flow)) {
        finish_with_flow(w, flow);
    }
}

static void on_cancel_closed(struct rpc *r, const struct rpc_status *status) {
    struct watch *w = rpc_user(r);
    w->cancel = NULL;
    if (!w->done && status->code != 0) {
        struct failure f;
        rpc_status_failure(status, &f);
        // STATE: it has ended by itself; the event that says so is under way.
        if (f.err != ERR_STATE) {
            client_explain_unreachable(w->client->master, &f);
            failure_remedy(&f, "the flow may go on; try `sluice cancel %s`", w->options.flow_id);
            w->failure = f;
            finish_failed(w, f.err);
        }
    }
    stop_when_quiet(w);
}

static const struct rpc_method cancel_method = {
    .path = "/sluice.v1.FlowService/TerminateFlow",
    .input = &sluice__v1__flow__descriptor,
    .message = on_cancel_reply,
    .closed = on_cancel_closed,
};

static void cancel_flow(struct watch *w) {
    if (w->done || w->cancel) {
        return;
    }
    note(w, "asking the master to cancel the flow; Ctrl-C again to leave at once");
    w->cancel =
        rpc_call(w->loop, w->client->channel, &cancel_method, CALL_SETTLE_TIMEOUT_MS, true, w);
    if (!w->cancel) {
        finish_failed(w, failure_set(&w->failure, ERR_NO_MEMORY, "cancel flow", NULL, 0, NULL));
        return;
    }
    Sluice__V1__TerminateFlowRequest request = SLUICE__V1__TERMINATE_FLOW_REQUEST__INIT;
    request.flow_id = (char *)w->options.flow_id;
    request.reason = (char *)"interrupted by the user";
    if (rpc_send(w->cancel, &request.base)) {
        rpc_half_close(w->cancel);
    }
}

static void on_cancel_wanted(void *arg) {
    struct watch *w = arg;
    if (w->running) {
        cancel_flow(w);
    } else {
        w->cancelled = true;
    }
}

void watch_cancel_flow(struct watch *w) {
    loop_post(w->loop, on_cancel_wanted, w);
}

struct watch *watch_new(struct client *client) {
    struct watch *w = calloc(1, sizeof(*w));
    if (!w) {
        return NULL;
    }
    w->client = client;
    w->loop = loop_new();
    w->timer = w->loop ? loop_timer_new(w->loop, on_timer, w) : NULL;
    if (!w->timer) {
        watch_free(w);
        return NULL;
    }
    return w;
}

void watch_free(struct watch *w) {
    if (!w) {
        return;
    }
    if (w->timer) {
        loop_timer_free(w->timer);
    }
    if (w->loop) {
        loop_free(w->loop);
    }
    free_reply(w->flow ? &w->flow->base : NULL);
    free(w);
}

static void on_start(void *arg) {
    struct watch *w = arg;
    w->running = true;
    ask(w);
    if (w->options.until_seq > 0) {
        loop_timer_arm(w->timer, CALL_TIMEOUT_MS);
    }
    if (w->cancelled) {
        cancel_flow(w);
    }
}

enum err watch_run(struct watch *w, const struct watch_options *options,
                   Sluice__V1__Flow **ret_flow, struct failure *ret_failure) {
    w->options = *options;
    w->next_seq = options->from_seq;
    w->retry_ms = RETRY_MIN_MS;
    loop_post(w->loop, on_start, w);
    loop_run(w->loop);
    w->running = false;
    if (w->result) {
        *ret_failure = w->failure;
        return w->result;
    }
    *ret_flow = take_ptr(w->flow);
    return OK;
}
