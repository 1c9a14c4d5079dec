// SPDX-License-Identifier: Apache-2.0
// The List call of one LIST task. The call is paused while the database is behind, so that a
// listing never takes more memory than a few pages, and never looks like a lost agent.
#include "common/cleanup.h"
#include "common/log.h"
#include "common/rpc/failure_message.h"
#include "master/agents_impl.h"
#include "master/planner.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

struct listing {
    struct agents *agents;
    struct rpc *rpc; // NULL: the call is over
    bool begun;      // the lease is known
    uint64_t task_id;
    struct epoch epoch;
    char agent[PLACE_NAME_MAX];
    uint64_t n_received, n_committed;
    bool last, finished, paused;
    struct listing *prev, *next;
};

void agent_list_opened(struct rpc *r) {
    struct core *c = rpc_server_user(r);
    struct listing *l = c->stopping ? NULL : calloc(1, sizeof(*l));
    if (l == NULL) {
        rpc_finish(r, err_grpc_status(ERR_AGAIN), "the master stops, or is out of memory");
        return;
    }
    l->agents = c->agents;
    l->rpc = r;
    DL_APPEND(c->agents->listings, l);
    rpc_set_user(r, l);
}

// Pages under way keep it.
static void free_if_over(struct listing *l) {
    if (l->rpc == NULL && l->n_committed == l->n_received) {
        DL_DELETE(l->agents->listings, l);
        free(l);
    }
}

void agent_listings_free(struct agents *as) {
    struct listing *l, *next;
    DL_FOREACH_SAFE(as->listings, l, next) {
        DL_DELETE(as->listings, l);
        free(l);
    }
}

static void stop(struct listing *l, enum err why, const char *message) {
    if (l->rpc == NULL || l->finished) {
        return;
    }
    struct failure f = {0};
    struct failure_message fm;
    Sluice__V1__ListReply m = SLUICE__V1__LIST_REPLY__INIT;
    (void)failure_set(&f, why, "List", NULL, 0, "%s", message);
    failure_to_message(&f, NULL, &fm);
    m.pages_committed = l->n_committed;
    m.failure = &fm.message;
    l->finished = true;
    (void)rpc_send(l->rpc, &m.base);
    rpc_finish(l->rpc, 0, "");
}

static void reply(struct listing *l) {
    if (l->rpc == NULL || l->finished) {
        return;
    }
    Sluice__V1__ListReply m = SLUICE__V1__LIST_REPLY__INIT;
    m.pages_committed = l->n_committed;
    m.done = l->last && l->n_committed == l->n_received;
    (void)rpc_send(l->rpc, &m.base); // false: `closed` comes
    if (m.done) {
        l->finished = true;
        rpc_finish(l->rpc, 0, "");
    } else if (l->paused && l->n_received - l->n_committed < LIST_PAGES_IN_FLIGHT) {
        l->paused = false;
        rpc_pause(l->rpc, false);
    }
}

static void concluded(void *arg) {
    struct listing *l = arg;
    l->n_committed++;
    reply(l);
    free_if_over(l);
}

// All pages are stored: the agent says no more than that, so this is the task's result.
static enum err conclude(struct listing *l) {
    struct core *c = l->agents->core;
    enum err e =
        scheduler_result(c->scheduler, l->agent, l->task_id, l->epoch, agents_now_ms(l->agents));
    if (e != OK) {
        return e;
    }
    Sluice__V1__TaskResult m = SLUICE__V1__TASK_RESULT__INIT;
    Sluice__V1__LeaseRef lease = SLUICE__V1__LEASE_REF__INIT;
    Sluice__V1__Epoch epoch = SLUICE__V1__EPOCH__INIT;
    epoch.term = l->epoch.term;
    epoch.counter = l->epoch.counter;
    lease.task_id = l->task_id;
    lease.epoch = &epoch;
    m.lease = &lease;
    m.done = true;
    planner_result(c->planner, l->agent, &m, concluded, l);
    core_dispatch(c);
    return OK;
}

static void page_stored(void *arg, enum err result) {
    struct listing *l = arg;
    bool is_last = l->last && l->n_committed + 1 == l->n_received;
    if (result == OK && is_last && (result = conclude(l)) == OK) {
        return;
    }
    l->n_committed++;
    if (result == OK) {
        reply(l);
    } else {
        stop(l, result, "the listing is not wanted any more");
    }
    free_if_over(l);
}

// The first page names the lease.
static enum err begin(struct listing *l, const Sluice__V1__ListPage *m) {
    if (m->lease == NULL || m->lease->epoch == NULL) {
        return ERR_PROTOCOL;
    }
    l->task_id = m->lease->task_id;
    l->epoch = (struct epoch){m->lease->epoch->term, m->lease->epoch->counter};
    const char *holder = scheduler_holder(l->agents->core->scheduler, l->task_id, l->epoch);
    if (holder == NULL) {
        return ERR_FENCED;
    }
    char name[PLACE_NAME_MAX];
    if (rpc_peer_name(l->rpc, name, sizeof(name)) && strcmp(name, holder) != 0) {
        return ERR_DENIED;
    }
    memcpy(l->agent, holder, strnlen(holder, sizeof(l->agent) - 1));
    l->begun = true;
    return OK;
}

void agent_list_message(struct rpc *r, const ProtobufCMessage *message) {
    struct listing *l = rpc_user(r);
    const Sluice__V1__ListPage *m = (const Sluice__V1__ListPage *)message;
    if (l == NULL || l->finished) {
        return;
    }
    struct core *c = l->agents->core;
    enum err e = l->begun ? OK : begin(l, m);
    if (e == OK && (l->last || scheduler_holder(c->scheduler, l->task_id, l->epoch) == NULL)) {
        e = l->last ? ERR_PROTOCOL : ERR_FENCED;
    }
    if (e != OK) {
        stop(l, e, err_text(e));
        return;
    }
    l->n_received++;
    l->last = m->last;
    if (l->n_received - l->n_committed >= LIST_PAGES_IN_FLIGHT) {
        l->paused = true;
        rpc_pause(r, true);
    }
    planner_page(c->planner, l->agent, l->task_id, l->epoch, m, page_stored, l);
    core_dispatch(c);
}

void agent_list_closed(struct rpc *r, const struct rpc_status *status) {
    struct listing *l = rpc_user(r);
    (void)status;
    if (l != NULL) {
        l->rpc = NULL;
        free_if_over(l);
    }
}
