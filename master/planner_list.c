// SPDX-License-Identifier: Apache-2.0
// The end of a LIST task: what it did not list returns to the frontier, or has failed.
#include "master/planner_impl.h"

static void path_of(const struct planned_task *t, size_t index, struct object_entry *ret_entry,
                    struct object_table *ret_table) {
    *ret_entry = (struct object_entry){0};
    if (object_table_open(t->spec->objects.data, t->spec->objects.len, ret_table) != OK) {
        *ret_table = (struct object_table){0};
    } else if (index < ret_table->count) {
        object_table_get(ret_table, (uint32_t)index, ret_entry);
    }
}

// False: the flow fails, because it was the root.
static bool give_back(struct work *w, const struct outcome *o, struct directory *d, size_t index) {
    struct plan *pl = w->plan;
    bool failed = o->failure.err != OK;
    bool again = !failed || o->lacks_credentials ||
                 (o->retryable && plan_may_retry(pl, d->row.attempt + 1, o->failure.err));
    if (!again && d->row.depth == 0) {
        return false;
    }
    if (again) {
        d->row.attempt += failed;
        if (failed) {
            plan_count_retry(pl, &o->failure, o->failure_agent);
        }
        d->row.state = WALK_FRONTIER;
        d->restart = true;
        pl->frontier = true;
        w->adds = true;
    } else {
        struct object_entry e;
        struct object_table table;
        path_of(o->task, index, &e, &table);
        struct task_row row = {0};
        work_object_failed(w, d->row.id, e.path, e.path_len, &o->failure, o->failure_agent, &row);
        object_table_close(&table);
        d->row.state = WALK_DONE;
        d->row.partial = false;
        change_seen_drop(w->change, pl->id, d->row.id);
        pl->body.n_unlisted--;
    }
    d->row.task = 0;
    change_walk_state(w->change, &d->row);
    return true;
}

void list_result(struct work *w, const struct outcome *o) {
    struct plan *pl = w->plan;
    struct listing *l = o->task->listing;
    for (size_t i = 0; l != NULL && i < l->n_directories; i++) {
        struct directory *d = l->directories[i];
        if (d == NULL || d->row.state != WALK_LISTING) {
            continue;
        }
        if (!give_back(w, o, d, i)) {
            struct failure f = o->failure;
            plan_fail(pl, &f); // nothing is stored: after a restart it is listed again
            work_free(w);
            return;
        }
        l->directories[i] = NULL;
        d->listing = NULL;
        if (!d->row.partial) {
            directory_remove(pl, d);
        }
    }
    if (l != NULL) {
        grow_store_all(w, l, true);
        l->gone = true;
        o->task->listing = NULL;
        listing_free(pl, l);
    }
    work_conclude(w, o->task, o->epoch);
    work_commit(w);
}
