// SPDX-License-Identifier: Apache-2.0
// Leases as the planner sees them: who may still act, and what waits until nobody does.
//
// Leases of BATCH, LINK and PART tasks are stored before their agents are told: after a crash the
// names of temporaries are known from them.
#include "common/log.h"
#include "master/planner_impl.h"

#include <stdlib.h>
#include <string.h>

enum { MARGIN_MS = 1000 };

static bool is_stored(uint32_t kind) {
    return kind == SLUICE__V1__TASK_KIND__BATCH || kind == SLUICE__V1__TASK_KIND__LINK ||
           kind == SLUICE__V1__TASK_KIND__PART;
}

enum err lease_add(struct planned_task *t, struct epoch epoch, const char *agent) {
    for (size_t i = 0; i < t->n_leases; i++) {
        if (epoch_compare(t->leases[i].epoch, epoch) == 0) {
            return OK;
        }
    }
    struct lease *grown = realloc(t->leases, (t->n_leases + 1) * sizeof *grown);
    if (grown == NULL) {
        return ERR_NO_MEMORY;
    }
    t->leases = grown;
    struct lease *l = &grown[t->n_leases++];
    *l = (struct lease){.epoch = epoch};
    strncpy(l->agent, agent, sizeof l->agent - 1);
    return OK;
}

void lease_remove(struct planned_task *t, struct epoch epoch) {
    for (size_t i = 0; i < t->n_leases; i++) {
        if (epoch_compare(t->leases[i].epoch, epoch) == 0) {
            memmove(&t->leases[i], &t->leases[i + 1], (t->n_leases - i - 1) * sizeof *t->leases);
            t->n_leases--;
            return;
        }
    }
}

static void commit_alone(struct planner *p, struct change *c) {
    database_commit(p->core->database, c, NULL, NULL);
}

void planner_leased(struct planner *p, uint64_t task_id, struct epoch epoch, const char *agent,
                    void (*stored)(void *arg, enum err result), void *arg) {
    struct planned_task *t = planner_task(p, task_id);
    bool known = t != NULL && !t->concluded;
    if (known && lease_add(t, epoch, agent) != OK) {
        struct failure f = out_of_memory("lease");
        plan_fail(t->plan, &f);
        known = false;
    }
    if (known && t->large != NULL && t->row.kind == SLUICE__V1__TASK_KIND__OPEN) {
        t->reopened = t->large->row.opened;
    }
    if (known && t->n_leases > 1 && t->row.kind == SLUICE__V1__TASK_KIND__BATCH) {
        t->spec->skip_identical = true; // the one before may have delivered some
    }
    struct large *l = known ? t->large : NULL;
    bool opens = l != NULL && t->row.kind == SLUICE__V1__TASK_KIND__OPEN && !l->row.opened;
    if (!known || (!is_stored(t->row.kind) && !opens)) {
        if (stored != NULL) {
            stored(arg, known ? OK : ERR_NOT_FOUND);
        }
        return;
    }
    struct change *c = change_new();
    if (is_stored(t->row.kind)) {
        change_lease_add(c, t->row.flow, task_id, epoch, agent);
    }
    if (opens) {
        l->row.opened = true;
        change_large_put(c, &l->row);
    }
    database_commit(p->core->database, c, stored, arg);
}

// ---- which leases are closed ----
static bool has_reported(const struct planner *p, const char *agent) {
    for (size_t i = 0; i < p->n_reported; i++) {
        if (strcmp(p->reported[i], agent) == 0) {
            return true;
        }
    }
    return false;
}

// Of an earlier term, and its agent did not mention it when it came back.
static bool not_held(const struct planner *p, uint64_t task_id, const struct lease *l) {
    return l->epoch.term < p->core->term && has_reported(p, l->agent) &&
           !scheduler_lease_is_open(p->core->scheduler, l->agent, task_id, l->epoch);
}

bool lease_is_closed(struct planner *p, uint64_t task_id, const struct lease *l) {
    return l->closed || not_held(p, task_id, l);
}

int64_t plan_lease_deadline_ms(const struct plan *pl, const struct lease *l) {
    const struct planner *p = pl->planner;
    const struct master_options *o = p->core->options;
    if (l->epoch.term < p->core->term && !has_reported(p, l->agent)) {
        return p->started_ms + o->hold_ms; // no master spoke to it since
    }
    return planner_mono_ms(p) + o->hold_ms + o->lost_after_ms + MARGIN_MS;
}

bool leases_left_open(struct work *w, struct planned_task *t) {
    struct plan *pl = w->plan;
    bool any = false;
    for (size_t i = 0; i < t->n_leases; i++) {
        const struct lease *l = &t->leases[i];
        if (lease_is_closed(pl->planner, t->row.task_id, l)) {
            continue;
        }
        struct open_lease *o = calloc(1, sizeof *o);
        if (o == NULL) {
            w->failed = true;
            return any;
        }
        o->task_id = t->row.task_id;
        // Who opens an object does not write into it.
        o->object = t->row.kind == SLUICE__V1__TASK_KIND__OPEN ? 0 : t->row.object;
        o->lease = *l;
        o->deadline_ms = plan_lease_deadline_ms(pl, l);
        DL_APPEND(pl->open, o);
        planner_arm(pl->planner, o->deadline_ms);
        any = true;
    }
    return any;
}

// ---- what waits for that ----
void waiting_add(struct work *w, const struct task_row *row, uint64_t task_id, bool tracked,
                 int64_t deadline_ms) {
    struct waiting *v = calloc(1, sizeof *v);
    if (v == NULL) {
        w->failed = true;
        return;
    }
    v->row = *row;
    v->row.spec = (struct blob){0};
    v->row.leases = NULL;
    v->row.n_leases = 0;
    v->row.large = NULL;
    v->task_id = task_id;
    v->tracked = tracked;
    v->deadline_ms = deadline_ms;
    DL_APPEND(w->plan->waiting, v);
    planner_arm(w->plan->planner, deadline_ms);
}

static bool waits_for(const struct waiting *v, const struct open_lease *o) {
    return v->row.object != 0 ? o->object == v->row.object : o->task_id == v->task_id;
}

static bool still_open(const struct plan *pl, const struct waiting *v) {
    const struct open_lease *o;
    DL_FOREACH(pl->open, o) {
        if (waits_for(v, o)) {
            return true;
        }
    }
    return false;
}

// A writer of it was lost whose lease was closed by expiry only.
static void large_is_fresh(struct plan *pl, struct change *c, uint64_t object) {
    struct large *l = large_find(pl, object);
    if (l != NULL) {
        l->row.fresh = true;
    }
    pl->outdated = true;
    change_large_fresh(c, pl->id, object);
}

static void make_ready(struct plan *pl, struct waiting *v, bool expired) {
    struct work *w = work_new(pl);
    if (w == NULL) {
        return;
    }
    v->row.status = TASK_READY;
    v->row.not_before_ms = 0;
    change_task_state(w->change, &v->row);
    if (expired && v->row.object != 0) {
        large_is_fresh(pl, w->change, v->row.object);
    }
    w->adds = true;
    DL_DELETE(pl->waiting, v);
    free(v);
    work_commit(w);
}

static void look_at_waiting(struct plan *pl) {
    int64_t now_ms = planner_mono_ms(pl->planner);
    struct waiting *v, *next;
    DL_FOREACH_SAFE(pl->waiting, v, next) {
        bool due = now_ms >= v->deadline_ms;
        bool closed = v->tracked && !still_open(pl, v);
        if (closed || due) {
            make_ready(pl, v, !closed);
            if (pl->flow == NULL) {
                return;
            }
        }
    }
}

static void open_lease_closed(struct plan *pl, struct open_lease *o, enum lease_closed_how how) {
    struct planner *p = pl->planner;
    struct change *c = NULL;
    if (how == CLOSED_RELEASED) { // it left nothing behind
        c = change_new();
        change_lease_remove(c, o->task_id, o->lease.epoch);
        commit_alone(p, c);
    } else if (how == CLOSED_EXPIRED && o->object != 0) {
        c = change_new();
        large_is_fresh(pl, c, o->object);
        commit_alone(p, c);
    }
    DL_DELETE(pl->open, o);
    free(o);
}

// ---- what the scheduler and the agents say ----
static void held_lease_closed(struct planned_task *t, struct epoch epoch,
                              enum lease_closed_how how) {
    struct planner *p = t->plan->planner;
    for (size_t i = 0; i < t->n_leases; i++) {
        struct lease *l = &t->leases[i];
        if (epoch_compare(l->epoch, epoch) != 0) {
            continue;
        }
        if (how == CLOSED_RELEASED || !is_stored(t->row.kind)) {
            if (is_stored(t->row.kind)) {
                struct change *c = change_new();
                change_lease_remove(c, t->row.task_id, epoch);
                commit_alone(p, c);
            }
            t->lost_bytes += l->moved_bytes;
            lease_remove(t, epoch);
        } else {
            l->closed = true;
            l->expired = how == CLOSED_EXPIRED;
        }
        return;
    }
}

void planner_lease_closed(struct planner *p, uint64_t task_id, struct epoch epoch,
                          const char *agent, enum lease_closed_how how) {
    (void)agent;
    struct planned_task *t = planner_task(p, task_id);
    if (t != NULL && !t->concluded) {
        held_lease_closed(t, epoch, how);
        return;
    }
    struct plan *pl, *next_plan;
    DL_FOREACH_SAFE(p->plans, pl, next_plan) {
        struct open_lease *o, *next;
        DL_FOREACH_SAFE(pl->open, o, next) {
            if (o->task_id == task_id && epoch_compare(o->lease.epoch, epoch) == 0) {
                open_lease_closed(pl, o, how);
                look_at_waiting(pl);
                return;
            }
        }
    }
}

void planner_agent_reported(struct planner *p, const char *agent) {
    if (!has_reported(p, agent)) {
        void *grown = realloc(p->reported, (p->n_reported + 1) * sizeof *p->reported);
        if (grown == NULL) {
            return; // its leases expire
        }
        p->reported = grown;
        strncpy(p->reported[p->n_reported], agent, sizeof *p->reported - 1);
        p->reported[p->n_reported++][sizeof *p->reported - 1] = '\0';
    }
    struct plan *pl, *next_plan;
    DL_FOREACH_SAFE(p->plans, pl, next_plan) {
        struct open_lease *o, *next;
        DL_FOREACH_SAFE(pl->open, o, next) {
            if (not_held(p, o->task_id, &o->lease)) {
                open_lease_closed(pl, o, CLOSED_INCARNATION);
            }
        }
        if (pl->flow != NULL) {
            look_at_waiting(pl);
        }
    }
}

// ---- time ----
static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

void planner_leases_due(struct planner *p) {
    int64_t now_ms = planner_mono_ms(p);
    int64_t next_ms = INT64_MAX;
    struct plan *pl, *next_plan;
    DL_FOREACH_SAFE(p->plans, pl, next_plan) {
        plan_ref(pl);
        struct open_lease *o, *next;
        DL_FOREACH_SAFE(pl->open, o, next) {
            if (now_ms >= o->deadline_ms) {
                open_lease_closed(pl, o, CLOSED_EXPIRED);
            } else {
                next_ms = earlier(next_ms, o->deadline_ms);
            }
        }
        if (pl->flow != NULL) {
            look_at_waiting(pl);
        }
        struct waiting *v;
        DL_FOREACH(pl->waiting, v) {
            next_ms = earlier(next_ms, v->deadline_ms);
        }
        if (pl->flow != NULL && pl->load_later) {
            plan_load(pl);
        }
        if (pl->flow != NULL && pl->abandoning) {
            next_ms = earlier(next_ms, plan_abandon_due(pl));
        }
        plan_unref_quietly(pl);
    }
    if (next_ms < INT64_MAX) {
        planner_arm(p, next_ms);
    }
}
