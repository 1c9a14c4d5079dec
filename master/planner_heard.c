// SPDX-License-Identifier: Apache-2.0
// What is heard of a task's end, from its agent or from the scheduler, becomes an outcome;
// planner_result.c and the others that apply one say what follows.
#include "common/rpc/failure_message.h"
#include "master/planner_impl.h"

#include <stdlib.h>
#include <string.h>

// ---- what was used ----
static void add_times(struct flow_progress *p, const Sluice__V1__TaskResult *m) {
    p->cpu_us_sink += m->cpu_us;
    p->cpu_us_source += m->cpu_us_source;
    p->store_retries += m->store_retries;
    if (m->why != NULL) {
        p->walk_us += m->why->walk_us;
        p->read_us += m->why->read_us;
        p->hash_us += m->why->hash_us;
        p->send_us += m->why->send_us;
        p->receive_us += m->why->receive_us;
        p->write_us += m->why->write_us;
        p->sync_us += m->why->sync_us;
        p->wait_us += m->why->wait_us;
    }
}

static void add_shares(struct flow *f, const char *agent, const Sluice__V1__TaskResult *m) {
    uint64_t delivered = 0;
    for (size_t i = 0; i < m->n_objects; i++) {
        delivered += m->objects[i]->outcome == SLUICE__V1__OBJECT_OUTCOME__OBJECT_DELIVERED;
    }
    if (m->bytes_moved > 0 || delivered > 0) {
        flow_add_share(f, agent, m->bytes_moved, 0, delivered);
        flow_add_share(f, m->source_agent[0] != '\0' ? m->source_agent : agent, 0, m->bytes_moved,
                       0);
    }
    if (m->transport[0] != '\0') {
        flow_add_transport(f, m->transport);
    }
}

struct told {
    void (*committed)(void *arg);
    void *arg;
};

static void tell(void *arg) {
    struct told *t = arg;
    t->committed(t->arg);
    free(t);
}

void planner_result(struct planner *p, const char *agent, const Sluice__V1__TaskResult *m,
                    void (*committed)(void *arg), void *arg) {
    struct planned_task *t = m->lease != NULL ? planner_task(p, m->lease->task_id) : NULL;
    struct work *w = NULL;
    if (t != NULL && !t->concluded && t->plan->flow != NULL) {
        w = work_new(t->plan);
    }
    if (w == NULL) { // of a flow that is gone
        struct told *told = calloc(1, sizeof *told);
        if (told == NULL) {
            committed(arg);
            return;
        }
        *told = (struct told){committed, arg};
        loop_post(p->core->loop, tell, told);
        return;
    }
    w->committed = committed;
    w->arg = arg;
    struct outcome o = {.task = t,
                        .agent = agent,
                        .m = m,
                        .done = m->done,
                        .retryable = m->retryable,
                        .failure_agent = agent};
    if (m->lease->epoch != NULL) {
        o.epoch = (struct epoch){m->lease->epoch->term, m->lease->epoch->counter};
    }
    if (m->failure != NULL) {
        failure_from_message(m->failure, &o.failure);
        if (m->failure->agent[0] != '\0') {
            o.failure_agent = m->failure->agent;
        }
    }
    struct failure refused = {0};
    char flow[IDENT_SIZE];
    memcpy(flow, t->plan->id, sizeof flow);
    plan_find_refused_keys(t->plan, m, &o.failure, &refused);
    o.lacks_credentials = refused.err != OK;
    o.retryable = o.retryable || o.lacks_credentials;
    add_times(&t->plan->body.exact, m);
    add_shares(t->plan->flow, agent, m);
    outcome_apply(w, &o);
    struct flow *f = o.lacks_credentials ? flows_find(p->core->flows, flow) : NULL;
    if (f != NULL) {
        flow_suspend_for_credentials(p->core, f, &refused, agent);
    }
}

void planner_unrunnable(struct planner *p, uint64_t task_id, enum err why) {
    struct planned_task *t = planner_task(p, task_id);
    if (t == NULL || t->concluded || t->plan->flow == NULL) {
        return;
    }
    struct work *w = work_new(t->plan);
    if (w == NULL) {
        return;
    }
    struct outcome o = {.task = t, .agent = ""};
    (void)failure_set(&o.failure, why, "schedule", NULL, 0, NULL);
    outcome_apply(w, &o);
}
