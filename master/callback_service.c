// SPDX-License-Identifier: Apache-2.0
// The part of FlowService that shows callbacks which were given up, and has them sent again.
#include "common/cleanup.h"
#include "common/rpc/rpc.h"
#include "master/callback_body.h"
#include "master/callbacks.h"
#include "master/database.h"
#include "master/flow_call.h"
#include "master/services.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_USUAL = 100, PAGE_MAX = 1000 };

static void fail(struct flow_call *call, enum err e, const char *why) {
    struct failure f = {0};
    (void)failure_set(&f, e, "answer", NULL, 0, "%s", why);
    flow_call_fail(call, &f);
}

// protobuf-c has no const; nothing is written through this.
static char *borrowed(const char *text) {
    return (char *)(uintptr_t)text;
}

// What a message points into.
struct dead {
    Sluice__V1__DeadCallback message;
    char id[CALLBACK_ID_SIZE];
};

static bool fill(struct dead *d, const struct outbox_row *row) {
    sluice__v1__dead_callback__init(&d->message);
    callback_id(row->flow, row->seq, d->id);
    d->message.id = d->id;
    d->message.flow_id = borrowed(row->flow);
    d->message.url = borrowed(row->target);
    d->message.error = borrowed(row->error);
    d->message.attempts = row->attempts;
    d->message.dead_ms = row->dead_ms;
    d->message.body = strndup((const char *)row->body.bytes, row->body.len);
    return d->message.body != NULL;
}

static void reply(struct flow_call *call, const struct outbox_row *rows, size_t n_rows, bool more) {
    Sluice__V1__ListDeadCallbacksResponse answer = SLUICE__V1__LIST_DEAD_CALLBACKS_RESPONSE__INIT;
    AUTO(auto_free) struct dead *dead = calloc(n_rows + 1, sizeof *dead);
    AUTO(auto_free)
    Sluice__V1__DeadCallback **pointers = calloc(n_rows + 1, sizeof(Sluice__V1__DeadCallback *));
    char token[24] = "";
    bool works = dead != NULL && pointers != NULL;
    size_t n = 0, bytes = 0;
    for (; works && n < n_rows && bytes < REPLY_MAX_BYTES; n++) {
        works = fill(&dead[n], &rows[n]);
        bytes += rows[n].body.len + strlen(rows[n].target);
        pointers[n] = &dead[n].message;
    }
    if (!works) {
        fail(call, ERR_NO_MEMORY, "callbacks cannot be listed");
    } else {
        if (n > 0 && (more || n < n_rows)) {
            snprintf(token, sizeof token, "%" PRIu64, rows[n - 1].id);
        }
        answer.callbacks = pointers;
        answer.n_callbacks = n;
        answer.next_page_token = token;
        flow_call_reply(call, &answer.base);
    }
    for (size_t i = 0; dead != NULL && i < n; i++) {
        free(dead[i].message.body);
    }
}

static void on_dead(void *arg, enum err result, const struct outbox_row *rows, size_t n_rows,
                    bool more) {
    struct flow_call *call = arg;
    if (!flow_call_came(call)) {
        return;
    }
    if (result == OK) {
        reply(call, rows, n_rows, more);
    } else {
        fail(call, result, "callbacks cannot be read from the database");
    }
}

static void list_dead(struct rpc *r, const ProtobufCMessage *message) {
    const Sluice__V1__ListDeadCallbacksRequest *m =
        (const Sluice__V1__ListDeadCallbacksRequest *)message;
    struct flow_call *call = flow_call_new(r);
    if (call == NULL) {
        return;
    }
    if (strspn(m->page_token, "0123456789") != strlen(m->page_token) ||
        strlen(m->page_token) > 18) {
        fail(call, ERR_INVALID, "page_token is none of ours");
        return;
    }
    call->limit = m->page_size == 0 ? PAGE_USUAL : m->page_size;
    call->limit = call->limit > PAGE_MAX ? PAGE_MAX : call->limit;
    call->pending = true;
    database_outbox_dead(call->core->database, strtoull(m->page_token, NULL, 10), call->limit,
                         on_dead, call);
}

static void on_revived(void *arg, enum err result) {
    struct flow_call *call = arg;
    callbacks_wake(call->core->callbacks);
    if (!flow_call_came(call)) {
        return;
    }
    Sluice__V1__RetryCallbackResponse answer = SLUICE__V1__RETRY_CALLBACK_RESPONSE__INIT;
    if (result == OK) {
        flow_call_reply(call, &answer.base);
    } else {
        fail(call, result, "the database did not take it");
    }
}

static void retry(struct rpc *r, const ProtobufCMessage *message) {
    const Sluice__V1__RetryCallbackRequest *m = (const Sluice__V1__RetryCallbackRequest *)message;
    struct flow_call *call = flow_call_new(r);
    if (call == NULL) {
        return;
    }
    char flow[IDENT_SIZE] = "";
    const char *dash = strchr(m->id, '-');
    if (dash == NULL || dash - m->id != IDENT_SIZE - 1 || dash[1] == '\0' ||
        strlen(dash + 1) > 18 || strspn(dash + 1, "0123456789") != strlen(dash + 1)) {
        fail(call, ERR_INVALID, "this is no event's id: they are FLOW-NUMBER");
        return;
    }
    memcpy(flow, m->id, IDENT_SIZE - 1);
    struct change *change = change_new();
    change_outbox_revive(change, flow, strtoull(dash + 1, NULL, 10));
    call->pending = true;
    database_commit(call->core->database, change, on_revived, call);
}

static const struct rpc_method methods[] = {
    {.path = "/sluice.v1.FlowService/ListDeadCallbacks",
     .input = &sluice__v1__list_dead_callbacks_request__descriptor,
     .message = list_dead,
     .closed = flow_call_closed},
    {.path = "/sluice.v1.FlowService/RetryCallback",
     .input = &sluice__v1__retry_callback_request__descriptor,
     .message = retry,
     .closed = flow_call_closed},
};

void callback_service_add(struct rpc_server *s, struct core *c) {
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        rpc_server_add(s, &methods[i], c);
    }
}
