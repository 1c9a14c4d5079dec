// SPDX-License-Identifier: Apache-2.0
// The master: the real planner and scheduler, with sessions, results and listings as in
// agent_session.c, agent_results.c and agent_list.c.
#include "tests/simulation/master/whole/world.h"

#include <stdlib.h>
#include <string.h>

enum { STREAM_WINDOW = 4, CHECK_EVERY = 64 };

static struct known_task *known(struct world *w, uint64_t id) {
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
static void forget_task(struct world *w, uint64_t id) {
    struct known_task *t = known(w, id);
    hash_index_remove(&w->tasks, &t->by_id);
    free(t);
}

static uint32_t agent_named(const char *name) {
    return (uint32_t)strtoul(name + strlen("agent-"), NULL, 10);
}

// ---- commands ----
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

void master_forget(void) {
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
    struct known_task *t = known(w, c->task_id);
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

static void on_abandoned(void *arg) {
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
        planner_flow_abandon(w->core.planner, &w->flow, on_abandoned, w);
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

// ---- its life ----
static void hang_up(struct world *w, uint32_t i) {
    struct agent *a = &w->agents[i];
    trace("hang up", i, a->master_session, 0);
    scheduler_agent_down(w->core.scheduler, a->name, false, w->now_ms);
    agent_cut(w, i);
    a->master_session = 0;
}

// The core did not run for a while: that is not the agents' silence.
static void loop_runs(struct world *w) {
    int64_t before_ms = w->last_loop_ms;
    w->last_loop_ms = w->now_ms;
    if (before_ms == 0 || w->now_ms - before_ms <= 2 * HEARTBEAT_MS) {
        return;
    }
    for (uint32_t i = 0; i < w->o.n_agents; i++) {
        struct agent *a = &w->agents[i];
        if (a->master_session != 0 &&
            scheduler_agent_heard(w->core.scheduler, a->name, w->now_ms)) {
            a->master_heard_ms = w->now_ms;
        }
    }
}

static void silent_check(struct world *w, struct event *e) {
    if (!w->up || e->number != w->term) {
        return;
    }
    loop_runs(w);
    for (uint32_t i = 0; i < w->o.n_agents; i++) {
        struct agent *a = &w->agents[i];
        if (a->master_session != 0 && w->now_ms - a->master_heard_ms >= w->options.lost_after_ms) {
            hang_up(w, i);
        }
    }
    core_dispatch(&w->core);
    struct event *again = event_in(w, 1000, silent_check);
    again->number = w->term;
    again->to_master = true;
}

static void judge_kept(struct world *w, struct event *e);

void master_start(struct world *w) {
    struct core *c = &w->core;
    struct planner *p = NULL;
    *c = (struct core){.options = &w->options, .clock = &w->clock, .term = ++w->term};
    c->reconcile_until_ms = w->term > 1 ? w->now_ms + w->options.reconcile_ms : 0;
    const struct scheduler_options so = {.term = c->term,
                                         .hold_ms = w->options.hold_ms,
                                         .lost_after_ms = w->options.lost_after_ms,
                                         .park_ms = w->options.park_ms,
                                         .window = w->options.tasks_per_flow,
                                         .max_tasks = w->options.tasks_in_memory,
                                         .reconcile_until_ms = c->reconcile_until_ms,
                                         .held_until_ms =
                                             w->term > 1 ? w->now_ms + w->options.hold_ms : 0};
    if (scheduler_new(&so, &c->scheduler) != OK || planner_new(c, &p) != OK) {
        abort();
    }
    c->planner = p;
    w->up = true;
    w->n_masters++;
    w->last_loop_ms = 0;
    trace("master starts", 0, w->term, 0);
    struct event *e = event_in(w, 1000, silent_check);
    e->number = w->term;
    e->to_master = true;
    if (c->reconcile_until_ms > 0) {
        e = event_at(w, c->reconcile_until_ms, judge_kept);
        e->number = w->term;
        e->to_master = true;
    }
    if (w->over) {
        return;
    }
    if (w->cancel) {
        w->abandoning = true;
        planner_flow_abandon(c->planner, &w->flow, on_abandoned, w);
    } else {
        planner_flow_begin(c->planner, &w->flow);
        if (w->paused) {
            scheduler_flow_pause(c->scheduler, w->flow.id, w->now_ms);
        }
    }
    core_dispatch(c);
}

void master_kill(struct world *w) {
    struct core *c = &w->core;
    trace("master dies", 0, w->term, 0);
    c->stopping = true;
    w->up = false;
    for (uint32_t i = 0; i < w->o.n_agents; i++) {
        agent_cut(w, i); // also one whose Register has not come yet
        w->agents[i].master_session = 0;
        w->agents[i].committed_through = 0;
    }
    if (w->wake != NULL) {
        event_cancel(w, w->wake);
        w->wake = NULL;
    }
    played_database_crash(w);
    master_forget();
    planner_free(c->planner);
    scheduler_free(c->scheduler);
    c->planner = NULL;
    c->scheduler = NULL;
    w->flow.plan = NULL;
    w->abandoning = false;
    w->dispatching = false;
    w->master_stopped_until_ms = 0;
}

// ---- sessions ----
// False: the message is of a session that has ended.
static bool heard(struct world *w, const struct event *e) {
    struct agent *a = &w->agents[e->agent];
    if (!w->up || a->master_session != e->session) {
        return false;
    }
    loop_runs(w);
    if (!scheduler_agent_heard(w->core.scheduler, a->name, w->now_ms)) {
        hang_up(w, e->agent);
        core_dispatch(&w->core);
        return false;
    }
    a->master_heard_ms = w->now_ms;
    return true;
}

static struct kept *kept_of(struct agent *a, uint64_t number) {
    size_t low = 0, high = a->n_kept;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (a->kept[middle]->number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < a->n_kept && a->kept[low]->number == number ? a->kept[low] : NULL;
}

static bool was_judged(const struct world *w, struct agent *a, uint64_t number) {
    const struct kept *k = kept_of(a, number);
    return k == NULL || number <= a->committed_through ||
           (k->term == w->term && k->state != KEPT_NEW && k->state != KEPT_AGAIN);
}

void message_register(struct world *w, struct event *e) {
    struct agent *a = &w->agents[e->agent];
    struct registration *r = e->ptr;
    if (!w->up || a->session != e->session) {
        return;
    }
    struct scheduler *s = w->core.scheduler;
    struct scheduler_volume volumes[2];
    struct scheduler_agent up = {.slots = w->o.slots, .volumes = volumes};
    if (a->reads) {
        volumes[up.n_volumes++] =
            (struct scheduler_volume){.name = "in", .readable = true, .shared = true};
    }
    if (a->writes) {
        volumes[up.n_volumes++] =
            (struct scheduler_volume){.name = "out", .writable = true, .shared = true};
    }
    snprintf(up.name, sizeof up.name, "%s", a->name);
    snprintf(up.site, sizeof up.site, "%s", w->o.two_sites && a->writes ? "b" : "a");
    snprintf(up.incarnation, sizeof up.incarnation, "%llu", (unsigned long long)r->incarnation);
    loop_runs(w);
    if (a->master_session != 0) {
        scheduler_agent_down(s, a->name, false, w->now_ms);
    }
    a->master_session = e->session;
    a->master_heard_ms = w->now_ms;
    trace("registered", e->agent, r->incarnation, r->n);
    if (scheduler_agent_up(s, &up, w->now_ms) != OK) {
        abort();
    }
    for (size_t i = 0; i < r->n; i++) {
        struct lease_told *l = &r->leases[i];
        if (l->result != 0 && was_judged(w, a, l->result)) {
            scheduler_released(s, a->name, l->task, l->epoch, w->now_ms);
        } else {
            l->refused = !scheduler_agent_holds(s, a->name, l->task, l->epoch, w->now_ms);
        }
    }
    scheduler_agent_reported(s, a->name, w->now_ms);
    planner_agent_reported(w->core.planner, a->name);
    struct event *m = to_agent(w, e->agent, message_welcome);
    m->ptr = r;
    m->drop = free;
    m->sent_ms = e->sent_ms;
    m->number = a->committed_through;
    e->ptr = NULL;
    core_dispatch(&w->core);
}

void message_cut_seen(struct world *w, struct event *e) {
    struct agent *a = &w->agents[e->agent];
    if (w->up && a->master_session == e->session) {
        trace("cut seen", e->agent, e->session, 0);
        a->master_session = 0;
        scheduler_agent_down(w->core.scheduler, a->name, false, w->now_ms);
        core_dispatch(&w->core);
    }
}

void message_beat(struct world *w, struct event *e) {
    if (!heard(w, e)) {
        return;
    }
    struct agent *a = &w->agents[e->agent];
    for (uint32_t k = 0; k < a->n_held; k++) { // what it said then is not much older
        const struct held *h = a->held[k];
        if (h->running) {
            uint32_t n = h->next;
            uint64_t bytes = h->spec->kind == SLUICE__V1__TASK_KIND__PART ? n * LEAF : 0;
            scheduler_progress(w->core.scheduler, a->name, h->spec->task_id, h->epoch, bytes,
                               bytes > 0 ? 0 : n, w->now_ms);
        }
    }
    to_agent(w, e->agent, message_ping)->sent_ms = e->sent_ms;
    core_dispatch(&w->core);
}

void message_stopped(struct world *w, struct event *e) {
    if (heard(w, e)) {
        scheduler_released(w->core.scheduler, w->agents[e->agent].name, e->task, e->epoch,
                           w->now_ms);
        core_dispatch(&w->core);
    }
}

// ---- results ----
struct answer {
    struct world *world;
    uint32_t agent;
    uint64_t number, term;
};

static void is_stored(struct world *w, uint32_t i, struct kept *k) {
    struct agent *a = &w->agents[i];
    uint64_t before = a->committed_through;
    k->state = KEPT_STORED;
    for (size_t n = 0; n < a->n_kept; n++) {
        const struct kept *each = a->kept[n];
        if (each->number <= a->committed_through || each->term != w->term ||
            each->state == KEPT_NEW) {
            continue;
        }
        if (each->state != KEPT_STORED) {
            break;
        }
        a->committed_through = each->number;
    }
    if (a->committed_through > before && a->master_session != 0) {
        to_agent(w, i, message_committed)->number = a->committed_through;
    }
}

static void stored(void *arg) {
    struct answer *x = arg;
    struct world *w = x->world;
    struct kept *k = w->up && x->term == w->term ? kept_of(&w->agents[x->agent], x->number) : NULL;
    if (k != NULL) {
        is_stored(w, x->agent, k);
    }
    free(x);
}

// It is accepted: nobody else may have ended the task, nor be about to.
static void check_accepted(struct world *w, uint64_t task, struct epoch epoch) {
    struct known_task *t = known(w, task);
    // One of an earlier term that this master has not heard of may be open: it is waited for.
    w->n_older += epoch_compare(epoch, t->newest) != 0 ? 1 : 0;
    if (epoch_compare(epoch, t->newest) > 0 ||
        (t->newest.term == w->term && epoch_compare(epoch, t->newest) != 0)) {
        violated("task %llx ends under epoch %llu.%llu; the newest is %llu.%llu",
                 (unsigned long long)task, (unsigned long long)epoch.term,
                 (unsigned long long)epoch.counter, (unsigned long long)t->newest.term,
                 (unsigned long long)t->newest.counter);
    }
    w->n_tasks_done++;
    if (w->o.uniform) { // else it is kept, to find a second end
        forget_task(w, task);
    } else {
        if (t->accepted == w->term) {
            violated("task %llx ends twice", (unsigned long long)task);
        }
        t->accepted = w->term;
    }
}

static enum err judge(struct world *w, uint32_t i, struct kept *k) {
    struct agent *a = &w->agents[i];
    const Sluice__V1__TaskResult *m = &k->m;
    struct epoch epoch = {k->epoch.term, k->epoch.counter};
    k->term = w->term;
    trace("judged", i, k->lease.task_id, k->number << 8 | (m->released ? 1 : 0));
    if (m->released && m->n_objects == 0 && m->done_bytes == 0) {
        scheduler_released(w->core.scheduler, a->name, k->lease.task_id, epoch, w->now_ms);
        is_stored(w, i, k);
        return OK;
    }
    enum err e = scheduler_result(w->core.scheduler, a->name, k->lease.task_id, epoch, w->now_ms);
    trace("result", i, k->lease.task_id,
          epoch.counter << 16 | (uint64_t)e << 1 | (uint64_t)m->done);
    k->state = e == ERR_AGAIN ? KEPT_AGAIN : KEPT_STORING;
    if (e == OK) {
        check_accepted(w, k->lease.task_id, epoch);
        struct answer *x = must(malloc(sizeof *x));
        *x = (struct answer){w, i, k->number, w->term};
        planner_result(w->core.planner, a->name, m, stored, x);
    } else if (e == ERR_FENCED) {
        is_stored(w, i, k);
    }
    return e;
}

void message_result(struct world *w, struct event *e) {
    if (!heard(w, e)) {
        return;
    }
    struct agent *a = &w->agents[e->agent];
    struct kept *k = kept_of(a, e->number);
    if (k == NULL || (k->term == w->term && k->state != KEPT_NEW)) {
        if (k != NULL && k->state == KEPT_STORED && e->number <= a->committed_through) {
            to_agent(w, e->agent, message_committed)->number = a->committed_through;
        }
        return;
    }
    (void)judge(w, e->agent, k);
    core_dispatch(&w->core);
}

static void judge_kept(struct world *w, struct event *e) {
    if (!w->up || e->number != w->term) {
        return;
    }
    scheduler_tick(w->core.scheduler, w->now_ms);
    for (uint32_t i = 0; i < w->o.n_agents; i++) {
        struct agent *a = &w->agents[i];
        for (size_t n = 0; n < a->n_kept; n++) {
            struct kept *k = a->kept[n];
            if (k->term == w->term && k->state == KEPT_AGAIN && judge(w, i, k) == ERR_AGAIN) {
                violated("a result cannot be judged after the time to reconcile");
            }
        }
    }
    core_dispatch(&w->core);
}

// ---- listings ----
void stream_unref(struct stream *l) {
    if (l != NULL && --l->refs == 0) {
        free(l);
    }
}

static void reply(struct stream *l, bool done, bool stop) {
    struct world *w = l->world;
    if (l->over || !w->up || l->term != w->term) {
        return;
    }
    l->over = done || stop;
    struct agent *a = &w->agents[l->agent];
    int64_t at_ms = w->now_ms > a->cut_until_ms ? w->now_ms : a->cut_until_ms;
    struct event *e = event_at(w, at_ms + a->latency_ms, message_page_reply);
    e->agent = l->agent;
    e->session = l->id;
    e->number = l->committed;
    e->task = done ? 1 : stop ? 2 : 0;
}

static void list_concluded(void *arg) {
    struct stream *l = arg;
    l->committed++;
    reply(l, true, false);
    stream_unref(l);
}

static bool list_conclude(struct world *w, struct stream *l) {
    const char *name = w->agents[l->agent].name;
    enum err e = scheduler_result(w->core.scheduler, name, l->task, l->epoch, w->now_ms);
    trace("listed", l->agent, l->task, l->epoch.counter << 8 | e);
    if (e != OK) {
        return false;
    }
    check_accepted(w, l->task, l->epoch);
    Sluice__V1__TaskResult m = SLUICE__V1__TASK_RESULT__INIT;
    Sluice__V1__LeaseRef lease = SLUICE__V1__LEASE_REF__INIT;
    Sluice__V1__Epoch epoch = SLUICE__V1__EPOCH__INIT;
    epoch.term = l->epoch.term;
    epoch.counter = l->epoch.counter;
    lease.task_id = l->task;
    lease.epoch = &epoch;
    m.lease = &lease;
    m.done = true;
    planner_result(w->core.planner, name, &m, list_concluded, l);
    core_dispatch(&w->core);
    return true;
}

static void page_stored(void *arg, enum err result) {
    struct stream *l = arg;
    struct world *w = l->world;
    bool here = w->up && l->term == w->term;
    bool last = here && result == OK && l->last && l->committed + 1 == l->received;
    if (last && list_conclude(w, l)) {
        return;
    }
    l->committed++;
    reply(l, false, result != OK || last);
    stream_unref(l);
}

static void add_children(struct world *w, const struct page_message *pm,
                         struct object_table_builder *b) {
    for (uint32_t i = 0; i < pm->n; i++) {
        char path[256];
        struct object_entry child;
        node_entry(w, node_child(w, pm->node, pm->from + i), path, &child);
        if (object_table_add(b, &child) != OK) {
            abort();
        }
    }
}

void message_page(struct world *w, struct event *e) {
    struct page_message *pm = e->ptr;
    struct stream *l = pm->stream;
    if (!w->up || l->term != w->term || l->over) {
        return;
    }
    const char *holder = scheduler_holder(w->core.scheduler, l->task, l->epoch);
    if (holder == NULL || strcmp(holder, w->agents[l->agent].name) != 0 || l->last) {
        reply(l, false, true);
        return;
    }
    struct object_table_builder b;
    object_table_init(&b);
    add_children(w, pm, &b);
    Sluice__V1__ListPage page = SLUICE__V1__LIST_PAGE__INIT;
    Sluice__V1__LeaseRef lease = SLUICE__V1__LEASE_REF__INIT;
    struct failure_message fm;
    const uint8_t *bytes;
    if (object_table_bytes(&b, &bytes, &page.entries.len) != OK) {
        abort();
    }
    page.entries.data = (uint8_t *)(uintptr_t)bytes;
    page.lease = pm->first ? &lease : NULL;
    page.directory = pm->directory;
    page.directory_done = pm->directory_done;
    page.last = pm->last;
    if (pm->failed) {
        char path[256];
        struct object_entry entry;
        struct failure f = {0};
        node_entry(w, pm->node, path, &entry);
        (void)failure_set(&f, ERR_DENIED, "opendir", path, entry.path_len, NULL);
        failure_to_message(&f, "", &fm);
        page.failure = &fm.message;
    }
    l->received++;
    l->refs++;
    l->last = pm->last;
    planner_page(w->core.planner, w->agents[l->agent].name, l->task, l->epoch, &page, page_stored,
                 l);
    object_table_deinit(&b);
    core_dispatch(&w->core);
}
