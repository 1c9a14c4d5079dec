// SPDX-License-Identifier: Apache-2.0
// When agents are idle and a flow has nothing more to give out, work moves: a lease that its
// agent has not begun is revoked and given away; a running one that will take long is asked to
// yield, if an idle agent would be done with the rest much sooner. What a yield costs is part
// of that comparison, so that work never moves back and forth.
#include "common/cleanup.h"
#include "master/scheduler_impl.h"

#include <utlist.h>

enum { MAX_MOVES = 64 };

// Those most worth moving, best first.
struct moves {
    struct sched_lease *lease[MAX_MOVES];
    int64_t gain_ms[MAX_MOVES];
    uint32_t n, max;
};

static void moves_add(struct moves *v, struct sched_lease *l, int64_t gain_ms) {
    if (v->n == v->max) {
        if (v->max == 0 || v->gain_ms[v->n - 1] >= gain_ms) {
            return;
        }
        v->n--;
    }
    uint32_t i = v->n++;
    for (; i > 0 && v->gain_ms[i - 1] < gain_ms; i--) {
        v->lease[i] = v->lease[i - 1];
        v->gain_ms[i] = v->gain_ms[i - 1];
    }
    v->lease[i] = l;
    v->gain_ms[i] = gain_ms;
}

void sched_pool_consider_balance(struct scheduler *s, struct sched_pool *p) {
    if (p->queues_ready.n == 0 && p->n_leased > 0 &&
        p->ready[sched_pool_class(p)][LEVEL_IDLE] != NULL && !heap_node_is_in(&p->balance.node)) {
        sched_timer_arm(s, &p->balance, s->now_ms + SCHED_BALANCE_MS);
    }
}

// The idle slots, and the fastest among the idle agents (two, so that one that is itself to give
// work away can be left out).
struct idle {
    uint32_t slots;
    const struct sched_agent *fastest, *second;
};

static double rate_of(const struct scheduler *s, const struct sched_agent *a) {
    return a->rate > 0 ? a->rate : s->rate;
}

static struct idle look_for_idle(const struct scheduler *s, const struct sched_pool *p) {
    struct idle idle = {0};
    for (const struct sched_member *m = p->ready[sched_pool_class(p)][LEVEL_IDLE];
         m != NULL && idle.slots < MAX_MOVES; m = m->ready_next) {
        const struct sched_agent *a = m->agent;
        idle.slots += a->slots - a->n_held;
        if (idle.fastest == NULL || rate_of(s, a) > rate_of(s, idle.fastest)) {
            idle.second = idle.fastest;
            idle.fastest = a;
        } else if (idle.second == NULL || rate_of(s, a) > rate_of(s, idle.second)) {
            idle.second = a;
        }
    }
    return idle;
}

// How much sooner the rest of a running lease is done elsewhere; 0: it is better left alone.
static int64_t gain_of_yield(const struct scheduler *s, const struct sched_lease *l,
                             const struct idle *idle) {
    const struct sched_agent *to = idle->fastest != l->agent ? idle->fastest : idle->second;
    if (to == NULL) {
        return 0;
    }
    int64_t here_ms = sched_lease_remaining_ms(s, l);
    uint64_t done = l->done_bytes + (uint64_t)l->done_objects * SCHED_OBJECT_BYTES;
    double rest = done < l->task->cost ? (double)(l->task->cost - done) : 0;
    double rate = rate_of(s, to);
    int64_t there_ms = SCHED_YIELD_COST_MS + (rate > 0 ? (int64_t)(rest / rate) : here_ms);
    return here_ms > 2 * there_ms ? here_ms - there_ms : 0;
}

static void consider(const struct scheduler *s, struct sched_lease *l, const struct idle *idle,
                     struct moves *unbegun, struct moves *running) {
    if (!l->started) {
        if (s->now_ms - l->given_ms >= SCHED_SETTLE_MS && l->agent->n_held > l->agent->slots) {
            moves_add(unbegun, l, sched_lease_remaining_ms(s, l));
        }
    } else if (l->task->can_yield) {
        int64_t gain_ms = gain_of_yield(s, l, idle);
        if (gain_ms > 0) {
            moves_add(running, l, gain_ms);
        }
    }
}

void sched_pool_balance(struct scheduler *s, struct sched_pool *p) {
    struct idle idle = look_for_idle(s, p);
    if (idle.slots == 0 || p->queues_ready.n > 0) {
        return; // considered again when that changes
    }
    uint32_t max = idle.slots < MAX_MOVES ? idle.slots : MAX_MOVES, under_way = 0;
    struct moves unbegun = {.max = max}, running = {.max = max};
    for (struct sched_queue *q = p->queues; q != NULL; q = q->pool_next) {
        if (q->flow->paused || !q->flow->drained || q->n_ready > 0) {
            continue;
        }
        for (struct sched_task *t = q->leased; t != NULL; t = t->next) {
            if (t->lease->state == LEASE_OPEN) {
                consider(s, t->lease, &idle, &unbegun, &running);
            } else {
                under_way++;
            }
        }
    }
    uint32_t left = max > under_way ? max - under_way : 0;
    for (uint32_t i = 0; i < unbegun.n && left > 0; i++, left--) {
        sched_lease_order(s, unbegun.lease[i], SCHED_REVOKE);
    }
    for (uint32_t i = 0; i < running.n && left > 0; i++, left--) {
        sched_lease_order(s, running.lease[i], SCHED_YIELD);
    }
    sched_pool_consider_balance(s, p);
}
