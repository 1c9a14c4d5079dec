// SPDX-License-Identifier: Apache-2.0
// One transaction of a plan: what changes together, and what follows once it is committed.
#include "common/log.h"
#include "master/planner_impl.h"

#include <stdlib.h>
#include <string.h>

struct work *work_new(struct plan *pl) {
    struct work *w = calloc(1, sizeof *w);
    if (w != NULL) {
        w->change = change_new();
    }
    if (w == NULL || w->change == NULL) {
        free(w);
        struct failure f = out_of_memory("plan");
        plan_fail(pl, &f);
        return NULL;
    }
    w->plan = pl;
    plan_ref(pl);
    return w;
}

// Answers who waits, without saying that anything was stored.
static void answer_in_vain(void *arg) {
    struct work *w = arg;
    if (w->page_committed != NULL) {
        w->page_committed(w->arg, ERR_CANCELLED);
    }
    if (w->committed != NULL) {
        w->committed(w->arg); // the flow has ended: the agent need not keep it
    }
    free(w);
}

// Ends a transaction that is not wanted any more.
void work_free(struct work *w) {
    struct plan *pl = w->plan;
    struct core *core = pl->planner->core;
    change_free(w->change);
    w->change = NULL;
    if (w->concluded != NULL) {
        planned_task_free(w->concluded);
    }
    if (w->large != NULL) {
        large_unref(w->large);
    }
    if (w->unsynced_of != NULL) {
        large_unref(w->unsynced_of);
    }
    if (w->changed != NULL) {
        large_unref(w->changed);
    }
    if (w->listing != NULL) {
        w->listing->busy = false;
        listing_free(pl, w->listing);
    }
    plan_unref(pl);
    if (w->committed != NULL || w->page_committed != NULL) {
        loop_post(core->loop, answer_in_vain, w);
    } else {
        free(w);
    }
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

// What users see never runs backwards, and done never passes the total.
static void show(struct plan *pl) {
    struct flow_progress *s = &pl->shown;
    struct flow_progress before = *s;
    struct flow_progress *e = &pl->body.exact;
    e->listing = pl->body.n_unlisted > 0 || !pl->body.resolved;
    *s = *e;
    s->bytes_done = larger(before.bytes_done, e->bytes_done);
    s->bytes_total = larger(s->bytes_done, e->bytes_total);
    s->objects_done = larger(before.objects_done, e->objects_done);
    s->objects_total = larger(s->objects_done, e->objects_total);
    s->bytes_resent = larger(before.bytes_resent, e->bytes_resent);
}

static void show_phase(struct plan *pl) {
    struct flow *f = pl->flow;
    enum flow_phase phase = pl->body.stage > STAGE_DATA || pl->abandoning ? PHASE_FINISHING
                            : f->progress.listing                         ? PHASE_PLANNING
                                                                          : PHASE_TRANSFERRING;
    if (f->phase != phase) {
        flow_set_phase(pl->planner->core, f, phase);
    }
}

static void follow_up(struct work *w) {
    struct plan *pl = w->plan;
    struct core *core = pl->planner->core;
    if (w->concluded != NULL) {
        planned_task_free(w->concluded);
        w->concluded = NULL;
    }
    if (w->committed != NULL) {
        w->committed(w->arg);
    }
    if (w->page_committed != NULL) {
        w->page_committed(w->arg, OK);
    }
    if (w->unsynced_of != NULL) {
        large_after_sync(w);
    }
    if (w->large != NULL) {
        if (pl->flow != NULL) {
            large_next(w->large);
        }
        large_unref(w->large);
    }
    if (w->changed != NULL) {
        large_unref(w->changed);
    }
    if (w->listing != NULL) {
        w->listing->busy = false;
        page_next(pl, w->listing);
    }
    if (pl->flow != NULL && pl->load_later) {
        plan_load(pl); // there is room again
    }
    if (pl->flow != NULL && w->adds && pl->drained && pl->in_scheduler) {
        pl->drained = false;
        scheduler_more_tasks(core->scheduler, pl->id, planner_mono_ms(pl->planner));
    }
}

static void committed(void *arg, enum err result) {
    struct work *w = arg;
    struct plan *pl = w->plan;
    struct core *core = pl->planner->core;
    if (result == ERR_CANCELLED) { // the master stops; the agents will tell again
        w->committed = NULL;
        w->page_committed = NULL;
        work_free(w);
        return;
    }
    if (result != OK) {
        struct failure f = {0};
        (void)failure_set(&f, result, "commit", NULL, 0, NULL);
        plan_fail(pl, &f);
    } else if (pl->flow != NULL) {
        pl->flow->progress = w->shown;
        show_phase(pl);
        flow_progressed(core, pl->flow);
    }
    follow_up(w);
    plan_unref(pl);
    free(w);
    core_dispatch(core);
}

void work_commit(struct work *w) {
    struct plan *pl = w->plan;
    struct blob body = {0};
    if (pl->flow == NULL) {
        work_free(w);
        return;
    }
    show(pl);
    w->shown = pl->shown;
    if (w->failed || plan_body_encode(&pl->body, &body) != OK) {
        struct failure f = out_of_memory("plan");
        plan_fail(pl, &f);
        work_free(w);
        return;
    }
    change_plan(w->change, pl->id, body, &pl->shown);
    blob_free(&body);
    pl->n_commits++;
    pl->abandon_deadline_ms = 0; // there is progress
    struct change *c = w->change;
    w->change = NULL;
    database_commit(pl->planner->core->database, c, committed, w);
}
