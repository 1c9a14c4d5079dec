// SPDX-License-Identifier: Apache-2.0
// ls, show, why, suspend, resume, cancel, retry: one question to the master, one answer.
#include "cli/client.h"
#include "cli/flow_json.h"
#include "cli/flow_text.h"
#include "cli/report.h"
#include "common/clock.h"
#include "common/flow_state.h"
#include "common/ident.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum {
    PAGE_SIZE = 500,
    LISTED_BY_DEFAULT = 100, // `ls` answers as quickly after a million flows
};

// Opens the client, asks, closes it.
static enum err ask(const struct invocation *inv, const char *method,
                    const ProtobufCMessage *request, const ProtobufCMessageDescriptor *output,
                    int64_t timeout_ms, ProtobufCMessage **ret_reply, struct failure *f) {
    struct client client = {0};
    enum err e = client_open(inv, &client, f);
    if (!e) {
        e = client_call(&client, method, request, output, timeout_ms, ret_reply, f);
    }
    client_close(&client);
    return e;
}

// ---- ls ----

static enum err take_state(const char *text, Sluice__V1__FlowState *ret, struct failure *f) {
    for (int s = FLOW_INITIALIZED; s < FLOW_STATE_COUNT; s++) {
        if (strcasecmp(text, flow_state_name((enum flow_state)s)) == 0) {
            *ret = (Sluice__V1__FlowState)s;
            return OK;
        }
    }
    enum err e = failure_set(f, ERR_INVALID, "use", text, strlen(text),
                             "--state takes a state's name, like STARTED");
    failure_remedy(f, "see `sluice ls --help`");
    return e;
}

// What to ask for, and the storage behind the message.
struct list_request {
    Sluice__V1__ListFlowsRequest message;
    Sluice__V1__FlowState states[FLOW_STATE_COUNT];
    Sluice__V1__Label labels[OPTIONS_GIVEN_MAX];
    Sluice__V1__Label *label_pointers[OPTIONS_GIVEN_MAX];
    char *keys[OPTIONS_GIVEN_MAX]; // owned
    int64_t limit;
};

static void list_request_deinit(struct list_request *r) {
    for (size_t i = 0; i < r->message.n_labels; i++) {
        free(r->keys[i]);
    }
}

static enum err list_request_init(const struct invocation *inv, struct list_request *r,
                                  struct failure *f) {
    *r = (struct list_request){
        .message = SLUICE__V1__LIST_FLOWS_REQUEST__INIT,
        .limit = invocation_has(inv, "all") ? INT64_MAX : LISTED_BY_DEFAULT,
    };
    r->message.states = r->states;
    r->message.labels = r->label_pointers;
    enum err e = invocation_integer(inv, "limit", 1, INT64_MAX, &r->limit, f);
    for (size_t i = 0; !e && i < FLOW_STATE_COUNT && invocation_value(inv, "state", i); i++) {
        e = take_state(invocation_value(inv, "state", i), &r->states[i], f);
        r->message.n_states = i + 1;
    }
    for (size_t i = 0; !e && invocation_value(inv, "label", i); i++) {
        const char *label = invocation_value(inv, "label", i), *equals = strchr(label, '=');
        if (!equals) {
            e = failure_set(f, ERR_INVALID, "use", label, strlen(label), "it is not KEY=VALUE");
            failure_remedy(f, "see `sluice ls --help`");
            break;
        }
        r->keys[i] = strndup(label, (size_t)(equals - label));
        if (!r->keys[i]) {
            return failure_set(f, ERR_NO_MEMORY, "read the options", NULL, 0, NULL);
        }
        sluice__v1__label__init(&r->labels[i]);
        r->labels[i].key = r->keys[i];
        r->labels[i].value = (char *)equals + 1;
        r->label_pointers[i] = &r->labels[i];
        r->message.n_labels = i + 1;
    }
    return e;
}

// One page. Returns the exit code; sets the request up for the next page.
static int list_page(const struct invocation *inv, const Sluice__V1__ListFlowsResponse *page,
                     int64_t *left) {
    for (size_t i = 0; i<page->n_flows && * left> 0; i++, --*left) {
        if (!inv->json) {
            flow_print_line(page->flows[i], stdout);
            continue;
        }
        int code = report_json(inv, flow_to_json(page->flows[i]));
        if (code) {
            return code;
        }
    }
    return 0;
}

static int list_flows(const struct invocation *inv, struct client *client, struct list_request *r) {
    struct failure f;
    AUTO(auto_free) char *token = NULL;
    bool first = true;
    for (;;) {
        AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
        r->message.page_size = r->limit < PAGE_SIZE ? (uint32_t)r->limit : PAGE_SIZE;
        r->message.page_token = token ? token : r->message.page_token;
        if (client_call(client, "FlowService/ListFlows", &r->message.base,
                        &sluice__v1__list_flows_response__descriptor, CALL_TIMEOUT_MS, &reply,
                        &f) != OK) {
            return report_failure(inv, &f);
        }
        const Sluice__V1__ListFlowsResponse *page = (const Sluice__V1__ListFlowsResponse *)reply;
        if (first && !inv->json && page->n_flows > 0) {
            flow_print_head(stdout);
        }
        first = false;
        int code = list_page(inv, page, &r->limit);
        if (code || *page->next_page_token == '\0') {
            return code;
        }
        if (r->limit == 0) {
            if (!invocation_has(inv, "limit")) {
                report_note("there are older flows; --all lists them, too");
            }
            return 0;
        }
        free(token);
        token = strdup(page->next_page_token);
        if (!token) {
            failure_set(&f, ERR_NO_MEMORY, "list flows", NULL, 0, NULL);
            return report_failure(inv, &f);
        }
    }
}

int run_ls(const struct invocation *inv) {
    struct list_request request;
    struct client client = {0};
    struct failure f;
    enum err e = list_request_init(inv, &request, &f);
    if (!e) {
        e = client_open(inv, &client, &f);
    }
    int code = e ? report_failure(inv, &f) : list_flows(inv, &client, &request);
    client_close(&client);
    list_request_deinit(&request);
    return report_end(inv, code);
}

// ---- show and why ----

static int show_failed(const struct invocation *inv, struct client *client) {
    struct failure f;
    int64_t left = INT64_MAX;
    Sluice__V1__ListFailedObjectsRequest request = SLUICE__V1__LIST_FAILED_OBJECTS_REQUEST__INIT;
    AUTO(auto_free) char *token = NULL;
    request.flow_id = inv->args[0];
    if (invocation_integer(inv, "limit", 1, INT64_MAX, &left, &f) != OK) {
        return report_failure(inv, &f);
    }
    while (left > 0) {
        AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
        request.page_size = left < PAGE_SIZE ? (uint32_t)left : PAGE_SIZE;
        request.page_token = token ? token : request.page_token;
        if (client_call(client, "FlowService/ListFailedObjects", &request.base,
                        &sluice__v1__list_failed_objects_response__descriptor, CALL_TIMEOUT_MS,
                        &reply, &f) != OK) {
            return report_failure(inv, &f);
        }
        const Sluice__V1__ListFailedObjectsResponse *page =
            (const Sluice__V1__ListFailedObjectsResponse *)reply;
        for (size_t i = 0; i < page->n_objects && left > 0; i++, left--) {
            if (!inv->json) {
                failed_object_print(page->objects[i], stdout);
            } else if (report_json(inv, failed_object_to_json(page->objects[i]))) {
                return EXIT_FAILED;
            }
        }
        if (*page->next_page_token == '\0') {
            break;
        }
        free(token);
        token = strdup(page->next_page_token);
        if (!token) {
            failure_set(&f, ERR_NO_MEMORY, "list failed objects", NULL, 0, NULL);
            return report_failure(inv, &f);
        }
    }
    return EXIT_DELIVERED;
}

// Asks for the flow, and prints it with one of the two functions.
static int get_flow(const struct invocation *inv, json_t *(*to_json)(const Sluice__V1__Flow *),
                    void (*print)(const Sluice__V1__Flow *, FILE *)) {
    Sluice__V1__GetFlowRequest request = SLUICE__V1__GET_FLOW_REQUEST__INIT;
    AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
    struct failure f;
    request.flow_id = inv->args[0];
    if (ask(inv, "FlowService/GetFlow", &request.base, &sluice__v1__flow__descriptor,
            CALL_TIMEOUT_MS, &reply, &f) != OK) {
        return report_failure(inv, &f);
    }
    const Sluice__V1__Flow *flow = (const Sluice__V1__Flow *)reply;
    if (inv->json) {
        return report_end(inv, report_json(inv, to_json(flow)));
    }
    print(flow, stdout);
    return report_end(inv, EXIT_DELIVERED);
}

int run_show(const struct invocation *inv) {
    struct client client = {0};
    struct failure f;
    if (!invocation_has(inv, "failed")) {
        return get_flow(inv, flow_to_json, flow_print_details);
    }
    int code =
        client_open(inv, &client, &f) != OK ? report_failure(inv, &f) : show_failed(inv, &client);
    client_close(&client);
    return report_end(inv, code);
}

int run_why(const struct invocation *inv) {
    return get_flow(inv, flow_why_to_json, flow_print_why);
}

// ---- suspend, resume, cancel, retry ----

// A change of a flow's life: the master answers with the flow as it is then.
static int change(const struct invocation *inv, const char *method,
                  const ProtobufCMessage *request) {
    AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
    struct failure f;
    if (ask(inv, method, request, &sluice__v1__flow__descriptor, CALL_SETTLE_TIMEOUT_MS, &reply,
            &f) != OK) {
        return report_failure(inv, &f);
    }
    const Sluice__V1__Flow *flow = (const Sluice__V1__Flow *)reply;
    if (inv->json) {
        return report_end(inv, report_json(inv, flow_to_json(flow)));
    }
    printf("%s %s", flow->id, flow_state_name((enum flow_state)flow->state));
    printf(flow->outcome ? ", %s" : "", flow_outcome_name((enum flow_outcome)flow->outcome));
    printf(flow->cleanup_pending ? ", cleanup pending\n" : "\n");
    return report_end(inv, EXIT_DELIVERED);
}

static char *reason(const struct invocation *inv) {
    const char *given = invocation_value(inv, "reason", 0);
    return (char *)(uintptr_t)(given ? given : "");
}

int run_suspend(const struct invocation *inv) {
    Sluice__V1__SuspendFlowRequest request = SLUICE__V1__SUSPEND_FLOW_REQUEST__INIT;
    request.flow_id = inv->args[0];
    request.holder = SLUICE__V1__SUSPENSION_HOLDER__USER;
    request.reason = reason(inv);
    return change(inv, "FlowService/SuspendFlow", &request.base);
}

int run_resume(const struct invocation *inv) {
    Sluice__V1__ResumeFlowRequest request = SLUICE__V1__RESUME_FLOW_REQUEST__INIT;
    request.flow_id = inv->args[0];
    request.holder = SLUICE__V1__SUSPENSION_HOLDER__USER;
    return change(inv, "FlowService/ResumeFlow", &request.base);
}

int run_cancel(const struct invocation *inv) {
    Sluice__V1__TerminateFlowRequest request = SLUICE__V1__TERMINATE_FLOW_REQUEST__INIT;
    request.flow_id = inv->args[0];
    request.reason = reason(inv);
    return change(inv, "FlowService/TerminateFlow", &request.base);
}

int run_retry(const struct invocation *inv) {
    Sluice__V1__RetryFlowRequest request = SLUICE__V1__RETRY_FLOW_REQUEST__INIT;
    AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
    struct failure f;
    char fresh[IDENT_SIZE];
    ident_new(clock_wall_ms(&clock_system), fresh);
    const char *id = invocation_value(inv, "request-id", 0);
    request.flow_id = inv->args[0];
    request.request_id = (char *)(uintptr_t)(id ? id : fresh);
    if (ask(inv, "FlowService/RetryFlow", &request.base,
            &sluice__v1__submit_flow_response__descriptor, CALL_TIMEOUT_MS, &reply, &f) != OK) {
        return report_failure(inv, &f);
    }
    const Sluice__V1__SubmitFlowResponse *accepted = (const Sluice__V1__SubmitFlowResponse *)reply;
    if (inv->json) {
        json_t *object = json_pack("{s:s, s:b, s:s}", "id", accepted->flow_id, "existed",
                                   accepted->existed, "retry_of", inv->args[0]);
        return report_end(inv, report_json(inv, object));
    }
    printf("%s\n", accepted->flow_id);
    return report_end(inv, EXIT_DELIVERED);
}
