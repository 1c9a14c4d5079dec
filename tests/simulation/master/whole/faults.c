// SPDX-License-Identifier: Apache-2.0
// What goes wrong, and when: each seed has its own mixture.
#include "tests/simulation/master/whole/world.h"

static uint32_t some_agent(struct world *w) {
    return (uint32_t)chance(w, w->o.n_agents);
}
static void again(struct world *w, event_fn *fn, uint64_t mean_ms) {
    if (mean_ms == 0) {
        return;
    }
    struct event *e = event_in(w, 1 + (int64_t)chance(w, 2 * mean_ms), fn);
    e->number = mean_ms;
}
static bool is_over(const struct world *w) {
    return w->over || w->now_ms >= w->faults_until_ms;
}

// Were it earlier, what waits already would be overtaken: a session keeps its messages in order.
static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static void kill_agent(struct world *w, struct event *e) {
    if (is_over(w)) {
        return;
    }
    agent_kill(w, some_agent(w), chance(w, 3) == 0, chance(w, 3) == 0);
    again(w, kill_agent, e->number);
}
static void stop_agent(struct world *w, struct event *e) {
    if (is_over(w)) {
        return;
    }
    uint32_t i = some_agent(w);
    int64_t for_ms = chance(w, 2) == 0 ? between(w, 100, 5000) : between(w, 5000, 40000);
    trace("agent stopped", i, (uint64_t)for_ms, 0);
    w->agents[i].stopped_until_ms = later(w->agents[i].stopped_until_ms, w->now_ms + for_ms);
    w->n_stops++;
    again(w, stop_agent, e->number);
}
static void cut_agent(struct world *w, struct event *e) {
    if (is_over(w)) {
        return;
    }
    uint32_t i = some_agent(w);
    int64_t for_ms = chance(w, 2) == 0 ? between(w, 100, 5000) : between(w, 3000, 40000);
    trace("agent cut off", i, (uint64_t)for_ms, 0);
    if (chance(w, 2) == 0) { // and the connection breaks
        agent_cut(w, i);
    }
    w->agents[i].cut_until_ms = later(w->agents[i].cut_until_ms, w->now_ms + for_ms);
    w->n_cuts++;
    again(w, cut_agent, e->number);
}
static void master_returns(struct world *w, struct event *e) {
    (void)e;
    master_start(w);
}
static void kill_master(struct world *w, struct event *e) {
    if (is_over(w)) {
        return;
    }
    if (w->up) {
        master_kill(w);
        event_in(w, between(w, 100, chance(w, 4) == 0 ? 20000 : 3000), master_returns);
    }
    again(w, kill_master, e->number);
}
static void stop_master(struct world *w, struct event *e) {
    if (is_over(w)) {
        return;
    }
    if (w->up) {
        int64_t until_ms = w->now_ms + between(w, 100, 20000);
        w->master_stopped_until_ms = later(w->master_stopped_until_ms, until_ms);
        trace("master stopped", 0, (uint64_t)(w->master_stopped_until_ms - w->now_ms), 0);
    }
    again(w, stop_master, e->number);
}
static void change_source(struct world *w, struct event *e) {
    if (is_over(w)) {
        return;
    }
    uint32_t i = w->o.n_directories + (uint32_t)chance(w, w->o.n_files);
    w->nodes[i].version++;
    w->n_changes++;
    again(w, change_source, e->number);
}
static void pause_flow(struct world *w, struct event *e) {
    if (is_over(w)) {
        return;
    }
    if (w->up && w->now_ms >= w->master_stopped_until_ms && !w->paused && !w->cancel &&
        w->flow.plan != NULL && ((struct plan *)w->flow.plan)->in_scheduler) {
        trace("suspend", 0, 0, 0);
        w->paused = true;
        w->n_pauses++;
        scheduler_flow_pause(w->core.scheduler, w->flow.id, w->now_ms);
        core_dispatch(&w->core);
    }
    again(w, pause_flow, e->number);
}
static void cancel_flow(struct world *w, struct event *e) {
    (void)e;
    if (w->over) {
        return;
    }
    if (w->up && w->now_ms >= w->master_stopped_until_ms && !w->paused && w->flow.plan != NULL &&
        ((struct plan *)w->flow.plan)->in_scheduler) {
        trace("cancel", 0, 0, 0);
        w->cancel = true;
        scheduler_flow_remove(w->core.scheduler, w->flow.id, w->now_ms);
        core_dispatch(&w->core);
    } else {
        event_in(w, 100, cancel_flow);
    }
}

static uint64_t mean(struct world *w, uint64_t often_ms) {
    switch (chance(w, 3)) {
    case 0: return 0;
    case 1: return often_ms * 5;
    default: return often_ms;
    }
}

void faults_begin(struct world *w) {
    w->faults_until_ms = w->now_ms + between(w, 20000, 150000);
    w->odds_failure = chance(w, 3) == 0 ? 0 : 50 + (uint32_t)chance(w, 500);
    w->odds_stream = chance(w, 2) == 0 ? 0 : 20 + (uint32_t)chance(w, 100);
    w->odds_late = chance(w, 2) == 0 ? 0 : 2;
    again(w, kill_agent, mean(w, 1500));
    again(w, stop_agent, mean(w, 1500));
    again(w, cut_agent, mean(w, 1500));
    again(w, kill_master, mean(w, 6000));
    again(w, stop_master, mean(w, 10000));
    again(w, change_source, mean(w, 1000));
    again(w, pause_flow, mean(w, 10000));
    if (chance(w, 8) == 0) {
        event_in(w, between(w, 100, 100000), cancel_flow);
    }
}
