// SPDX-License-Identifier: Apache-2.0
#include "tests/simulation/master/simulated_cluster_impl.h"

#include "tests/simulation/master/scheduler_check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sim_violated(struct sim *s, const char *fmt, ...) {
    if (s->violation[0] == '\0') {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(s->violation, sizeof(s->violation), fmt, ap);
        va_end(ap);
    }
}

static uint64_t sim_chance(struct sim *s) { // splitmix64
    uint64_t z = (s->random += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

uint64_t sim_between(struct sim *s, uint64_t low, uint64_t high) {
    return low + sim_chance(s) % (high - low + 1);
}

void *sim_must(void *p) {
    if (p == NULL) {
        abort();
    }
    return p;
}

// ---- events ----

static bool event_before(const struct heap_node *x, const struct heap_node *y) {
    const struct event *a = CONTAINER_OF(x, const struct event, node);
    const struct event *b = CONTAINER_OF(y, const struct event, node);
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->order < b->order;
}

struct event *sim_later(struct sim *s, int64_t in_ms, enum event_kind kind, uint32_t agent) {
    struct event *e = sim_must(calloc(1, sizeof(*e)));
    e->at_ms = s->now_ms + in_ms;
    e->order = s->n_order++;
    e->kind = kind;
    e->agent = agent;
    if (ordered_heap_reserve(&s->events, 1) != OK) {
        abort();
    }
    ordered_heap_put(&s->events, &e->node);
    return e;
}

static void event_free(struct event *e) {
    free(e->refused);
    free(e);
}

struct event *sim_to_master(struct sim *s, uint32_t i, enum event_kind kind) {
    struct event *e = sim_later(s, s->agents[i].latency_ms, kind, i);
    e->session = s->agents[i].session;
    e->incarnation = s->agents[i].incarnation;
    return e;
}

struct event *sim_to_agent(struct sim *s, uint32_t i, enum event_kind kind) {
    struct event *e = sim_later(s, s->agents[i].latency_ms, kind, i);
    e->session = s->agents[i].master_session;
    e->term = s->term;
    return e;
}

// ---- faults ----

void sim_cut(struct sim *s, uint32_t i) {
    struct sim_agent *a = &s->agents[i];
    if (a->session != 0) {
        sim_to_master(s, i, EV_CUT_SEEN);
        a->session = 0;
        sim_later(s, (int64_t)sim_between(s, 20, 1200), EV_DIAL, i);
    }
}

static void fault(struct sim *s) {
    if (s->now_ms >= s->o.faults_until_ms) {
        return;
    }
    sim_later(s, (int64_t)sim_between(s, 100, 4000), EV_FAULT, 0);
    uint32_t i = (uint32_t)sim_between(s, 0, s->n_agents - 1);
    struct sim_agent *a = &s->agents[i];
    uint64_t what = sim_between(s, 0, 9);
    if (what < 3 && a->alive) { // kill -9
        sim_cut(s, i);
        a->alive = false;
        a->n_leases = 0;
        sim_later(s, (int64_t)sim_between(s, 50, 20000), EV_AGENT_STARTS, i);
    } else if (what < 6) {
        sim_cut(s, i);
    } else if (what < 9 && !a->partitioned) {
        a->partitioned = true;
        sim_later(s, (int64_t)sim_between(s, 100, 25000), EV_HEAL, i);
    } else if (s->scheduler != NULL) {
        sim_master_dies(s);
    }
}

void sim_agent_starts(struct sim *s, uint32_t i) {
    struct sim_agent *a = &s->agents[i];
    a->alive = true;
    a->incarnation++;
    a->session = 0;
    a->n_leases = 0;
    sim_dial(s, i);
}

// ---- the run ----

static bool is_for_master(enum event_kind k) {
    return k >= EV_REGISTER && k <= EV_CUT_SEEN;
}

static void happens(struct sim *s, const struct event *e) {
    struct sim_agent *a = &s->agents[e->agent];
    if (is_for_master(e->kind)) {
        if (s->scheduler != NULL && (!a->partitioned || e->kind == EV_CUT_SEEN)) {
            sim_master_message(s, e);
        }
        return;
    }
    if (e->kind >= EV_WELCOME) {
        if (a->alive && !a->partitioned && a->session == e->session && e->session != 0) {
            sim_agent_message(s, e);
        }
        return;
    }
    switch ((int)e->kind) {
    case EV_HEARTBEAT: sim_heartbeat(s, e->agent); break;
    case EV_TASK_ENDS: sim_task_ends(s, e); break;
    case EV_DIAL: sim_dial(s, e->agent); break;
    case EV_AGENT_STARTS: sim_agent_starts(s, e->agent); break;
    case EV_MASTER_STARTS: sim_master_starts(s); break;
    case EV_HEAL:
        a->partitioned = false;
        sim_cut(s, e->agent);
        break;
    case EV_FAULT: fault(s); break;
    case EV_COMMIT: sim_commit(s, e); break;
    case EV_FLOWS_COME: sim_flows_come(s, e); break;
    default: break;
    }
}

struct sim *sim_new(const struct sim_options *o) {
    struct sim *s = sim_must(calloc(1, sizeof(*s)));
    s->o = *o;
    s->random = o->seed;
    s->now_ms = 1000000;
    ordered_heap_init(&s->events, event_before);
    s->n_agents = o->n_sources + o->n_sinks;
    s->agents = sim_must(calloc(s->n_agents, sizeof(*s->agents)));
    s->o.faults_until_ms += o->faults_until_ms > 0 ? s->now_ms : 0;
    sim_master_starts(s);
    for (uint32_t i = 0; i < s->n_agents; i++) {
        struct sim_agent *a = &s->agents[i];
        snprintf(a->name, sizeof(a->name), "n%u", i);
        a->site[0] = i < o->n_sources ? 'a' : 'b';
        a->slots = o->slots > 0 ? o->slots : (uint32_t)sim_between(s, 1, 8);
        a->rate = o->rate > 0 ? o->rate : (double)sim_between(s, 100, 2000);
        a->rate /= i >= o->n_sources && i - o->n_sources < o->n_slow ? 10 : 1;
        a->latency_ms = o->rate > 0 ? 1 : (int64_t)sim_between(s, 1, 40);
        sim_later(s, 0, EV_AGENT_STARTS, i);
        sim_later(s, (int64_t)sim_between(s, 0, HEARTBEAT_MS), EV_HEARTBEAT, i);
    }
    for (uint32_t k = 0; k < o->n_tasks * o->n_flows; k++) {
        uint64_t cost = o->task_cost > 0 ? o->task_cost : sim_between(s, 1000, 3000000);
        (void)sim_task_new(s, k % o->n_flows, cost);
        s->total_cost += cost;
    }
    if (o->faults_until_ms > 0) {
        sim_later(s, (int64_t)sim_between(s, 100, 4000), EV_FAULT, 0);
    }
    return s;
}

void sim_free(struct sim *s) {
    struct heap_node *n;
    while ((n = ordered_heap_first(&s->events)) != NULL) {
        ordered_heap_take(&s->events, n);
        event_free(CONTAINER_OF(n, struct event, node));
    }
    ordered_heap_deinit(&s->events);
    for (uint32_t i = 0; i < s->n_agents; i++) {
        free(s->agents[i].kept);
    }
    scheduler_free(s->scheduler);
    free(s->agents);
    free(s->tasks);
    free(s);
}

bool sim_run(struct sim *s) {
    int64_t end_ms = s->now_ms + PATIENCE_MS;
    bool tasks_left = true;
    while (tasks_left && s->violation[0] == '\0') {
        struct heap_node *n = ordered_heap_first(&s->events);
        struct event *e = CONTAINER_OF(n, struct event, node);
        ordered_heap_take(&s->events, n);
        ordered_heap_unreserve(&s->events, 1);
        s->now_ms = e->at_ms;
        s->n_events++;
        happens(s, e);
        event_free(e);
        sim_run_commands(s);
        const char *broken =
            s->scheduler != NULL && s->o.check_all ? scheduler_check(s->scheduler) : NULL;
        if (broken != NULL) {
            sim_violated(s, "%s", broken);
        }
        if (s->now_ms > end_ms) {
            sim_violated(s, "%zu tasks are still not done", s->n_open);
        }
        tasks_left = s->n_open > 0;
    }
    if (s->violation[0] == '\0' && s->done_cost != s->total_cost) {
        sim_violated(s, "%llu bytes were done of %llu", (unsigned long long)s->done_cost,
                     (unsigned long long)s->total_cost);
    }
    return s->violation[0] == '\0';
}

const char *sim_violation(const struct sim *s) {
    return s->violation;
}

int64_t sim_now_ms(const struct sim *s) {
    return s->now_ms - 1000000;
}

uint64_t sim_n_events(const struct sim *s) {
    return s->n_events;
}

uint32_t sim_first_assignments(const struct sim *s, uint32_t sink) {
    return s->agents[s->o.n_sources + sink].first_assignments;
}
