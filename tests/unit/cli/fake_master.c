// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/cli/fake_master.h"

#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fill_flow(const struct fake_master *m, const struct fake_event *e,
                      Sluice__V1__Flow *flow) {
    sluice__v1__flow__init(flow);
    flow->id = (char *)(uintptr_t) "F";
    flow->state = e->state;
    flow->outcome = e->outcome;
    flow->last_seq = e->seq;
    flow->objects_failed = m->objects_failed;
}

static const struct fake_event *last_event(const struct fake_master *m) {
    return &m->events[m->n_events - 1];
}

static void on_submit(struct rpc *r, const ProtobufCMessage *message) {
    struct fake_master *m = rpc_server_user(r);
    const Sluice__V1__SubmitFlowRequest *request = (const Sluice__V1__SubmitFlowRequest *)message;
    if (m->submit_fails) {
        struct failure f;
        failure_set(&f, m->submit_fails, "submit", NULL, 0, NULL);
        rpc_finish_failure(r, &f);
        return;
    }
    Sluice__V1__SubmitFlowResponse response = SLUICE__V1__SUBMIT_FLOW_RESPONSE__INIT;
    response.flow_id = (char *)(uintptr_t) "F";
    response.existed = strcmp(request->request_id, "again") == 0;
    rpc_send(r, &response.base);
    rpc_finish(r, 0, NULL);
}

static void send_flow(struct rpc *r, const struct fake_event *e) {
    Sluice__V1__Flow flow;
    fill_flow(rpc_server_user(r), e, &flow);
    rpc_send(r, &flow.base);
    rpc_finish(r, 0, NULL);
}

static void on_get(struct rpc *r, const ProtobufCMessage *message) {
    struct fake_master *m = rpc_server_user(r);
    const Sluice__V1__GetFlowRequest *request = (const Sluice__V1__GetFlowRequest *)message;
    if (strcmp(request->flow_id, "F") != 0) {
        struct failure f;
        failure_set(&f, ERR_NOT_FOUND, "find flow", request->flow_id, strlen(request->flow_id),
                    NULL);
        rpc_finish_failure(r, &f);
        return;
    }
    send_flow(r, last_event(m));
}

static void on_watch(struct rpc *r, const ProtobufCMessage *message) {
    struct fake_master *m = rpc_server_user(r);
    const Sluice__V1__WatchFlowRequest *request = (const Sluice__V1__WatchFlowRequest *)message;
    bool first = atomic_fetch_add(&m->n_watches, 1) == 0;
    atomic_store(&m->last_from_seq, request->from_seq);
    for (size_t i = 0; i < m->n_events; i++) {
        if (first && m->break_after > 0 && i == m->break_after) {
            rpc_finish(r, 14 /* UNAVAILABLE */, "gone for a moment");
            return;
        }
        if (m->events[i].seq < request->from_seq) {
            continue;
        }
        Sluice__V1__Flow flow;
        fill_flow(m, &m->events[i], &flow);
        Sluice__V1__FlowEvent event = SLUICE__V1__FLOW_EVENT__INIT;
        event.seq = m->events[i].seq;
        event.event = (char *)(uintptr_t) "state_changed";
        event.flow = &flow;
        rpc_send(r, &event.base);
    }
    if (!m->hold) {
        rpc_finish(r, 0, NULL);
    }
}

static void on_terminate(struct rpc *r, const ProtobufCMessage *message) {
    struct fake_master *m = rpc_server_user(r);
    (void)message;
    atomic_fetch_add(&m->n_terminates, 1);
    const struct fake_event cancelled = {99, SLUICE__V1__FLOW_STATE__TERMINATED,
                                         SLUICE__V1__FLOW_OUTCOME__CANCELLED};
    m->events[m->n_events++] = cancelled;
    send_flow(r, &cancelled);
}

static void on_failed_objects(struct rpc *r, const ProtobufCMessage *message) {
    (void)message;
    Sluice__V1__FailedObject object = SLUICE__V1__FAILED_OBJECT__INIT;
    Sluice__V1__FailedObject *objects[] = {&object};
    Sluice__V1__ListFailedObjectsResponse response = SLUICE__V1__LIST_FAILED_OBJECTS_RESPONSE__INIT;
    object.path = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t) "bad", .len = 3};
    response.objects = objects;
    response.n_objects = 1;
    rpc_send(r, &response.base);
    rpc_finish(r, 0, NULL);
}

// The page token is how many came before.
static void on_list(struct rpc *r, const ProtobufCMessage *message) {
    struct fake_master *m = rpc_server_user(r);
    const Sluice__V1__ListFlowsRequest *request = (const Sluice__V1__ListFlowsRequest *)message;
    const struct fake_event e = {1, SLUICE__V1__FLOW_STATE__STARTED, 0};
    Sluice__V1__Flow flow;
    Sluice__V1__Flow *flows[FAKE_PAGE_MAX];
    Sluice__V1__ListFlowsResponse response = SLUICE__V1__LIST_FLOWS_RESPONSE__INIT;
    char token[16];
    uint32_t from = (uint32_t)strtoul(request->page_token, NULL, 10);
    fill_flow(m, &e, &flow);
    response.flows = flows;
    for (; from < m->n_flows && response.n_flows < request->page_size &&
           response.n_flows < FAKE_PAGE_MAX;
         from++) {
        flows[response.n_flows++] = &flow;
    }
    snprintf(token, sizeof(token), "%u", from);
    if (from < m->n_flows) {
        response.next_page_token = token;
    }
    rpc_send(r, &response.base);
    rpc_finish(r, 0, NULL);
}

static void on_closed(struct rpc *r, const struct rpc_status *status) {
    (void)r;
    (void)status;
}

#define METHOD(name, request, fn)                                                                  \
    {                                                                                              \
        .path = "/sluice.v1.FlowService/" name, .input = &sluice__v1__##request##__descriptor,     \
        .message = (fn), .closed = on_closed                                                       \
    }
static const struct rpc_method methods[] = {
    METHOD("SubmitFlow", submit_flow_request, on_submit),
    METHOD("GetFlow", get_flow_request, on_get),
    METHOD("WatchFlow", watch_flow_request, on_watch),
    METHOD("TerminateFlow", terminate_flow_request, on_terminate),
    METHOD("ListFlows", list_flows_request, on_list),
    METHOD("ListFailedObjects", list_failed_objects_request, on_failed_objects),
};

static void *run(void *arg) {
    struct fake_master *m = arg;
    loop_run(m->loop);
    return NULL;
}

void fake_master_start(struct fake_master *m) {
    struct failure f;
    int port;
    m->loop = loop_new();
    assert_non_null(m->loop);
    m->server = rpc_server_new(&m->loop, 1);
    assert_non_null(m->server);
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        rpc_server_add(m->server, &methods[i], m);
    }
    own_loopback(0, m->address);
    assert_ok(rpc_server_listen(m->server, m->address, NULL, &port, &f));
    own_loopback(port, m->address);
    rpc_server_start(m->server);
    assert_int_equal(pthread_create(&m->thread, NULL, run, m), 0);
}

static void on_drained(void *arg) {
    struct fake_master *m = arg;
    loop_stop(m->loop);
}

static void drain(void *arg) {
    struct fake_master *m = arg;
    rpc_server_drain(m->server, 0, on_drained, m);
}

void fake_master_stop(struct fake_master *m) {
    loop_post(m->loop, drain, m);
    pthread_join(m->thread, NULL);
    rpc_server_free(m->server);
    loop_free(m->loop);
}
