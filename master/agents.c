// SPDX-License-Identifier: Apache-2.0
#include "common/cleanup.h"
#include "common/log.h"
#include "master/agents_impl.h"
#include "master/limits.h"
#include "master/volume_proof.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

static void beat(void *arg) {
    struct agents *as = arg;
    loop_timer_arm(as->beat, as->core->options->heartbeat_ms);
    agent_silent_check(as);
    core_dispatch(as->core);
}

static void reconciled(void *arg) {
    struct agents *as = arg;
    agent_results_judge_kept(as);
    core_dispatch(as->core);
}

enum err agents_new(struct core *c, struct agents **ret_agents) {
    struct agents *as = calloc(1, sizeof(*as));
    if (as == NULL) {
        return ERR_NO_MEMORY;
    }
    as->core = c;
    as->beat = loop_timer_new(c->loop, beat, as);
    as->reconcile = loop_timer_new(c->loop, reconciled, as);
    if (as->beat == NULL || as->reconcile == NULL || hash_index_init(&as->by_name) != OK ||
        volume_proofs_new(as, &as->proofs) != OK) {
        agents_free(as);
        return ERR_NO_MEMORY;
    }
    loop_timer_arm(as->beat, c->options->heartbeat_ms);
    int64_t left_ms = c->reconcile_until_ms - clock_mono_ms(c->clock);
    if (left_ms >= 0) {
        loop_timer_arm(as->reconcile, left_ms + 1);
    }
    *ret_agents = as;
    return OK;
}

static void agent_free(struct agent *a) {
    struct agents *as = a->agents;
    agent_drop_volumes(a);
    agent_results_free(a);
    hash_index_remove(&as->by_name, &a->by_name);
    DL_DELETE(as->all, a);
    as->n_all--;
    for (size_t i = 0; i < a->n_addresses; i++) {
        free(a->addresses[i]);
    }
    free(a->addresses);
    free(a->boot_id);
    free(a->version);
    free(a->host);
    free(a);
}

void agents_free(struct agents *as) {
    if (as == NULL) {
        return;
    }
    agent_listings_free(as);
    struct agent_session *s, *next_session;
    DL_FOREACH_SAFE(as->sessions, s, next_session) {
        DL_DELETE(as->sessions, s);
        free(s);
    }
    struct agent *a, *next;
    DL_FOREACH_SAFE(as->all, a, next) {
        agent_free(a);
    }
    volume_proofs_free(as->proofs);
    hash_index_deinit(&as->by_name);
    loop_timer_free(as->beat);
    loop_timer_free(as->reconcile);
    free(as);
}

struct agent *agent_find(const struct agents *as, const char *name) {
    struct hash_node *n = hash_index_first(&as->by_name, hash_text(name));
    for (; n != NULL; n = hash_index_again(n)) {
        struct agent *a = CONTAINER_OF(n, struct agent, by_name);
        if (strcmp(a->name, name) == 0) {
            return a;
        }
    }
    return NULL;
}

// Room for another name: the one that was heard longest ago goes, if it is not needed.
static bool forget_one(struct agents *as) {
    struct agent *a, *oldest = NULL;
    DL_FOREACH(as->all, a) {
        if (a->session == NULL && a->results == NULL &&
            (oldest == NULL || a->heard_ms < oldest->heard_ms)) {
            oldest = a;
        }
    }
    if (oldest == NULL) {
        return false;
    }
    log_event(LOG_INFO, "agent_forgotten", LOG_STR("agent", oldest->name));
    agent_free(oldest);
    return true;
}

enum err agent_get(struct agents *as, const char *name, struct agent **ret_agent) {
    struct agent *a = agent_find(as, name);
    if (a != NULL) {
        *ret_agent = a;
        return OK;
    }
    if (as->n_all >= as->core->options->agents && !forget_one(as)) {
        as->n_refused++;
        return ERR_FULL;
    }
    a = calloc(1, sizeof(*a));
    if (a == NULL) {
        return ERR_NO_MEMORY;
    }
    a->agents = as;
    memcpy(a->name, name, strnlen(name, sizeof(a->name) - 1));
    hash_index_add(&as->by_name, &a->by_name, hash_text(a->name));
    DL_APPEND(as->all, a);
    as->n_all++;
    *ret_agent = a;
    return OK;
}

enum err agent_tell_scheduler(struct agent *a) {
    if (a->session == NULL || a->session->refused) {
        return OK;
    }
    struct scheduler_volume *volumes = calloc(AGENT_MAX_VOLUMES, sizeof(*volumes));
    if (volumes == NULL) {
        return ERR_NO_MEMORY;
    }
    struct scheduler_agent spec = {.slots = a->slots, .volumes = volumes};
    struct agent_volume *v;
    DL_FOREACH(a->volumes, v) {
        if (v->error == NULL && spec.n_volumes < AGENT_MAX_VOLUMES) {
            struct scheduler_volume *to = &volumes[spec.n_volumes++];
            memcpy(to->name, v->name, sizeof(to->name));
            to->readable = v->readable;
            to->writable = v->writable;
            to->shared = v->is_store || v->proof == PROOF_SHARED;
            to->store = v->is_store;
        }
    }
    memcpy(spec.name, a->name, sizeof(spec.name));
    memcpy(spec.site, a->site, sizeof(spec.site));
    memcpy(spec.incarnation, a->incarnation, sizeof(spec.incarnation));
    enum err e = scheduler_agent_up(a->agents->core->scheduler, &spec, agents_now_ms(a->agents));
    free(volumes);
    return e;
}

bool agent_send(struct agent *a, Sluice__V1__MasterMessage *m) {
    m->term = a->agents->core->term;
    return a->session != NULL && !a->session->refused && rpc_send(a->session->rpc, &m->base);
}

size_t agents_tell(struct agents *as, Sluice__V1__MasterMessage *m) {
    size_t n = 0;
    for (struct agent *a = as->all; a != NULL; a = a->next) {
        n += agent_send(a, m);
    }
    return n;
}

enum err agents_drain(struct agents *as, const char *agent, bool draining,
                      struct failure *ret_failure) {
    struct agent *a = agent_find(as, agent);
    if (a == NULL) {
        enum err e = failure_set(ret_failure, ERR_NOT_FOUND, "drain", agent, strlen(agent),
                                 "no agent of this name is known");
        failure_remedy(ret_failure, "see `sluice agents` for those that are");
        return e;
    }
    a->draining = draining;
    scheduler_agent_drain(as->core->scheduler, a->name, draining || a->leaving, agents_now_ms(as));
    log_event(LOG_INFO, draining ? "agent_draining" : "agent_undrained", LOG_STR("agent", a->name));
    core_dispatch(as->core);
    return OK;
}

size_t agents_connected(const struct agents *as) {
    return as->n_connected;
}

void agents_limit(const struct agents *as, struct limit_use *ret_use) {
    *ret_use = (struct limit_use){"agents", as->n_all, as->core->options->agents, as->n_refused};
}

void agents_say_goodbye(struct agents *as) {
    struct agent_session *s;
    DL_FOREACH(as->sessions, s) {
        Sluice__V1__Goodbye m = SLUICE__V1__GOODBYE__INIT;
        Sluice__V1__MasterMessage message = SLUICE__V1__MASTER_MESSAGE__INIT;
        m.reason = (char *)"the master stops";
        message.kind_case = SLUICE__V1__MASTER_MESSAGE__KIND_GOODBYE;
        message.goodbye = &m;
        message.term = as->core->term;
        (void)rpc_send(s->rpc, &message.base);
        rpc_finish(s->rpc, 0, "");
    }
}
