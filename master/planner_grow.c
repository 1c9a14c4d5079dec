// SPDX-License-Identifier: Apache-2.0
// Tasks that grow page by page, so that small directories do not make small tasks. Their rows
// are stored with every page, marked as growing: after a crash they are simply ready.
#include "master/planner_impl.h"

#include <string.h>

static const Sluice__V1__TaskKind kinds[GROW_COUNT] = {
    [GROW_BATCH] = SLUICE__V1__TASK_KIND__BATCH,
    [GROW_LINK] = SLUICE__V1__TASK_KIND__LINK,
    [GROW_MKDIR] = SLUICE__V1__TASK_KIND__MKDIR,
};

void grow_forget(struct growing *g) {
    object_table_deinit(&g->table);
    *g = (struct growing){0};
    object_table_init(&g->table);
}

void grow_store(struct work *w, struct growing *g, bool close) {
    struct blob bytes = {0};
    if (g->table.count == 0) {
        return;
    }
    if (g->changed || close) {
        g->row.status = close ? TASK_READY : TASK_GROWING;
        if (object_table_bytes(&g->table, &bytes.bytes, &bytes.len) != OK) {
            w->failed = true;
            return;
        }
        work_add_task(w, &g->row, bytes);
        g->changed = false;
    }
    if (close) {
        grow_forget(g);
    }
}

void grow_store_all(struct work *w, struct listing *l, bool close) {
    for (int i = 0; i < GROW_COUNT; i++) {
        grow_store(w, &l->growing[i], close);
    }
}

static uint64_t within(uint64_t n, uint64_t min, uint64_t max) {
    return n < min ? min : n > max ? max : n;
}

// A sixteenth of what is known: little trees are shared out too. Towards the end of the walk a
// quarter of what is left, so that those who move the last tasks end together.
static uint64_t fair_share(const struct work *w, uint64_t known, uint64_t ahead, uint64_t min,
                           uint64_t max) {
    uint64_t most = within((known + ahead) / 16, min, max);
    return w->ends_walk ? within(ahead / 4, min, most) : most;
}

static bool is_full(const struct work *w, const struct growing *g, uint64_t more_bytes) {
    const struct flow_progress *p = &w->plan->body.exact;
    const struct walk_counts *ahead = &w->ahead;
    uint64_t max_bytes =
        fair_share(w, p->bytes_total, ahead->bytes, BATCH_MIN_BYTES, BATCH_MAX_BYTES);
    uint64_t max_objects = fair_share(w, p->objects_total, ahead->objects, BATCH_MIN_OBJECTS,
                                      OBJECT_TABLE_MAX_OBJECTS);
    return g->table.count > 0 && (g->row.bytes + more_bytes > max_bytes ||
                                  g->table.count >= max_objects || g->table.len > TABLE_MAX_BYTES);
}

void grow_add(struct work *w, struct listing *l, int what, const struct object_entry *e,
              uint64_t walk, uint64_t generation) {
    struct growing *g = &l->growing[what];
    uint64_t bytes = what == GROW_BATCH ? e->version.size : 0;
    bool other = g->table.count > 0 && (g->row.walk != walk || g->row.generation != generation);
    if (other || is_full(w, g, bytes)) {
        grow_store(w, g, true);
    }
    enum err err = object_table_add(&g->table, e);
    if (err == ERR_FULL) {
        grow_store(w, g, true);
        err = object_table_add(&g->table, e);
    }
    if (err != OK) {
        w->failed = true;
        return;
    }
    if (g->table.count == 1) {
        g->row = task_row_new(w->plan, kinds[what]);
        g->row.walk = walk;
        g->row.generation = generation;
    }
    g->row.bytes += bytes;
    g->row.objects++;
    if (what == GROW_BATCH) {
        w->ahead.objects -= w->ahead.objects > 0;
        w->ahead.bytes -= bytes < w->ahead.bytes ? bytes : w->ahead.bytes;
    }
    g->changed = true;
}
