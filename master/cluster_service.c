// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/rpc.h"
#include "master/agents.h"
#include "master/core.h"
#include "master/flow.h"
#include "master/limits.h"
#include "master/services.h"

#include <string.h>

static void fail(struct rpc *r, enum err e, const char *why) {
    struct failure f = {0};
    (void)failure_set(&f, e, "answer", NULL, 0, "%s", why);
    rpc_finish_failure(r, &f);
}

static void reply(struct rpc *r, const ProtobufCMessage *m) {
    if (rpc_send(r, m)) {
        rpc_finish(r, 0, NULL);
    }
}

static void on_closed(struct rpc *r, const struct rpc_status *status) {
    (void)r;
    (void)status;
}

static void get_cluster(struct rpc *r, const ProtobufCMessage *message) {
    struct core *c = rpc_server_user(r);
    uint8_t key[SIGNING_KEY_BYTES];
    struct limit_use uses[LIMITS_COUNT];
    Sluice__V1__Limit limits[LIMITS_COUNT], *pointers[LIMITS_COUNT];
    Sluice__V1__Cluster m = SLUICE__V1__CLUSTER__INIT;
    char version[] = SLUICE_VERSION;
    (void)message;
    m.id = c->cluster;
    m.version = version;
    m.term = c->term;
    m.started_ms = c->started_ms;
    flows_count(c->flows, &m.flows_queued, &m.flows_active);
    signing_key_public(c->key, key);
    m.ticket_public_key = (ProtobufCBinaryData){sizeof key, key};
    limits_look(c, uses);
    for (size_t i = 0; i < LIMITS_COUNT; i++) {
        sluice__v1__limit__init(&limits[i]);
        limits[i].name = (char *)(uintptr_t)uses[i].name;
        limits[i].now = uses[i].now;
        limits[i].limit = uses[i].limit;
        limits[i].refused = uses[i].refused;
        pointers[i] = &limits[i];
    }
    m.n_limits = LIMITS_COUNT;
    m.limits = pointers;
    reply(r, &m.base);
}

static void list_agents(struct rpc *r, const ProtobufCMessage *message) {
    const Sluice__V1__ListAgentsRequest *m = (const Sluice__V1__ListAgentsRequest *)message;
    struct core *c = rpc_server_user(r);
    Sluice__V1__ListAgentsResponse *answer = agents_list(c->agents, m->site);
    if (answer == NULL) {
        fail(r, ERR_NO_MEMORY, "agents cannot be listed");
        return;
    }
    reply(r, &answer->base);
    agents_list_free(answer);
}

static void set_draining(struct rpc *r, const char *agent, bool draining) {
    struct core *c = rpc_server_user(r);
    struct failure f = {0};
    if (agents_drain(c->agents, agent, draining, &f) != OK) {
        rpc_finish_failure(r, &f);
        return;
    }
    Sluice__V1__ListAgentsResponse *all = agents_list(c->agents, "");
    for (size_t i = 0; all != NULL && i < all->n_agents; i++) {
        if (strcmp(all->agents[i]->name, agent) == 0) {
            reply(r, &all->agents[i]->base);
            agents_list_free(all);
            return;
        }
    }
    if (all != NULL) {
        agents_list_free(all);
    }
    fail(r, ERR_NO_MEMORY, "the agent cannot be shown");
}

static void drain_agent(struct rpc *r, const ProtobufCMessage *message) {
    const Sluice__V1__DrainAgentRequest *m = (const Sluice__V1__DrainAgentRequest *)message;
    if (m->grace_ms != 0) {
        fail(r, ERR_UNIMPLEMENTED, "grace_ms is not supported by this version: leave it out");
        return;
    }
    set_draining(r, m->agent, true);
}

static void undrain_agent(struct rpc *r, const ProtobufCMessage *message) {
    const Sluice__V1__UndrainAgentRequest *m = (const Sluice__V1__UndrainAgentRequest *)message;
    set_draining(r, m->agent, false);
}

static const struct rpc_method methods[] = {
    {.path = "/sluice.v1.ClusterService/GetCluster",
     .input = &sluice__v1__get_cluster_request__descriptor,
     .message = get_cluster,
     .closed = on_closed},
    {.path = "/sluice.v1.ClusterService/ListAgents",
     .input = &sluice__v1__list_agents_request__descriptor,
     .message = list_agents,
     .closed = on_closed},
    {.path = "/sluice.v1.ClusterService/DrainAgent",
     .input = &sluice__v1__drain_agent_request__descriptor,
     .message = drain_agent,
     .closed = on_closed},
    {.path = "/sluice.v1.ClusterService/UndrainAgent",
     .input = &sluice__v1__undrain_agent_request__descriptor,
     .message = undrain_agent,
     .closed = on_closed},
};

void cluster_service_add(struct rpc_server *s, struct core *c) {
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        rpc_server_add(s, &methods[i], c);
    }
}
