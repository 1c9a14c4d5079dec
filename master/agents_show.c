// SPDX-License-Identifier: Apache-2.0
// The agents, for people.
#include "master/agents_impl.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

static bool set_text(char **to, const char *text) {
    *to = strdup(text != NULL ? text : "");
    return *to != NULL;
}

static Sluice__V1__VolumeInfo *show_volume(const struct agent_volume *v) {
    Sluice__V1__VolumeInfo *m = malloc(sizeof(*m));
    if (m == NULL) {
        return NULL;
    }
    sluice__v1__volume_info__init(m);
    size_t len = v->root_len > 0 ? v->root_len : 1;
    m->root.data = malloc(len);
    if (m->root.data == NULL || !set_text(&m->name, v->name) || !set_text(&m->error, v->error)) {
        sluice__v1__volume_info__free_unpacked(m, NULL);
        return NULL;
    }
    memcpy(m->root.data, v->root_len > 0 ? (const void *)v->root : "/", len);
    m->root.len = len;
    m->readable = v->readable;
    m->writable = v->writable;
    m->shared = v->proof == PROOF_SHARED;
    m->bytes_free = v->bytes_free;
    m->bytes_total = v->bytes_total;
    return m;
}

static bool show_volumes(const struct agent *a, Sluice__V1__AgentInfo *m) {
    const struct agent_volume *v;
    m->volumes = calloc(AGENT_MAX_VOLUMES, sizeof(*m->volumes));
    if (m->volumes == NULL) {
        return false;
    }
    DL_FOREACH(a->volumes, v) {
        if (m->n_volumes < AGENT_MAX_VOLUMES) {
            Sluice__V1__VolumeInfo *shown = show_volume(v);
            if (shown == NULL) {
                return false;
            }
            m->volumes[m->n_volumes++] = shown;
        }
    }
    return true;
}

static bool show_addresses(const struct agent *a, Sluice__V1__AgentInfo *m) {
    m->data_addresses = calloc(a->n_addresses + 1, sizeof(*m->data_addresses));
    while (m->data_addresses != NULL && m->n_data_addresses < a->n_addresses) {
        if (!set_text(&m->data_addresses[m->n_data_addresses], a->addresses[m->n_data_addresses])) {
            return false;
        }
        m->n_data_addresses++;
    }
    return m->data_addresses != NULL;
}

static Sluice__V1__AgentInfo *show(const struct agent *a) {
    Sluice__V1__AgentInfo *m = malloc(sizeof(*m));
    if (m == NULL) {
        return NULL;
    }
    sluice__v1__agent_info__init(m);
    if (!set_text(&m->name, a->name) || !set_text(&m->site, a->site) ||
        !set_text(&m->version, a->version) || !set_text(&m->incarnation, a->incarnation) ||
        !set_text(&m->host, a->host) || !show_volumes(a, m) || !show_addresses(a, m)) {
        sluice__v1__agent_info__free_unpacked(m, NULL);
        return NULL;
    }
    m->connected = a->session != NULL && !a->session->refused;
    m->draining = a->draining || a->leaving;
    m->tasks_running = a->running;
    m->slots = a->slots;
    m->cpu_percent = a->cpu_percent;
    m->memory_bytes = a->memory_bytes;
    m->load1 = a->load1;
    m->last_heard_ms = a->heard_wall_ms;
    m->pid = a->pid;
    return m;
}

static int by_name(const void *x, const void *y) {
    const Sluice__V1__AgentInfo *const *a = x, *const *b = y;
    int site = strcmp((*a)->site, (*b)->site);
    return site != 0 ? site : strcmp((*a)->name, (*b)->name);
}

Sluice__V1__ListAgentsResponse *agents_list(struct agents *as, const char *site_or_empty) {
    Sluice__V1__ListAgentsResponse *m = malloc(sizeof(*m));
    if (m == NULL) {
        return NULL;
    }
    sluice__v1__list_agents_response__init(m);
    m->agents = calloc(as->n_all + 1, sizeof(*m->agents));
    const struct agent *a;
    bool ok = m->agents != NULL;
    DL_FOREACH(as->all, a) {
        if (!ok || a->incarnation[0] == '\0' || // it never registered
            (site_or_empty[0] != '\0' && strcmp(a->site, site_or_empty) != 0)) {
            continue;
        }
        ok = (m->agents[m->n_agents] = show(a)) != NULL;
        m->n_agents += ok ? 1 : 0;
    }
    if (!ok) {
        agents_list_free(m);
        return NULL;
    }
    qsort(m->agents, m->n_agents, sizeof(*m->agents), by_name);
    return m;
}

void agents_list_free(Sluice__V1__ListAgentsResponse *m) {
    sluice__v1__list_agents_response__free_unpacked(m, NULL);
}
