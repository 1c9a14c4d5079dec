// SPDX-License-Identifier: Apache-2.0
// Flows and their queues: which may give out tasks, which want more, which nobody can run.
#include "common/cleanup.h"
#include "master/scheduler_impl.h"

#include <string.h>
#include <utlist.h>

struct sched_flow *sched_flow_find(const struct scheduler *s, const char *id) {
    struct hash_node *n = hash_index_first(&s->flows, hash_text(id));
    for (; n != NULL; n = hash_index_again(n)) {
        struct sched_flow *f = CONTAINER_OF(n, struct sched_flow, by_id);
        if (strcmp(f->spec.id, id) == 0) {
            return f;
        }
    }
    return NULL;
}

// ---- ranks ----

static struct sched_rank *rank_get(struct scheduler *s, int32_t priority) {
    struct sched_rank *r;
    DL_FOREACH(s->ranks, r) {
        if (r->priority == priority) {
            r->n_flows++;
            return r;
        }
    }
    if ((r = calloc(1, sizeof(*r))) != NULL) {
        r->priority = priority;
        r->n_flows = 1;
        DL_APPEND(s->ranks, r);
    }
    return r;
}

static void rank_put(struct scheduler *s, struct sched_rank *r) {
    if (--r->n_flows == 0) {
        DL_DELETE(s->ranks, r);
        free(r);
    }
}

// ---- flows ----

enum err scheduler_flow_add(struct scheduler *s, const struct scheduler_flow *spec,
                            int64_t now_ms) {
    sched_saw_time(s, now_ms);
    if (sched_flow_find(s, spec->id) != NULL) {
        return ERR_EXISTS;
    }
    struct sched_flow *f = calloc(1, sizeof(*f));
    if (f == NULL || (f->rank = rank_get(s, spec->priority)) == NULL) {
        free(f);
        return ERR_NO_MEMORY;
    }
    f->spec = *spec;
    f->spec.weight = spec->weight > 0 ? spec->weight : 1;
    f->served = f->rank->served;
    hash_index_add(&s->flows, &f->by_id, hash_text(f->spec.id));
    sched_flow_want(s, f);
    return OK;
}

static void unwant(struct scheduler *s, struct sched_flow *f) {
    sched_note_drop(s, &f->want);
    f->wanted = false;
    if (f->short_of_room) {
        DL_DELETE2(s->thirsty_flows, f, room_prev, room_next);
        f->short_of_room = false;
    }
}

void sched_flow_free(struct scheduler *s, struct sched_flow *f) {
    unwant(s, f);
    f->drained = true; // wants nothing while its tasks go
    sched_note_drop(s, &f->quiet);
    struct sched_task *t, *next_task;
    DL_FOREACH_SAFE2(f->tasks, t, next_task, flow_next) {
        sched_task_free(s, t);
    }
    struct sched_queue *q, *next_queue;
    DL_FOREACH_SAFE2(f->queues, q, next_queue, flow_next) {
        sched_queue_free(s, q);
    }
    rank_put(s, f->rank);
    hash_index_remove(&s->flows, &f->by_id);
    free(f);
}

static bool wants(const struct scheduler *s, const struct sched_flow *f) {
    return !f->paused && !f->removed && !f->drained && !f->wanted &&
           f->n_pending * 2 < s->options.window;
}

void sched_flow_want(struct scheduler *s, struct sched_flow *f) {
    if (wants(s, f) && !f->short_of_room && !sched_note_is_queued(&f->want)) {
        sched_note_queue(s, &f->want, SCHED_WANT_TASKS);
    }
}

uint32_t sched_flow_wants_now(struct scheduler *s, struct sched_flow *f) {
    if (!wants(s, f)) {
        return 0; // they came meanwhile
    }
    uint32_t room = s->options.max_tasks - s->n_tasks;
    if (room == 0) {
        f->short_of_room = true;
        DL_APPEND2(s->thirsty_flows, f, room_prev, room_next);
        return 0;
    }
    f->wanted = true;
    uint32_t n = s->options.window - f->n_pending;
    return n < room ? n : room;
}

// An agent may still write under a lease of an earlier term: one that has not come back, or one
// that came back with a lease of who knows which flow. (A flow that was removed need not wait: the
// planner does, for what its agents may have left.)
static bool may_be_held(const struct scheduler *s, const struct sched_flow *f) {
    return f->spec.restored && !f->removed &&
           (s->now_ms < s->options.held_until_ms || s->n_strays > 0);
}

void sched_flow_quiet(struct scheduler *s, struct sched_flow *f) {
    if (f->quiet_due && f->n_open == 0 && !may_be_held(s, f)) {
        f->quiet_due = false;
        sched_note_queue(s, &f->quiet, SCHED_QUIET);
    }
}

void sched_flows_quiet(struct scheduler *s) {
    for (struct hash_node *n = hash_index_each(&s->flows, NULL); n != NULL;
         n = hash_index_each(&s->flows, n)) {
        sched_flow_quiet(s, CONTAINER_OF(n, struct sched_flow, by_id));
    }
}

static void refresh_queues(struct scheduler *s, struct sched_flow *f) {
    for (struct sched_queue *q = f->queues; q != NULL; q = q->flow_next) {
        sched_queue_refresh(s, q);
    }
}

static void stop(struct scheduler *s, struct sched_flow *f) {
    f->paused = true;
    unwant(s, f);
    refresh_queues(s, f);
    for (struct sched_queue *q = f->queues; q != NULL; q = q->flow_next) {
        for (struct sched_task *t = q->leased; t != NULL; t = t->next) {
            sched_lease_order(s, t->lease, SCHED_REVOKE);
        }
    }
}

void scheduler_flow_pause(struct scheduler *s, const char *flow, int64_t now_ms) {
    sched_saw_time(s, now_ms);
    struct sched_flow *f = sched_flow_find(s, flow);
    if (f != NULL && !f->removed) {
        stop(s, f);
        f->quiet_due = true;
        sched_flow_quiet(s, f);
    }
}

void scheduler_flow_resume(struct scheduler *s, const char *flow, int64_t now_ms) {
    sched_saw_time(s, now_ms);
    struct sched_flow *f = sched_flow_find(s, flow);
    if (f == NULL || f->removed || !f->paused) {
        return;
    }
    f->paused = false;
    f->quiet_due = false;
    sched_note_drop(s, &f->quiet);
    refresh_queues(s, f);
    sched_flow_want(s, f);
}

void scheduler_flow_remove(struct scheduler *s, const char *flow, int64_t now_ms) {
    sched_saw_time(s, now_ms);
    struct sched_flow *f = sched_flow_find(s, flow);
    if (f == NULL || f->removed) {
        return;
    }
    stop(s, f);
    f->removed = true;
    struct sched_task *t, *next;
    DL_FOREACH_SAFE2(f->tasks, t, next, flow_next) {
        if (t->state != TASK_LEASED) {
            sched_task_free(s, t);
        }
    }
    f->quiet_due = true;
    sched_flow_quiet(s, f);
}

void scheduler_flow_drained(struct scheduler *s, const char *flow) {
    struct sched_flow *f = sched_flow_find(s, flow);
    if (f != NULL) {
        unwant(s, f);
        f->drained = true;
        for (struct sched_queue *q = f->queues; q != NULL; q = q->flow_next) {
            sched_pool_consider_balance(s, q->pool);
        }
    }
}

void scheduler_more_tasks(struct scheduler *s, const char *flow, int64_t now_ms) {
    sched_saw_time(s, now_ms);
    struct sched_flow *f = sched_flow_find(s, flow);
    if (f != NULL) {
        f->drained = false;
        f->wanted = false;
        sched_flow_want(s, f);
    }
}

// ---- queues ----

static void set_text(char *to, const char *from) {
    memcpy(to, from, strnlen(from, PLACE_NAME_MAX - 1));
}

static void key_source(struct pool_key *k, const struct place *p) {
    set_text(k->source_site, p->site);
    set_text(k->source_agent, p->agent);
    set_text(k->source_volume, p->volume);
}

static void key_sink(struct pool_key *k, const struct place *p) {
    set_text(k->sink_site, p->site);
    set_text(k->sink_agent, p->agent);
    set_text(k->sink_volume, p->volume);
}

static enum err queue_pools(struct scheduler *s, struct sched_queue *q) {
    struct pool_key k = {0};
    switch (q->key.rule) {
    case EXECUTOR_MOVE:
        k.kind = POOL_MOVE;
        key_source(&k, &q->flow->spec.source);
        key_sink(&k, &q->flow->spec.sink);
        break;
    case EXECUTOR_SOURCE:
        k.kind = POOL_SOURCE;
        key_source(&k, &q->flow->spec.source);
        break;
    case EXECUTOR_SINK:
        k.kind = POOL_SINK;
        key_sink(&k, &q->flow->spec.sink);
        break;
    case EXECUTOR_AGENT:
        k.kind = POOL_AGENT;
        set_text(k.sink_agent, q->key.agent);
        break;
    }
    enum err e = sched_pool_get(s, &k, &q->pool);
    if (e == OK && q->key.reads) {
        struct pool_key from = {.kind = POOL_SOURCE};
        key_source(&from, &q->flow->spec.source);
        e = sched_pool_get(s, &from, &q->sources);
    }
    return e;
}

static struct sched_queue *queue_find(struct scheduler *s, const struct queue_key *k,
                                      uint64_t hash) {
    struct hash_node *n = hash_index_first(&s->queues, hash);
    for (; n != NULL; n = hash_index_again(n)) {
        struct sched_queue *q = CONTAINER_OF(n, struct sched_queue, by_key);
        if (memcmp(&q->key, k, sizeof(*k)) == 0) {
            return q;
        }
    }
    return NULL;
}

enum err sched_queue_get(struct scheduler *s, struct sched_flow *f, const struct scheduler_task *t,
                         struct sched_queue **ret_queue) {
    struct queue_key k;
    memset(&k, 0, sizeof(k));
    k.flow = f;
    k.rule = t->rule;
    k.reads = t->reads && t->rule != EXECUTOR_SOURCE;
    if (t->rule == EXECUTOR_AGENT) {
        set_text(k.agent, t->agent);
    }
    // Of values, not of addresses, so that any run can be replayed.
    uint64_t hash = hash_text(f->spec.id) + hash_text(k.agent) * 31 +
                    hash_u64((uint64_t)k.rule * 2 + (uint64_t)k.reads);
    struct sched_queue *q = queue_find(s, &k, hash);
    if (q != NULL) {
        *ret_queue = q;
        return OK;
    }
    q = calloc(1, sizeof(*q));
    if (q == NULL || ordered_heap_reserve(&s->timers, 1) != OK) {
        free(q);
        return ERR_NO_MEMORY;
    }
    q->key = k;
    q->flow = f;
    q->park.kind = TIMER_PARK;
    if (queue_pools(s, q) != OK || ordered_heap_reserve(&q->pool->queues_ready, 1) != OK) {
        sched_pool_put(s, q->pool);
        sched_pool_put(s, q->sources);
        ordered_heap_unreserve(&s->timers, 1);
        free(q);
        return ERR_NO_MEMORY;
    }
    hash_index_add(&s->queues, &q->by_key, hash);
    DL_APPEND2(f->queues, q, flow_prev, flow_next);
    DL_APPEND2(q->pool->queues, q, pool_prev, pool_next);
    if (q->sources != NULL) {
        DL_APPEND2(q->sources->readers, q, sources_prev, sources_next);
    }
    *ret_queue = q;
    return OK;
}

void sched_queue_unthirst(struct sched_queue *q) {
    if (q->thirsty) {
        DL_DELETE2(q->sources->thirsty, q, thirsty_prev, thirsty_next);
        q->thirsty = false;
    }
}

static void unlimit(struct sched_queue *q) {
    if (q->at_limit) {
        q->at_limit = false;
        q->flow->n_at_limit--;
    }
}

void sched_queue_free(struct scheduler *s, struct sched_queue *q) {
    sched_queue_unthirst(q);
    unlimit(q);
    ordered_heap_take(&q->pool->queues_ready, &q->in_pool);
    ordered_heap_unreserve(&q->pool->queues_ready, 1);
    sched_timer_disarm(s, &q->park);
    ordered_heap_unreserve(&s->timers, 1);
    hash_index_remove(&s->queues, &q->by_key);
    DL_DELETE2(q->flow->queues, q, flow_prev, flow_next);
    DL_DELETE2(q->pool->queues, q, pool_prev, pool_next);
    sched_pool_refresh(s, q->pool);
    sched_pool_put(s, q->pool);
    if (q->sources != NULL) {
        DL_DELETE2(q->sources->readers, q, sources_prev, sources_next);
        sched_pool_put(s, q->sources);
    }
    free(q);
}

static bool somebody_can_run(const struct sched_queue *q) {
    return q->pool->n_live[sched_pool_class(q->pool)] > 0;
}

static bool somebody_can_read(const struct sched_queue *q) {
    return q->sources == NULL || sched_pool_class(q->pool) == CLASS_BOTH ||
           q->sources->n_live[CLASS_PLAIN] > 0;
}

static bool at_limit(const struct sched_flow *f) {
    return f->spec.max_executors > 0 && f->n_running >= f->spec.max_executors;
}

void sched_queue_refresh(struct scheduler *s, struct sched_queue *q) {
    struct sched_flow *f = q->flow;
    struct sched_pool *p = q->pool;
    sched_queue_unthirst(q);
    unlimit(q);
    bool open = !f->paused && !f->removed && q->n_ready > 0 &&
                !(f->spec.restored && sched_is_reconciling(s));
    bool possible = somebody_can_run(q) && somebody_can_read(q);
    if (open && !possible) {
        if (!q->parked) {
            q->parked = true;
            q->parked_since_ms = s->now_ms;
            sched_timer_arm(s, &q->park, s->now_ms + s->options.park_ms);
        }
    } else if (q->parked) {
        q->parked = false;
        sched_timer_disarm(s, &q->park);
    }
    bool in = open && possible;
    if (in && at_limit(f)) {
        in = false;
        q->at_limit = true;
        f->n_at_limit++;
    }
    if (in && !heap_node_is_in(&q->in_pool)) {
        if (f->served < f->rank->served) {
            f->served = f->rank->served;
        }
        q->served = f->served;
        ordered_heap_put(&p->queues_ready, &q->in_pool);
    } else if (!in) {
        ordered_heap_take(&p->queues_ready, &q->in_pool);
    }
    sched_pool_refresh(s, p);
    sched_pool_consider_balance(s, p);
}

// Why has nobody that volume?
static enum err why_not(const struct scheduler *s, const char *site, const char *agent,
                        const char *volume) {
    enum err why = ERR_NO_AGENT;
    for (struct hash_node *n = hash_index_each(&s->agents, NULL); n != NULL;
         n = hash_index_each(&s->agents, n)) {
        const struct sched_agent *a = CONTAINER_OF(n, struct sched_agent, by_name);
        if (!sched_agent_is_live(a) || strcmp(a->site, site) != 0 ||
            (agent[0] != '\0' && strcmp(a->name, agent) != 0)) {
            continue;
        }
        why = why == ERR_NO_AGENT ? ERR_NO_VOLUME : why;
        for (size_t i = 0; i < a->n_volumes; i++) {
            if (strcmp(a->volumes[i].name, volume) == 0 && !a->volumes[i].shared &&
                agent[0] == '\0') {
                why = ERR_NOT_SHARED;
            }
        }
    }
    return why;
}

static enum err queue_why_not(const struct scheduler *s, const struct sched_queue *q) {
    const struct place *source = &q->flow->spec.source, *sink = &q->flow->spec.sink;
    if (q->key.rule == EXECUTOR_SOURCE || somebody_can_run(q)) {
        return why_not(s, source->site, source->agent, source->volume);
    }
    if (q->key.rule == EXECUTOR_AGENT) {
        return ERR_NO_AGENT;
    }
    return why_not(s, sink->site, sink->agent, sink->volume);
}

void sched_queue_park_timer(struct scheduler *s, struct sched_queue *q) {
    enum err why = queue_why_not(s, q);
    int64_t since_ms = q->parked_since_ms, next_ms = INT64_MAX;
    struct sched_task *t, *next;
    DL_FOREACH_SAFE(q->ready, t, next) {
        int64_t from_ms = t->pending_since_ms > since_ms ? t->pending_since_ms : since_ms;
        int64_t due_ms = from_ms + s->options.park_ms;
        if (due_ms <= s->now_ms) {
            sched_task_detach(s, t);
            t->state = TASK_GIVEN_UP;
            t->give_up_err = why;
            sched_note_queue(s, &t->give_up, SCHED_UNRUNNABLE);
        } else if (due_ms < next_ms) {
            next_ms = due_ms;
        }
    }
    if (q->parked && next_ms < INT64_MAX) {
        sched_timer_arm(s, &q->park, next_ms);
    }
}
