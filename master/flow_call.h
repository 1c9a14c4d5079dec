// SPDX-License-Identifier: Apache-2.0
// One unary call of FlowService that may have to wait for the database or for agents. What
// flow_service.c and flow_list.c share. Core thread.
#ifndef MASTER_FLOW_CALL_H
#define MASTER_FLOW_CALL_H

#include "common/rpc/rpc.h"
#include "master/core.h"
#include "master/flow.h"

enum { REPLY_MAX_BYTES = 3 << 20 }; // pages end before gRPC's limit

struct flow_call {
    struct core *core;
    struct rpc *rpc; // NULL: the call is over
    bool pending;    // somebody will call back; the call stays until then
    char flow[IDENT_SIZE];
    char request_id[256];  // retry
    uint64_t after_number; // failed objects
    uint32_t limit;
    void (*found)(struct flow_call *call, const struct flow *f);
};

// NULL: there is no memory, and the call was ended with that.
struct flow_call *flow_call_new(struct rpc *r);
// For rpc_method.closed.
void flow_call_closed(struct rpc *r, const struct rpc_status *status);
// What was waited for has come. false: the call is over, and @call is gone.
bool flow_call_came(struct flow_call *call);
void flow_call_fail(struct flow_call *call, const struct failure *f);
void flow_call_reply(struct flow_call *call, const ProtobufCMessage *m);
// Finds the flow @id as it is stored: in memory, if all of it is committed, or in the database.
// Then call->found(), or ends the call with NOT_FOUND.
void flow_call_find(struct flow_call *call, const char *id,
                    void (*found)(struct flow_call *call, const struct flow *f));

// flow_list.c
void flow_list_add(struct rpc_server *s, struct core *c);

#endif
