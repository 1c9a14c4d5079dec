// SPDX-License-Identifier: Apache-2.0
// FlowService: each method translates a request into a call of flow.h or submit.h, and what
// comes of it into the answer.
#include "master/flow_call.h"
#include "master/flow_message.h"
#include "master/services.h"
#include "master/submit.h"
#include "master/watch.h"

#include <stdio.h>
#include <string.h>

enum { HOLDERS = 4 };

static void reply_flow(struct flow_call *call, const struct flow *f) {
    struct flow_message m;
    enum err e = flow_message_init(f, FLOW_MESSAGE_FULL, &m);
    if (e != OK) {
        struct failure failure = {0};
        (void)failure_set(&failure, e, "answer", f->id, strlen(f->id), NULL);
        flow_call_fail(call, &failure);
        return;
    }
    flow_call_reply(call, &m.message.base);
    flow_message_deinit(&m);
}

static void get_flow(struct rpc *r, const ProtobufCMessage *message) {
    const Sluice__V1__GetFlowRequest *m = (const Sluice__V1__GetFlowRequest *)message;
    struct flow_call *call = flow_call_new(r);
    if (call != NULL) {
        flow_call_find(call, m->flow_id, reply_flow);
    }
}

// ---- submit and retry ----
static void on_submitted(void *arg, const char *flow_id, bool existed,
                         const struct failure *failure) {
    struct flow_call *call = arg;
    if (!flow_call_came(call)) {
        return;
    }
    if (failure != NULL) {
        flow_call_fail(call, failure);
        return;
    }
    Sluice__V1__SubmitFlowResponse answer = SLUICE__V1__SUBMIT_FLOW_RESPONSE__INIT;
    answer.flow_id = (char *)(uintptr_t)flow_id;
    answer.existed = existed;
    flow_call_reply(call, &answer.base);
}

static void submit_for(struct flow_call *call, const Sluice__V1__FlowSpec *spec,
                       const char *request_id, const char *retry_of) {
    char peer[128];
    bool known = rpc_peer_name(call->rpc, peer, sizeof peer);
    call->pending = true;
    submit(call->core, spec, request_id, retry_of, known ? peer : NULL, on_submitted, call);
}

static void submit_flow(struct rpc *r, const ProtobufCMessage *message) {
    const Sluice__V1__SubmitFlowRequest *m = (const Sluice__V1__SubmitFlowRequest *)message;
    struct flow_call *call = flow_call_new(r);
    if (call != NULL) {
        submit_for(call, m->spec, m->request_id, "");
    }
}

static void retry_found(struct flow_call *call, const struct flow *f) {
    struct failure failure = {0};
    if (!flow_state_is_final(f->state)) {
        if (flow_refuse(f, "retry", &failure) != OK) {
            flow_call_fail(call, &failure);
        }
        return;
    }
    Sluice__V1__FlowSpec spec = *f->spec;
    if (spec.deadline_ms <= clock_wall_ms(call->core->clock)) {
        spec.deadline_ms = 0; // it has passed: it was for the first attempt
    }
    submit_for(call, &spec, call->request_id, call->flow);
}

static void retry_flow(struct rpc *r, const ProtobufCMessage *message) {
    const Sluice__V1__RetryFlowRequest *m = (const Sluice__V1__RetryFlowRequest *)message;
    struct flow_call *call = flow_call_new(r);
    if (call == NULL) {
        return;
    }
    if (strlen(m->request_id) >= sizeof call->request_id) {
        struct failure f = {0};
        (void)failure_set(&f, ERR_INVALID, "retry", NULL, 0, "request_id is too long");
        flow_call_fail(call, &f);
        return;
    }
    snprintf(call->request_id, sizeof call->request_id, "%s", m->request_id);
    flow_call_find(call, m->flow_id, retry_found);
}

// ---- suspend, resume, terminate ----
static void on_changed(void *arg, const struct failure *failure) {
    struct flow_call *call = arg;
    if (!flow_call_came(call)) {
        return;
    }
    if (failure != NULL) {
        flow_call_fail(call, failure);
    } else {
        flow_call_find(call, call->flow, reply_flow);
    }
}

static void refuse_final(struct flow_call *call, const struct flow *f) {
    struct failure failure = {0};
    if (flow_refuse(f, "change", &failure) != OK) {
        flow_call_fail(call, &failure);
    }
}

// The call's flow, if it is in memory. If not, it has ended, and the call ends with that.
static struct flow *find_live(struct flow_call *call, const char *id) {
    struct flow *f = ident_is_valid(id) ? flows_find(call->core->flows, id) : NULL;
    if (f == NULL) {
        flow_call_find(call, id, refuse_final);
        return NULL;
    }
    memcpy(call->flow, id, IDENT_SIZE);
    return f;
}

static bool check_holder(struct flow_call *call, Sluice__V1__SuspensionHolder holder,
                         unsigned *ret_holder) {
    *ret_holder = holder == 0 ? SLUICE__V1__SUSPENSION_HOLDER__USER : (unsigned)holder;
    if (*ret_holder <= HOLDERS) {
        return true;
    }
    struct failure f = {0};
    (void)failure_set(&f, ERR_INVALID, "suspend", NULL, 0, "holder %d is none that is known",
                      (int)holder);
    flow_call_fail(call, &f);
    return false;
}

static void suspend_flow(struct rpc *r, const ProtobufCMessage *message) {
    const Sluice__V1__SuspendFlowRequest *m = (const Sluice__V1__SuspendFlowRequest *)message;
    struct flow_call *call = flow_call_new(r);
    unsigned holder;
    if (call == NULL || !check_holder(call, m->holder, &holder)) {
        return;
    }
    struct flow *f = find_live(call, m->flow_id);
    if (f != NULL) {
        call->pending = true;
        flow_suspend(call->core, f, holder, m->reason, on_changed, call);
    }
}

static void resume_flow(struct rpc *r, const ProtobufCMessage *message) {
    const Sluice__V1__ResumeFlowRequest *m = (const Sluice__V1__ResumeFlowRequest *)message;
    struct flow_call *call = flow_call_new(r);
    unsigned holder;
    if (call == NULL || !check_holder(call, m->holder, &holder)) {
        return;
    }
    struct flow *f = find_live(call, m->flow_id);
    if (f != NULL) {
        call->pending = true;
        flow_resume(call->core, f, holder, on_changed, call);
    }
}

static void terminate_flow(struct rpc *r, const ProtobufCMessage *message) {
    const Sluice__V1__TerminateFlowRequest *m = (const Sluice__V1__TerminateFlowRequest *)message;
    struct flow_call *call = flow_call_new(r);
    if (call == NULL) {
        return;
    }
    struct flow *f = find_live(call, m->flow_id);
    if (f != NULL) {
        call->pending = true;
        flow_terminate(call->core, f, m->reason, on_changed, call);
    }
}

static const struct rpc_method methods[] = {
    {.path = "/sluice.v1.FlowService/SubmitFlow",
     .input = &sluice__v1__submit_flow_request__descriptor,
     .message = submit_flow,
     .closed = flow_call_closed},
    {.path = "/sluice.v1.FlowService/GetFlow",
     .input = &sluice__v1__get_flow_request__descriptor,
     .message = get_flow,
     .closed = flow_call_closed},
    {.path = "/sluice.v1.FlowService/SuspendFlow",
     .input = &sluice__v1__suspend_flow_request__descriptor,
     .message = suspend_flow,
     .closed = flow_call_closed},
    {.path = "/sluice.v1.FlowService/ResumeFlow",
     .input = &sluice__v1__resume_flow_request__descriptor,
     .message = resume_flow,
     .closed = flow_call_closed},
    {.path = "/sluice.v1.FlowService/TerminateFlow",
     .input = &sluice__v1__terminate_flow_request__descriptor,
     .message = terminate_flow,
     .closed = flow_call_closed},
    {.path = "/sluice.v1.FlowService/RetryFlow",
     .input = &sluice__v1__retry_flow_request__descriptor,
     .message = retry_flow,
     .closed = flow_call_closed},
};

void flow_service_add(struct rpc_server *s, struct core *c) {
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        rpc_server_add(s, &methods[i], c);
    }
    flow_list_add(s, c);
    watch_add(s, c);
}
