// SPDX-License-Identifier: Apache-2.0
#include "cli/cluster_ready.h"

#include "common/clock.h"
#include "sluice/v1/cluster_service.pb-c.h"

#include <stdio.h>
#include <string.h>

enum {
    ASK_TIMEOUT_MS = 2000,
    PROOF_MS = 10 * 1000, // a volume that cannot be written is never proven shared
};

enum err cluster_ready_init(const struct cluster *c, struct cluster_ready *ret_ready,
                            struct failure *ret_failure) {
    *ret_ready = (struct cluster_ready){.cluster = c};
    return client_open_address(c->master, &ret_ready->client, ret_failure);
}

void cluster_ready_deinit(struct cluster_ready *r) {
    client_close(&r->client);
}

static const Sluice__V1__AgentInfo *find_agent(const Sluice__V1__ListAgentsResponse *list,
                                               const struct daemon *d) {
    for (size_t i = 0; i < list->n_agents; i++) {
        const Sluice__V1__AgentInfo *a = list->agents[i];
        // By its process as well: the master may still remember the last one of this name.
        if (strcmp(a->name, d->name) == 0 && a->connected && (pid_t)a->pid == d->child.pid) {
            return a;
        }
    }
    return NULL;
}

static const Sluice__V1__VolumeInfo *find_volume(const Sluice__V1__AgentInfo *a, const char *name) {
    for (size_t i = 0; i < a->n_volumes; i++) {
        if (strcmp(a->volumes[i]->name, name) == 0) {
            return a->volumes[i];
        }
    }
    return NULL;
}

// Are the agent and its volumes fine? Counts volumes that are not proven shared.
static bool check_agent(struct cluster_ready *r, const Sluice__V1__ListAgentsResponse *list,
                        const struct daemon *d, size_t *unproven) {
    const struct up_options *o = r->cluster->options;
    const Sluice__V1__AgentInfo *a = find_agent(list, d);
    if (!a) {
        snprintf(r->missing, sizeof(r->missing), "agent %s is not connected", d->name);
        return false;
    }
    for (size_t i = 0; i < o->n_volumes; i++) {
        if (strcmp(o->volumes[i].site, d->site->name) != 0) {
            continue;
        }
        const Sluice__V1__VolumeInfo *v = find_volume(a, o->volumes[i].name);
        if (!v || *v->error) {
            snprintf(r->missing, sizeof(r->missing), "agent %s cannot use volume %s%s%s", d->name,
                     o->volumes[i].name, v ? ": " : "", v ? v->error : "");
            return false;
        }
        *unproven += d->site->n_agents > 1 && !v->shared;
    }
    return true;
}

bool cluster_ready_ask(struct cluster_ready *r) {
    Sluice__V1__ListAgentsRequest request = SLUICE__V1__LIST_AGENTS_REQUEST__INIT;
    AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
    struct failure f;
    size_t unproven = 0;
    if (client_call(&r->client, "ClusterService/ListAgents", &request.base,
                    &sluice__v1__list_agents_response__descriptor, ASK_TIMEOUT_MS, &reply,
                    &f) != OK) {
        snprintf(r->missing, sizeof(r->missing), "the master does not answer: %.200s", f.message);
        r->usable_ms = 0;
        return false;
    }
    for (size_t i = r->cluster->n_masters; i < r->cluster->n_daemons; i++) {
        if (!check_agent(r, (const Sluice__V1__ListAgentsResponse *)reply, &r->cluster->daemons[i],
                         &unproven)) {
            r->usable_ms = 0;
            return false;
        }
    }
    int64_t now = clock_mono_ms(&clock_system);
    r->usable_ms = r->usable_ms ? r->usable_ms : now;
    return unproven == 0 || now - r->usable_ms >= PROOF_MS;
}
