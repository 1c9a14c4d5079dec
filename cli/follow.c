// SPDX-License-Identifier: Apache-2.0
#include "cli/follow.h"

#include "cli/flow_json.h"
#include "cli/flow_text.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "common/flow_state.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { FAILED_SHOWN = 10 }; // failed objects that are named at the end

struct view {
    const struct invocation *inv;
    enum follow_output output;
    bool bar;      // draw one
    bool drawn;    // it stands on the terminal now
    int exit_code; // of the first event that could not be printed
};

static void clear_bar(struct view *v) {
    if (v->drawn) {
        fputs("\r\033[K", stderr);
        v->drawn = false;
    }
}

static void draw_bar(struct view *v, const Sluice__V1__Flow *flow) {
    struct progress p = {
        .state = (enum flow_state)flow->state,
        .phase = (enum flow_phase)flow->phase,
        .bytes_done = flow->bytes_done,
        .bytes_total = flow->bytes_total,
        .objects_done = flow->objects_done,
        .objects_total = flow->objects_total,
        .objects_failed = flow->objects_failed,
        .listing = flow->listing,
        .bytes_per_s = flow->bytes_per_s,
        .eta_ms = flow->eta_ms,
    };
    char line[PROGRESS_LINE_MAX];
    // The last column stays free: some terminals wrap when it is written.
    progress_format(&p, progress_width(STDERR_FILENO) - 1, line);
    fprintf(stderr, "\r%s\033[K", line);
    fflush(stderr);
    v->drawn = true;
}

static void on_event(const Sluice__V1__FlowEvent *event, void *user) {
    struct view *v = user;
    if (v->output == FOLLOW_EVENTS) {
        if (v->exit_code == 0) {
            v->exit_code = report_json(v->inv, flow_event_to_json(event));
            fflush(stdout);
        }
    } else if (v->bar && event->flow) {
        draw_bar(v, event->flow);
    }
}

static void on_note(const char *text, void *user) {
    clear_bar(user);
    report_note("%s", text);
}

static void print_failed(struct client *client, const char *flow_id) {
    Sluice__V1__ListFailedObjectsRequest request = SLUICE__V1__LIST_FAILED_OBJECTS_REQUEST__INIT;
    request.flow_id = (char *)flow_id;
    request.page_size = FAILED_SHOWN;
    AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
    struct failure ignored; // the summary says where to see them all
    if (client_call(client, "FlowService/ListFailedObjects", &request.base,
                    &sluice__v1__list_failed_objects_response__descriptor, CALL_TIMEOUT_MS, &reply,
                    &ignored) != OK) {
        return;
    }
    const Sluice__V1__ListFailedObjectsResponse *failed =
        (const Sluice__V1__ListFailedObjectsResponse *)reply;
    for (size_t i = 0; i < failed->n_objects; i++) {
        fputs("sluice: failed: ", stderr);
        failed_object_print(failed->objects[i], stderr);
    }
}

// The flow with everything that events leave out; what the last event had if the master
// cannot be asked any more.
static Sluice__V1__Flow *complete_flow(struct client *client, Sluice__V1__Flow *take_flow) {
    Sluice__V1__GetFlowRequest request = SLUICE__V1__GET_FLOW_REQUEST__INIT;
    request.flow_id = take_flow->id;
    ProtobufCMessage *reply = NULL;
    struct failure ignored;
    if (client_call(client, "FlowService/GetFlow", &request.base, &sluice__v1__flow__descriptor,
                    CALL_TIMEOUT_MS, &reply, &ignored) != OK) {
        return take_flow;
    }
    free_reply(&take_flow->base);
    return (Sluice__V1__Flow *)reply;
}

int follow_flow(const struct invocation *inv, struct client *client, struct watch *watch,
                const char *flow_id, enum follow_output output) {
    struct view view = {
        .inv = inv,
        .output = output,
        .bar = output == FOLLOW_SUMMARY && isatty(STDERR_FILENO),
    };
    struct watch_options options = {
        .flow_id = flow_id, .event = on_event, .note = on_note, .user = &view};
    Sluice__V1__Flow *flow = NULL;
    struct failure failure;
    enum err e = watch_run(watch, &options, &flow, &failure);
    clear_bar(&view);
    if (e) {
        return report_failure(inv, &failure);
    }
    flow = complete_flow(client, flow);
    int code = outcome_exit_code((enum flow_outcome)flow->outcome);
    if (code == EXIT_FAILED && flow->error &&
        err_exit_code(err_from_name(flow->error->code)) == EXIT_REFUSED) {
        code = EXIT_REFUSED; // nothing was delivered, for want of permission
    }
    if (output == FOLLOW_SUMMARY) {
        if (flow->objects_failed > 0) {
            print_failed(client, flow_id);
        }
        flow_print_summary(flow, stdout);
        fflush(stdout);
    } else if (output == FOLLOW_RESULT) {
        int printed = report_json(inv, flow_to_json(flow));
        code = code ? code : printed;
    }
    flow_print_reason(flow, stderr);
    free_reply(&flow->base);
    return report_end(inv, code ? code : view.exit_code);
}
