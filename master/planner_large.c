// SPDX-License-Identifier: Apache-2.0
// Large objects: their rows, and the tasks that move them.
#include "common/hash.h"
#include "common/log.h"
#include "master/planner_impl.h"

#include <stdlib.h>
#include <string.h>

// What is left of an object is at least so many parts, unless they are not worth a task each.
enum { PARTS_LEFT = 8 };
#define PART_WORTH_BYTES ((uint64_t)16 << 20)

struct large *large_find(struct plan *pl, uint64_t object) {
    struct large *l;
    DL_FOREACH(pl->larges, l) {
        if (l->row.object == object) {
            return l;
        }
    }
    return NULL;
}

struct large *large_take(struct plan *pl, const struct large_row *row) {
    struct large *l = large_find(pl, row->object);
    if (l != NULL) {
        l->refs++;
        return l;
    }
    l = calloc(1, sizeof *l);
    if (l == NULL) {
        return NULL;
    }
    l->row = *row;
    l->row.receipt = (struct blob){0};
    if (blob_copy(row->entry, &l->row.entry) != OK) {
        free(l);
        return NULL;
    }
    if (blob_copy(row->receipt, &l->row.receipt) != OK) {
        blob_free(&l->row.entry);
        free(l);
        return NULL;
    }
    l->plan = pl;
    l->refs = 1;
    DL_APPEND(pl->larges, l);
    return l;
}

void large_unref(struct large *l) {
    if (--l->refs == 0) {
        DL_DELETE(l->plan->larges, l);
        blob_free(&l->row.entry);
        blob_free(&l->row.receipt);
        free(l);
    }
}

void large_changed(struct work *w, struct large *l) {
    if (w->changed == NULL) { // a transaction is about one object at most
        l->refs++;
        w->changed = l;
    }
}

void large_store(struct work *w, struct large *l) {
    large_changed(w, l);
    change_large_put(w->change, &l->row);
}

// ---- tasks ----
static struct task_row row_of(const struct plan *pl, const struct large_row *l,
                              Sluice__V1__TaskKind kind) {
    struct task_row row = task_row_new(pl, kind);
    row.object = l->object;
    row.generation = l->generation;
    row.objects = 1;
    return row;
}

static void put_large_task(struct work *w, const struct large_row *l, struct task_row *row,
                           uint64_t offset, uint64_t length, const struct large_end *end) {
    Sluice__V1__TaskKind kind = (Sluice__V1__TaskKind)row->kind;
    bool stat = kind == SLUICE__V1__TASK_KIND__STAT;
    Sluice__V1__TaskSpec spec;
    struct spec_places places;
    spec_init(w->plan, kind, &spec);
    // From store to store, who opens it asks the source for its properties.
    bool looks = kind == SLUICE__V1__TASK_KIND__OPEN && place_is_store(&w->plan->flow->source) &&
                 place_is_store(&w->plan->flow->sink);
    // What a store keeps with the object is held against what was read.
    bool compares = kind == SLUICE__V1__TASK_KIND__FINISH && end != NULL && end->digest.len > 0 &&
                    place_is_store(&w->plan->flow->source);
    bool reads = stat || looks || compares || kind == SLUICE__V1__TASK_KIND__PART;
    spec_set_places(w->plan, &spec, &places, reads, !stat);
    spec.single = stat;
    spec.objects.data = (uint8_t *)(uintptr_t)l->entry.bytes;
    spec.objects.len = l->entry.len;
    spec.offset = offset;
    spec.length = length;
    spec.generation = l->generation;
    spec.skip_identical = kind == SLUICE__V1__TASK_KIND__OPEN && plan_skips_identical(w->plan);
    Sluice__V1__Receipt receipt;
    Sluice__V1__Receipt *receipts[1] = {&receipt};
    sluice__v1__receipt__init(&receipt);
    if (l->receipt.len > 0) {
        receipt.opaque.data = (uint8_t *)(uintptr_t)l->receipt.bytes;
        receipt.opaque.len = l->receipt.len;
        spec.receipts = receipts;
        spec.n_receipts = 1;
    }
    if (end != NULL && end->n_receipts > 0) { // its first place is kept free for the object's own
        end->receipts[0] = &receipt;
        spec.receipts = end->receipts;
        spec.n_receipts = end->n_receipts;
    }
    if (end != NULL && end->digest.len > 0) {
        spec.has_digest = true;
        spec.object_digest.data = (uint8_t *)(uintptr_t)end->digest.bytes;
        spec.object_digest.len = end->digest.len;
    }
    work_put_task(w, row, &spec);
}

void large_put_step(struct work *w, struct large *l, struct task_row *row,
                    const struct large_end *end) {
    struct task_row made = row_of(w->plan, &l->row, (Sluice__V1__TaskKind)row->kind);
    made.status = row->status;
    made.not_before_ms = row->not_before_ms;
    memcpy(made.avoid, row->avoid, sizeof made.avoid);
    put_large_task(w, &l->row, &made, 0, 0, end);
    *row = made;
}

static void put_plain_step(struct work *w, struct large *l, Sluice__V1__TaskKind kind,
                           int64_t not_before_ms) {
    struct task_row row = {.kind = (uint32_t)kind, .not_before_ms = not_before_ms};
    large_put_step(w, l, &row, NULL);
}

void large_put_part(struct work *w, struct large *l, uint64_t offset, uint64_t length,
                    uint32_t attempt, int64_t not_before_ms, const char *avoid) {
    struct task_row row = row_of(w->plan, &l->row, SLUICE__V1__TASK_KIND__PART);
    row.bytes = length;
    row.attempt = attempt;
    row.not_before_ms = not_before_ms;
    strncpy(row.avoid, avoid, sizeof row.avoid - 1);
    put_large_task(w, &l->row, &row, offset, length, NULL);
}

// The parts become smaller towards the end, so that all streams end at about the same time.
static uint64_t next_part_bytes(const struct work *w, const struct large *l, uint64_t left) {
    const uint64_t most = plan_part_bytes(w->plan, l->row.size);
    const uint64_t align = plan_part_align(w->plan, l->row.size);
    uint64_t part = left / PARTS_LEFT > PART_WORTH_BYTES ? left / PARTS_LEFT : PART_WORTH_BYTES;
    part = (part + align - 1) / align * align;
    return part < most ? part : most;
}

void large_add_parts(struct work *w, struct large *l, unsigned n) {
    for (unsigned i = 0; i < n && l->row.next_offset < l->row.size; i++) {
        uint64_t left = l->row.size - l->row.next_offset;
        uint64_t part = next_part_bytes(w, l, left), length = left < part ? left : part;
        large_put_part(w, l, l->row.next_offset, length, 1, 0, "");
        l->row.next_offset += length;
    }
}

// Stands by itself: the object's row may be gone when it runs.
void large_abort_task(struct work *w, const struct large_row *l) {
    struct task_row row = row_of(w->plan, l, SLUICE__V1__TASK_KIND__ABORT);
    row.object = 0;
    put_large_task(w, l, &row, 0, 0, NULL);
}

void large_abort_later(struct work *w, const struct large_row *l, struct planned_task *open) {
    struct plan *pl = w->plan;
    // Leases of earlier terms are not known here.
    bool earlier = open->reopened && pl->restored;
    struct lease unknown = {.epoch = {pl->planner->core->term, 0}};
    int64_t deadline_ms = earlier ? plan_lease_deadline_ms(pl, &unknown) : 0;
    for (size_t i = 0; i < open->n_leases; i++) {
        if (!lease_is_closed(pl->planner, open->row.task_id, &open->leases[i])) {
            int64_t at_ms = plan_lease_deadline_ms(pl, &open->leases[i]);
            deadline_ms = at_ms > deadline_ms ? at_ms : deadline_ms;
        }
    }
    if (deadline_ms == 0) {
        return;
    }
    struct task_row row = row_of(pl, l, SLUICE__V1__TASK_KIND__ABORT);
    row.object = 0;
    row.stage = STAGE_CLEANUP; // until then it may be needed
    row.status = TASK_WAITING;
    put_large_task(w, l, &row, 0, 0, NULL);
    (void)leases_left_open(w, open);
    waiting_add(w, &row, open->row.task_id, !earlier, deadline_ms);
}

// ---- a new object ----
void large_add(struct work *w, const struct object_entry *e) {
    struct plan *pl = w->plan;
    struct large_row row = {.object = e->id,
                            .state = LARGE_OPENING,
                            .size = e->version.size,
                            .generation = 1,
                            .attempt = 1};
    memcpy(row.flow, pl->id, sizeof row.flow);
    struct blob table = {0};
    if (entry_table(e, &table) != OK) {
        w->failed = true;
        return;
    }
    row.entry = table;
    change_large_put(w->change, &row);
    struct task_row task = row_of(pl, &row, SLUICE__V1__TASK_KIND__OPEN);
    put_large_task(w, &row, &task, 0, 0, NULL);
    blob_free(&table);
    pl->body.exact.objects_total++;
    pl->body.exact.bytes_total += row.size;
}

// ---- beginning again, and failing ----
void large_drop_tasks(struct large *l) {
    struct planner *p = l->plan->planner;
    struct planned_task *t, *next;
    DL_FOREACH_SAFE(l->plan->tasks, t, next) {
        if (t->large == l && !t->concluded) {
            scheduler_task_drop(p->core->scheduler, t->row.task_id, planner_mono_ms(p));
            planned_task_free(t);
        }
    }
    struct waiting *v, *next_waiting;
    DL_FOREACH_SAFE(l->plan->waiting, v, next_waiting) {
        if (v->row.object == l->row.object && v->row.object != 0) {
            DL_DELETE(l->plan->waiting, v);
            free(v);
        }
    }
}

static void entry_of(const struct large *l, struct object_table *ret_table,
                     struct object_entry *ret_entry) {
    *ret_entry = (struct object_entry){0};
    if (object_table_open(l->row.entry.bytes, l->row.entry.len, ret_table) == OK) {
        object_table_get(ret_table, 0, ret_entry);
    } else {
        *ret_table = (struct object_table){0};
    }
}

void large_failed(struct work *w, struct large *l, const struct failure *why, const char *agent) {
    struct object_table table;
    struct object_entry e;
    struct task_row row = {0};
    entry_of(l, &table, &e);
    work_object_failed(w, l->row.object, e.path, e.path_len, why, agent, &row);
    object_table_close(&table);
    large_drop_tasks(l);
    change_tasks_of_object_remove(w->change, w->plan->id, l->row.object);
    if (l->row.opened) {
        large_abort_task(w, &l->row);
    }
    large_changed(w, l);
    change_large_remove(w->change, w->plan->id, l->row.object);
    l->row.state = (enum large_state)LARGE_GONE;
}

void large_regenerate(struct work *w, struct large *l, const struct failure *why, const char *agent,
                      bool stat) {
    struct plan *pl = w->plan;
    struct planner *p = pl->planner;
    if (!plan_may_retry(pl, l->row.attempt, why->err)) {
        large_failed(w, l, why, agent);
        return;
    }
    log_event(LOG_WARN, "object_begins_again", LOG_STR("flow", pl->id),
              LOG_U64("object", l->row.object), LOG_U64("bytes", l->row.acked_bytes),
              LOG_FAILURE(why));
    large_drop_tasks(l);
    change_tasks_of_object_remove(w->change, pl->id, l->row.object);
    change_acks_drop(w->change, pl->id, l->row.object);
    if (l->row.opened) {
        large_abort_task(w, &l->row);
    }
    pl->body.exact.bytes_done -= l->row.acked_bytes;
    pl->body.exact.bytes_resent += l->row.acked_bytes;
    int64_t at_ms = planner_wall_ms(p) + planner_backoff_ms(p, l->row.attempt, why->err);
    l->row.attempt++;
    plan_count_retry(pl, why, agent);
    l->row.generation++;
    l->row.acked_bytes = 0;
    l->row.next_offset = 0;
    l->row.opened = false;
    l->row.fresh = false;
    l->row.quiet_ms = 0;
    blob_free(&l->row.receipt);
    l->row.state = stat ? LARGE_STATTING : LARGE_OPENING;
    large_store(w, l);
    put_plain_step(w, l, stat ? SLUICE__V1__TASK_KIND__STAT : SLUICE__V1__TASK_KIND__OPEN, at_ms);
}
