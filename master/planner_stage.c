// SPDX-License-Identifier: Apache-2.0
// What follows when nothing of a stage is left: the next one; in the last one the directories'
// metadata, level by level from the deepest; then the end.
#include "master/planner_impl.h"

// Directories of one level, or all that are left if one task takes them.
struct level {
    struct work *w;
    struct task_row row;
    struct object_table_builder table;
};

static void level_flush(struct level *v) {
    struct blob bytes = {0};
    if (v->table.count > 0 && !v->w->failed) {
        v->row.objects = v->table.count;
        if (object_table_bytes(&v->table, &bytes.bytes, &bytes.len) != OK) {
            v->w->failed = true;
        } else {
            work_add_task(v->w, &v->row, bytes);
        }
    }
    object_table_reset(&v->table);
    v->row = task_row_new(v->w->plan, SLUICE__V1__TASK_KIND__DIRMETA);
}

static void level_add(struct level *v, const struct walk_row *row) {
    struct object_table one;
    change_walk_remove(v->w->change, v->w->plan->id, row->id);
    if (row->failed) {
        return;
    }
    if (object_table_open(row->entry.bytes, row->entry.len, &one) != OK) {
        v->w->failed = true;
        return;
    }
    struct object_entry e;
    object_table_get(&one, 0, &e);
    if (v->table.len > TABLE_MAX_BYTES) {
        level_flush(v);
    }
    enum err err = object_table_add(&v->table, &e);
    if (err == ERR_FULL) {
        level_flush(v);
        err = object_table_add(&v->table, &e);
    }
    if (err != OK) {
        v->w->failed = true;
    }
    object_table_close(&one);
}

static void on_deepest(void *arg, enum err result, const struct walk_row *rows, size_t n_rows,
                       uint64_t n_all) {
    struct plan *pl = arg;
    (void)n_all;
    if (result == OK && pl->flow != NULL && !pl->abandoning) {
        if (n_rows == 0) {
            plan_end(pl, NULL);
        } else {
            struct level v = {.w = work_new(pl)};
            bool all = n_rows < OBJECT_TABLE_MAX_OBJECTS;
            if (v.w != NULL) {
                object_table_init(&v.table);
                v.row = task_row_new(pl, SLUICE__V1__TASK_KIND__DIRMETA);
                for (size_t i = 0; i < n_rows && (all || rows[i].depth == rows[0].depth); i++) {
                    level_add(&v, &rows[i]);
                    if (all && v.table.len > TABLE_MAX_BYTES) {
                        break; // the next task may only begin after this one
                    }
                }
                level_flush(&v);
                object_table_deinit(&v.table);
                work_commit(v.w);
            }
        }
    }
    plan_unref(pl);
}

void plan_stage_drained(struct plan *pl) {
    if (pl->abandoning) {
        plan_end(pl, NULL);
        return;
    }
    if (pl->body.stage < STAGE_DIRECTORIES) {
        pl->body.stage++;
        struct work *w = work_new(pl);
        if (w != NULL) {
            work_commit(w); // and then the next stage is looked at
        }
        return;
    }
    plan_ref(pl);
    database_walk_deepest(pl->planner->core->database, pl->id,
                          DIRMETA_TASKS * OBJECT_TABLE_MAX_OBJECTS, on_deepest, pl);
}
