// SPDX-License-Identifier: Apache-2.0
#include "tests/simulation/master/simulated_cluster.h"

#include "common/cleanup.h"
#include "master/ordered_heap.h"
#include "tests/simulation/master/scheduler_check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HOLD_MS = 10000,
    LOST_AFTER_MS = 3000,
    RECONCILE_MS = 2000,
    PARK_MS = 1000000,
    HEARTBEAT_MS = 1000,
    WINDOW = 64,
    MAX_TASKS = 100000,
    PATIENCE_MS = 3600000, // simulated: by then all must be done
};

struct ref {
    uint64_t task;
    struct epoch epoch;
};

enum event_kind {
    EV_WAKE,
    EV_HEARTBEAT,
    EV_TASK_ENDS,
    EV_DIAL,
    EV_AGENT_STARTS,
    EV_MASTER_STARTS,
    EV_HEAL,
    EV_FAULT,
    EV_COMMIT,
    EV_FLOWS_COME,
    // messages to the master
    EV_REGISTER,
    EV_BEAT,
    EV_RESULT,
    EV_STOPPED,
    EV_CUT_SEEN,
    // messages to an agent
    EV_WELCOME,
    EV_ASSIGN,
    EV_YIELD,
    EV_REVOKE,
    EV_COMMITTED,
    EV_PING,
};

struct event {
    struct heap_node node;
    int64_t at_ms;
    uint64_t order;
    enum event_kind kind;
    uint32_t agent;
    uint64_t session, term, incarnation, number;
    struct ref ref;
    int64_t sent_ms;
    uint64_t *refused; // tasks
    size_t n_refused;
};

struct sim_lease {
    struct ref ref;
    uint64_t cost, done;
    int64_t since_ms;
    bool running;
    uint64_t run; // distinguishes ends of earlier runs
};

// In the agent's journal: kept until it is committed.
struct kept_result {
    struct ref ref;
    uint64_t number, done;
    bool ok;
    uint64_t term_under_way; // the master of this term is storing it
};

struct sim_agent {
    char name[16], site[2];
    uint32_t slots;
    double rate;
    int64_t latency_ms;
    bool alive, partitioned;
    uint64_t incarnation, session; // session 0: not connected
    bool welcomed;
    int64_t confirmed_ms;
    struct sim_lease leases[64];
    size_t n_leases;
    struct kept_result *kept;
    size_t n_kept, cap_kept;
    uint64_t next_number, next_run;
    // as the master sees it
    uint64_t master_session;
    uint32_t first_assignments;
};

struct sim_task {
    uint64_t id, cost;
    uint32_t flow, attempt;
    bool done, loaded;
    struct epoch newest; // in this term
    char avoid[16];
};

struct sim {
    struct sim_options o;
    uint64_t random;
    int64_t now_ms;
    uint64_t n_events, n_order, next_session;
    struct ordered_heap events;
    struct scheduler *scheduler; // NULL: the master is down
    uint64_t term;
    int64_t wake_ms;
    struct sim_agent *agents;
    uint32_t n_agents;
    struct sim_task *tasks; // by id - 1
    size_t n_tasks, cap_tasks, n_open;
    uint64_t total_cost, done_cost;
    bool any_done;
    char violation[256];
};

static void __attribute__((format(printf, 2, 3))) violated(struct sim *s, const char *fmt, ...) {
    if (s->violation[0] == '\0') {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(s->violation, sizeof(s->violation), fmt, ap);
        va_end(ap);
    }
}

static uint64_t chance(struct sim *s) { // splitmix64
    uint64_t z = (s->random += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static uint64_t between(struct sim *s, uint64_t low, uint64_t high) {
    return low + chance(s) % (high - low + 1);
}

static void *must(void *p) {
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

static struct event *later(struct sim *s, int64_t in_ms, enum event_kind kind, uint32_t agent) {
    struct event *e = must(calloc(1, sizeof(*e)));
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

static struct event *to_master(struct sim *s, uint32_t i, enum event_kind kind) {
    struct event *e = later(s, s->agents[i].latency_ms, kind, i);
    e->session = s->agents[i].session;
    e->incarnation = s->agents[i].incarnation;
    return e;
}

static struct event *to_agent(struct sim *s, uint32_t i, enum event_kind kind) {
    struct event *e = later(s, s->agents[i].latency_ms, kind, i);
    e->session = s->agents[i].master_session;
    e->term = s->term;
    return e;
}

// ---- the planner and its database ----

static struct sim_task *task_of(struct sim *s, uint64_t id) {
    return &s->tasks[id - 1];
}

static void flow_id(uint32_t flow, char id[IDENT_SIZE]) {
    memset(id, '0', IDENT_LEN);
    id[IDENT_LEN] = '\0';
    id[IDENT_LEN - 1] = (char)('A' + flow);
}

static struct sim_task *task_new(struct sim *s, uint32_t flow, uint64_t cost) {
    if (s->n_tasks == s->cap_tasks) {
        s->cap_tasks = s->cap_tasks * 2 + 64;
        s->tasks = must(realloc(s->tasks, s->cap_tasks * sizeof(*s->tasks)));
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
        violated(s, "task %llu cannot be added: %d", (unsigned long long)t->id, (int)e);
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

static void commit(struct sim *s, const struct event *e) {
    struct sim_agent *a = &s->agents[e->agent];
    if (e->term != s->term || s->scheduler == NULL) {
        return; // the master died before
    }
    struct sim_task *t = task_of(s, e->ref.task);
    for (size_t i = 0; i < a->n_kept; i++) {
        struct kept_result *k = &a->kept[i];
        if (k->number != e->number) {
            continue;
        }
        if (t->done) {
            violated(s, "task %llu ended twice", (unsigned long long)t->id);
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
                task_new(s, t->flow, rest);
                scheduler_more_tasks(s->scheduler, id, s->now_ms);
            }
        }
    }
    if (a->master_session != 0) {
        to_agent(s, e->agent, EV_COMMITTED)->number = e->number;
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
        violated(s, "lease of task %llu closed (%d) while %s holds it",
                 (unsigned long long)c->task_id, (int)c->how, a->name);
    }
}

static void assign(struct sim *s, const struct scheduler_command *c) {
    struct sim_agent *a = &s->agents[agent_named(s, c->agent)];
    struct sim_task *t = task_of(s, c->task_id);
    if (t->done || !t->loaded) {
        violated(s, "task %llu is leased though it is %s", (unsigned long long)t->id,
                 t->done ? "done" : "not here");
    }
    if (a->site[0] != 'b' || c->n_sources == 0 || a->master_session == 0) {
        violated(s, "task %llu is leased to %s, which cannot run it", (unsigned long long)t->id,
                 a->name);
    }
    if (epoch_compare(c->epoch, t->newest) <= 0) {
        violated(s, "epochs of task %llu do not rise", (unsigned long long)t->id);
    }
    t->newest = c->epoch;
    a->first_assignments += s->any_done ? 0 : 1;
    to_agent(s, agent_named(s, c->agent), EV_ASSIGN)->ref = (struct ref){c->task_id, c->epoch};
}

static void run_commands(struct sim *s) {
    while (s->scheduler != NULL) {
        struct scheduler_command c;
        int64_t wake_ms;
        scheduler_next_command(s->scheduler, s->now_ms, &c, &wake_ms);
        switch (c.kind) {
        case SCHED_NONE:
            if (wake_ms < INT64_MAX && (s->wake_ms <= s->now_ms || wake_ms < s->wake_ms)) {
                s->wake_ms = wake_ms > s->now_ms ? wake_ms : s->now_ms + 1;
                later(s, s->wake_ms - s->now_ms, EV_WAKE, 0);
            }
            return;
        case SCHED_ASSIGN: assign(s, &c); break;
        case SCHED_YIELD:
        case SCHED_REVOKE:
            to_agent(s, agent_named(s, c.agent), c.kind == SCHED_YIELD ? EV_YIELD : EV_REVOKE)
                ->ref = (struct ref){c.task_id, c.epoch};
            break;
        case SCHED_WANT_TASKS: want(s, c.flow, c.n); break;
        case SCHED_CLOSED: check_closed(s, &c); break;
        case SCHED_UNRUNNABLE:
        case SCHED_QUIET: violated(s, "a command that nobody expected: %d", (int)c.kind); return;
        }
    }
}

static void master_starts(struct sim *s) {
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
    later(s, s->term > 1 ? 0 : s->o.begin_ms, EV_FLOWS_COME, 0)->term = s->term;
}

static void master_dies(struct sim *s) {
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
        later(s, (int64_t)between(s, 50, 1500), EV_DIAL, i);
    }
    later(s, (int64_t)between(s, 100, 4000), EV_MASTER_STARTS, 0);
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
    uint64_t *refused = must(calloc(a->n_leases + 1, sizeof(*refused)));
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
    struct event *w = to_agent(s, e->agent, EV_WELCOME);
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
    const struct sim_task *t = task_of(s, k->ref.task);
    enum err r = scheduler_result(s->scheduler, a->name, k->ref.task, k->ref.epoch, s->now_ms);
    if (r == ERR_AGAIN) {
        struct event *again = to_master(s, e->agent, EV_RESULT);
        again->at_ms = s->now_ms + RECONCILE_MS / 4;
        again->number = e->number;
        ordered_heap_moved(&s->events, &again->node);
        again->session = e->session;
    } else if (r == OK) {
        if (t->newest.term == s->term && epoch_compare(t->newest, k->ref.epoch) != 0) {
            violated(s, "task %llu ends under an old epoch", (unsigned long long)t->id);
        }
        k->term_under_way = s->term;
        struct event *c = later(s, (int64_t)between(s, 1, 30), EV_COMMIT, e->agent);
        c->term = s->term;
        c->number = e->number;
        c->ref = k->ref;
    } else {
        if (!t->done && t->loaded && t->newest.term == s->term &&
            epoch_compare(t->newest, k->ref.epoch) == 0) {
            violated(s, "the newest result of task %llu is fenced", (unsigned long long)t->id);
        }
        to_agent(s, e->agent, EV_COMMITTED)->number = e->number;
    }
}

// ---- agents ----

static void keep(struct sim_agent *a, struct ref ref, bool ok, uint64_t done) {
    if (a->n_kept == a->cap_kept) {
        a->cap_kept = a->cap_kept * 2 + 16;
        a->kept = must(realloc(a->kept, a->cap_kept * sizeof(*a->kept)));
    }
    a->kept[a->n_kept++] =
        (struct kept_result){.ref = ref, .ok = ok, .done = done, .number = ++a->next_number};
}

static void send_kept(struct sim *s, uint32_t i, const struct kept_result *k) {
    to_master(s, i, EV_RESULT)->number = k->number;
}

static void start_waiting(struct sim *s, uint32_t i) {
    struct sim_agent *a = &s->agents[i];
    size_t n = 0;
    for (size_t k = 0; k < a->n_leases && n < a->slots; k++, n++) {
        struct sim_lease *l = &a->leases[k];
        if (!l->running) {
            l->running = true;
            l->since_ms = s->now_ms;
            l->run = ++a->next_run;
            struct event *e = later(s, 1 + (int64_t)((double)l->cost / a->rate), EV_TASK_ENDS, i);
            e->incarnation = a->incarnation;
            e->number = l->run;
        }
    }
}

static void drop_lease(struct sim_agent *a, size_t k) {
    memmove(&a->leases[k], &a->leases[k + 1], (a->n_leases - k - 1) * sizeof(a->leases[0]));
    a->n_leases--;
}

static void check_hold(struct sim *s, struct sim_agent *a) {
    if (s->now_ms - a->confirmed_ms > HOLD_MS) {
        a->n_leases = 0; // nothing may be written any more
    }
}

static uint64_t done_of(const struct sim *s, const struct sim_agent *a, const struct sim_lease *l) {
    double done = l->running ? (double)(s->now_ms - l->since_ms) * a->rate : 0;
    return done < (double)l->cost ? (uint64_t)done : l->cost;
}

static void lease_ends(struct sim *s, uint32_t i, size_t k, bool ok, uint64_t done) {
    struct sim_agent *a = &s->agents[i];
    keep(a, a->leases[k].ref, ok, done);
    drop_lease(a, k);
    if (a->welcomed) {
        send_kept(s, i, &a->kept[a->n_kept - 1]);
    }
    start_waiting(s, i);
}

static void task_ends(struct sim *s, const struct event *e) {
    struct sim_agent *a = &s->agents[e->agent];
    if (!a->alive || a->incarnation != e->incarnation) {
        return;
    }
    check_hold(s, a);
    for (size_t k = 0; k < a->n_leases; k++) {
        if (a->leases[k].running && a->leases[k].run == e->number) {
            bool ok = chance(s) % 100 >= s->o.failures_percent;
            lease_ends(s, e->agent, k, ok, ok ? a->leases[k].cost : 0);
            return;
        }
    }
}

static void stopped(struct sim *s, uint32_t i, struct ref ref) {
    to_master(s, i, EV_STOPPED)->ref = ref;
}

static void ordered(struct sim *s, const struct event *e) {
    struct sim_agent *a = &s->agents[e->agent];
    for (size_t k = 0; k < a->n_leases; k++) {
        struct sim_lease *l = &a->leases[k];
        if (l->ref.task != e->ref.task || epoch_compare(l->ref.epoch, e->ref.epoch) != 0) {
            continue;
        }
        uint64_t done = done_of(s, a, l);
        if (e->kind == EV_YIELD && done > 0 && done < l->cost) {
            lease_ends(s, e->agent, k, true, done);
        } else if (e->kind == EV_REVOKE || done == 0) {
            drop_lease(a, k);
            stopped(s, e->agent, e->ref);
            start_waiting(s, e->agent);
        }
        return;
    }
    for (size_t k = 0; k < a->n_kept; k++) {
        if (a->kept[k].ref.task == e->ref.task) {
            return; // the result is on its way
        }
    }
    stopped(s, e->agent, e->ref);
}

static void welcomed(struct sim *s, const struct event *e) {
    struct sim_agent *a = &s->agents[e->agent];
    a->welcomed = true;
    a->confirmed_ms = e->sent_ms;
    check_hold(s, a);
    for (size_t i = 0; i < e->n_refused; i++) {
        for (size_t k = 0; k < a->n_leases; k++) {
            if (a->leases[k].ref.task == e->refused[i]) {
                struct ref ref = a->leases[k].ref;
                drop_lease(a, k);
                stopped(s, e->agent, ref);
                break;
            }
        }
    }
    for (size_t i = 0; i < a->n_kept; i++) {
        send_kept(s, e->agent, &a->kept[i]);
    }
    start_waiting(s, e->agent);
}

static void agent_message(struct sim *s, const struct event *e) {
    struct sim_agent *a = &s->agents[e->agent];
    switch ((int)e->kind) {
    case EV_WELCOME: welcomed(s, e); break;
    case EV_ASSIGN:
        if (a->n_leases == ARRAY_LEN(a->leases)) {
            violated(s, "%s is flooded with leases", a->name);
            break;
        }
        a->leases[a->n_leases++] =
            (struct sim_lease){.ref = e->ref, .cost = task_of(s, e->ref.task)->cost};
        start_waiting(s, e->agent);
        break;
    case EV_COMMITTED:
        for (size_t i = 0; i < a->n_kept; i++) {
            if (a->kept[i].number == e->number) {
                memmove(&a->kept[i], &a->kept[i + 1], (a->n_kept - i - 1) * sizeof(a->kept[0]));
                a->n_kept--;
                break;
            }
        }
        break;
    case EV_PING:
        a->confirmed_ms = e->sent_ms > a->confirmed_ms ? e->sent_ms : a->confirmed_ms;
        break;
    default: ordered(s, e); break;
    }
}

static void heartbeat(struct sim *s, uint32_t i) {
    struct sim_agent *a = &s->agents[i];
    later(s, HEARTBEAT_MS, EV_HEARTBEAT, i);
    if (!a->alive) {
        return;
    }
    check_hold(s, a);
    if (a->session != 0 && a->welcomed) {
        to_master(s, i, EV_BEAT)->sent_ms = s->now_ms;
    }
}

static void dial(struct sim *s, uint32_t i) {
    struct sim_agent *a = &s->agents[i];
    if (!a->alive || a->session != 0) {
        return;
    }
    if (s->scheduler == NULL || a->partitioned) {
        later(s, (int64_t)between(s, 50, 1000), EV_DIAL, i);
        return;
    }
    check_hold(s, a);
    a->session = ++s->next_session;
    a->welcomed = false;
    to_master(s, i, EV_REGISTER)->sent_ms = s->now_ms;
}

static void beat_arrives(struct sim *s, const struct event *e) {
    struct sim_agent *a = &s->agents[e->agent];
    for (size_t k = 0; k < a->n_leases; k++) {
        const struct sim_lease *l = &a->leases[k];
        if (l->running) {
            scheduler_progress(s->scheduler, a->name, l->ref.task, l->ref.epoch, done_of(s, a, l),
                               0, s->now_ms);
        }
    }
    to_agent(s, e->agent, EV_PING)->sent_ms = e->sent_ms;
}

// ---- faults ----

static void cut(struct sim *s, uint32_t i) {
    struct sim_agent *a = &s->agents[i];
    if (a->session != 0) {
        to_master(s, i, EV_CUT_SEEN);
        a->session = 0;
        later(s, (int64_t)between(s, 20, 1200), EV_DIAL, i);
    }
}

static void fault(struct sim *s) {
    if (s->now_ms >= s->o.faults_until_ms) {
        return;
    }
    later(s, (int64_t)between(s, 100, 4000), EV_FAULT, 0);
    uint32_t i = (uint32_t)between(s, 0, s->n_agents - 1);
    struct sim_agent *a = &s->agents[i];
    uint64_t what = between(s, 0, 9);
    if (what < 3 && a->alive) { // kill -9
        cut(s, i);
        a->alive = false;
        a->n_leases = 0;
        later(s, (int64_t)between(s, 50, 20000), EV_AGENT_STARTS, i);
    } else if (what < 6) {
        cut(s, i);
    } else if (what < 9 && !a->partitioned) {
        a->partitioned = true;
        later(s, (int64_t)between(s, 100, 25000), EV_HEAL, i);
    } else if (s->scheduler != NULL) {
        master_dies(s);
    }
}

static void agent_starts(struct sim *s, uint32_t i) {
    struct sim_agent *a = &s->agents[i];
    a->alive = true;
    a->incarnation++;
    a->session = 0;
    a->n_leases = 0;
    dial(s, i);
}

// ---- the run ----

static bool is_for_master(enum event_kind k) {
    return k >= EV_REGISTER && k <= EV_CUT_SEEN;
}

static void master_message(struct sim *s, const struct event *e) {
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
        cut(s, e->agent);
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

static void flows_come(struct sim *s, const struct event *e) {
    for (uint32_t i = 0; s->scheduler != NULL && s->term == e->term && i < s->o.n_flows; i++) {
        flow_add(s, i);
    }
}

static void happens(struct sim *s, const struct event *e) {
    struct sim_agent *a = &s->agents[e->agent];
    if (is_for_master(e->kind)) {
        if (s->scheduler != NULL && (!a->partitioned || e->kind == EV_CUT_SEEN)) {
            master_message(s, e);
        }
        return;
    }
    if (e->kind >= EV_WELCOME) {
        if (a->alive && !a->partitioned && a->session == e->session && e->session != 0) {
            agent_message(s, e);
        }
        return;
    }
    switch ((int)e->kind) {
    case EV_HEARTBEAT: heartbeat(s, e->agent); break;
    case EV_TASK_ENDS: task_ends(s, e); break;
    case EV_DIAL: dial(s, e->agent); break;
    case EV_AGENT_STARTS: agent_starts(s, e->agent); break;
    case EV_MASTER_STARTS: master_starts(s); break;
    case EV_HEAL:
        a->partitioned = false;
        cut(s, e->agent);
        break;
    case EV_FAULT: fault(s); break;
    case EV_COMMIT: commit(s, e); break;
    case EV_FLOWS_COME: flows_come(s, e); break;
    default: break;
    }
}

struct sim *sim_new(const struct sim_options *o) {
    struct sim *s = must(calloc(1, sizeof(*s)));
    s->o = *o;
    s->random = o->seed;
    s->now_ms = 1000000;
    ordered_heap_init(&s->events, event_before);
    s->n_agents = o->n_sources + o->n_sinks;
    s->agents = must(calloc(s->n_agents, sizeof(*s->agents)));
    s->o.faults_until_ms += o->faults_until_ms > 0 ? s->now_ms : 0;
    master_starts(s);
    for (uint32_t i = 0; i < s->n_agents; i++) {
        struct sim_agent *a = &s->agents[i];
        snprintf(a->name, sizeof(a->name), "n%u", i);
        a->site[0] = i < o->n_sources ? 'a' : 'b';
        a->slots = o->slots > 0 ? o->slots : (uint32_t)between(s, 1, 8);
        a->rate = o->rate > 0 ? o->rate : (double)between(s, 100, 2000);
        a->rate /= i >= o->n_sources && i - o->n_sources < o->n_slow ? 10 : 1;
        a->latency_ms = o->rate > 0 ? 1 : (int64_t)between(s, 1, 40);
        later(s, 0, EV_AGENT_STARTS, i);
        later(s, (int64_t)between(s, 0, HEARTBEAT_MS), EV_HEARTBEAT, i);
    }
    for (uint32_t k = 0; k < o->n_tasks * o->n_flows; k++) {
        uint64_t cost = o->task_cost > 0 ? o->task_cost : between(s, 1000, 3000000);
        (void)task_new(s, k % o->n_flows, cost);
        s->total_cost += cost;
    }
    if (o->faults_until_ms > 0) {
        later(s, (int64_t)between(s, 100, 4000), EV_FAULT, 0);
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
        run_commands(s);
        const char *broken =
            s->scheduler != NULL && s->o.check_all ? scheduler_check(s->scheduler) : NULL;
        if (broken != NULL) {
            violated(s, "%s", broken);
        }
        if (s->now_ms > end_ms) {
            violated(s, "%zu tasks are still not done", s->n_open);
        }
        tasks_left = s->n_open > 0;
    }
    if (s->violation[0] == '\0' && s->done_cost != s->total_cost) {
        violated(s, "%llu bytes were done of %llu", (unsigned long long)s->done_cost,
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
