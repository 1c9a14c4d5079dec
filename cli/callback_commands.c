// SPDX-License-Identifier: Apache-2.0
// callbacks: those that were given up.
#include "cli/client.h"
#include "cli/json_fields.h"
#include "cli/report.h"
#include "sluice/v1/flow_service.pb-c.h"

#include <stdio.h>
#include <string.h>

enum { PAGE_SIZE = 500 };

static json_t *callback_to_json(const Sluice__V1__DeadCallback *c) {
    struct fields f = fields_begin();
    json_error_t error;
    json_t *body = json_loads(c->body, 0, &error);
    fields_text(&f, "id", c->id);
    fields_text(&f, "flow", c->flow_id);
    fields_text(&f, "url", c->url);
    fields_text(&f, "error", c->error);
    fields_u64(&f, "attempts", c->attempts);
    fields_time(&f, "dead", c->dead_ms);
    fields_set(&f, "body", body ? body : json_null());
    return fields_end(&f);
}

static int print_page(const struct invocation *inv,
                      const Sluice__V1__ListDeadCallbacksResponse *page) {
    for (size_t i = 0; i < page->n_callbacks; i++) {
        const Sluice__V1__DeadCallback *c = page->callbacks[i];
        if (!inv->json) {
            printf("%s  %s  %s after %u attempts\n", c->id, c->url, c->error, c->attempts);
        } else if (report_json(inv, callback_to_json(c))) {
            return EXIT_FAILED;
        }
    }
    return EXIT_DELIVERED;
}

static int list(const struct invocation *inv, struct client *client) {
    struct failure f;
    Sluice__V1__ListDeadCallbacksRequest request = SLUICE__V1__LIST_DEAD_CALLBACKS_REQUEST__INIT;
    AUTO(auto_free) char *token = NULL;
    request.page_size = PAGE_SIZE;
    for (;;) {
        AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
        request.page_token = token ? token : request.page_token;
        if (client_call(client, "FlowService/ListDeadCallbacks", &request.base,
                        &sluice__v1__list_dead_callbacks_response__descriptor, CALL_TIMEOUT_MS,
                        &reply, &f) != OK) {
            return report_failure(inv, &f);
        }
        const Sluice__V1__ListDeadCallbacksResponse *page =
            (const Sluice__V1__ListDeadCallbacksResponse *)reply;
        int code = print_page(inv, page);
        if (code != EXIT_DELIVERED || *page->next_page_token == '\0') {
            return code;
        }
        free(token);
        token = strdup(page->next_page_token);
        if (!token) {
            failure_set(&f, ERR_NO_MEMORY, "list callbacks", NULL, 0, NULL);
            return report_failure(inv, &f);
        }
    }
}

static int retry(const struct invocation *inv, struct client *client) {
    struct failure f;
    for (size_t i = 0; invocation_value(inv, "retry", i); i++) {
        AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
        Sluice__V1__RetryCallbackRequest request = SLUICE__V1__RETRY_CALLBACK_REQUEST__INIT;
        request.id = (char *)(uintptr_t)invocation_value(inv, "retry", i);
        if (client_call(client, "FlowService/RetryCallback", &request.base,
                        &sluice__v1__retry_callback_response__descriptor, CALL_TIMEOUT_MS, &reply,
                        &f) != OK) {
            return report_failure(inv, &f);
        }
    }
    return EXIT_DELIVERED;
}

int run_callbacks(const struct invocation *inv) {
    struct client client = {0};
    struct failure f;
    int code = EXIT_FAILED;
    if (client_open(inv, &client, &f) != OK) {
        code = report_failure(inv, &f);
    } else if (invocation_has(inv, "retry")) {
        code = retry(inv, &client);
    } else {
        code = list(inv, &client);
    }
    client_close(&client);
    return report_end(inv, code);
}
