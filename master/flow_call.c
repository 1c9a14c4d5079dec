// SPDX-License-Identifier: Apache-2.0
#include "master/flow_call.h"

#include "master/database.h"
#include "master/flow_row.h"
#include "master/flow_table.h"

#include <stdlib.h>
#include <string.h>

struct flow_call *flow_call_new(struct rpc *r) {
    struct flow_call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        struct failure f = {0};
        (void)failure_set(&f, ERR_NO_MEMORY, "answer", NULL, 0, NULL);
        rpc_finish_failure(r, &f);
        return NULL;
    }
    call->core = rpc_server_user(r);
    call->rpc = r;
    rpc_set_user(r, call);
    return call;
}

void flow_call_closed(struct rpc *r, const struct rpc_status *status) {
    struct flow_call *call = rpc_user(r);
    (void)status;
    if (call != NULL) {
        call->rpc = NULL;
        if (!call->pending) {
            free(call);
        }
    }
}

bool flow_call_came(struct flow_call *call) {
    call->pending = false;
    if (call->rpc == NULL) {
        free(call);
        return false;
    }
    return true;
}

void flow_call_fail(struct flow_call *call, const struct failure *f) {
    rpc_finish_failure(call->rpc, f);
}

void flow_call_reply(struct flow_call *call, const ProtobufCMessage *m) {
    if (rpc_send(call->rpc, m)) {
        rpc_finish(call->rpc, 0, NULL);
    }
}

static void fail_not_found(struct flow_call *call, const char *id) {
    struct failure f = {0};
    (void)failure_set(&f, ERR_NOT_FOUND, "find", id, strnlen(id, 64), "there is no such flow");
    failure_remedy(&f, "list flows with `sluice ls`");
    flow_call_fail(call, &f);
}

static void on_row(void *arg, enum err result, const struct flow_row *rows, size_t n_rows,
                   bool more) {
    struct flow_call *call = arg;
    (void)more;
    if (!flow_call_came(call)) {
        return;
    }
    if (result == OK && n_rows == 0) {
        fail_not_found(call, call->flow);
        return;
    }
    struct flow *f = result == OK ? calloc(1, sizeof *f) : NULL;
    if (result == OK) {
        result = f == NULL ? ERR_NO_MEMORY : flow_from_row(&rows[0], f);
    }
    if (result == OK) {
        call->found(call, f);
    } else {
        struct failure failure = {0};
        (void)failure_set(&failure, result, "read", call->flow, strlen(call->flow), NULL);
        flow_call_fail(call, &failure);
    }
    if (f != NULL) {
        flow_deinit(f);
        free(f);
    }
}

void flow_call_find(struct flow_call *call, const char *id,
                    void (*found)(struct flow_call *call, const struct flow *f)) {
    if (!ident_is_valid(id)) {
        fail_not_found(call, id);
        return;
    }
    memmove(call->flow, id, IDENT_SIZE);
    call->found = found;
    const struct flow_entry *e = flows_entry(call->core->flows, id);
    if (e != NULL && e->stored && e->uncommitted == 0) {
        found(call, &e->flow);
    } else {
        call->pending = true;
        database_flow_get(call->core->database, call->flow, on_row, call);
    }
}
