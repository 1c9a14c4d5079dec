// SPDX-License-Identifier: Apache-2.0
// Stands for dispatch.c: what the scheduler decided becomes messages to agents.
#include "tests/simulation/master/whole/world.h"

#include <stdlib.h>
#include <string.h>

struct known_task *known_task(struct world *w, uint64_t id) {
    struct hash_node *h = hash_index_first(&w->tasks, hash_u64(id));
    for (; h != NULL; h = hash_index_again(h)) {
        struct known_task *t = CONTAINER_OF(h, struct known_task, by_id);
        if (t->id == id) {
            return t;
        }
    }
    struct known_task *t = must(calloc(1, sizeof *t));
    t->id = id;
    hash_index_add(&w->tasks, &t->by_id, hash_u64(id));
    return t;
}
void known_task_forget(struct world *w, uint64_t id) {
    struct known_task *t = known_task(w, id);
    hash_index_remove(&w->tasks, &t->by_id);
    free(t);
}

static uint32_t agent_named(const char *name) {
    return (uint32_t)strtoul(name + strlen("agent-"), NULL, 10);
}

// As in dispatch.c: a lease is told after it is stored, and nothing overtakes it.
struct order {
    struct order *next;
    uint64_t term;
    bool ready;
    struct scheduler_command command;
};
static struct order *orders, **last_order = &orders;

static void send_lease(struct world *w, const struct scheduler_command *c) {
    uint32_t i = agent_named(c->agent);
    uint32_t attempt = 1;
    const char *holder = scheduler_holder(w->core.scheduler, c->task_id, c->epoch);
    const Sluice__V1__TaskSpec *spec = planner_spec(w->core.planner, c->task_id, &attempt);
    if (holder == NULL || strcmp(holder, c->agent) != 0 || spec == NULL) {
        return;
    }
    size_t len = sluice__v1__task_spec__get_packed_size(spec);
    if (len > 256 * 1024) {
        violated("a spec has %zu bytes", len);
    }
    struct held *h = must(calloc(1, sizeof *h));
    uint8_t stack[2048];
    uint8_t *bytes = len <= sizeof stack ? stack : must(malloc(len));
    sluice__v1__task_spec__pack(spec, bytes);
    h->spec = must(sluice__v1__task_spec__unpack(NULL, len, bytes));
    if (bytes != stack) {
        free(bytes);
    }
    if (object_table_open(h->spec->objects.data, h->spec->objects.len, &h->table) != OK) {
        violated("a spec has a bad table");
    }
    h->epoch = c->epoch;
    h->attempt = attempt;
    h->source = c->n_sources > 0 ? agent_named(c->sources[0]) : UINT32_MAX;
    struct event *e = to_agent(w, i, message_assign);
    e->ptr = h;
    e->drop = held_free;
}

static void tell_agents(struct world *w) {
    while (orders != NULL && orders->ready && w->up) {
        struct order *o = orders;
        const struct scheduler_command *c = &o->command;
        uint32_t i = agent_named(c->agent);
        orders = o->next;
        if (orders == NULL) {
            last_order = &orders;
        }
        if (w->agents[i].master_session == 0) {
            scheduler_agent_down(w->core.scheduler, c->agent, false, w->now_ms);
        } else if (c->kind == SCHED_ASSIGN) {
            send_lease(w, c);
        } else {
            trace(c->kind == SCHED_YIELD ? "yield" : "revoke", i, c->task_id, c->epoch.counter);
            struct event *e =
                to_agent(w, i, c->kind == SCHED_YIELD ? message_yield : message_revoke);
            e->task = c->task_id;
            e->epoch = c->epoch;
        }
        free(o);
    }
}

static struct order *order_new(struct world *w, const struct scheduler_command *c) {
    struct order *o = must(calloc(1, sizeof *o));
    o->term = w->term;
    o->command = *c;
    *last_order = o;
    last_order = &o->next;
    return o;
}

static void order(struct world *w, const struct scheduler_command *c) {
    order_new(w, c)->ready = true;
    tell_agents(w);
}

static void lease_stored(void *arg, enum err result) {
    struct order *o = arg;
    o->ready = true;
    if (result != OK) {
        o->command.kind = SCHED_ASSIGN; // it is not current: nobody is told
        o->command.epoch = (struct epoch){0, 0};
    }
    tell_agents(the);
    if (the->up) {
        core_dispatch(&the->core);
    }
}

void orders_forget(void) {
    while (orders != NULL) {
        struct order *o = orders;
        orders = o->next;
        free(o);
    }
    last_order = &orders;
}

static void assign(struct world *w, const struct scheduler_command *c) {
    uint32_t i = agent_named(c->agent);
    uint32_t attempt = 1;
    const Sluice__V1__TaskSpec *spec = planner_spec(w->core.planner, c->task_id, &attempt);
    if (spec == NULL) {
        violated("a task without a spec is leased");
    }
    struct known_task *t = known_task(w, c->task_id);
    if (epoch_compare(c->epoch, t->newest) <= 0) {
        violated("epochs of task %llx do not rise", (unsigned long long)c->task_id);
    }
    t->newest = c->epoch;
    t->accepted = 0;
    trace("assign", i, c->task_id, c->epoch.counter << 8 | (uint64_t)spec->kind);
    planner_leased(w->core.planner, c->task_id, c->epoch, c->agent, lease_stored, order_new(w, c));
}

// A lease is closed: its agent must not act under it any more.
static void closed(struct world *w, const struct scheduler_command *c) {
    uint32_t i = agent_named(c->agent);
    struct agent *a = &w->agents[i];
    const struct held *h = held_of(a, c->task_id, c->epoch, NULL);
    trace("closed", i, c->task_id, c->epoch.counter << 8 | c->how);
    w->n_expired += c->how == CLOSED_EXPIRED;
    // (A listing ends with its last page, before its agent knows that.)
    if (h != NULL && h->stream == NULL && agent_may_act(w, a, h)) {
        violated("the lease of task %llx was closed (%d) while %s may act under it",
                 (unsigned long long)c->task_id, (int)c->how, a->name);
    }
    planner_lease_closed(w->core.planner, c->task_id, c->epoch, c->agent, c->how);
}

void flow_is_abandoned(void *arg) {
    struct world *w = arg;
    w->abandoned = true;
    w->over = true;
}

static void check_quiet(struct world *w) {
    for (uint32_t i = 0; i < w->o.n_agents; i++) {
        for (uint32_t k = 0; k < w->agents[i].n_held; k++) {
            const struct held *h = w->agents[i].held[k];
            if (h->stream == NULL && agent_may_act(w, &w->agents[i], h)) {
                violated("the flow is quiet, and %s has task %llx", w->agents[i].name,
                         (unsigned long long)h->spec->task_id);
            }
        }
    }
}

static void resumes(struct world *w, struct event *e) {
    (void)e;
    if (w->up && w->paused && !w->cancel) {
        w->paused = false;
        scheduler_flow_resume(w->core.scheduler, w->flow.id, w->now_ms);
        core_dispatch(&w->core);
    } else {
        w->paused = false; // at the next start
    }
}

static void quiet(struct world *w) {
    trace("quiet", 0, w->paused, w->cancel);
    if (w->planned_out || w->abandoning) {
        return;
    }
    if (!w->cancel) {
        check_quiet(w);
    }
    if (w->cancel) {
        w->abandoning = true;
        planner_flow_abandon(w->core.planner, &w->flow, flow_is_abandoned, w);
    } else if (w->paused) {
        event_in(w, between(w, 10, 5000), resumes)->to_master = true;
    }
}

static void run_command(struct world *w, const struct scheduler_command *c) {
    switch (c->kind) {
    case SCHED_ASSIGN: assign(w, c); break;
    case SCHED_YIELD:
    case SCHED_REVOKE: order(w, c); break;
    case SCHED_WANT_TASKS: planner_want_tasks(w->core.planner, c->flow, c->n); break;
    case SCHED_UNRUNNABLE: violated("task %llx: nobody can run it", (unsigned long long)c->task_id);
    case SCHED_CLOSED: closed(w, c); break;
    case SCHED_QUIET: quiet(w); break;
    case SCHED_NONE: break;
    }
}

static void woken(struct world *w, struct event *e) {
    (void)e;
    w->wake = NULL;
    core_dispatch(&w->core);
}

void __wrap_core_dispatch(struct core *c);
void __wrap_core_dispatch(struct core *c) {
    struct world *w = the;
    int64_t wake_ms = INT64_MAX;
    if (w->dispatching || !w->up || c->stopping) {
        return;
    }
    w->dispatching = true;
    for (;;) {
        struct scheduler_command cmd;
        scheduler_next_command(c->scheduler, w->now_ms, &cmd, &wake_ms);
        if (cmd.kind == SCHED_NONE) {
            break;
        }
        run_command(w, &cmd);
    }
    w->dispatching = false;
    if (w->wake != NULL && w->wake_ms != wake_ms) {
        event_cancel(w, w->wake);
        w->wake = NULL;
    }
    if (w->wake == NULL && wake_ms < INT64_MAX) {
        w->wake = event_at(w, wake_ms > w->now_ms ? wake_ms : w->now_ms + 1, woken);
        w->wake->to_master = true;
        w->wake_ms = wake_ms;
    }
}
