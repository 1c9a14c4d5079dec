// SPDX-License-Identifier: Apache-2.0
// cp, submit, watch, log: a flow is submitted, or followed, or both.
#include "cli/client.h"
#include "cli/flow_json.h"
#include "cli/flow_request.h"
#include "cli/follow.h"
#include "cli/interrupt.h"
#include "cli/report.h"
#include "cli/watch.h"
#include "common/clock.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int no_memory(const struct invocation *inv) {
    struct failure f;
    failure_set(&f, ERR_NO_MEMORY, "run", inv->command->name, strlen(inv->command->name), NULL);
    return report_failure(inv, &f);
}

static enum err submit(const struct invocation *inv, struct client *client,
                       ProtobufCMessage **ret_reply, struct failure *f) {
    AUTO(auto_flow_request_free) Sluice__V1__SubmitFlowRequest *request = NULL;
    enum err e = flow_request_new(inv, clock_wall_ms(&clock_system), &request, f);
    if (e || (e = client_open(inv, client, f)) != OK) {
        return e;
    }
    return client_call(client, "FlowService/SubmitFlow", &request->base,
                       &sluice__v1__submit_flow_response__descriptor, CALL_TIMEOUT_MS, ret_reply,
                       f);
}

int run_submit(const struct invocation *inv) {
    struct client client = {0};
    struct failure f;
    AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
    enum err e = submit(inv, &client, &reply, &f);
    client_close(&client);
    if (e) {
        return report_failure(inv, &f);
    }
    const Sluice__V1__SubmitFlowResponse *accepted = (const Sluice__V1__SubmitFlowResponse *)reply;
    if (inv->json) {
        json_t *object =
            json_pack("{s:s, s:b}", "id", accepted->flow_id, "existed", accepted->existed);
        return report_end(inv, report_json(inv, object));
    }
    printf("%s\n", accepted->flow_id);
    return report_end(inv, EXIT_DELIVERED);
}

// ---- cp ----

static void on_interrupt(int count, void *arg) {
    if (count > 1) {
        _exit(EXIT_CANCELLED);
    }
    watch_cancel_flow(arg);
}

static int copy(const struct invocation *inv, struct client *client, struct watch *watch) {
    struct failure f;
    AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
    if (submit(inv, client, &reply, &f) != OK) {
        return report_failure(inv, &f);
    }
    const Sluice__V1__SubmitFlowResponse *accepted = (const Sluice__V1__SubmitFlowResponse *)reply;
    if (!inv->json && isatty(STDERR_FILENO)) {
        report_note("flow %s", accepted->flow_id);
    }
    return follow_flow(inv, client, watch, accepted->flow_id,
                       inv->json ? FOLLOW_RESULT : FOLLOW_SUMMARY);
}

int run_cp(const struct invocation *inv) {
    struct client client = {0};
    interrupt_block(); // before gRPC starts its threads
    struct watch *watch = watch_new(&client);
    struct interrupt *interrupt = watch ? interrupt_start(on_interrupt, watch) : NULL;
    int code = interrupt ? copy(inv, &client, watch) : no_memory(inv);
    interrupt_stop(interrupt);
    watch_free(watch);
    client_close(&client);
    return code;
}

// ---- watch and log ----

int run_watch(const struct invocation *inv) {
    struct client client = {0};
    struct failure f;
    AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
    Sluice__V1__GetFlowRequest request = SLUICE__V1__GET_FLOW_REQUEST__INIT;
    request.flow_id = inv->args[0];
    int code;
    // Asked first, so that a wrong id or address ends at once instead of waiting.
    if (client_open(inv, &client, &f) != OK ||
        client_call(&client, "FlowService/GetFlow", &request.base, &sluice__v1__flow__descriptor,
                    CALL_TIMEOUT_MS, &reply, &f) != OK) {
        code = report_failure(inv, &f);
    } else {
        struct watch *watch = watch_new(&client);
        code = watch ? follow_flow(inv, &client, watch, inv->args[0],
                                   inv->json ? FOLLOW_EVENTS : FOLLOW_SUMMARY)
                     : no_memory(inv);
        watch_free(watch);
    }
    client_close(&client);
    return code;
}

struct log_output {
    const struct invocation *inv;
    int exit_code;
};

static void on_log_event(const Sluice__V1__FlowEvent *event, void *user) {
    struct log_output *out = user;
    if (out->exit_code == 0) {
        out->exit_code = report_json(out->inv, flow_event_to_json(event));
        fflush(stdout);
    }
}

static void on_log_note(const char *text, void *user) {
    (void)user;
    report_note("%s", text);
}

static enum err print_log(const struct invocation *inv, struct client *client,
                          struct log_output *out, struct failure *f) {
    AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
    Sluice__V1__GetFlowRequest request = SLUICE__V1__GET_FLOW_REQUEST__INIT;
    request.flow_id = inv->args[0];
    enum err e = client_call(client, "FlowService/GetFlow", &request.base,
                             &sluice__v1__flow__descriptor, CALL_TIMEOUT_MS, &reply, f);
    if (e) {
        return e;
    }
    uint64_t last_seq = ((const Sluice__V1__Flow *)reply)->last_seq;
    bool follow = invocation_has(inv, "follow");
    if (last_seq == 0 && !follow) {
        return OK;
    }
    struct watch *watch = watch_new(client);
    if (!watch) {
        return failure_set(f, ERR_NO_MEMORY, "follow flow", inv->args[0], strlen(inv->args[0]),
                           NULL);
    }
    struct watch_options options = {
        .flow_id = inv->args[0],
        .until_seq = follow ? 0 : last_seq,
        .event = on_log_event,
        .note = on_log_note,
        .user = out,
    };
    Sluice__V1__Flow *flow = NULL;
    e = watch_run(watch, &options, &flow, f);
    free_reply(flow ? &flow->base : NULL);
    watch_free(watch);
    return e;
}

int run_log(const struct invocation *inv) {
    struct client client = {0};
    struct failure f;
    struct log_output out = {.inv = inv};
    enum err e = client_open(inv, &client, &f);
    if (!e) {
        e = print_log(inv, &client, &out, &f);
    }
    client_close(&client);
    return report_end(inv, e ? report_failure(inv, &f) : out.exit_code);
}
