// SPDX-License-Identifier: Apache-2.0
// CredentialService.
#include "common/cleanup.h"
#include "common/rpc/rpc.h"
#include "master/credentials.h"
#include "master/flow_call.h"
#include "master/services.h"
#include "sluice/v1/credential_service.pb-c.h"

#include <stdlib.h>

static void on_updated(void *arg, size_t n_agents, size_t n_flows, const struct failure *f) {
    struct flow_call *call = arg;
    if (!flow_call_came(call)) {
        return;
    }
    if (f != NULL) {
        flow_call_fail(call, f);
        return;
    }
    Sluice__V1__UpdateCredentialsResponse m = SLUICE__V1__UPDATE_CREDENTIALS_RESPONSE__INIT;
    m.agents = (uint32_t)n_agents;
    m.flows_resumed = (uint32_t)n_flows;
    flow_call_reply(call, &m.base);
}

static void update(struct rpc *r, const ProtobufCMessage *message) {
    const Sluice__V1__UpdateCredentialsRequest *m =
        (const Sluice__V1__UpdateCredentialsRequest *)message;
    struct flow_call *call = flow_call_new(r);
    if (call == NULL) {
        return;
    }
    struct credential_keys keys = {0};
    if (m->keys != NULL) {
        keys = (struct credential_keys){m->keys->access_key, m->keys->secret_key,
                                        m->keys->session_token};
    }
    char peer[CREDENTIAL_OWNER_MAX + 1];
    bool is_known = rpc_peer_name(call->rpc, peer, sizeof peer);
    call->pending = true;
    credentials_update(call->core->credentials, m->name, m->keys != NULL ? &keys : NULL,
                       is_known ? peer : NULL, on_updated, call);
}

static void on_removed(void *arg, size_t n_agents, size_t n_flows, const struct failure *f) {
    struct flow_call *call = arg;
    (void)n_flows;
    if (!flow_call_came(call)) {
        return;
    }
    if (f != NULL) {
        flow_call_fail(call, f);
        return;
    }
    Sluice__V1__RemoveCredentialsResponse m = SLUICE__V1__REMOVE_CREDENTIALS_RESPONSE__INIT;
    m.agents = (uint32_t)n_agents;
    flow_call_reply(call, &m.base);
}

static void remove_one(struct rpc *r, const ProtobufCMessage *message) {
    const Sluice__V1__RemoveCredentialsRequest *m =
        (const Sluice__V1__RemoveCredentialsRequest *)message;
    struct flow_call *call = flow_call_new(r);
    if (call != NULL) {
        char peer[CREDENTIAL_OWNER_MAX + 1];
        bool is_known = rpc_peer_name(call->rpc, peer, sizeof peer);
        call->pending = true;
        credentials_remove(call->core->credentials, m->name, is_known ? peer : NULL, on_removed,
                           call);
    }
}

// ---- the list ----

struct list {
    Sluice__V1__CredentialInfo *items, **pointers;
    size_t n;
};

static void add(void *arg, const char *name, const char *owner, int64_t updated_ms) {
    struct list *l = arg;
    Sluice__V1__CredentialInfo *m = &l->items[l->n];
    sluice__v1__credential_info__init(m);
    m->name = (char *)(uintptr_t)name; // protobuf-c has no const
    m->owner = (char *)(uintptr_t)owner;
    m->updated_ms = updated_ms;
    l->pointers[l->n++] = m;
}

static void list(struct rpc *r, const ProtobufCMessage *message) {
    struct flow_call *call = flow_call_new(r);
    (void)message;
    if (call == NULL) {
        return;
    }
    const struct credentials *cs = call->core->credentials;
    size_t n = credentials_count(cs);
    AUTO(auto_free) Sluice__V1__CredentialInfo *items = calloc(n + 1, sizeof *items);
    AUTO(auto_free) Sluice__V1__CredentialInfo **pointers = calloc(n + 1, sizeof(items));
    if (items == NULL || pointers == NULL) {
        struct failure f = {0};
        (void)failure_set(&f, ERR_NO_MEMORY, "answer", NULL, 0, NULL);
        flow_call_fail(call, &f);
        return;
    }
    struct list l = {items, pointers, 0};
    credentials_each_name(cs, add, &l);
    Sluice__V1__ListCredentialsResponse m = SLUICE__V1__LIST_CREDENTIALS_RESPONSE__INIT;
    m.n_credentials = l.n;
    m.credentials = pointers;
    flow_call_reply(call, &m.base);
}

static const struct rpc_method methods[] = {
    {.path = "/sluice.v1.CredentialService/UpdateCredentials",
     .input = &sluice__v1__update_credentials_request__descriptor,
     .message = update,
     .closed = flow_call_closed},
    {.path = "/sluice.v1.CredentialService/ListCredentials",
     .input = &sluice__v1__list_credentials_request__descriptor,
     .message = list,
     .closed = flow_call_closed},
    {.path = "/sluice.v1.CredentialService/RemoveCredentials",
     .input = &sluice__v1__remove_credentials_request__descriptor,
     .message = remove_one,
     .closed = flow_call_closed},
};

void credential_service_add(struct rpc_server *s, struct core *c) {
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        rpc_server_add(s, &methods[i], c);
    }
}
