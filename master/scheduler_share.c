// SPDX-License-Identifier: Apache-2.0
// Sharing out: the best queue, the member whose turn it is, the sources in rotation.
#include "common/cleanup.h"
#include "master/scheduler_impl.h"

#include <string.h>
#include <utlist.h>

static bool lacks_source(const struct sched_queue *q) {
    return q->sources != NULL && sched_pool_class(q->pool) != CLASS_BOTH &&
           q->sources->givers == NULL;
}

// The first queue of the pool that may give out a task; those that may not leave the heap until
// what holds them up has changed.
static struct sched_queue *pool_best(struct scheduler *s, struct sched_pool *p) {
    struct heap_node *n;
    while ((n = ordered_heap_first(&p->queues_ready)) != NULL) {
        struct sched_queue *q = CONTAINER_OF(n, struct sched_queue, in_pool);
        struct sched_flow *f = q->flow;
        if (q->served < f->served) {
            q->served = f->served;
            ordered_heap_moved(&p->queues_ready, n);
        } else if (f->spec.max_executors > 0 && f->n_running >= f->spec.max_executors) {
            ordered_heap_take(&p->queues_ready, n);
            q->at_limit = true;
            f->n_at_limit++;
        } else if (lacks_source(q)) {
            ordered_heap_take(&p->queues_ready, n);
            q->thirsty = true;
            DL_APPEND2(q->sources->thirsty, q, thirsty_prev, thirsty_next);
        } else {
            return q;
        }
    }
    sched_pool_refresh(s, p);
    return NULL;
}

static struct sched_queue *best_queue(struct scheduler *s) {
    struct sched_queue *best = NULL;
    struct sched_pool *p, *next;
    DL_FOREACH_SAFE2(s->active, p, next, active_next) {
        struct sched_queue *q = pool_best(s, p);
        if (q != NULL && (best == NULL || p->queues_ready.before(&q->in_pool, &best->in_pool))) {
            best = q;
        }
    }
    return best;
}

static bool is_avoided(const struct sched_task *t, const struct sched_agent *a) {
    return t->avoid != NULL && strcmp(t->avoid, a->name) == 0;
}

// Near the end a task does not go to an agent that is less than half as fast as another one
// that is idle too.
static struct sched_member *not_a_slow_one(struct sched_member *first, const struct sched_task *t) {
    double best = 0;
    int n = 0;
    for (struct sched_member *m = first; m != NULL && n < SCHED_LOOK_AHEAD;
         m = m->ready_next, n++) {
        best = m->agent->rate > best ? m->agent->rate : best;
    }
    n = 0;
    for (struct sched_member *m = first; m != NULL && n < SCHED_LOOK_AHEAD;
         m = m->ready_next, n++) {
        if (!is_avoided(t, m->agent) && (m->agent->rate <= 0 || m->agent->rate >= best / 2)) {
            return m;
        }
    }
    return first;
}

// NULL: only the agent that the task should avoid is free, but others can run it later.
static struct sched_member *choose_member(const struct sched_queue *q, const struct sched_task *t) {
    const struct sched_pool *p = q->pool;
    int cls = sched_pool_class(p);
    struct sched_member *avoided = NULL;
    for (int level = LEVEL_IDLE; level < LEVEL_COUNT; level++) {
        struct sched_member *m = p->ready[cls][level];
        if (m != NULL && is_avoided(t, m->agent)) {
            avoided = m;
            m = m->ready_next;
        }
        if (m != NULL) {
            return q->flow->drained && level == LEVEL_IDLE ? not_a_slow_one(m, t) : m;
        }
    }
    return p->n_live[cls] > 1 ? NULL : avoided;
}

// In rotation, the least loaded first.
static void choose_sources(struct scheduler *s, struct sched_queue *q, struct sched_lease *l,
                           struct scheduler_command *c) {
    struct sched_member *chosen[SCHED_MAX_SOURCES];
    uint32_t n = 0;
    for (struct sched_member *m = q->sources->givers; m != NULL && n < SCHED_MAX_SOURCES;
         m = m->giver_next) {
        uint32_t i = n++;
        for (; i > 0 && chosen[i - 1]->agent->n_source > m->agent->n_source; i--) {
            chosen[i] = chosen[i - 1];
        }
        chosen[i] = m;
    }
    for (uint32_t i = 0; i < n; i++) {
        memcpy(c->sources[i], chosen[i]->agent->name, PLACE_NAME_MAX);
    }
    c->n_sources = n;
    if (n > 0) {
        struct sched_member *first = chosen[0];
        // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): @first is in the list
        DL_DELETE2(q->sources->givers, first, giver_prev, giver_next);
        DL_APPEND2(q->sources->givers, first, giver_prev, giver_next);
        l->source = first->agent;
        l->source->n_source++;
        sched_agent_refresh(s, l->source, false);
    }
}

static bool reads_itself(const struct sched_queue *q, const struct sched_agent *a) {
    const struct place *p = &q->flow->spec.source;
    return sched_agent_reaches(a, p->site, p->agent, p->volume, false);
}

static bool give(struct scheduler *s, struct sched_queue *q, struct sched_task *t,
                 struct sched_member *m, struct scheduler_command *c) {
    struct sched_agent *a = m->agent;
    struct sched_flow *f = q->flow;
    struct epoch epoch = {s->options.term, s->counter + 1};
    struct sched_lease *l = sched_lease_new(s, a, t->task_id, epoch);
    if (l == NULL) {
        return false;
    }
    s->counter++;
    if (t->lease != NULL) {
        t->lease->task = NULL; // a lost one
        t->lease = NULL;
    }
    f->rank->served = f->served > f->rank->served ? f->served : f->rank->served;
    f->served += (double)(t->cost + SCHED_OBJECT_BYTES) / (double)f->spec.weight;
    sched_task_detach(s, t);
    sched_lease_set_flow(s, l, f);
    sched_task_set_leased(s, t, l);
    *c = (struct scheduler_command){.kind = SCHED_ASSIGN, .task_id = t->task_id, .epoch = epoch};
    memcpy(c->flow, f->spec.id, sizeof(c->flow));
    memcpy(c->agent, a->name, sizeof(c->agent));
    if (q->sources != NULL && !reads_itself(q, a)) {
        choose_sources(s, q, l, c);
    }
    sched_agent_refresh(s, a, true);
    return true;
}

bool sched_share_one(struct scheduler *s, struct scheduler_command *ret_command) {
    struct sched_queue *q;
    while ((q = best_queue(s)) != NULL) {
        struct sched_task *t = q->ready;
        struct sched_member *m = choose_member(q, t);
        if (m != NULL) {
            return give(s, q, t, m, ret_command);
        }
        sched_task_detach(s, t);
        t->state = TASK_PICKY;
        DL_APPEND(q->pool->picky, t);
    }
    return false;
}
