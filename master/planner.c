// SPDX-License-Identifier: Apache-2.0
// The planner's face, the plans it has, and how they end.
#include "common/cleanup.h"
#include "common/log.h"
#include "master/planner_impl.h"

#include <stdlib.h>
#include <string.h>

static void timer_fired(void *arg) {
    struct planner *p = arg;
    p->wake_ms = INT64_MAX;
    planner_leases_due(p);
    core_dispatch(p->core);
}

enum err planner_new(struct core *c, struct planner **ret_planner) {
    struct planner *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return ERR_NO_MEMORY;
    }
    p->core = c;
    p->next_task = (c->term << 32) + 1;
    p->started_ms = clock_mono_ms(c->clock);
    p->chance = (uint64_t)p->started_ms * 2 + 1;
    p->wake_ms = INT64_MAX;
    p->timer = loop_timer_new(c->loop, timer_fired, p);
    if (p->timer == NULL || hash_index_init(&p->tasks) != OK || hash_index_init(&p->moved) != OK) {
        hash_index_deinit(&p->tasks);
        loop_timer_free(p->timer);
        free(p);
        return ERR_NO_MEMORY;
    }
    *ret_planner = p;
    return OK;
}

int64_t planner_mono_ms(const struct planner *p) {
    return clock_mono_ms(p->core->clock);
}

int64_t planner_wall_ms(const struct planner *p) {
    return clock_wall_ms(p->core->clock);
}

void planner_arm(struct planner *p, int64_t at_ms) {
    if (at_ms < p->wake_ms) {
        int64_t in_ms = at_ms - planner_mono_ms(p);
        p->wake_ms = at_ms;
        loop_timer_arm(p->timer, in_ms > 0 ? in_ms : 0);
    }
}

struct plan *plan_find(struct planner *p, const char *flow) {
    struct plan *pl;
    DL_FOREACH(p->plans, pl) {
        if (pl->flow != NULL && strcmp(pl->id, flow) == 0) {
            return pl;
        }
    }
    return NULL;
}

struct planned_task *planner_task(struct planner *p, uint64_t task_id) {
    struct hash_node *n = hash_index_first(&p->tasks, hash_u64(task_id));
    for (; n != NULL; n = hash_index_again(n)) {
        struct planned_task *t = CONTAINER_OF(n, struct planned_task, by_id);
        if (t->row.task_id == task_id) {
            return t;
        }
    }
    return NULL;
}

// ---- the end of a plan ----
void plan_drop_all(struct plan *pl) {
    struct planned_task *t, *next_task;
    DL_FOREACH_SAFE(pl->tasks, t, next_task) {
        if (!t->concluded) { // others: when their commit is answered
            planned_task_free(t);
        }
    }
    struct listing *l, *next_listing;
    DL_FOREACH_SAFE(pl->listings, l, next_listing) {
        l->gone = true;
        listing_free(pl, l);
    }
    struct directory *d, *next_directory;
    DL_FOREACH_SAFE(pl->directories, d, next_directory) {
        if (d->listing == NULL) {
            directory_remove(pl, d);
        }
    }
    struct open_lease *o, *next_open;
    DL_FOREACH_SAFE(pl->open, o, next_open) {
        DL_DELETE(pl->open, o);
        free(o);
    }
    struct waiting *w, *next_waiting;
    DL_FOREACH_SAFE(pl->waiting, w, next_waiting) {
        DL_DELETE(pl->waiting, w);
        free(w);
    }
}

static void plan_free(struct plan *pl) {
    struct planned_task *t, *next;
    DL_FOREACH_SAFE(pl->tasks, t, next) {
        planned_task_free(t);
    }
    plan_drop_all(pl);
    struct large *l, *next_large;
    DL_FOREACH_SAFE(pl->larges, l, next_large) {
        l->refs = 1;
        large_unref(l);
    }
    blob_free(&pl->body.source);
    DL_DELETE(pl->planner->plans, pl);
    free(pl);
}

void plan_ref(struct plan *pl) {
    pl->n_pending++;
}

void plan_unref_quietly(struct plan *pl) {
    if (--pl->n_pending == 0 && pl->flow == NULL) {
        plan_free(pl);
    }
}

void plan_unref(struct plan *pl) {
    if (pl->n_pending == 1 && pl->flow != NULL && pl->n_tasks == 0 && pl->drained) {
        plan_load(pl);
    }
    plan_unref_quietly(pl);
}

void planner_free(struct planner *p) {
    if (p == NULL) {
        return;
    }
    struct plan *pl, *next;
    DL_FOREACH_SAFE(p->plans, pl, next) {
        if (pl->flow != NULL) {
            pl->flow->plan = NULL;
        }
        plan_free(pl);
    }
    loop_timer_free(p->timer);
    hash_index_deinit(&p->tasks);
    planner_moved_deinit(p);
    free(p->reported);
    free(p);
}

static void let_go(struct plan *pl) {
    struct planner *p = pl->planner;
    struct flow *f = pl->flow;
    plan_drop_all(pl);
    if (pl->in_scheduler) {
        pl->in_scheduler = false;
        scheduler_flow_remove(p->core->scheduler, pl->id, planner_mono_ms(p));
    }
    struct change *c = change_new();
    change_plan_end(c, pl->id);
    database_commit(p->core->database, c, NULL, NULL);
    f->plan = NULL;
    pl->flow = NULL;
}

// The caller holds a reference.
void plan_end(struct plan *pl, const struct failure *why) {
    struct flow *f = pl->flow;
    struct core *core = pl->planner->core;
    if (f == NULL) {
        return;
    }
    if (pl->abandoning) {
        void (*done)(void *) = pl->abandoned;
        void *arg = pl->abandoned_arg;
        let_go(pl);
        if (done != NULL) {
            done(arg);
        }
        return;
    }
    // Its final state is queued before the plan's rows go: a crash in between plans it out again.
    flow_planned_out(core, f, why);
    let_go(pl);
}

void plan_fail(struct plan *pl, const struct failure *why) {
    if (pl->flow == NULL) {
        return;
    }
    log_event(LOG_ERROR, "flow_failed", LOG_STR("flow", pl->id), LOG_FAILURE(why));
    plan_ref(pl);
    if (pl->abandoning) {
        pl->flow->cleanup_pending = true;
    }
    plan_end(pl, why);
    plan_unref(pl);
}

// ---- what the scheduler and the agents' sessions ask ----
void planner_want_tasks(struct planner *p, const char *flow, uint32_t n) {
    struct plan *pl = plan_find(p, flow);
    if (pl != NULL) {
        pl->wanted = n;
        pl->drained = false;
        plan_load(pl);
    }
}

const Sluice__V1__TaskSpec *planner_spec(struct planner *p, uint64_t task_id,
                                         uint32_t *ret_attempt) {
    struct planned_task *t = planner_task(p, task_id);
    if (t == NULL || t->concluded || t->plan->flow == NULL) {
        return NULL;
    }
    // Each lease that was lost counts: the next one looks for what was done.
    uint32_t lost = t->n_leases > 1 ? (uint32_t)t->n_leases - 1 : 0;
    *ret_attempt = t->row.attempt + lost;
    return t->spec;
}
