// SPDX-License-Identifier: Apache-2.0
#include "tests/simulation/master/scheduler_check.h"

#include "common/cleanup.h"
#include "master/scheduler_impl.h"

#define REQUIRE(condition, text)                                                                   \
    if (!(condition)) {                                                                            \
        return text;                                                                               \
    }

static const char *check_agent(const struct sched_agent *a) {
    uint32_t n = 0, held = 0, started = 0;
    for (const struct sched_lease *l = a->leases; l != NULL; l = l->next) {
        n++;
        held += l->state != LEASE_LOST ? 1 : 0;
        started += l->started ? 1 : 0;
        REQUIRE(l->agent == a, "a lease in another agent's list");
        REQUIRE(l->task == NULL || l->task->lease == l, "a lease whose task does not know it");
        REQUIRE(!l->started || l->state != LEASE_LOST, "a lost lease that counts as running");
        REQUIRE(a->up || l->state == LEASE_LOST, "an agent that is lost holds a lease");
    }
    REQUIRE(n == a->n_leases, "an agent's leases are miscounted");
    REQUIRE(held == a->n_held, "an agent's held leases are miscounted");
    REQUIRE(started == a->n_started, "an agent's started leases are miscounted");
    REQUIRE(started >= a->slots || started == held, "an agent has idle slots and waiting leases");
    REQUIRE(held <= a->slots * SCHED_AHEAD + 64, "an agent has too many leases");
    for (const struct sched_member *m = a->memberships; m != NULL; m = m->agent_next) {
        bool live = sched_agent_is_live(a);
        int level = !live || held >= a->slots * SCHED_AHEAD ? LEVEL_NONE
                    : held < a->slots                       ? LEVEL_IDLE
                                                            : LEVEL_AHEAD;
        REQUIRE(m->live == live && m->level == level, "a member is in the wrong line");
        REQUIRE(m->giving == (live && a->n_source < a->source_slots),
                "a source is in the wrong line");
    }
    return NULL;
}

static bool is_held_up(const struct scheduler *s, const struct sched_queue *q) {
    return q->flow->paused || q->flow->removed || q->at_limit || q->thirsty || q->parked ||
           (q->flow->spec.restored && sched_is_reconciling(s));
}

static const char *check_queue(const struct scheduler *s, const struct sched_queue *q) {
    uint32_t ready = 0, leased = 0;
    for (const struct sched_task *t = q->ready; t != NULL; t = t->next) {
        ready++;
        REQUIRE(t->state == TASK_READY, "a task in the wrong state among the ready ones");
        REQUIRE(t->lease == NULL || t->lease->state == LEASE_LOST, "a ready task with a lease");
    }
    for (const struct sched_task *t = q->leased; t != NULL; t = t->next) {
        leased++;
        REQUIRE(t->state == TASK_LEASED && t->lease != NULL, "a leased task without a lease");
        REQUIRE(t->lease->state != LEASE_LOST, "a leased task whose lease is lost");
        REQUIRE(epoch_compare(t->newest, t->lease->epoch) == 0, "a lease that is not the newest");
    }
    REQUIRE(ready == q->n_ready && leased == q->n_leased, "a queue's tasks are miscounted");
    REQUIRE(ready == 0 || heap_node_is_in(&q->in_pool) || is_held_up(s, q),
            "a queue has tasks and does not give them out");
    const struct sched_pool *p = q->pool;
    int cls = sched_pool_class(p);
    REQUIRE(ready == 0 || !heap_node_is_in(&q->in_pool) ||
                (p->ready[cls][LEVEL_IDLE] == NULL && p->ready[cls][LEVEL_AHEAD] == NULL),
            "a task stands still while somebody could run it");
    REQUIRE(!q->thirsty || q->sources->givers == NULL, "a queue waits for a source that is free");
    return NULL;
}

static const char *check_flow(const struct scheduler *s, const struct sched_flow *f) {
    uint32_t pending = 0, leased = 0, open = 0, running = 0;
    for (const struct sched_task *t = f->tasks; t != NULL; t = t->flow_next) {
        pending += t->state != TASK_LEASED ? 1 : 0;
        leased += t->state == TASK_LEASED ? 1 : 0;
    }
    for (const struct hash_node *n = hash_index_each(&s->agents, NULL); n != NULL;
         n = hash_index_each(&s->agents, n)) {
        const struct sched_agent *a = CONTAINER_OF(n, const struct sched_agent, by_name);
        for (const struct sched_lease *l = a->leases; l != NULL; l = l->next) {
            open += l->flow == f ? 1 : 0;
            running += l->flow == f && l->state != LEASE_LOST ? 1 : 0;
        }
    }
    REQUIRE(pending == f->n_pending, "a flow's pending tasks are miscounted");
    REQUIRE(open == f->n_open && running == f->n_running, "a flow's leases are miscounted");
    REQUIRE(leased <= running, "a flow has more leased tasks than leases");
    return NULL;
}

const char *scheduler_check(const struct scheduler *s) {
    const char *broken = NULL;
    for (const struct hash_node *n = hash_index_each(&s->agents, NULL); n != NULL && !broken;
         n = hash_index_each(&s->agents, n)) {
        broken = check_agent(CONTAINER_OF(n, const struct sched_agent, by_name));
    }
    for (const struct hash_node *n = hash_index_each(&s->queues, NULL); n != NULL && !broken;
         n = hash_index_each(&s->queues, n)) {
        broken = check_queue(s, CONTAINER_OF(n, const struct sched_queue, by_key));
    }
    for (const struct hash_node *n = hash_index_each(&s->flows, NULL); n != NULL && !broken;
         n = hash_index_each(&s->flows, n)) {
        broken = check_flow(s, CONTAINER_OF(n, const struct sched_flow, by_id));
    }
    return broken;
}
