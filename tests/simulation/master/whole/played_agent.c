// SPDX-License-Identifier: Apache-2.0
// The agents: sessions, hold, journal, leases in slots.
#include "tests/simulation/master/whole/world.h"

#include <stdlib.h>
#include <string.h>

static event_fn beat, dial;

// ---- messages: in order within a session, lost with it ----
struct event *to_agent(struct world *w, uint32_t i, event_fn *fn) {
    struct agent *a = &w->agents[i];
    int64_t at_ms = w->now_ms > a->cut_until_ms ? w->now_ms : a->cut_until_ms;
    at_ms += a->latency_ms + (w->o.faults ? between(w, 0, a->latency_ms) : 0);
    a->to_agent_ms = at_ms > a->to_agent_ms ? at_ms : a->to_agent_ms;
    struct event *e = event_at(w, a->to_agent_ms, fn);
    e->agent = i;
    e->session = a->master_session;
    return e;
}
struct event *to_master(struct world *w, uint32_t i, event_fn *fn) {
    struct agent *a = &w->agents[i];
    int64_t at_ms = w->now_ms > a->cut_until_ms ? w->now_ms : a->cut_until_ms;
    at_ms += a->latency_ms + (w->o.faults ? between(w, 0, a->latency_ms) : 0);
    a->to_master_ms = at_ms > a->to_master_ms ? at_ms : a->to_master_ms;
    struct event *e = event_at(w, a->to_master_ms, fn);
    e->agent = i;
    e->session = a->session;
    e->to_master = true;
    return e;
}

// It is stopped: what comes waits.
bool agent_is_stopped(struct world *w, struct event *e) {
    struct agent *a = &w->agents[e->agent];
    if (w->now_ms >= a->stopped_until_ms) {
        return false;
    }
    struct event *later = event_at(w, a->stopped_until_ms, e->fn);
    struct event copy = *later;
    *later = *e;
    later->node = copy.node;
    later->at_ms = copy.at_ms;
    ordered_heap_moved(&w->events, &later->node); // in the order of before
    e->ptr = NULL;
    e->drop = NULL;
    return true;
}
// False: of a session that has ended.
static bool arrives(struct world *w, struct event *e) {
    struct agent *a = &w->agents[e->agent];
    if (!a->alive || a->session != e->session) {
        return false;
    }
    a->heard_ms = w->now_ms;
    return true;
}

// ---- leases ----
struct held *held_of(struct agent *a, uint64_t task, struct epoch epoch, uint32_t *ret_k) {
    for (uint32_t k = 0; k < a->n_held; k++) {
        if (a->held[k]->spec->task_id == task && epoch_compare(a->held[k]->epoch, epoch) == 0) {
            if (ret_k != NULL) {
                *ret_k = k;
            }
            return a->held[k];
        }
    }
    return NULL;
}
void held_free(void *ptr) {
    struct held *h = ptr;
    object_table_close(&h->table);
    sluice__v1__task_spec__free_unpacked(h->spec, NULL);
    kept_free(h->result);
    inode_unref(h->inode);
    if (h->stream != NULL) {
        h->stream->over = true; // the master finds out with the next page
        stream_unref(h->stream);
    }
    free(h);
}
void held_drop(struct agent *a, uint32_t k) {
    struct held *h = a->held[k];
    memmove(&a->held[k], &a->held[k + 1], (a->n_held - k - 1) * sizeof *a->held);
    a->n_held--;
    held_free(h);
}

bool agent_may_act(const struct world *w, const struct agent *a, const struct held *h) {
    return a->alive && h->hold_generation == a->hold_generation && w->now_ms < a->until_ms;
}

static void confirmed(struct world *w, struct agent *a, int64_t sent_ms) {
    int64_t until_ms = sent_ms + w->options.hold_ms;
    if (w->now_ms >= a->until_ms) {
        a->hold_generation++;
    }
    a->until_ms = until_ms > a->until_ms ? until_ms : a->until_ms;
}

void agent_start_waiting(struct world *w, uint32_t i) {
    struct agent *a = &w->agents[i];
    uint32_t n = 0;
    for (uint32_t k = 0; k < a->n_held && n < w->o.slots; k++, n++) {
        if (!a->held[k]->running && agent_may_act(w, a, a->held[k])) {
            a->held[k]->running = true;
            work_begins(w, i, a->held[k]);
        }
    }
}

// ---- the journal ----
void kept_free(struct kept *k) {
    if (k == NULL) {
        return;
    }
    object_table_deinit(&k->found);
    free(k->objects);
    free(k->pointers);
    free(k->digests);
    free(k);
}
void result_keep(struct world *w, uint32_t i, struct kept *k) {
    struct agent *a = &w->agents[i];
    if (a->n_kept == a->cap_kept) {
        a->cap_kept = a->cap_kept * 2 + 8;
        a->kept = must(realloc(a->kept, a->cap_kept * sizeof *a->kept));
    }
    k->number = ++a->next_number;
    k->agent = i;
    k->m.number = k->number;
    a->kept[a->n_kept++] = k;
    trace("kept", i, k->lease.task_id, k->number << 8 | (k->m.released ? 1 : 0));
    if (a->welcomed) {
        to_master(w, i, message_result)->number = k->number;
    }
}
void agent_stop_told(struct world *w, uint32_t i, uint64_t task, struct epoch epoch) {
    if (w->agents[i].session != 0) {
        struct event *e = to_master(w, i, message_stopped);
        e->task = task;
        e->epoch = epoch;
    }
}

// Ends a lease now, as told.
static void stop_lease(struct world *w, uint32_t i, uint32_t k, bool fenced) {
    struct agent *a = &w->agents[i];
    struct held *h = a->held[k];
    uint64_t task = h->spec->task_id;
    struct epoch epoch = h->epoch;
    trace(fenced ? "fenced" : "stopped", i, task, epoch.counter);
    work_leave(w, h);
    if (work_did_something(h) || (fenced && h->running)) {
        struct kept *r = work_result(w, i, h);
        r->m.released = true;
        r->m.retryable = true;
        if (fenced) {
            struct failure f = {0};
            (void)failure_set(&f, ERR_FENCED, "lease", NULL, 0, NULL);
            failure_to_message(&f, a->name, &r->failure);
            r->m.failure = &r->failure.message;
            r->m.done = false;
        }
        result_keep(w, i, r);
        held_drop(a, k);
    } else {
        held_drop(a, k);
        agent_stop_told(w, i, task, epoch);
    }
}

void agent_check_hold(struct world *w, uint32_t i) {
    struct agent *a = &w->agents[i];
    for (uint32_t k = 0; k < a->n_held;) {
        if (agent_may_act(w, a, a->held[k])) {
            k++;
        } else {
            stop_lease(w, i, k, true);
        }
    }
    agent_start_waiting(w, i);
}

// ---- orders ----
void message_assign(struct world *w, struct event *e) {
    if (agent_is_stopped(w, e)) {
        return;
    }
    struct agent *a = &w->agents[e->agent];
    struct held *h = e->ptr;
    e->ptr = NULL;
    if (!arrives(w, e)) {
        held_free(h);
        return;
    }
    if (a->n_held == LEASES_MAX) {
        violated("%s is flooded with leases", a->name);
    }
    h->hold_generation = a->hold_generation;
    a->held[a->n_held++] = h;
    agent_start_waiting(w, e->agent);
}

static bool is_kept(const struct agent *a, uint64_t task, struct epoch epoch) {
    for (size_t i = 0; i < a->n_kept; i++) {
        const struct kept *k = a->kept[i];
        if (k->lease.task_id == task && k->epoch.term == epoch.term &&
            k->epoch.counter == epoch.counter) {
            return true;
        }
    }
    return false;
}

static void order(struct world *w, uint32_t i, uint64_t task, struct epoch epoch, bool yield) {
    struct agent *a = &w->agents[i];
    uint32_t k = 0;
    struct held *h = held_of(a, task, epoch, &k);
    if (h == NULL) {
        if (!is_kept(a, task, epoch)) {
            agent_stop_told(w, i, task, epoch);
        }
    } else if (yield && h->running) {
        h->yields = true;
        w->n_yields++;
    } else {
        stop_lease(w, i, k, false);
        agent_start_waiting(w, i);
    }
}
void message_yield(struct world *w, struct event *e) {
    if (!agent_is_stopped(w, e) && arrives(w, e)) {
        order(w, e->agent, e->task, e->epoch, true);
    }
}
void message_revoke(struct world *w, struct event *e) {
    if (!agent_is_stopped(w, e) && arrives(w, e)) {
        order(w, e->agent, e->task, e->epoch, false);
    }
}

static void committed(struct agent *a, uint64_t through) {
    size_t n = 0;
    while (n < a->n_kept && a->kept[n]->number <= through) {
        kept_free(a->kept[n++]);
    }
    if (n > 0) {
        memmove(a->kept, a->kept + n, (a->n_kept - n) * sizeof *a->kept);
        a->n_kept -= n;
    }
}
void message_committed(struct world *w, struct event *e) {
    if (!agent_is_stopped(w, e) && arrives(w, e)) {
        committed(&w->agents[e->agent], e->number);
    }
}
void message_ping(struct world *w, struct event *e) {
    if (!agent_is_stopped(w, e) && arrives(w, e)) {
        struct agent *a = &w->agents[e->agent];
        agent_check_hold(w, e->agent);
        confirmed(w, a, e->sent_ms);
    }
}

// ---- the session ----
static void session_ended(struct world *w, struct event *e) {
    struct agent *a = &w->agents[e->agent];
    if (agent_is_stopped(w, e) || !a->alive || a->session != e->session) {
        return;
    }
    a->session = 0;
    a->welcomed = false;
    event_in(w, between(w, 20, 1500), dial)->agent = e->agent;
}

// Both ends find out, each when it can.
void agent_cut(struct world *w, uint32_t i) {
    struct agent *a = &w->agents[i];
    if (a->session != 0) {
        struct event *e = to_agent(w, i, session_ended);
        e->session = a->session;
    }
    if (a->master_session != 0) {
        struct event *e = to_master(w, i, message_cut_seen);
        e->session = a->master_session;
    }
}

static void dial(struct world *w, struct event *e) {
    struct agent *a = &w->agents[e->agent];
    if (agent_is_stopped(w, e) || !a->alive || a->session != 0) {
        return;
    }
    if (!w->up || w->now_ms < a->cut_until_ms || w->now_ms < w->master_stopped_until_ms) {
        event_in(w, between(w, 50, 1500), dial)->agent = e->agent;
        return;
    }
    agent_check_hold(w, e->agent);
    a->session = ++w->n_sessions;
    a->welcomed = false;
    a->heard_ms = w->now_ms;
    a->to_master_ms = a->to_agent_ms = 0;
    struct registration *r =
        must(calloc(1, sizeof *r + (a->n_held + a->n_kept) * sizeof(struct lease_told)));
    r->incarnation = a->incarnation;
    for (uint32_t k = 0; k < a->n_held; k++) {
        r->leases[r->n++] =
            (struct lease_told){.task = a->held[k]->spec->task_id, .epoch = a->held[k]->epoch};
    }
    for (size_t k = 0; k < a->n_kept; k++) {
        r->leases[r->n++] =
            (struct lease_told){.task = a->kept[k]->lease.task_id,
                                .epoch = {a->kept[k]->epoch.term, a->kept[k]->epoch.counter},
                                .result = a->kept[k]->number};
    }
    struct event *m = to_master(w, e->agent, message_register);
    m->ptr = r;
    m->drop = free;
    m->sent_ms = w->now_ms;
}

void message_welcome(struct world *w, struct event *e) {
    if (agent_is_stopped(w, e) || !arrives(w, e)) {
        return;
    }
    struct agent *a = &w->agents[e->agent];
    struct registration *r = e->ptr;
    agent_check_hold(w, e->agent);
    for (size_t n = 0; n < r->n; n++) {
        uint32_t k;
        if (r->leases[n].refused && held_of(a, r->leases[n].task, r->leases[n].epoch, &k)) {
            stop_lease(w, e->agent, k, false);
        }
    }
    confirmed(w, a, e->sent_ms);
    committed(a, e->number);
    a->welcomed = true;
    for (size_t k = 0; k < a->n_kept; k++) {
        to_master(w, e->agent, message_result)->number = a->kept[k]->number;
    }
    for (uint32_t k = 0; k < a->n_held; k++) { // the streams are gone too
        struct held *h = a->held[k];
        if (h->running && h->spec->kind == SLUICE__V1__TASK_KIND__LIST) {
            list_again(w, e->agent, h);
        }
    }
    agent_start_waiting(w, e->agent);
}

static void beat(struct world *w, struct event *e) {
    struct agent *a = &w->agents[e->agent];
    if (!a->alive || a->incarnation != e->number || agent_is_stopped(w, e)) {
        return;
    }
    agent_check_hold(w, e->agent);
    if (a->session != 0 && w->now_ms - a->heard_ms > w->options.hold_ms / 2) {
        agent_cut(w, e->agent);
        a->session = 0;
        a->welcomed = false;
        event_in(w, between(w, 20, 1500), dial)->agent = e->agent;
    } else if (a->session != 0 && a->welcomed) {
        to_master(w, e->agent, message_beat)->sent_ms = w->now_ms;
    }
    struct event *next = event_in(w, HEARTBEAT_MS, beat);
    next->agent = e->agent;
    next->number = a->incarnation;
}

// ---- its life ----
void agent_start(struct world *w, uint32_t i) {
    struct agent *a = &w->agents[i];
    a->alive = true;
    a->incarnation++;
    a->session = 0;
    a->welcomed = false;
    a->stopped_until_ms = 0;
    a->until_ms = 0;
    trace("agent starts", i, a->incarnation, a->boot);
    struct event *e = event_in(w, HEARTBEAT_MS, beat);
    e->agent = i;
    e->number = a->incarnation;
    event_in(w, between(w, 0, 100), dial)->agent = i;
}

static void starts_again(struct world *w, struct event *e) {
    agent_start(w, e->agent);
}

// Its temporaries and its journal stay.
void agent_kill(struct world *w, uint32_t i, bool reboot, bool silently) {
    struct agent *a = &w->agents[i];
    if (!a->alive) {
        return;
    }
    trace("agent dies", i, reboot, silently);
    w->n_kills++;
    if (!silently) {
        agent_cut(w, i);
    }
    a->alive = false;
    a->session = 0;
    while (a->n_held > 0) {
        held_drop(a, 0);
    }
    if (reboot) {
        tree_reboot(w, i, a->boot);
        a->boot++;
    }
    event_in(w, between(w, 100, chance(w, 3) == 0 ? 40000 : 4000), starts_again)->agent = i;
}
