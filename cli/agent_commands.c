// SPDX-License-Identifier: Apache-2.0
// agents, limits, drain, undrain.
#include "cli/agent_json.h"
#include "cli/client.h"
#include "cli/report.h"
#include "common/clock.h"

#include <inttypes.h>
#include <stdio.h>

static int print_agent(const struct invocation *inv, const Sluice__V1__AgentInfo *agent) {
    if (inv->json) {
        return report_json(inv, agent_to_json(agent));
    }
    agent_print(agent, clock_wall_ms(&clock_system), stdout);
    return EXIT_DELIVERED;
}

int run_agents(const struct invocation *inv) {
    struct client client = {0};
    struct failure f;
    AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
    Sluice__V1__ListAgentsRequest request = SLUICE__V1__LIST_AGENTS_REQUEST__INIT;
    const char *site = invocation_value(inv, "site", 0);
    if (site) {
        request.site = (char *)(uintptr_t)site;
    }
    enum err e = client_open(inv, &client, &f);
    if (!e) {
        e = client_call(&client, "ClusterService/ListAgents", &request.base,
                        &sluice__v1__list_agents_response__descriptor, CALL_TIMEOUT_MS, &reply, &f);
    }
    client_close(&client);
    if (e) {
        return report_failure(inv, &f);
    }
    const Sluice__V1__ListAgentsResponse *list = (const Sluice__V1__ListAgentsResponse *)reply;
    int code = EXIT_DELIVERED;
    for (size_t i = 0; i < list->n_agents && code == EXIT_DELIVERED; i++) {
        code = print_agent(inv, list->agents[i]);
    }
    return report_end(inv, code);
}

static int print_limit(const struct invocation *inv, const Sluice__V1__Limit *l) {
    if (inv->json) {
        return report_json(inv, limit_to_json(l));
    }
    printf("%-16s %10" PRIu64 " %10" PRIu64 " %10" PRIu64 "\n", l->name, l->now, l->limit,
           l->refused);
    return EXIT_DELIVERED;
}

int run_limits(const struct invocation *inv) {
    struct client client = {0};
    struct failure f;
    AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
    Sluice__V1__GetClusterRequest request = SLUICE__V1__GET_CLUSTER_REQUEST__INIT;
    enum err e = client_open(inv, &client, &f);
    if (!e) {
        e = client_call(&client, "ClusterService/GetCluster", &request.base,
                        &sluice__v1__cluster__descriptor, CALL_TIMEOUT_MS, &reply, &f);
    }
    client_close(&client);
    if (e) {
        return report_failure(inv, &f);
    }
    const Sluice__V1__Cluster *cluster = (const Sluice__V1__Cluster *)reply;
    if (!inv->json) {
        printf("%-16s %10s %10s %10s\n", "LIMIT", "NOW", "AT MOST", "REFUSED");
    }
    int code = EXIT_DELIVERED;
    for (size_t i = 0; i < cluster->n_limits && code == EXIT_DELIVERED; i++) {
        code = print_limit(inv, cluster->limits[i]);
    }
    return report_end(inv, code);
}

static int change_agent(const struct invocation *inv, const char *method,
                        const ProtobufCMessage *request) {
    struct client client = {0};
    struct failure f;
    AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
    enum err e = client_open(inv, &client, &f);
    if (!e) {
        e = client_call(&client, method, request, &sluice__v1__agent_info__descriptor,
                        CALL_SETTLE_TIMEOUT_MS, &reply, &f);
    }
    client_close(&client);
    if (e) {
        return report_failure(inv, &f);
    }
    return report_end(inv, print_agent(inv, (const Sluice__V1__AgentInfo *)reply));
}

int run_drain(const struct invocation *inv) {
    Sluice__V1__DrainAgentRequest request = SLUICE__V1__DRAIN_AGENT_REQUEST__INIT;
    request.agent = inv->args[0];
    return change_agent(inv, "ClusterService/DrainAgent", &request.base);
}

int run_undrain(const struct invocation *inv) {
    Sluice__V1__UndrainAgentRequest request = SLUICE__V1__UNDRAIN_AGENT_REQUEST__INIT;
    request.agent = inv->args[0];
    return change_agent(inv, "ClusterService/UndrainAgent", &request.base);
}
