// SPDX-License-Identifier: Apache-2.0
// How tasks end, those of whole objects in particular.
#include "common/log.h"
#include "common/rpc/failure_message.h"
#include "master/planner_impl.h"

#include <stdlib.h>
#include <string.h>

enum { PIECES = 2 }; // that what was given back is cut into

// ---- counting ----
struct directory *plan_count(struct plan *pl, const struct task_row *row,
                             const struct walk_counts *add) {
    struct flow_progress *p = &pl->body.exact;
    if (row->walk == UINT64_MAX) {
        return NULL;
    }
    p->objects_total += add->objects;
    p->bytes_total += add->bytes;
    p->objects_done += add->objects_done;
    p->bytes_done += add->bytes_done;
    p->objects_failed += add->failed;
    p->objects_skipped += add->skipped;
    struct directory *d = row->walk != 0 ? directory_find(pl, row->walk) : NULL;
    if (d == NULL || !d->row.partial || d->row.generation != row->generation) {
        return NULL;
    }
    struct walk_counts *c = &d->row.counts;
    c->objects += add->objects;
    c->bytes += add->bytes;
    c->objects_done += add->objects_done;
    c->bytes_done += add->bytes_done;
    c->failed += add->failed;
    c->skipped += add->skipped;
    return d;
}

void work_count(struct work *w, const struct task_row *row, const struct walk_counts *add) {
    const struct directory *d = plan_count(w->plan, row, add);
    if (d != NULL) {
        change_walk_state(w->change, &d->row);
    }
}

void work_object_failed(struct work *w, uint64_t object, const uint8_t *path, size_t path_len,
                        const struct failure *why, const char *agent, const struct task_row *row) {
    struct plan *pl = w->plan;
    if (row->walk == UINT64_MAX) {
        return;
    }
    struct failure_message m;
    failure_to_message(why, agent, &m);
    size_t len = sluice__v1__failure__get_packed_size(&m.message);
    uint8_t *bytes = malloc(len + 1);
    if (bytes == NULL) {
        w->failed = true;
        return;
    }
    sluice__v1__failure__pack(&m.message, bytes);
    change_object_failed(w->change, pl->id, object, row->walk, row->generation,
                         (struct blob){path, path_len}, (struct blob){bytes, len});
    free(bytes);
    struct walk_counts add = {.failed = 1};
    work_count(w, row, &add);
    flow_object_failed(pl->planner->core, pl->flow, path, path_len, why, agent);
}

// ---- the end of a task ----
static bool leaves_temporaries(const struct task_row *row) {
    return row->kind == SLUICE__V1__TASK_KIND__BATCH || row->kind == SLUICE__V1__TASK_KIND__LINK;
}

void work_conclude(struct work *w, struct planned_task *t, struct epoch epoch) {
    struct plan *pl = w->plan;
    t->concluded = true;
    w->concluded = t;
    lease_remove(t, epoch);
    if (t->row.kind == SLUICE__V1__TASK_KIND__LIST) {
        pl->n_lists--;
    }
    if (!leaves_temporaries(&t->row) || t->n_leases == 0) {
        change_task_remove(w->change, t->row.task_id);
        return;
    }
    // Earlier leases were lost: what they left is removed when nobody acts under them.
    struct task_row row = t->row;
    row.kind = SLUICE__V1__TASK_KIND__CLEANUP;
    row.stage = STAGE_CLEANUP;
    row.rank = RANK_URGENT;
    row.attempt = 1;
    row.not_before_ms = 0;
    row.avoid[0] = '\0';
    bool open = leases_left_open(w, t);
    row.status = open ? TASK_WAITING : TASK_READY;
    change_lease_remove(w->change, row.task_id, epoch);
    change_task_state(w->change, &row);
    if (open) {
        int64_t deadline_ms = 0;
        for (size_t i = 0; i < t->n_leases; i++) {
            int64_t at_ms = plan_lease_deadline_ms(pl, &t->leases[i]);
            deadline_ms = at_ms > deadline_ms ? at_ms : deadline_ms;
        }
        waiting_add(w, &row, row.task_id, true, deadline_ms);
    } else {
        w->adds = true;
    }
}

bool outcome_may_retry(const struct outcome *o) {
    return o->lacks_credentials ||
           (o->retryable && plan_may_retry(o->task->plan, o->task->row.attempt, o->failure.err));
}

static void set_avoid(struct task_row *row, const struct outcome *o) {
    if (row->kind != SLUICE__V1__TASK_KIND__SYNC) {
        memset(row->avoid, 0, sizeof row->avoid);
        strncpy(row->avoid, o->agent, sizeof row->avoid - 1);
    }
}

void work_retry(struct work *w, const struct outcome *o, bool counts) {
    struct planned_task *t = o->task;
    struct planner *p = w->plan->planner;
    t->concluded = true; // it is loaded again
    w->concluded = t;
    lease_remove(t, o->epoch);
    change_lease_remove(w->change, t->row.task_id, o->epoch);
    if (counts && !o->lacks_credentials) {
        t->row.not_before_ms =
            planner_wall_ms(p) + planner_backoff_ms(p, t->row.attempt, o->failure.err);
        t->row.attempt++;
        plan_count_retry(w->plan, &o->failure, o->failure_agent);
        set_avoid(&t->row, o);
    }
    change_task_state(w->change, &t->row);
    w->adds = true;
}

// ---- whole objects ----
struct ending {
    struct work *w;
    const struct outcome *o;
    struct object_table table;
    const Sluice__V1__ObjectResult **results; // by index; NULL: none
    bool stale;                               // of a listing that was begun again
    bool barren;                              // the task failed before anything was delivered
    bool repeats;                             // under an earlier lease some may have been delivered
    uint64_t accepted_bytes, identical_bytes;
    struct walk_counts counts;
    struct object_table_builder again, rest;
    uint64_t again_bytes, rest_bytes;
    struct failure again_why; // the last
    const char *again_agent;
};

static void keep(struct ending *e, struct object_table_builder *b, const struct object_entry *o,
                 uint64_t *bytes) {
    if (e->stale) {
        return;
    }
    if (object_table_add(b, o) != OK) {
        e->w->failed = true;
    }
    *bytes += e->o->task->row.kind == SLUICE__V1__TASK_KIND__BATCH ? o->version.size : 0;
}

static void object_delivered(struct ending *e, const struct object_entry *o,
                             const Sluice__V1__ObjectResult *r) {
    const struct task_row *row = &e->o->task->row;
    bool batch = row->kind == SLUICE__V1__TASK_KIND__BATCH;
    bool identical = r->outcome == SLUICE__V1__OBJECT_OUTCOME__OBJECT_IDENTICAL;
    if (row->kind == SLUICE__V1__TASK_KIND__MKDIR) {
        return; // it counts when its metadata is set
    }
    e->counts.objects_done++;
    flow_gets_on(e->w->plan->flow);
    if (identical && (plan_skips_identical(e->w->plan) || !e->repeats)) {
        e->counts.skipped++;
    }
    if (batch) {
        uint64_t bytes = identical ? o->version.size : r->bytes;
        e->counts.bytes_done += bytes;
        e->counts.bytes += bytes - o->version.size; // it may have changed since it was listed
        e->accepted_bytes += identical ? 0 : bytes;
        e->identical_bytes += identical ? bytes : 0;
    }
}

static void object_failed(struct ending *e, const struct object_entry *o,
                          const Sluice__V1__ObjectResult *r) {
    const struct outcome *out = e->o;
    struct failure f = out->failure;
    const char *agent = out->failure_agent;
    bool retryable = out->retryable;
    if (r != NULL) {
        retryable = r->retryable;
        if (r->failure != NULL) {
            failure_from_message(r->failure, &f);
            agent = r->failure->agent;
        }
    }
    if (f.err == OK) {
        (void)failure_set(&f, ERR_INTERNAL, "task", o->path, o->path_len,
                          "the agent gave no reason");
    }
    if (out->lacks_credentials && flow_may_lack_credentials(e->w->plan->flow, f.err)) {
        keep(e, &e->rest, o, &e->rest_bytes);
    } else if (retryable && plan_may_retry(e->w->plan, out->task->row.attempt, f.err)) {
        e->again_why = f;
        e->again_agent = agent;
        keep(e, &e->again, o, &e->again_bytes);
    } else if (!e->stale) {
        work_object_failed(e->w, o->id, o->path, o->path_len, &f,
                           agent != NULL && agent[0] != '\0' ? agent : out->agent, &out->task->row);
    }
}

static void object_ended(struct ending *e, uint32_t index) {
    const struct outcome *o = e->o;
    const Sluice__V1__ObjectResult *r = e->results[index];
    struct object_entry entry;
    object_table_get(&e->table, index, &entry);
    if (r == NULL && o->failure.err == OK) { // not a word: as if it had not begun
        keep(e, &e->again, &entry, &e->again_bytes);
        return;
    }
    switch (r == NULL ? SLUICE__V1__OBJECT_OUTCOME__OBJECT_FAILED : r->outcome) {
    case SLUICE__V1__OBJECT_OUTCOME__OBJECT_DELIVERED:
    case SLUICE__V1__OBJECT_OUTCOME__OBJECT_IDENTICAL: object_delivered(e, &entry, r); break;
    case SLUICE__V1__OBJECT_OUTCOME__OBJECT_UNSTARTED:
        if (e->barren) { // else it would be tried for ever, if what failed stays like that
            object_failed(e, &entry, NULL);
        } else {
            keep(e, &e->rest, &entry, &e->rest_bytes);
        }
        break;
    case SLUICE__V1__OBJECT_OUTCOME__OBJECT_FAILED:
    case SLUICE__V1__OBJECT_OUTCOME__OBJECT_OUTCOME_UNSPECIFIED:
    default: object_failed(e, &entry, r); break;
    }
}

static void put_again(struct ending *e, struct object_table_builder *b, uint64_t bytes,
                      bool failed) {
    struct blob table = {0};
    if (b->count == 0 || e->w->failed) {
        return;
    }
    if (object_table_bytes(b, &table.bytes, &table.len) != OK) {
        e->w->failed = true;
        return;
    }
    struct planner *p = e->w->plan->planner;
    struct task_row row = e->o->task->row;
    row.task_id = 0;
    row.status = TASK_READY;
    row.bytes = bytes;
    row.objects = b->count;
    row.not_before_ms = 0;
    row.avoid[0] = '\0';
    if (failed) {
        row.not_before_ms =
            planner_wall_ms(p) + planner_backoff_ms(p, row.attempt, e->again_why.err);
        row.attempt++;
        plan_count_retry(e->w->plan, &e->again_why, e->again_agent);
        set_avoid(&row, e->o);
    }
    work_add_task(e->w, &row, table);
}

// What was given back is cut into pieces, so that it goes to several agents.
static void put_rest(struct ending *e) {
    struct blob bytes = {0};
    struct object_table all;
    // The order of directories matters.
    if (e->rest.count < PIECES || e->o->task->row.kind == SLUICE__V1__TASK_KIND__DIRMETA) {
        put_again(e, &e->rest, e->rest_bytes, false);
        return;
    }
    if (object_table_bytes(&e->rest, &bytes.bytes, &bytes.len) != OK ||
        object_table_open(bytes.bytes, bytes.len, &all) != OK) {
        e->w->failed = true;
        return;
    }
    uint64_t piece_bytes = 0;
    struct object_table_builder piece;
    object_table_init(&piece);
    for (uint32_t i = 0; i < all.count; i++) {
        struct object_entry o;
        object_table_get(&all, i, &o);
        keep(e, &piece, &o, &piece_bytes);
        bool half = piece_bytes > e->rest_bytes / PIECES || piece.count > all.count / PIECES;
        if (half || i + 1 == all.count) {
            put_again(e, &piece, piece_bytes, false);
            object_table_reset(&piece);
            piece_bytes = 0;
        }
    }
    object_table_deinit(&piece);
    object_table_close(&all);
}

// The task failed, and nothing of it was delivered.
static bool is_barren(const struct outcome *o) {
    if (o->failure.err == OK || o->m == NULL || o->m->released) {
        return false;
    }
    for (size_t i = 0; i < o->m->n_objects; i++) {
        Sluice__V1__ObjectOutcome outcome = o->m->objects[i]->outcome;
        if (outcome == SLUICE__V1__OBJECT_OUTCOME__OBJECT_DELIVERED ||
            outcome == SLUICE__V1__OBJECT_OUTCOME__OBJECT_IDENTICAL) {
            return false;
        }
    }
    return true;
}

static bool ending_init(struct ending *e, struct work *w, const struct outcome *o) {
    const struct planned_task *t = o->task;
    *e = (struct ending){.w = w, .o = o, .stale = t->row.walk == UINT64_MAX};
    e->barren = is_barren(o);
    e->repeats = t->row.attempt > 1 || t->n_leases > 1 || t->row.generation > 0;
    if (object_table_open(t->spec->objects.data, t->spec->objects.len, &e->table) != OK) {
        return false;
    }
    e->results = calloc(e->table.count + 1, sizeof *e->results);
    if (e->results == NULL) {
        object_table_close(&e->table);
        return false;
    }
    for (size_t i = 0; o->m != NULL && i < o->m->n_objects; i++) {
        if (o->m->objects[i]->index < e->table.count) {
            e->results[o->m->objects[i]->index] = o->m->objects[i];
        }
    }
    object_table_init(&e->again);
    object_table_init(&e->rest);
    return true;
}

static void objects_result(struct work *w, const struct outcome *o) {
    struct ending e;
    if (!ending_init(&e, w, o)) {
        w->failed = true;
        return;
    }
    for (uint32_t i = 0; i < e.table.count; i++) {
        object_ended(&e, i);
    }
    work_count(w, &o->task->row, &e.counts);
    put_again(&e, &e.again, e.again_bytes, true);
    put_rest(&e);
    uint64_t moved = o->m != NULL ? o->m->bytes_moved : 0;
    if (moved > e.accepted_bytes) {
        w->plan->body.exact.bytes_resent += moved - e.accepted_bytes;
    }
    // What an earlier lease delivered was recognised; the rest of what it moved was moved again.
    uint64_t lost = leases_lost_bytes(o->task, o->epoch);
    if (lost > e.identical_bytes) {
        w->plan->body.exact.bytes_resent += lost - e.identical_bytes;
    } else {
        leases_forgive_bytes(o->task, o->epoch, e.identical_bytes - lost);
    }
    work_conclude(w, o->task, o->epoch);
    object_table_deinit(&e.again);
    object_table_deinit(&e.rest);
    object_table_close(&e.table);
    free(e.results);
}

// CLEANUP, ABORT: what cannot be removed is told.
static void removal_result(struct work *w, const struct outcome *o) {
    if (!o->done && outcome_may_retry(o)) {
        work_retry(w, o, true);
        return;
    }
    if (!o->done) {
        w->plan->flow->cleanup_pending = true;
        log_event(LOG_WARN, "cleanup_failed", LOG_STR("flow", w->plan->id),
                  LOG_U64("task", o->task->row.task_id), LOG_FAILURE(&o->failure));
    }
    // Its own leases and those that it cleaned up after go together.
    o->task->n_leases = 0;
    work_conclude(w, o->task, o->epoch);
}

void outcome_apply(struct work *w, const struct outcome *o) {
    switch ((int)o->task->row.kind) {
    case SLUICE__V1__TASK_KIND__STAT:
        if (o->task->row.object == 0) {
            stat_result(w, o);
            return;
        }
        large_result(w, o);
        break;
    case SLUICE__V1__TASK_KIND__LIST: list_result(w, o); return;
    case SLUICE__V1__TASK_KIND__OPEN:
    case SLUICE__V1__TASK_KIND__PART:
    case SLUICE__V1__TASK_KIND__SYNC:
    case SLUICE__V1__TASK_KIND__FINISH: large_result(w, o); break;
    case SLUICE__V1__TASK_KIND__CLEANUP:
    case SLUICE__V1__TASK_KIND__ABORT: removal_result(w, o); break;
    default: objects_result(w, o); break;
    }
    work_commit(w);
}
