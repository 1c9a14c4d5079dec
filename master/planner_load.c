// SPDX-License-Identifier: Apache-2.0
// Loading: tasks from the database into the scheduler, and LIST tasks from the walk's frontier.
#include "common/cleanup.h"
#include "common/log.h"
#include "master/planner_impl.h"

#include <stdlib.h>
#include <string.h>

enum { FULL_RETRY_MS = 200 };

void planned_task_free(struct planned_task *t) {
    if (t == NULL) {
        return;
    }
    struct plan *pl = t->plan;
    hash_index_remove(&pl->planner->tasks, &t->by_id);
    DL_DELETE(pl->tasks, t);
    pl->n_tasks--;
    if (t->large != NULL) {
        large_unref(t->large);
    }
    if (t->spec != NULL) {
        sluice__v1__task_spec__free_unpacked(t->spec, NULL);
    }
    free(t->leases);
    free(t);
}

// ---- LIST tasks from the frontier ----
static struct listing *listing_new(struct plan *pl, size_t max_directories) {
    struct listing *l = calloc(1, sizeof *l);
    if (l != NULL) {
        l->directories = calloc(max_directories, sizeof(struct directory *));
        l->last = &l->first;
    }
    if (l == NULL || l->directories == NULL) {
        free(l);
        return NULL;
    }
    for (int i = 0; i < GROW_COUNT; i++) {
        object_table_init(&l->growing[i].table);
    }
    DL_APPEND(pl->listings, l);
    return l;
}

static bool take_directory(struct work *w, struct listing *l, const struct walk_row *row,
                           struct object_table_builder *table) {
    struct object_table one;
    if (object_table_open(row->entry.bytes, row->entry.len, &one) != OK) {
        w->failed = true;
        return false;
    }
    struct object_entry e;
    object_table_get(&one, 0, &e);
    enum err err = object_table_add(table, &e);
    object_table_close(&one);
    if (err != OK || (table->len > TABLE_MAX_BYTES && l->n_directories > 0)) {
        w->failed = err != OK && err != ERR_FULL;
        return false; // the next task's
    }
    struct directory *d = directory_find(w->plan, row->id);
    if (d == NULL) {
        d = directory_add(w->plan, row);
    }
    if (d == NULL) {
        w->failed = true;
        return false;
    }
    d->listing = l;
    d->restart = true;
    d->row.state = WALK_LISTING;
    l->directories[l->n_directories++] = d;
    return true;
}

// One LIST task of up to @n of the rows; gives how many it took.
static size_t add_list_task(struct work *w, const struct walk_row *rows, size_t n) {
    struct plan *pl = w->plan;
    struct listing *l = listing_new(pl, n);
    if (l == NULL) {
        w->failed = true;
        return 0;
    }
    struct object_table_builder table;
    object_table_init(&table);
    size_t took = 0;
    while (took < n && take_directory(w, l, &rows[took], &table)) {
        took++;
    }
    // A table that became too long has one more than was taken: it is built again, shorter.
    if (took < n && table.count > took) {
        object_table_reset(&table);
        for (size_t i = 0; i < took; i++) {
            struct object_table one;
            struct object_entry e;
            if (object_table_open(rows[i].entry.bytes, rows[i].entry.len, &one) != OK) {
                w->failed = true;
                break;
            }
            object_table_get(&one, 0, &e);
            w->failed = object_table_add(&table, &e) != OK || w->failed;
            object_table_close(&one);
        }
    }
    struct blob bytes = {0};
    struct task_row row = task_row_new(pl, SLUICE__V1__TASK_KIND__LIST);
    if (took == 0 || object_table_bytes(&table, &bytes.bytes, &bytes.len) != OK) {
        w->failed = true;
        took = 0;
    } else {
        row.objects = (uint32_t)took;
        work_add_task(w, &row, bytes);
        l->task_id = row.task_id;
        pl->n_lists++;
        for (size_t i = 0; i < took; i++) {
            l->directories[i]->row.task = row.task_id;
            change_walk_state(w->change, &l->directories[i]->row);
        }
    }
    object_table_deinit(&table);
    return took;
}

static void ask_tasks(struct plan *pl);

static void on_frontier(void *arg, enum err result, const struct walk_row *rows, size_t n_rows,
                        uint64_t n_all) {
    struct plan *pl = arg;
    if (result != OK || pl->flow == NULL || pl->abandoning) {
        pl->loading = false;
        plan_unref(pl);
        return;
    }
    size_t used = 0;
    if (n_rows > 0) {
        // Few directories: small tasks, so that several agents list.
        size_t each = (size_t)((n_all + LISTS_MAX - 1) / LISTS_MAX);
        each = each > LIST_MAX_DIRECTORIES ? LIST_MAX_DIRECTORIES : each;
        struct work *w = work_new(pl);
        while (w != NULL && !w->failed && used < n_rows && pl->n_lists < LISTS_MAX) {
            size_t left = n_rows - used;
            used += add_list_task(w, rows + used, left < each ? left : each);
        }
        if (w != NULL) {
            work_commit(w);
        }
    }
    pl->frontier = used < n_all;
    if (pl->flow != NULL) {
        ask_tasks(pl);
    } else {
        pl->loading = false;
    }
    plan_unref(pl);
}

// ---- tasks ----
static bool make_cleanup(struct planned_task *t) {
    Sluice__V1__TaskSpec *s = t->spec;
    s->kind = SLUICE__V1__TASK_KIND__CLEANUP;
    if (s->source != NULL) {
        sluice__v1__place__free_unpacked(s->source, NULL);
        s->source = NULL;
    }
    s->stale = calloc(t->n_leases + 1, sizeof(Sluice__V1__Epoch *));
    for (size_t i = 0; s->stale != NULL && i < t->n_leases; i++) {
        Sluice__V1__Epoch *e = malloc(sizeof *e);
        if (e == NULL) {
            return false;
        }
        sluice__v1__epoch__init(e);
        e->term = t->leases[i].epoch.term;
        e->counter = t->leases[i].epoch.counter;
        s->stale[s->n_stale++] = e;
    }
    return s->stale != NULL;
}

// What has been learnt since the spec was stored.
static bool bring_up_to_date(struct planned_task *t) {
    Sluice__V1__TaskSpec *s = t->spec;
    if (t->row.kind == SLUICE__V1__TASK_KIND__CLEANUP &&
        s->kind != SLUICE__V1__TASK_KIND__CLEANUP) {
        return make_cleanup(t);
    }
    if (t->row.kind == SLUICE__V1__TASK_KIND__BATCH && (t->row.attempt > 1 || t->n_leases > 0)) {
        s->skip_identical = true;
    }
    if (t->row.kind == SLUICE__V1__TASK_KIND__FINISH && t->large != NULL) {
        s->copy_to_fresh = t->large->row.fresh;
    }
    return true;
}

static struct planned_task *task_new(struct plan *pl, const struct task_row *row) {
    struct planned_task *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return NULL;
    }
    t->plan = pl;
    t->row = *row;
    t->row.spec = (struct blob){0};
    t->row.leases = NULL;
    t->row.n_leases = 0;
    t->row.large = NULL;
    hash_index_add(&pl->planner->tasks, &t->by_id, hash_u64(row->task_id));
    DL_APPEND(pl->tasks, t);
    pl->n_tasks++;
    t->spec_bytes = row->spec.len;
    bool ok = true;
    for (size_t i = 0; i < row->n_leases && ok; i++) {
        ok = lease_add(t, row->leases[i].epoch, row->leases[i].agent) == OK;
    }
    leases_recall_moved(pl->planner, t);
    t->spec = ok ? sluice__v1__task_spec__unpack(NULL, row->spec.len, row->spec.bytes) : NULL;
    if (row->large != NULL && t->spec != NULL) {
        t->large = large_take(pl, row->large);
        ok = t->large != NULL;
    }
    struct listing *l;
    DL_FOREACH(pl->listings, l) {
        if (l->task_id == row->task_id) {
            t->listing = l;
        }
    }
    if (!ok || t->spec == NULL || !bring_up_to_date(t)) {
        planned_task_free(t);
        return NULL;
    }
    return t;
}

static void load_later(struct plan *pl) {
    pl->load_later = true;
    planner_arm(pl->planner, planner_mono_ms(pl->planner) + FULL_RETRY_MS);
}

// Of those that nobody has. What agents hold is bounded by their slots, and does not count: however
// many agents there are, there is something for the next one.
static size_t waiting_spec_bytes(const struct plan *pl) {
    size_t bytes = 0;
    const struct planned_task *t;
    DL_FOREACH(pl->tasks, t) {
        const struct lease *last = t->n_leases > 0 ? &t->leases[t->n_leases - 1] : NULL;
        if (!t->concluded && (last == NULL || lease_is_closed(pl->planner, t->row.task_id, last))) {
            bytes += t->spec_bytes;
        }
    }
    return bytes;
}

// False: the scheduler takes no more for now.
static bool add_task(struct plan *pl, const struct task_row *row) {
    struct core *core = pl->planner->core;
    struct planned_task *t = task_new(pl, row);
    if (t == NULL) {
        log_event(LOG_ERROR, "task_not_loaded", LOG_STR("flow", pl->id),
                  LOG_U64("task", row->task_id));
        return false;
    }
    struct scheduler_task s;
    scheduler_task_of(t, &s);
    enum err e = scheduler_task_add(core->scheduler, &s, planner_mono_ms(pl->planner));
    if (e != OK) {
        planned_task_free(t);
        return false;
    }
    if (pl->wanted > 0) {
        pl->wanted--;
    }
    return true;
}

// False: its listing has begun again since this was read.
static bool is_current(struct plan *pl, const struct task_row *row) {
    if (row->stage == STAGE_CLEANUP) {
        return true; // what was left is to go, whatever became of the listing
    }
    const struct directory *d =
        row->walk != 0 && row->walk != UINT64_MAX ? directory_find(pl, row->walk) : NULL;
    return d == NULL || d->row.generation <= row->generation;
}

static void on_tasks(void *arg, enum err result, const struct tasks_answer *a) {
    struct plan *pl = arg;
    struct planner *p = pl->planner;
    pl->loading = false;
    if (pl->flow == NULL || !pl->in_scheduler || result == ERR_CANCELLED) {
        plan_unref(pl);
        return;
    }
    bool took_all = result == OK;
    size_t spec_bytes = waiting_spec_bytes(pl);
    for (size_t i = 0; i < a->n_rows && took_all; i++) {
        if (pl->outdated && a->rows[i].object != 0) {
            pl->load_again = true;
        } else if (planner_task(p, a->rows[i].task_id) == NULL && is_current(pl, &a->rows[i])) {
            took_all =
                spec_bytes <= p->core->options->spec_bytes_per_flow && add_task(pl, &a->rows[i]);
            spec_bytes += a->rows[i].spec.len;
        }
    }
    bool exhausted = took_all && !a->more;
    if (!took_all) {
        load_later(pl);
    } else if (pl->load_again) {
        plan_load(pl); // it may be answered otherwise by now
    } else if (exhausted && a->walking && pl->n_lists == 0 && !pl->frontier &&
               pl->body.stage == STAGE_DATA && !pl->abandoning) {
        pl->frontier = true; // directories came back
        plan_load(pl);
    } else if (exhausted) {
        pl->drained = true;
        scheduler_flow_drained(p->core->scheduler, pl->id);
        bool over = a->n_rows == 0 && !a->any && pl->n_tasks == 0 && pl->n_pending == 1;
        if (over &&
            (pl->body.stage != STAGE_DATA || pl->abandoning || (!a->walking && !a->objects))) {
            plan_stage_drained(pl);
        }
    } else if (pl->wanted > 0) {
        plan_load(pl);
    }
    plan_unref_quietly(pl);
    core_dispatch(p->core);
}

static int compare_ids(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void ask_tasks(struct plan *pl) {
    uint64_t *ids = calloc(pl->n_tasks + 1, sizeof *ids);
    if (ids == NULL) {
        pl->loading = false;
        load_later(pl);
        return;
    }
    size_t n = 0;
    struct planned_task *t;
    DL_FOREACH(pl->tasks, t) {
        if (!t->concluded) { // what becomes of those is in the answer
            ids[n++] = t->row.task_id;
        }
    }
    qsort(ids, n, sizeof *ids, compare_ids);
    // Those that are here are passed over one by one: more are asked for when there are many.
    uint32_t most = n / 8 > LOAD_MAX ? (uint32_t)(n / 8) : LOAD_MAX;
    uint32_t want = pl->wanted > most ? most : pl->wanted > 0 ? pl->wanted : 1;
    struct tasks_wanted wanted = {.max_stage = pl->body.stage,
                                  .n = want,
                                  .n_list = want / 4 > 0 ? want / 4 : 1,
                                  .skip = ids,
                                  .n_skip = n};
    plan_ref(pl);
    database_tasks_load(pl->planner->core->database, pl->id, &wanted, on_tasks, pl);
    free(ids);
}

void plan_load(struct plan *pl) {
    if (!pl->in_scheduler || pl->flow == NULL || pl->planner->core->stopping) {
        return; // (what is asked of a database that closes is refused at once, and asked again)
    }
    if (pl->loading) {
        pl->load_again = true; // what is asked now is answered by the next one
        return;
    }
    pl->loading = true;
    pl->load_again = false;
    pl->load_later = false;
    pl->outdated = false;
    if (pl->frontier && pl->n_lists < LISTS_MAX && pl->body.stage == STAGE_DATA &&
        !pl->abandoning) {
        plan_ref(pl);
        database_walk_frontier(pl->planner->core->database, pl->id,
                               LISTS_MAX * LIST_MAX_DIRECTORIES, on_frontier, pl);
    } else {
        ask_tasks(pl);
    }
}
