// SPDX-License-Identifier: Apache-2.0
// A cancelled flow: its tasks go, and what its leases and large objects may have left at the
// sink is removed.
#include "master/planner_impl.h"

#include <stdlib.h>
#include <string.h>

enum { LARGES_AT_A_TIME = 256, PATIENCE_MS = 15000, STRAYS_MS = 200 };

// Agents that have not come back may still write under leases of an earlier term, which this
// master need not know of: what they leave can be removed after that. One that came back, with a
// lease of a task that is not here, has as long again at most.
static bool must_wait(struct plan *pl) {
    const struct planner *p = pl->planner;
    const struct master_options *o = p->core->options;
    int64_t now_ms = planner_mono_ms(p), until_ms = p->started_ms + o->hold_ms;
    int64_t strays_ms = until_ms + o->hold_ms + o->lost_after_ms;
    pl->abandon_enters_ms = 0;
    if (pl->restored && now_ms < until_ms) {
        pl->abandon_enters_ms = until_ms;
    } else if (pl->restored && now_ms < strays_ms && scheduler_has_strays(p->core->scheduler)) {
        pl->abandon_enters_ms = now_ms + STRAYS_MS;
    }
    if (pl->abandon_enters_ms != 0) {
        planner_arm(pl->planner, pl->abandon_enters_ms);
    }
    return pl->abandon_enters_ms != 0;
}

static void enter(struct plan *pl) {
    if (must_wait(pl)) {
        return;
    }
    pl->body.stage = STAGE_CLEANUP;
    pl->frontier = false;
    pl->wanted = LOAD_MAX;
    pl->abandon_deadline_ms = 0;
    if (plan_enter_scheduler(pl)) {
        planner_arm(pl->planner, planner_mono_ms(pl->planner) + PATIENCE_MS);
        plan_load(pl);
    }
}

static void on_larges(void *arg, enum err result, const struct large_row *rows, size_t n_rows) {
    struct plan *pl = arg;
    struct core *core = pl->planner->core;
    if (result == OK && pl->flow != NULL && n_rows == 0) {
        enter(pl);
    } else if (result == OK && pl->flow != NULL) {
        struct work *w = work_new(pl);
        for (size_t i = 0; i < n_rows && w != NULL; i++) {
            if (rows[i].opened) {
                large_abort_task(w, &rows[i]);
            }
            change_large_remove(w->change, pl->id, rows[i].object);
        }
        if (w != NULL) {
            work_commit(w);
            plan_abandon_next(pl);
        }
    }
    plan_unref_quietly(pl);
    core_dispatch(core);
}

void plan_abandon_next(struct plan *pl) {
    if (pl->flow == NULL) {
        return;
    }
    if (!pl->abandon_ready) {
        pl->abandon_ready = true;
        struct change *c = change_new();
        change_plan_abandon(c, pl->id);
        database_commit(pl->planner->core->database, c, NULL, NULL);
    }
    plan_ref(pl);
    database_larges_load(pl->planner->core->database, pl->id, false, 0, LARGES_AT_A_TIME, on_larges,
                         pl);
}

// Nobody cleans up: the site may be away. Gives when to look again.
int64_t plan_abandon_due(struct plan *pl) {
    int64_t now_ms = planner_mono_ms(pl->planner);
    if (!pl->in_scheduler && pl->abandon_enters_ms != 0 && now_ms >= pl->abandon_enters_ms) {
        enter(pl);
    }
    if (!pl->in_scheduler) {
        return pl->abandon_enters_ms != 0 ? pl->abandon_enters_ms : now_ms + PATIENCE_MS;
    }
    if (pl->abandon_deadline_ms == 0) {
        pl->abandon_deadline_ms = now_ms + PATIENCE_MS;
    } else if (now_ms >= pl->abandon_deadline_ms) {
        pl->flow->cleanup_pending = true;
        plan_end(pl, NULL);
        return INT64_MAX;
    }
    return pl->abandon_deadline_ms;
}

void planner_flow_abandon(struct planner *p, struct flow *f, void (*done)(void *arg), void *arg) {
    struct plan *pl = plan_find(p, f->id);
    bool is_new = pl == NULL;
    if (is_new) {
        pl = plan_new(p, f);
    }
    if (pl == NULL) {
        f->cleanup_pending = true;
        loop_post(p->core->loop, done, arg);
        return;
    }
    pl->abandoning = true;
    pl->abandoned = done;
    pl->abandoned_arg = arg;
    pl->in_scheduler = false;
    plan_drop_all(pl);
    if (is_new) {
        plan_load_body(pl);
    } else if (pl->begun) {
        plan_abandon_next(pl);
    } // else its body is being loaded
}
