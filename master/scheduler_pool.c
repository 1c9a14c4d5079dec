// SPDX-License-Identifier: Apache-2.0
// Pools: which agents can run one sort of task, and whose turn it is.
#include "common/cleanup.h"
#include "master/scheduler_impl.h"

#include <string.h>
#include <utlist.h>

static const struct sched_queue *queue_in(const struct heap_node *n) {
    return CONTAINER_OF(n, const struct sched_queue, in_pool);
}

static bool queue_before(const struct heap_node *x, const struct heap_node *y) {
    const struct sched_queue *a = queue_in(x), *b = queue_in(y);
    if (a->flow->spec.priority != b->flow->spec.priority) {
        return a->flow->spec.priority > b->flow->spec.priority;
    }
    if (a->served < b->served || a->served > b->served) {
        return a->served < b->served;
    }
    if (a->key.rule != b->key.rule) { // listing first: it makes work for others
        return a->key.rule == EXECUTOR_SOURCE;
    }
    return strcmp(a->flow->spec.id, b->flow->spec.id) < 0;
}

// Does the agent fit, and does it reach both ends?
static bool fits(const struct pool_key *k, const struct sched_agent *a, int *ret_class) {
    *ret_class = CLASS_PLAIN;
    switch (k->kind) {
    case POOL_AGENT: return strcmp(a->name, k->sink_agent) == 0;
    case POOL_SOURCE:
        return sched_agent_reaches(a, k->source_site, k->source_agent, k->source_volume, false);
    case POOL_SINK:
        return sched_agent_reaches(a, k->sink_site, k->sink_agent, k->sink_volume, true);
    case POOL_MOVE:
        if (!sched_agent_reaches(a, k->sink_site, k->sink_agent, k->sink_volume, true)) {
            return false;
        }
        if (sched_agent_reaches(a, k->source_site, k->source_agent, k->source_volume, false)) {
            *ret_class = CLASS_BOTH;
            return true;
        }
        return k->source_site[0] != '\0'; // no agent serves what is in an object store
    }
    return false;
}

// ---- members ----

static void set_level(struct sched_member *m, int level) {
    struct sched_pool *p = m->pool;
    if (m->level != LEVEL_NONE) {
        DL_DELETE2(p->ready[m->cls][m->level], m, ready_prev, ready_next);
    }
    m->level = level;
    if (level != LEVEL_NONE) {
        DL_APPEND2(p->ready[m->cls][level], m, ready_prev, ready_next);
    }
}

static void refresh_users(struct scheduler *s, struct sched_pool *p) {
    for (struct sched_queue *q = p->queues; q != NULL; q = q->pool_next) {
        sched_queue_refresh(s, q);
    }
    for (struct sched_queue *q = p->readers; q != NULL; q = q->sources_next) {
        sched_queue_refresh(s, q);
    }
}

static void set_live(struct scheduler *s, struct sched_member *m, bool live) {
    struct sched_pool *p = m->pool;
    if (m->live == live) {
        return;
    }
    m->live = live;
    bool turned;
    if (live) {
        turned = p->n_live[m->cls]++ == 0;
    } else {
        turned = --p->n_live[m->cls] == 0;
        sched_pool_requeue_picky(s, p, NULL);
    }
    if (turned) {
        refresh_users(s, p);
    }
}

static void set_giving(struct scheduler *s, struct sched_member *m, bool giving) {
    struct sched_pool *p = m->pool;
    if (m->giving == giving) {
        return;
    }
    m->giving = giving;
    if (!giving) {
        DL_DELETE2(p->givers, m, giver_prev, giver_next);
        return;
    }
    DL_APPEND2(p->givers, m, giver_prev, giver_next);
    while (p->thirsty != NULL) {
        sched_queue_refresh(s, p->thirsty); // leaves the list
    }
}

static void member_refresh(struct scheduler *s, struct sched_member *m, bool took) {
    const struct sched_agent *a = m->agent;
    struct sched_pool *p = m->pool;
    bool live = sched_agent_is_live(a);
    int level = LEVEL_NONE, before = m->level;
    if (live && a->n_held < a->slots * SCHED_AHEAD) {
        level = a->n_held < a->slots ? LEVEL_IDLE : LEVEL_AHEAD;
    }
    if (level != before || took) {
        set_level(m, level);
    }
    set_live(s, m, live);
    set_giving(s, m, live && a->n_source < a->source_slots);
    if (level != LEVEL_NONE && (before == LEVEL_NONE || level < before)) {
        sched_pool_requeue_picky(s, p, a);
    }
    sched_pool_refresh(s, p);
    sched_pool_consider_balance(s, p);
}

void sched_agent_refresh(struct scheduler *s, struct sched_agent *a, bool took) {
    for (struct sched_member *m = a->memberships; m != NULL; m = m->agent_next) {
        member_refresh(s, m, took);
    }
}

static enum err member_new(struct scheduler *s, struct sched_pool *p, struct sched_agent *a,
                           int cls) {
    struct sched_member *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return ERR_NO_MEMORY;
    }
    m->agent = a;
    m->pool = p;
    m->cls = cls;
    m->level = LEVEL_NONE;
    DL_APPEND(p->members, m);
    DL_APPEND2(a->memberships, m, agent_prev, agent_next);
    member_refresh(s, m, false);
    return OK;
}

void sched_member_free(struct scheduler *s, struct sched_member *m) {
    struct sched_pool *p = m->pool;
    set_level(m, LEVEL_NONE);
    set_giving(s, m, false);
    set_live(s, m, false);
    sched_pool_refresh(s, p);
    DL_DELETE(p->members, m);
    DL_DELETE2(m->agent->memberships, m, agent_prev, agent_next);
    free(m);
}

enum err sched_pool_join_all(struct scheduler *s, struct sched_agent *a) {
    struct sched_member *m, *next;
    DL_FOREACH_SAFE2(a->memberships, m, next, agent_next) {
        sched_member_free(s, m);
    }
    for (struct hash_node *n = hash_index_each(&s->pools, NULL); n != NULL;
         n = hash_index_each(&s->pools, n)) {
        struct sched_pool *p = CONTAINER_OF(n, struct sched_pool, by_key);
        int cls;
        if (fits(&p->key, a, &cls)) {
            enum err e = member_new(s, p, a, cls);
            if (e != OK) {
                return e;
            }
        }
    }
    return OK;
}

// ---- pools ----

static struct sched_pool *pool_find(const struct scheduler *s, const struct pool_key *k,
                                    uint64_t hash) {
    struct hash_node *n = hash_index_first(&s->pools, hash);
    for (; n != NULL; n = hash_index_again(n)) {
        struct sched_pool *p = CONTAINER_OF(n, struct sched_pool, by_key);
        if (memcmp(&p->key, k, sizeof(*k)) == 0) {
            return p;
        }
    }
    return NULL;
}

enum err sched_pool_get(struct scheduler *s, const struct pool_key *k,
                        struct sched_pool **ret_pool) {
    uint64_t hash = hash_bytes(k, sizeof(*k));
    struct sched_pool *p = pool_find(s, k, hash);
    if (p != NULL) {
        p->refs++;
        *ret_pool = p;
        return OK;
    }
    p = calloc(1, sizeof(*p));
    if (p == NULL || ordered_heap_reserve(&s->timers, 1) != OK) {
        free(p);
        return ERR_NO_MEMORY;
    }
    p->key = *k;
    p->refs = 1;
    p->balance.kind = TIMER_BALANCE;
    ordered_heap_init(&p->queues_ready, queue_before);
    hash_index_add(&s->pools, &p->by_key, hash);
    for (struct hash_node *n = hash_index_each(&s->agents, NULL); n != NULL;
         n = hash_index_each(&s->agents, n)) {
        struct sched_agent *a = CONTAINER_OF(n, struct sched_agent, by_name);
        int cls;
        if (fits(k, a, &cls) && member_new(s, p, a, cls) != OK) {
            sched_pool_put(s, p);
            return ERR_NO_MEMORY;
        }
    }
    *ret_pool = p;
    return OK;
}

void sched_pool_put(struct scheduler *s, struct sched_pool *p) {
    if (p == NULL || --p->refs > 0) {
        return;
    }
    struct sched_member *m, *next;
    DL_FOREACH_SAFE(p->members, m, next) {
        sched_member_free(s, m);
    }
    sched_timer_disarm(s, &p->balance);
    ordered_heap_unreserve(&s->timers, 1);
    ordered_heap_deinit(&p->queues_ready);
    hash_index_remove(&s->pools, &p->by_key);
    free(p);
}

void sched_pool_refresh(struct scheduler *s, struct sched_pool *p) {
    int cls = sched_pool_class(p);
    bool active = p->queues_ready.n > 0 &&
                  (p->ready[cls][LEVEL_IDLE] != NULL || p->ready[cls][LEVEL_AHEAD] != NULL);
    if (active == p->active) {
        return;
    }
    p->active = active;
    if (active) {
        DL_APPEND2(s->active, p, active_prev, active_next);
    } else {
        DL_DELETE2(s->active, p, active_prev, active_next);
    }
}

void sched_pool_requeue_picky(struct scheduler *s, struct sched_pool *p,
                              const struct sched_agent *free_agent) {
    struct sched_task *t;
    while ((t = p->picky) != NULL) {
        if (free_agent != NULL && strcmp(t->avoid, free_agent->name) == 0) {
            return;
        }
        sched_task_detach(s, t);
        sched_task_ready(s, t, true);
    }
}
