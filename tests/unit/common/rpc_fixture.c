// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/common/rpc_fixture.h"

#include "common/cleanup.h"
#include "sluice/v1/agent_service.pb-c.h"
#include "sluice/v1/flow_service.pb-c.h"
#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void get_flow(struct rpc *r, const ProtobufCMessage *m) {
    const Sluice__V1__GetFlowRequest *q = (const Sluice__V1__GetFlowRequest *)m;
    Sluice__V1__Flow flow = SLUICE__V1__FLOW__INIT;
    struct failure f;
    if (strcmp(q->flow_id, "missing") == 0) {
        failure_set(&f, ERR_NOT_FOUND, "get", "missing", 7, "no flow has this id");
        rpc_finish_failure(r, &f);
        return;
    }
    flow.id = q->flow_id;
    rpc_send(r, &flow.base);
    rpc_finish(r, 0, NULL);
}

// N_EVENTS events, as fast as the client takes them.
struct stream {
    size_t n_sent;
};

static void send_more(struct rpc *r) {
    struct stream *s = rpc_user(r);
    struct fixture *x = rpc_server_user(r);
    Sluice__V1__FlowEvent event = SLUICE__V1__FLOW_EVENT__INIT;
    char text[16 * 1024];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    event.event = text;
    while (s != NULL && s->n_sent < N_EVENTS && rpc_queued_messages(r) < 4) {
        event.seq = ++s->n_sent;
        if (!rpc_send(r, &event.base)) {
            return;
        }
    }
    if (rpc_queued_messages(r) > x->max_queued) {
        x->max_queued = rpc_queued_messages(r);
    }
    if (s != NULL && s->n_sent == N_EVENTS) {
        rpc_finish(r, 0, NULL);
    }
}

static void watch(struct rpc *r, const ProtobufCMessage *m) {
    Sluice__V1__FlowEvent event = SLUICE__V1__FLOW_EVENT__INIT;
    const char *id = ((const Sluice__V1__WatchFlowRequest *)m)->flow_id;
    if (strcmp(id, "silent") == 0) {
        return;
    }
    if (strcmp(id, "one event, no end") == 0) {
        rpc_send(r, &event.base);
        return;
    }
    rpc_set_user(r, calloc(1, sizeof(struct stream)));
    send_more(r);
}

static void note_closed(struct fixture *x, int code) {
    pthread_mutex_lock(&x->lock);
    x->n_closed++;
    x->last_code = code;
    pthread_cond_broadcast(&x->changed);
    pthread_mutex_unlock(&x->lock);
}

static void watch_closed(struct rpc *r, const struct rpc_status *s) {
    free(rpc_user(r));
    note_closed(rpc_server_user(r), s->code);
}

static void list_page(struct rpc *r, const ProtobufCMessage *m) {
    struct fixture *x = rpc_server_user(r);
    Sluice__V1__ListReply reply = SLUICE__V1__LIST_REPLY__INIT;
    (void)m;
    x->n_received++;
    reply.pages_committed = x->n_received;
    rpc_send(r, &reply.base);
}

static void list_half_closed(struct rpc *r) {
    rpc_finish(r, 0, NULL);
}

static const struct rpc_method server_methods[] = {
    {.path = "/sluice.v1.FlowService/GetFlow",
     .input = &sluice__v1__get_flow_request__descriptor,
     .message = get_flow},
    {.path = "/sluice.v1.FlowService/WatchFlow",
     .input = &sluice__v1__watch_flow_request__descriptor,
     .message = watch,
     .writable = send_more,
     .closed = watch_closed},
    {.path = "/sluice.v1.AgentService/List",
     .input = &sluice__v1__list_page__descriptor,
     .input_stream = true,
     .message = list_page,
     .half_closed = list_half_closed},
    {.path = "/sluice.v1.FlowService/SubmitFlow",
     .input = &sluice__v1__submit_flow_request__descriptor,
     .max_unpacked_bytes = 64 * 1024,
     .message = NULL},
};

static void *run(void *loop) {
    loop_run(loop);
    return NULL;
}

int rpc_fixture_set_up(void **state) {
    struct fixture *x = calloc(1, sizeof *x);
    struct failure f;
    char addr[32];
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->changed, NULL);
    x->loop = loop_new();
    x->server = rpc_server_new(&x->loop, 1);
    for (size_t i = 0; i < ARRAY_LEN(server_methods); i++) {
        rpc_server_add(x->server, &server_methods[i], x);
    }
    rpc_health_add(x->server);
    assert_ok(rpc_server_listen(x->server, "127.0.0.1:0", NULL, &x->port, &f));
    rpc_server_start(x->server);
    snprintf(addr, sizeof addr, "127.0.0.1:%d", x->port);
    x->channel = rpc_channel_new(addr, NULL);
    assert_int_equal(pthread_create(&x->thread, NULL, run, x->loop), 0);
    *state = x;
    return 0;
}

static void drained(void *arg) {
    loop_stop(arg);
}

int rpc_fixture_tear_down(void **state) {
    struct fixture *x = *state;
    rpc_channel_free(x->channel);
    rpc_server_drain(x->server, 0, drained, x->loop);
    pthread_join(x->thread, NULL);
    rpc_server_free(x->server);
    loop_free(x->loop);
    pthread_mutex_destroy(&x->lock);
    pthread_cond_destroy(&x->changed);
    free(x);
    return 0;
}
