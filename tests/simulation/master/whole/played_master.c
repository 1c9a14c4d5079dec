// SPDX-License-Identifier: Apache-2.0
// The master: the real planner and scheduler, with sessions as in agent_session.c.
#include "tests/simulation/master/whole/world.h"

#include <stdlib.h>
#include <string.h>

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
        e = event_at(w, c->reconcile_until_ms, results_judge_kept);
        e->number = w->term;
        e->to_master = true;
    }
    if (w->over) {
        return;
    }
    if (w->cancel) {
        w->abandoning = true;
        planner_flow_abandon(c->planner, &w->flow, flow_is_abandoned, w);
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
    orders_forget();
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
bool master_heard(struct world *w, const struct event *e) {
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
        if (l->result != 0 && result_was_judged(w, a, l->result)) {
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
    if (!master_heard(w, e)) {
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
    if (master_heard(w, e)) {
        scheduler_released(w->core.scheduler, w->agents[e->agent].name, e->task, e->epoch,
                           w->now_ms);
        core_dispatch(&w->core);
    }
}
