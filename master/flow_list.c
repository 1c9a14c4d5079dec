// SPDX-License-Identifier: Apache-2.0
// Pages of flows, and of objects that failed.
#include "common/cleanup.h"
#include "common/log.h"
#include "master/database.h"
#include "master/flow_call.h"
#include "master/flow_message.h"
#include "master/flow_row.h"
#include "master/flow_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_DEFAULT = 100, PAGE_MAX = 1000 };

static uint32_t page_size(uint32_t wanted) {
    uint32_t size = wanted == 0 ? PAGE_DEFAULT : wanted;
    return size > PAGE_MAX ? PAGE_MAX : size;
}

static void fail(struct flow_call *call, enum err e, const char *what) {
    struct failure f = {0};
    (void)failure_set(&f, e, "list", NULL, 0, "%s", what);
    flow_call_fail(call, &f);
}

// ---- flows ----
struct listed {
    struct flow *owned; // from the row
    struct flow_message message;
};

// The flow as it is in memory, if all of that is stored; else as it is in the database.
static enum err list_row(struct flows *fl, const struct flow_row *row, struct listed *l) {
    const struct flow_entry *e = flows_entry(fl, row->id);
    const struct flow *f = NULL;
    if (e != NULL && e->stored && e->uncommitted == 0) {
        f = &e->flow;
    } else {
        l->owned = calloc(1, sizeof *l->owned);
        enum err err = l->owned == NULL ? ERR_NO_MEMORY : flow_from_row(row, l->owned);
        if (err != OK) {
            return err;
        }
        f = l->owned;
    }
    return flow_message_init(f, FLOW_MESSAGE_FULL, &l->message);
}

static void listed_free(struct listed *l, size_t n) {
    for (size_t i = 0; i < n; i++) {
        flow_message_deinit(&l[i].message);
        if (l[i].owned != NULL) {
            flow_deinit(l[i].owned);
            free(l[i].owned);
        }
    }
    free(l);
}

static void reply_flows(struct flow_call *call, const struct flow_row *rows, size_t n_rows,
                        bool more) {
    Sluice__V1__ListFlowsResponse answer = SLUICE__V1__LIST_FLOWS_RESPONSE__INIT;
    struct listed *l = calloc(n_rows + 1, sizeof *l);
    AUTO(auto_free) Sluice__V1__Flow **pointers = calloc(n_rows + 1, sizeof(Sluice__V1__Flow *));
    enum err e = l == NULL || pointers == NULL ? ERR_NO_MEMORY : OK;
    size_t n = 0, bytes = 0;
    while (e == OK && n < n_rows && bytes < REPLY_MAX_BYTES) {
        e = list_row(call->core->flows, &rows[n], &l[n]);
        pointers[n] = &l[n].message.message;
        n++;
        if (e == OK) {
            bytes += sluice__v1__flow__get_packed_size(pointers[n - 1]);
        }
    }
    if (e != OK) {
        fail(call, e, "flows cannot be listed");
    } else {
        answer.flows = pointers;
        answer.n_flows = n;
        if (n > 0 && (more || n < n_rows)) {
            answer.next_page_token = pointers[n - 1]->id;
        }
        flow_call_reply(call, &answer.base);
    }
    listed_free(l, l == NULL ? 0 : n);
}

static void on_flows(void *arg, enum err result, const struct flow_row *rows, size_t n_rows,
                     bool more) {
    struct flow_call *call = arg;
    if (!flow_call_came(call)) {
        return;
    }
    if (result == OK) {
        reply_flows(call, rows, n_rows, more);
    } else {
        fail(call, result, "flows cannot be read from the database");
    }
}

static void list_flows(struct rpc *r, const ProtobufCMessage *message) {
    const Sluice__V1__ListFlowsRequest *m = (const Sluice__V1__ListFlowsRequest *)message;
    struct flow_call *call = flow_call_new(r);
    if (call == NULL) {
        return;
    }
    if (m->page_token[0] != '\0' && !ident_is_valid(m->page_token)) {
        fail(call, ERR_INVALID, "page_token is none of ours");
        return;
    }
    struct flow_filter filter = {.owner = m->owner,
                                 .n_labels = m->n_labels,
                                 .before_id = m->page_token,
                                 .limit = page_size(m->page_size)};
    for (size_t i = 0; i < m->n_states; i++) {
        if ((unsigned)m->states[i] < 32) {
            filter.states |= 1U << (unsigned)m->states[i];
        }
    }
    AUTO(auto_free) struct flow_label *labels = calloc(m->n_labels + 1, sizeof *labels);
    if (labels == NULL) {
        fail(call, ERR_NO_MEMORY, "flows cannot be listed");
        return;
    }
    for (size_t i = 0; i < m->n_labels; i++) {
        labels[i] = (struct flow_label){m->labels[i]->key, m->labels[i]->value};
    }
    filter.labels = labels;
    call->pending = true;
    database_flows_list(call->core->database, &filter, on_flows, call);
}

// ---- failed objects ----
static void reply_failed(struct flow_call *call, const struct failed_object_row *rows,
                         size_t n_rows, bool more) {
    Sluice__V1__ListFailedObjectsResponse answer = SLUICE__V1__LIST_FAILED_OBJECTS_RESPONSE__INIT;
    AUTO(auto_free) Sluice__V1__FailedObject *objects = calloc(n_rows + 1, sizeof *objects);
    AUTO(auto_free)
    Sluice__V1__FailedObject **pointers = calloc(n_rows + 1, sizeof(Sluice__V1__FailedObject *));
    char token[24] = "";
    enum err e = objects == NULL || pointers == NULL ? ERR_NO_MEMORY : OK;
    size_t n = 0, bytes = 0;
    while (e == OK && n < n_rows && bytes < REPLY_MAX_BYTES) {
        sluice__v1__failed_object__init(&objects[n]);
        objects[n].path.data = (uint8_t *)(uintptr_t)rows[n].path.bytes;
        objects[n].path.len = rows[n].path.len;
        objects[n].failure =
            sluice__v1__failure__unpack(NULL, rows[n].failure.len, rows[n].failure.bytes);
        e = objects[n].failure == NULL ? ERR_NO_MEMORY : OK;
        bytes += rows[n].path.len + rows[n].failure.len;
        pointers[n] = &objects[n];
        n++;
    }
    if (e != OK) {
        fail(call, e, "failed objects cannot be listed");
    } else {
        answer.objects = pointers;
        answer.n_objects = n;
        if (n > 0 && (more || n < n_rows)) {
            snprintf(token, sizeof token, "%" PRIu64, rows[n - 1].number);
        }
        answer.next_page_token = token;
        flow_call_reply(call, &answer.base);
    }
    for (size_t i = 0; objects != NULL && i < n; i++) {
        if (objects[i].failure != NULL) {
            sluice__v1__failure__free_unpacked(objects[i].failure, NULL);
        }
    }
}

static void on_failed(void *arg, enum err result, const struct failed_object_row *rows,
                      size_t n_rows, bool more) {
    struct flow_call *call = arg;
    if (!flow_call_came(call)) {
        return;
    }
    if (result == OK) {
        reply_failed(call, rows, n_rows, more);
    } else {
        fail(call, result, "failed objects cannot be read from the database");
    }
}

static void failed_found(struct flow_call *call, const struct flow *f) {
    call->pending = true;
    database_failed_objects(call->core->database, f->id, call->after_number, call->limit, on_failed,
                            call);
}

static void list_failed_objects(struct rpc *r, const ProtobufCMessage *message) {
    const Sluice__V1__ListFailedObjectsRequest *m =
        (const Sluice__V1__ListFailedObjectsRequest *)message;
    struct flow_call *call = flow_call_new(r);
    if (call == NULL) {
        return;
    }
    if (strspn(m->page_token, "0123456789") != strlen(m->page_token) ||
        strlen(m->page_token) > 19) {
        fail(call, ERR_INVALID, "page_token is none of ours");
        return;
    }
    call->after_number = strtoull(m->page_token, NULL, 10);
    call->limit = page_size(m->page_size);
    flow_call_find(call, m->flow_id, failed_found);
}

static const struct rpc_method method_flows = {
    .path = "/sluice.v1.FlowService/ListFlows",
    .input = &sluice__v1__list_flows_request__descriptor,
    .message = list_flows,
    .closed = flow_call_closed,
};
static const struct rpc_method method_failed = {
    .path = "/sluice.v1.FlowService/ListFailedObjects",
    .input = &sluice__v1__list_failed_objects_request__descriptor,
    .message = list_failed_objects,
    .closed = flow_call_closed,
};

void flow_list_add(struct rpc_server *s, struct core *c) {
    rpc_server_add(s, &method_flows, c);
    rpc_server_add(s, &method_failed, c);
}
