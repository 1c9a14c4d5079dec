// SPDX-License-Identifier: Apache-2.0
#include "common/cleanup.h"
#include "master/scheduler_impl.h"

#include <string.h>
#include <utlist.h>

static bool timer_before(const struct heap_node *a, const struct heap_node *b) {
    return CONTAINER_OF(a, const struct sched_timer, node)->at_ms <
           CONTAINER_OF(b, const struct sched_timer, node)->at_ms;
}

enum err scheduler_new(const struct scheduler_options *o, struct scheduler **ret_s) {
    struct scheduler *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return ERR_NO_MEMORY;
    }
    s->options = *o;
    s->options.window = o->window > 0 ? o->window : 1;
    s->options.max_tasks = o->max_tasks > 0 ? o->max_tasks : 1;
    s->now_ms = INT64_MIN;
    s->reconcile.kind = TIMER_RECONCILE;
    s->held.kind = TIMER_HELD;
    ordered_heap_init(&s->timers, timer_before);
    if (hash_index_init(&s->agents) != OK || hash_index_init(&s->flows) != OK ||
        hash_index_init(&s->tasks) != OK || hash_index_init(&s->queues) != OK ||
        hash_index_init(&s->pools) != OK || hash_index_init(&s->claims) != OK ||
        ordered_heap_reserve(&s->timers, 2) != OK) {
        scheduler_free(s);
        return ERR_NO_MEMORY;
    }
    if (o->reconcile_until_ms > 0) {
        sched_timer_arm(s, &s->reconcile, o->reconcile_until_ms);
    }
    if (o->held_until_ms > 0) {
        sched_timer_arm(s, &s->held, o->held_until_ms);
    }
    *ret_s = s;
    return OK;
}

uint32_t scheduler_n_tasks(const struct scheduler *s) {
    return s->n_tasks;
}

void scheduler_free(struct scheduler *s) {
    if (s == NULL) {
        return;
    }
    for (struct hash_node *n = s->flows.buckets ? hash_index_each(&s->flows, NULL) : NULL, *next;
         n != NULL; n = next) {
        next = hash_index_each(&s->flows, n);
        struct sched_flow *f = CONTAINER_OF(n, struct sched_flow, by_id);
        for (struct sched_task *t = f->tasks; t != NULL; t = t->flow_next) {
            t->lease = NULL;
        }
        sched_flow_free(s, f);
    }
    for (struct hash_node *n = s->agents.buckets ? hash_index_each(&s->agents, NULL) : NULL, *next;
         n != NULL; n = next) {
        next = hash_index_each(&s->agents, n);
        struct sched_agent *a = CONTAINER_OF(n, struct sched_agent, by_name);
        struct sched_lease *l, *next_lease;
        DL_FOREACH_SAFE(a->leases, l, next_lease) {
            free(l);
        }
        DL_FOREACH_SAFE(a->closing, l, next_lease) {
            free(l);
        }
        sched_agent_free(s, a);
    }
    hash_index_deinit(&s->agents);
    hash_index_deinit(&s->flows);
    hash_index_deinit(&s->tasks);
    hash_index_deinit(&s->queues);
    hash_index_deinit(&s->pools);
    hash_index_deinit(&s->claims);
    ordered_heap_deinit(&s->timers);
    free(s);
}

void sched_saw_time(struct scheduler *s, int64_t now_ms) {
    if (now_ms > s->now_ms) {
        s->now_ms = now_ms;
    }
}

void sched_timer_arm(struct scheduler *s, struct sched_timer *t, int64_t at_ms) {
    t->at_ms = at_ms;
    if (heap_node_is_in(&t->node)) {
        ordered_heap_moved(&s->timers, &t->node);
    } else {
        ordered_heap_put(&s->timers, &t->node);
    }
}

void sched_timer_disarm(struct scheduler *s, struct sched_timer *t) {
    ordered_heap_take(&s->timers, &t->node);
}

void sched_note_queue(struct scheduler *s, struct sched_note *n, enum scheduler_command_kind kind) {
    sched_note_drop(s, n);
    n->kind = kind;
    DL_APPEND(s->notes, n);
}

void sched_note_drop(struct scheduler *s, struct sched_note *n) {
    if (n->kind != SCHED_NONE) {
        DL_DELETE(s->notes, n);
        n->kind = SCHED_NONE;
    }
}

static void timer_fired(struct scheduler *s, struct sched_timer *t) {
    switch (t->kind) {
    case TIMER_AGENT: sched_agent_timer(s, CONTAINER_OF(t, struct sched_agent, timer)); break;
    case TIMER_TASK: sched_task_timer(s, CONTAINER_OF(t, struct sched_task, timer)); break;
    case TIMER_PARK: sched_queue_park_timer(s, CONTAINER_OF(t, struct sched_queue, park)); break;
    case TIMER_BALANCE: sched_pool_balance(s, CONTAINER_OF(t, struct sched_pool, balance)); break;
    case TIMER_RECONCILE:
        sched_claims_end(s);
        for (struct hash_node *n = hash_index_each(&s->queues, NULL); n != NULL;
             n = hash_index_each(&s->queues, n)) {
            sched_queue_refresh(s, CONTAINER_OF(n, struct sched_queue, by_key));
        }
        break;
    case TIMER_HELD: sched_flows_quiet(s); break;
    }
}

void scheduler_tick(struct scheduler *s, int64_t now_ms) {
    sched_saw_time(s, now_ms);
    struct heap_node *n;
    while ((n = ordered_heap_first(&s->timers)) != NULL) {
        struct sched_timer *t = CONTAINER_OF(n, struct sched_timer, node);
        if (t->at_ms > s->now_ms) {
            break;
        }
        sched_timer_disarm(s, t);
        timer_fired(s, t);
    }
}

static void set_text(char *to, const char *from) {
    size_t n = strnlen(from, PLACE_NAME_MAX - 1);
    memcpy(to, from, n);
    to[n] = '\0';
}

static void lease_command(const struct sched_lease *l, struct scheduler_command *c) {
    c->task_id = l->task_id;
    c->epoch = l->epoch;
    c->how = l->how;
    set_text(c->agent, l->agent->name);
    if (l->flow != NULL) {
        memcpy(c->flow, l->flow->spec.id, sizeof(c->flow));
    }
}

// Takes the command out of its note, and lets go what was only kept for it.
static void fetch(struct scheduler *s, struct sched_note *n, struct scheduler_command *c) {
    enum scheduler_command_kind kind = n->kind;
    c->kind = kind;
    sched_note_drop(s, n);
    switch (kind) {
    case SCHED_YIELD:
    case SCHED_REVOKE: lease_command(CONTAINER_OF(n, struct sched_lease, order), c); break;
    case SCHED_CLOSED: {
        struct sched_lease *l = CONTAINER_OF(n, struct sched_lease, closing);
        lease_command(l, c);
        struct sched_agent *a = l->agent;
        DL_DELETE(a->closing, l);
        free(l);
        sched_agent_forget_if_gone(s, a);
        break;
    }
    case SCHED_WANT_TASKS: {
        struct sched_flow *f = CONTAINER_OF(n, struct sched_flow, want);
        memcpy(c->flow, f->spec.id, sizeof(c->flow));
        c->n = sched_flow_wants_now(s, f);
        c->kind = c->n > 0 ? SCHED_WANT_TASKS : SCHED_NONE;
        break;
    }
    case SCHED_UNRUNNABLE: {
        struct sched_task *t = CONTAINER_OF(n, struct sched_task, give_up);
        memcpy(c->flow, t->flow->spec.id, sizeof(c->flow));
        c->task_id = t->task_id;
        c->err = t->give_up_err;
        struct sched_flow *f = t->flow;
        sched_task_free(s, t);
        sched_flow_want(s, f);
        break;
    }
    case SCHED_QUIET: {
        struct sched_flow *f = CONTAINER_OF(n, struct sched_flow, quiet);
        memcpy(c->flow, f->spec.id, sizeof(c->flow));
        if (f->removed) {
            sched_flow_free(s, f);
        }
        break;
    }
    case SCHED_NONE:
    case SCHED_ASSIGN: break;
    }
}

// false: none is waiting.
static bool fetch_next(struct scheduler *s, struct scheduler_command *c) {
    while (s->notes != NULL) {
        memset(c, 0, sizeof(*c));
        fetch(s, s->notes, c);
        if (c->kind != SCHED_NONE) {
            return true;
        }
    }
    return false;
}

void scheduler_next_command(struct scheduler *s, int64_t now_ms,
                            struct scheduler_command *ret_command, int64_t *ret_wake_at_ms) {
    scheduler_tick(s, now_ms);
    *ret_wake_at_ms = s->now_ms;
    if (fetch_next(s, ret_command)) {
        return;
    }
    memset(ret_command, 0, sizeof(*ret_command));
    if (sched_share_one(s, ret_command) || fetch_next(s, ret_command)) {
        return;
    }
    memset(ret_command, 0, sizeof(*ret_command));
    struct heap_node *n = ordered_heap_first(&s->timers);
    *ret_wake_at_ms = n != NULL ? CONTAINER_OF(n, struct sched_timer, node)->at_ms : INT64_MAX;
}

uint32_t scheduler_leases_of(const struct scheduler *s, const char *agent) {
    const struct sched_agent *a = sched_agent_find(s, agent);
    return a != NULL ? a->n_held : 0;
}

uint32_t scheduler_open_leases(const struct scheduler *s, const char *flow) {
    const struct sched_flow *f = sched_flow_find(s, flow);
    return f != NULL ? f->n_open : 0;
}
