// SPDX-License-Identifier: Apache-2.0
#include "tests/simulation/master/simulated_cluster_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- the planner and its database ----

struct sim_task *sim_task_of(struct sim *s, uint64_t id) {
    return &s->tasks[id - 1];
}

static void flow_id(uint32_t flow, char id[IDENT_SIZE]) {
    memset(id, '0', IDENT_LEN);
    id[IDENT_LEN] = '\0';
    id[IDENT_LEN - 1] = (char)('A' + flow);
}

struct sim_task *sim_task_new(struct sim *s, uint32_t flow, uint64_t cost) {
    if (s->n_tasks == s->cap_tasks) {
        s->cap_tasks = s->cap_tasks * 2 + 64;
        s->tasks = sim_must(realloc(s->tasks, s->cap_tasks * sizeof(*s->tasks)));
    }
    struct sim_task *t = &s->tasks[s->n_tasks++];
    *t = (struct sim_task){.id = s->n_tasks, .cost = cost, .flow = flow, .attempt = 1};
    s->n_open++;
    return t;
}

static void task_load(struct sim *s, struct sim_task *t) {
    struct scheduler_task spec = {.task_id = t->id,
                                  .rule = EXECUTOR_MOVE,
                                  .reads = true,
                                  .writes = true,
                                  .cost_bytes = t->cost,
                                  .can_yield = true,
                                  .attempt = t->attempt};
    flow_id(t->flow, spec.flow);
    memcpy(spec.avoid, t->avoid, sizeof(t->avoid));
    t->loaded = true;
    enum err e = scheduler_task_add(s->scheduler, &spec, s->now_ms);
    if (e == ERR_FULL) {
        t->loaded = false;
    } else if (e != OK) {
        sim_violated(s, "task %llu cannot be added: %d", (unsigned long long)t->id, (int)e);
    }
}

static void want(struct sim *s, const char *flow, uint32_t n) {
    uint32_t f = (uint32_t)(flow[IDENT_LEN - 1] - 'A');
    bool more = false;
    for (size_t i = 0; i < s->n_tasks; i++) {
        struct sim_task *t = &s->tasks[i];
        if (t->flow != f || t->done || t->loaded) {
            continue;
        }
        if (n == 0) {
            more = true;
            break;
        }
        task_load(s, t);
        n--;
    }
    if (!more) {
        scheduler_flow_drained(s->scheduler, flow);
    }
}

static void flow_add(struct sim *s, uint32_t flow) {
    struct scheduler_flow f = {.restored = s->term > 1, .weight = 1 + flow % 3};
    flow_id(flow, f.id);
    f.source.site[0] = 'a';
    f.sink.site[0] = 'b';
    memcpy(f.source.volume, "v", 2);
    memcpy(f.sink.volume, "v", 2);
    if (scheduler_flow_add(s->scheduler, &f, s->now_ms) != OK) {
        abort();
    }
}

void sim_commit(struct sim *s, const struct event *e) {
    struct sim_agent *a = &s->agents[e->agent];
    if (e->term != s->term || s->scheduler == NULL) {
        return; // the master died before
    }
    struct sim_task *t = sim_task_of(s, e->ref.task);
    for (size_t i = 0; i < a->n_kept; i++) {
        struct kept_result *k = &a->kept[i];
        if (k->number != e->number) {
            continue;
        }
        if (t->done) {
            sim_violated(s, "task %llu ended twice", (unsigned long long)t->id);
        }
        if (!k->ok) {
            t->attempt++;
            memcpy(t->avoid, a->name, sizeof(t->avoid));
            t->loaded = false;
            task_load(s, t);
        } else {
            char id[IDENT_SIZE];
            uint64_t rest = t->cost - k->done;
            t->done = true;
            s->any_done = true;
            s->n_open--;
            s->done_cost += k->done;
            flow_id(t->flow, id);
            if (rest > 0) {
                sim_task_new(s, t->flow, rest);
                scheduler_more_tasks(s->scheduler, id, s->now_ms);
            }
        }
    }
    if (a->master_session != 0) {
        sim_to_agent(s, e->agent, EV_COMMITTED)->number = e->number;
    }
}

// ---- the master ----

static uint32_t agent_named(const struct sim *s, const char *name) {
    (void)s;
    return (uint32_t)strtoul(name + 1, NULL, 10);
}

static const struct sim_lease *lease_of(const struct sim_agent *a, uint64_t task,
                                        struct epoch epoch) {
    for (size_t i = 0; i < a->n_leases; i++) {
        if (a->leases[i].ref.task == task && epoch_compare(a->leases[i].ref.epoch, epoch) == 0) {
            return &a->leases[i];
        }
    }
    return NULL;
}

// Whatever closed it: the agent must not act under it any more.
static void check_closed(struct sim *s, const struct scheduler_command *c) {
    const struct sim_agent *a = &s->agents[agent_named(s, c->agent)];
    const struct sim_lease *l = lease_of(a, c->task_id, c->epoch);
    if (l != NULL && s->now_ms - a->confirmed_ms <= HOLD_MS) {
        sim_violated(s, "lease of task %llu closed (%d) while %s holds it",
                     (unsigned long long)c->task_id, (int)c->how, a->name);
    }
}

static void assign(struct sim *s, const struct scheduler_command *c) {
    struct sim_agent *a = &s->agents[agent_named(s, c->agent)];
    struct sim_task *t = sim_task_of(s, c->task_id);
    if (t->done || !t->loaded) {
        sim_violated(s, "task %llu is leased though it is %s", (unsigned long long)t->id,
                     t->done ? "done" : "not here");
    }
    if (a->site[0] != 'b' || c->n_sources == 0 || a->master_session == 0) {
        sim_violated(s, "task %llu is leased to %s, which cannot run it", (unsigned long long)t->id,
                     a->name);
    }
    if (epoch_compare(c->epoch, t->newest) <= 0) {
        sim_violated(s, "epochs of task %llu do not rise", (unsigned long long)t->id);
    }
    t->newest = c->epoch;
    a->first_assignments += s->any_done ? 0 : 1;
    sim_to_agent(s, agent_named(s, c->agent), EV_ASSIGN)->ref = (struct ref){c->task_id, c->epoch};
}

void sim_run_commands(struct sim *s) {
    while (s->scheduler != NULL) {
        struct scheduler_command c;
        int64_t wake_ms;
        scheduler_next_command(s->scheduler, s->now_ms, &c, &wake_ms);
        switch (c.kind) {
        case SCHED_NONE:
            if (wake_ms < INT64_MAX && (s->wake_ms <= s->now_ms || wake_ms < s->wake_ms)) {
                s->wake_ms = wake_ms > s->now_ms ? wake_ms : s->now_ms + 1;
                sim_later(s, s->wake_ms - s->now_ms, EV_WAKE, 0);
            }
            return;
        case SCHED_ASSIGN: assign(s, &c); break;
        case SCHED_YIELD:
        case SCHED_REVOKE:
            sim_to_agent(s, agent_named(s, c.agent), c.kind == SCHED_YIELD ? EV_YIELD : EV_REVOKE)
                ->ref = (struct ref){c.task_id, c.epoch};
            break;
        case SCHED_WANT_TASKS: want(s, c.flow, c.n); break;
        case SCHED_CLOSED: check_closed(s, &c); break;
        case SCHED_UNRUNNABLE:
        case SCHED_QUIET:
            sim_violated(s, "a command that nobody expected: %d", (int)c.kind);
            return;
        }
    }
}

void sim_master_starts(struct sim *s) {
    struct scheduler_options o = {.term = ++s->term,
                                  .hold_ms = HOLD_MS,
                                  .lost_after_ms = LOST_AFTER_MS,
                                  .park_ms = PARK_MS,
                                  .window = WINDOW,
                                  .max_tasks = MAX_TASKS,
                                  .reconcile_until_ms = s->term > 1 ? s->now_ms + RECONCILE_MS : 0};
    if (scheduler_new(&o, &s->scheduler) != OK) {
        abort();
    }
    s->wake_ms = 0;
    sim_later(s, s->term > 1 ? 0 : s->o.begin_ms, EV_FLOWS_COME, 0)->term = s->term;
}

void sim_master_dies(struct sim *s) {
    scheduler_free(s->scheduler);
    s->scheduler = NULL;
    for (size_t i = 0; i < s->n_tasks; i++) {
        s->tasks[i].loaded = false;
        s->tasks[i].newest = (struct epoch){0, 0};
    }
    for (uint32_t i = 0; i < s->n_agents; i++) {
        struct sim_agent *a = &s->agents[i];
        a->master_session = 0;
        a->session = 0;
        sim_later(s, (int64_t)sim_between(s, 50, 1500), EV_DIAL, i);
    }
    sim_later(s, (int64_t)sim_between(s, 100, 4000), EV_MASTER_STARTS, 0);
}

static void registered(struct sim *s, const struct event *e) {
    struct sim_agent *a = &s->agents[e->agent];
    struct scheduler_volume v = {.name = "v", .readable = true, .writable = true, .shared = true};
    struct scheduler_agent spec = {.slots = a->slots, .volumes = &v, .n_volumes = 1};
    memcpy(spec.name, a->name, sizeof(a->name));
    memcpy(spec.site, a->site, sizeof(a->site));
    snprintf(spec.incarnation, sizeof(spec.incarnation), "%llu",
             (unsigned long long)e->incarnation);
    if (a->master_session != 0) {
        scheduler_agent_down(s->scheduler, a->name, false, s->now_ms);
    }
    a->master_session = e->session;
    if (scheduler_agent_up(s->scheduler, &spec, s->now_ms) != OK) {
        abort();
    }
    // What the message lists is what the agent held when it sent it; it drops nothing between.
    uint64_t *refused = sim_must(calloc(a->n_leases + 1, sizeof(*refused)));
    size_t n = 0;
    for (size_t i = 0; i < a->n_leases; i++) {
        if (!scheduler_agent_holds(s->scheduler, a->name, a->leases[i].ref.task,
                                   a->leases[i].ref.epoch, s->now_ms)) {
            refused[n++] = a->leases[i].ref.task;
        }
    }
    for (size_t i = 0; i < a->n_kept; i++) {
        (void)scheduler_agent_holds(s->scheduler, a->name, a->kept[i].ref.task,
                                    a->kept[i].ref.epoch, s->now_ms);
    }
    scheduler_agent_reported(s->scheduler, a->name, s->now_ms);
    struct event *w = sim_to_agent(s, e->agent, EV_WELCOME);
    w->refused = refused;
    w->n_refused = n;
    w->sent_ms = e->sent_ms;
}

static void result_arrives(struct sim *s, const struct event *e) {
    struct sim_agent *a = &s->agents[e->agent];
    struct kept_result *k = NULL;
    for (size_t i = 0; i < a->n_kept; i++) {
        if (a->kept[i].number == e->number) {
            k = &a->kept[i];
        }
    }
    if (k == NULL || k->term_under_way == s->term) {
        return; // told twice
    }
    const struct sim_task *t = sim_task_of(s, k->ref.task);
    enum err r = scheduler_result(s->scheduler, a->name, k->ref.task, k->ref.epoch, s->now_ms);
    if (r == ERR_AGAIN) {
        struct event *again = sim_to_master(s, e->agent, EV_RESULT);
        again->at_ms = s->now_ms + RECONCILE_MS / 4;
        again->number = e->number;
        ordered_heap_moved(&s->events, &again->node);
        again->session = e->session;
    } else if (r == OK) {
        if (t->newest.term == s->term && epoch_compare(t->newest, k->ref.epoch) != 0) {
            sim_violated(s, "task %llu ends under an old epoch", (unsigned long long)t->id);
        }
        k->term_under_way = s->term;
        struct event *c = sim_later(s, (int64_t)sim_between(s, 1, 30), EV_COMMIT, e->agent);
        c->term = s->term;
        c->number = e->number;
        c->ref = k->ref;
    } else {
        if (!t->done && t->loaded && t->newest.term == s->term &&
            epoch_compare(t->newest, k->ref.epoch) == 0) {
            sim_violated(s, "the newest result of task %llu is fenced", (unsigned long long)t->id);
        }
        sim_to_agent(s, e->agent, EV_COMMITTED)->number = e->number;
    }
}

void sim_flows_come(struct sim *s, const struct event *e) {
    for (uint32_t i = 0; s->scheduler != NULL && s->term == e->term && i < s->o.n_flows; i++) {
        flow_add(s, i);
    }
}

static void beat_arrives(struct sim *s, const struct event *e) {
    struct sim_agent *a = &s->agents[e->agent];
    for (size_t k = 0; k < a->n_leases; k++) {
        const struct sim_lease *l = &a->leases[k];
        if (l->running) {
            scheduler_progress(s->scheduler, a->name, l->ref.task, l->ref.epoch,
                               sim_done_of(s, a, l), 0, s->now_ms);
        }
    }
    sim_to_agent(s, e->agent, EV_PING)->sent_ms = e->sent_ms;
}

void sim_master_message(struct sim *s, const struct event *e) {
    struct sim_agent *a = &s->agents[e->agent];
    if (e->kind == EV_REGISTER) {
        if (a->alive && a->session == e->session) {
            registered(s, e);
        }
        return;
    }
    if (a->master_session != e->session) {
        return;
    }
    if (e->kind == EV_CUT_SEEN) {
        a->master_session = 0;
        scheduler_agent_down(s->scheduler, a->name, false, s->now_ms);
        return;
    }
    if (!scheduler_agent_heard(s->scheduler, a->name, s->now_ms)) {
        a->master_session = 0; // it must register again
        sim_cut(s, e->agent);
        return;
    }
    if (e->kind == EV_BEAT) {
        beat_arrives(s, e);
    } else if (e->kind == EV_RESULT) {
        result_arrives(s, e);
    } else {
        scheduler_released(s->scheduler, a->name, e->ref.task, e->ref.epoch, s->now_ms);
    }
}
