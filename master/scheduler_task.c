// SPDX-License-Identifier: Apache-2.0
// Tasks: waiting, ready, leased, gone.
#include "common/cleanup.h"
#include "master/scheduler_impl.h"

#include <string.h>
#include <utlist.h>

struct sched_task *sched_task_find(const struct scheduler *s, uint64_t task_id) {
    struct hash_node *n = hash_index_first(&s->tasks, hash_u64(task_id));
    for (; n != NULL; n = hash_index_again(n)) {
        struct sched_task *t = CONTAINER_OF(n, struct sched_task, by_id);
        if (t->task_id == task_id) {
            return t;
        }
    }
    return NULL;
}

void sched_task_ready(struct scheduler *s, struct sched_task *t, bool first) {
    struct sched_queue *q = t->queue;
    t->state = TASK_READY;
    t->pending_since_ms = s->now_ms;
    if (first) {
        DL_PREPEND(q->ready, t);
    } else {
        DL_APPEND(q->ready, t);
    }
    q->n_ready++;
    sched_queue_refresh(s, q);
}

void sched_task_detach(struct scheduler *s, struct sched_task *t) {
    struct sched_queue *q = t->queue;
    switch (t->state) {
    case TASK_READY:
        DL_DELETE(q->ready, t);
        q->n_ready--;
        sched_queue_refresh(s, q);
        break;
    case TASK_LEASED:
        DL_DELETE(q->leased, t);
        q->n_leased--;
        q->pool->n_leased--;
        t->flow->n_pending++;
        break;
    case TASK_PICKY: DL_DELETE(q->pool->picky, t); break;
    case TASK_GIVEN_UP: sched_note_drop(s, &t->give_up); break;
    case TASK_WAITING: sched_timer_disarm(s, &t->timer); break;
    case TASK_BARRED: break;
    }
    t->state = TASK_BARRED; // in no list
}

void sched_task_set_leased(struct scheduler *s, struct sched_task *t, struct sched_lease *l) {
    struct sched_queue *q = t->queue;
    t->state = TASK_LEASED;
    t->lease = l;
    t->newest = l->epoch;
    t->answered = false;
    l->task = t;
    DL_APPEND(q->leased, t);
    q->n_leased++;
    q->pool->n_leased++;
    t->flow->n_pending--;
    sched_flow_want(s, t->flow);
    sched_pool_consider_balance(s, q->pool);
}

void sched_task_free(struct scheduler *s, struct sched_task *t) {
    struct sched_flow *f = t->flow;
    struct sched_queue *q = t->queue;
    sched_task_detach(s, t);
    if (t->lease != NULL) {
        t->lease->task = NULL;
    }
    f->n_pending--;
    DL_DELETE2(f->tasks, t, flow_prev, flow_next);
    hash_index_remove(&s->tasks, &t->by_id);
    ordered_heap_unreserve(&s->timers, 1);
    s->n_tasks--;
    q->n_tasks--;
    if (q->n_tasks == 0 && q->key.rule == EXECUTOR_AGENT) {
        sched_queue_free(s, q); // there may be as many as agents
    }
    free(t->avoid);
    free(t);
    struct sched_flow *thirsty = s->thirsty_flows;
    if (thirsty != NULL && s->n_tasks + s->n_tasks / 8 < s->options.max_tasks) {
        DL_DELETE2(s->thirsty_flows, thirsty, room_prev, room_next);
        thirsty->short_of_room = false;
        sched_flow_want(s, thirsty);
    }
}

void sched_task_timer(struct scheduler *s, struct sched_task *t) {
    sched_task_ready(s, t, false);
}

static struct sched_task *task_new(struct scheduler *s, const struct scheduler_task *spec) {
    struct sched_task *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return NULL;
    }
    if (spec->avoid[0] != '\0' && (t->avoid = strndup(spec->avoid, PLACE_NAME_MAX)) == NULL) {
        free(t);
        return NULL;
    }
    if (ordered_heap_reserve(&s->timers, 1) != OK) {
        free(t->avoid);
        free(t);
        return NULL;
    }
    t->task_id = spec->task_id;
    t->cost = spec->cost_bytes + (uint64_t)spec->cost_objects * SCHED_OBJECT_BYTES;
    t->can_yield = spec->can_yield;
    t->exclusive = spec->exclusive;
    t->state = TASK_BARRED;
    t->timer.kind = TIMER_TASK;
    return t;
}

// An agent reported before that it holds this task.
static void take_up_claim(struct scheduler *s, struct sched_task *t, struct sched_lease *l) {
    hash_index_remove(&s->claims, &l->by_task);
    l->claim = false;
    sched_lease_set_flow(s, l, t->flow);
    sched_task_set_leased(s, t, l);
    if (l->state == LEASE_LOST) {
        sched_task_detach(s, t);
        if (!t->exclusive) {
            sched_task_ready(s, t, true);
        }
    } else if (t->flow->paused) {
        sched_lease_order(s, l, SCHED_REVOKE);
    }
}

enum err scheduler_task_add(struct scheduler *s, const struct scheduler_task *spec,
                            int64_t now_ms) {
    sched_saw_time(s, now_ms);
    struct sched_flow *f = sched_flow_find(s, spec->flow);
    if (f == NULL || f->removed) {
        return ERR_NOT_FOUND;
    }
    f->wanted = false;
    if (sched_task_find(s, spec->task_id) != NULL) {
        return ERR_EXISTS;
    }
    if (s->n_tasks >= s->options.max_tasks) {
        return ERR_FULL;
    }
    struct sched_task *t = task_new(s, spec);
    if (t == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err e = sched_queue_get(s, f, spec, &t->queue);
    if (e != OK) {
        ordered_heap_unreserve(&s->timers, 1);
        free(t->avoid);
        free(t);
        return e;
    }
    t->flow = f;
    t->claimable =
        f->spec.restored && !spec->disowns && (spec->attempt <= 1 || sched_is_reconciling(s));
    t->queue->n_tasks++;
    f->n_pending++;
    s->n_tasks++;
    DL_APPEND2(f->tasks, t, flow_prev, flow_next);
    hash_index_add(&s->tasks, &t->by_id, hash_u64(t->task_id));
    struct sched_lease *claimed = sched_claim_of(s, t->task_id);
    if (claimed != NULL && spec->disowns) {
        sched_claim_refuse(s, claimed);
        claimed = NULL;
    }
    if (claimed != NULL) {
        take_up_claim(s, t, claimed);
    } else if (spec->not_before_ms > s->now_ms) {
        t->state = TASK_WAITING;
        sched_timer_arm(s, &t->timer, spec->not_before_ms);
    } else {
        sched_task_ready(s, t, false);
    }
    sched_flow_want(s, f);
    return OK;
}

void scheduler_task_drop(struct scheduler *s, uint64_t task_id, int64_t now_ms) {
    sched_saw_time(s, now_ms);
    struct sched_task *t = sched_task_find(s, task_id);
    if (t == NULL) {
        return;
    }
    struct sched_lease *l = t->lease;
    struct sched_flow *f = t->flow;
    sched_task_free(s, t);
    if (l != NULL) {
        sched_lease_order(s, l, SCHED_REVOKE);
    }
    sched_flow_want(s, f);
}
