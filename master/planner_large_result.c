// SPDX-License-Identifier: Apache-2.0
// How the tasks of large objects end.
#include "common/hash.h"
#include "common/log.h"
#include "master/planner_impl.h"

#include <stdlib.h>
#include <string.h>

enum { SPLIT_MIN_BYTES = 32 << 20 }; // what was given back is halved above twice this

static struct failure reason_of(const struct outcome *o) {
    struct failure f = o->failure;
    if (f.err == OK) {
        (void)failure_set(&f, ERR_INTERNAL, "task", NULL, 0, "the agent gave no reason");
    }
    return f;
}

static bool is_sync_failure(const struct failure *f) {
    return strstr(f->operation, "sync") != NULL;
}

static void conclude(struct work *w, const struct outcome *o) {
    work_conclude(w, o->task, o->epoch);
}

static void add_resent(struct work *w, const struct outcome *o, uint64_t accepted_bytes) {
    uint64_t moved = o->m != NULL ? o->m->bytes_moved : 0;
    if (moved > accepted_bytes) {
        w->plan->body.exact.bytes_resent += moved - accepted_bytes;
    }
}

// The next step is looked for after the commit.
static void then_next(struct work *w, struct large *l) {
    l->refs++;
    w->large = l;
}

static void large_delivered(struct work *w, struct large *l, bool identical) {
    struct walk_counts add = {.objects_done = 1, .skipped = identical};
    struct task_row row = {0};
    work_count(w, &row, &add);
    flow_gets_on(w->plan->flow);
    large_changed(w, l);
    change_large_remove(w->change, w->plan->id, l->row.object);
    l->row.state = (enum large_state)LARGE_GONE;
}

// ---- STAT ----
static bool same_object(struct large *l, const Sluice__V1__TaskResult *m,
                        struct object_entry *ret_entry, struct object_table *ret_table) {
    if (object_table_open(m->found.data, m->found.len, ret_table) != OK) {
        *ret_table = (struct object_table){0};
        return false;
    }
    if (ret_table->count == 0) {
        return false;
    }
    object_table_get(ret_table, 0, ret_entry);
    ret_entry->id = l->row.object;
    return ret_entry->type == OBJECT_FILE;
}

static void stat_ended(struct work *w, const struct outcome *o, struct large *l) {
    struct plan *pl = w->plan;
    if (!o->done && outcome_may_retry(o)) {
        work_retry(w, o, true);
        return;
    }
    conclude(w, o);
    struct failure f = reason_of(o);
    struct object_entry e;
    struct object_table table = {0};
    struct blob entry = {0};
    if (o->done && !same_object(l, o->m, &e, &table)) {
        (void)failure_set(&f, ERR_NOT_FOUND, "stat", NULL, 0, "the source was removed");
    } else if (o->done && entry_table(&e, &entry) != OK) {
        w->failed = true;
    }
    if (entry.len == 0) {
        large_failed(w, l, &f, o->failure_agent);
    } else {
        pl->body.exact.bytes_total += e.version.size - l->row.size;
        blob_free(&l->row.entry);
        l->row.entry = entry;
        l->row.size = e.version.size;
        l->row.state = LARGE_OPENING;
        large_store(w, l);
        struct task_row row = {.kind = SLUICE__V1__TASK_KIND__OPEN};
        large_put_step(w, l, &row, NULL);
    }
    object_table_close(&table);
}

// ---- OPEN ----
static void open_ended(struct work *w, const struct outcome *o, struct large *l) {
    lease_remove(o->task, o->epoch);
    large_abort_later(w, &l->row, o->task);
    if (!o->done) {
        if (outcome_may_retry(o)) {
            work_retry(w, o, true);
            return;
        }
        struct failure f = reason_of(o);
        conclude(w, o);
        if (f.err == ERR_SOURCE_CHANGED) {
            large_regenerate(w, l, &f, o->failure_agent, true);
        } else {
            large_failed(w, l, &f, o->failure_agent);
        }
        return;
    }
    conclude(w, o);
    if (o->m->n_objects > 0 &&
        o->m->objects[0]->outcome == SLUICE__V1__OBJECT_OUTCOME__OBJECT_IDENTICAL) {
        w->plan->body.exact.bytes_done += l->row.size;
        large_delivered(w, l, true);
        return;
    }
    struct blob receipt = {0};
    if (o->m->receipt != NULL) {
        receipt = (struct blob){o->m->receipt->opaque.data, o->m->receipt->opaque.len};
    }
    blob_free(&l->row.receipt);
    if (blob_copy(receipt, &l->row.receipt) != OK) {
        w->failed = true;
        return;
    }
    l->row.opened = true;
    l->row.state = LARGE_MOVING;
    large_add_parts(w, l, PARTS_AHEAD);
    if (l->row.size == 0) {
        l->row.state = LARGE_SYNCING;
        then_next(w, l);
    }
    large_store(w, l);
}

// ---- PART ----
// How much of the part was written, in whole leaves; 0 if what is said of it makes no sense.
static uint64_t written_bytes(const struct outcome *o, const struct large *l) {
    const Sluice__V1__TaskSpec *s = o->task->spec;
    const Sluice__V1__TaskResult *m = o->m;
    uint64_t done = m == NULL ? 0 : m->done_bytes;
    if (done == 0) {
        return 0;
    }
    bool at_end = s->offset + done == l->row.size;
    uint64_t align = plan_part_align(l->plan, l->row.size);
    uint64_t leaves = (done + LEAF_BYTES - 1) / LEAF_BYTES;
    enum hash_algorithm a =
        s->digest == SLUICE__V1__DIGEST_ALGORITHM__SHA_256 ? HASH_SHA256 : HASH_XXH3_128;
    // What a store copies by itself, or a file system shares, was not read.
    bool no_digests = m->leaf_digests.len == 0 &&
                      (plan_copies_within_store(l->plan) || plan_may_share_blocks(l->plan));
    if (done > s->length || (done % align != 0 && !at_end) ||
        (!no_digests && m->leaf_digests.len != leaves * hash_digest_bytes(a))) {
        log_event(LOG_ERROR, "part_result_refused", LOG_STR("flow", l->plan->id),
                  LOG_U64("task", o->task->row.task_id), LOG_STR("agent", o->agent),
                  LOG_U64("bytes", done), LOG_U64("digest_bytes", m->leaf_digests.len));
        return 0;
    }
    return done;
}

static void acknowledge(struct work *w, const struct outcome *o, struct large *l, uint64_t bytes) {
    const Sluice__V1__TaskResult *m = o->m;
    struct ack_row ack = {.object = l->row.object,
                          .offset = o->task->spec->offset,
                          .length = bytes,
                          .synced = m->synced,
                          .agent = o->agent,
                          .boot_id = m->boot_id,
                          .leaves = {m->leaf_digests.data, m->leaf_digests.len}};
    memcpy(ack.flow, w->plan->id, sizeof ack.flow);
    if (m->receipt != NULL) {
        ack.receipt = (struct blob){m->receipt->opaque.data, m->receipt->opaque.len};
    }
    change_ack_add(w->change, &ack);
    l->row.acked_bytes += bytes;
    w->plan->body.exact.bytes_done += bytes;
    flow_gets_on(w->plan->flow);
}

// Leases of this part that were lost: their writers may still write.
static void note_lost_writers(struct work *w, const struct outcome *o, struct large *l) {
    struct plan *pl = w->plan;
    struct planned_task *t = o->task;
    lease_remove(t, o->epoch);
    for (size_t i = 0; i < t->n_leases; i++) {
        l->row.fresh = l->row.fresh || t->leases[i].expired;
        if (!lease_is_closed(pl->planner, t->row.task_id, &t->leases[i])) {
            int64_t in_ms =
                plan_lease_deadline_ms(pl, &t->leases[i]) - planner_mono_ms(pl->planner);
            int64_t at_ms = planner_wall_ms(pl->planner) + in_ms;
            l->row.quiet_ms = at_ms > l->row.quiet_ms ? at_ms : l->row.quiet_ms;
        }
    }
    (void)leases_left_open(w, t);
}

static void put_rest(struct work *w, const struct outcome *o, struct large *l, uint64_t done,
                     const struct failure *why) { // NULL: it was given back
    struct planner *p = w->plan->planner;
    const struct task_row *row = &o->task->row;
    uint64_t offset = o->task->spec->offset + done;
    uint64_t left = o->task->spec->length - done;
    if (why != NULL) {
        plan_count_retry(w->plan, why, o->failure_agent);
        int64_t at_ms = planner_wall_ms(p) + planner_backoff_ms(p, row->attempt, why->err);
        // A part that gets on is not failing again.
        large_put_part(w, l, offset, left, done > 0 ? 1 : row->attempt + 1, at_ms, o->agent);
        return;
    }
    uint64_t align = plan_part_align(w->plan, l->row.size), half = left / 2 / align * align;
    if (half >= SPLIT_MIN_BYTES) {
        large_put_part(w, l, offset, half, row->attempt, 0, "");
        offset += half;
        left -= half;
    }
    large_put_part(w, l, offset, left, row->attempt, 0, "");
}

// Something of the part is missing. False: the object has begun again, or failed.
static bool part_falls_short(struct work *w, const struct outcome *o, struct large *l,
                             uint64_t done) {
    struct failure f = o->failure;
    bool failed = f.err != OK || (o->m != NULL && o->m->done); // done, but nonsense
    if (f.err == ERR_SOURCE_CHANGED || f.err == ERR_DEST_CHANGED || is_sync_failure(&f)) {
        large_regenerate(w, l, &f, o->failure_agent, f.err == ERR_SOURCE_CHANGED);
        return false;
    }
    if (f.err == OK && failed) {
        f = reason_of(o);
    }
    bool may = !failed || o->lacks_credentials ||
               ((o->retryable || f.err == ERR_INTERNAL) &&
                plan_may_retry(w->plan, done > 0 ? 0 : o->task->row.attempt, f.err));
    if (!may) {
        large_failed(w, l, &f, o->failure_agent);
        return false;
    }
    put_rest(w, o, l, done, failed ? &f : NULL);
    return true;
}

static void part_ended(struct work *w, const struct outcome *o, struct large *l) {
    uint64_t length = o->task->spec->length;
    if (l->row.state != LARGE_MOVING || o->task->spec->generation != l->row.generation) {
        add_resent(w, o, 0);
        conclude(w, o);
        return;
    }
    uint64_t done = written_bytes(o, l);
    if (done > 0) {
        acknowledge(w, o, l, done);
    }
    add_resent(w, o, done);
    w->plan->body.exact.bytes_resent += leases_lost_bytes(o->task, o->epoch);
    note_lost_writers(w, o, l);
    conclude(w, o);
    if (done < length && !part_falls_short(w, o, l, done)) {
        return;
    }
    if (done == length) {
        large_add_parts(w, l, 1);
    }
    if (l->row.acked_bytes == l->row.size) {
        l->row.state = LARGE_SYNCING;
        then_next(w, l);
    }
    large_store(w, l);
}

// ---- SYNC ----
// What the agent has not synced, under this boot, is written again.
struct unsynced {
    struct large *large;
    char agent[PLACE_NAME_MAX];
};

static void on_unsynced(void *arg, enum err result, const struct ack_row *rows, size_t n_rows,
                        bool more) {
    struct unsynced *u = arg;
    struct large *l = u->large;
    struct plan *pl = l->plan;
    struct core *core = pl->planner->core;
    (void)more;
    struct work *w = NULL;
    if (result == OK && pl->flow != NULL && l->row.state == LARGE_SYNCING) {
        w = work_new(pl);
    }
    if (w != NULL) {
        if (n_rows > 0) { // a SYNC that runs may miss what is written again now
            large_drop_tasks(l);
            change_tasks_of_object_remove(w->change, pl->id, l->row.object);
            l->syncs_from = pl->planner->next_task;
        }
        for (size_t i = 0; i < n_rows; i++) {
            large_put_part(w, l, rows[i].offset, rows[i].length, 1, 0, "");
            l->row.acked_bytes -= rows[i].length;
            pl->body.exact.bytes_done -= rows[i].length;
            pl->body.exact.bytes_resent += rows[i].length;
        }
        if (n_rows > 0) {
            log_event(LOG_WARN, "parts_lost", LOG_STR("flow", pl->id),
                      LOG_U64("object", l->row.object), LOG_STR("agent", u->agent),
                      LOG_U64("parts", n_rows));
            change_acks_drop_unsynced(w->change, pl->id, l->row.object, u->agent);
            l->row.state = LARGE_MOVING;
            large_store(w, l);
        } else {
            then_next(w, l);
        }
        work_commit(w);
    }
    large_unref(l);
    free(u);
    plan_unref(pl);
    core_dispatch(core);
}

static void look_for_unsynced(struct large *l, const char *agent) {
    struct plan *pl = l->plan;
    enum { ALL = 1 << 20 };
    struct unsynced *u = calloc(1, sizeof *u);
    if (u == NULL) {
        struct failure f = out_of_memory("sync");
        plan_fail(pl, &f);
        return;
    }
    u->large = l;
    l->refs++;
    strncpy(u->agent, agent, sizeof u->agent - 1);
    plan_ref(pl);
    database_acks_load(pl->planner->core->database, pl->id, l->row.object, u->agent, 0, ALL,
                       on_unsynced, u);
}

static bool sync_may_be_repeated(const struct outcome *o) {
    switch ((int)o->failure.err) {
    case ERR_IO:
    case ERR_NO_SPACE:
    case ERR_QUOTA:
    case ERR_STALE: return false; // a second fsync proves nothing
    default: return !is_sync_failure(&o->failure) && outcome_may_retry(o);
    }
}

static void sync_ended(struct work *w, const struct outcome *o, struct large *l) {
    if (l->row.state != LARGE_SYNCING || o->task->spec->generation != l->row.generation ||
        o->task->row.task_id < l->syncs_from) {
        conclude(w, o);
        return;
    }
    if (!o->done && sync_may_be_repeated(o)) {
        work_retry(w, o, true);
        return;
    }
    conclude(w, o);
    if (o->failure.err == ERR_DEST_CHANGED) {
        struct failure f = reason_of(o);
        large_regenerate(w, l, &f, o->failure_agent, false);
        return;
    }
    if (o->done) {
        change_acks_synced(w->change, w->plan->id, l->row.object, o->task->row.avoid,
                           o->m->boot_id);
    }
    // This is committed first; then whatever is still unsynced of this agent is lost.
    char agent[PLACE_NAME_MAX];
    memcpy(agent, o->task->row.avoid, sizeof agent);
    w->unsynced_of = l;
    memcpy(w->unsynced_agent, agent, sizeof agent);
    l->refs++;
}

void large_after_sync(struct work *w) {
    struct large *l = w->unsynced_of;
    w->unsynced_of = NULL;
    if (w->plan->flow != NULL && l->row.state == LARGE_SYNCING) {
        look_for_unsynced(l, w->unsynced_agent);
    }
    large_unref(l);
}

// ---- FINISH ----
static void finish_ended(struct work *w, const struct outcome *o, struct large *l) {
    if (l->row.state != LARGE_FINISHING || o->task->spec->generation != l->row.generation) {
        conclude(w, o);
        return;
    }
    struct failure f = reason_of(o);
    // What is not what the store was given is read once more, in case the way here is to blame.
    bool is_corrupt = f.err == ERR_CORRUPT;
    bool again = f.err == ERR_DEST_CHANGED || f.err == ERR_SOURCE_CHANGED || is_sync_failure(&f) ||
                 (is_corrupt && l->row.attempt == 1);
    if (!o->done && !again && !is_corrupt && outcome_may_retry(o)) {
        work_retry(w, o, true);
        return;
    }
    conclude(w, o);
    if (o->done) {
        large_delivered(w, l, false);
    } else if (again) {
        large_regenerate(w, l, &f, o->failure_agent, f.err == ERR_SOURCE_CHANGED);
    } else {
        large_failed(w, l, &f, o->failure_agent);
    }
}

void large_result(struct work *w, const struct outcome *o) {
    struct large *l = o->task->large;
    if (l == NULL || l->row.state == (enum large_state)LARGE_GONE) {
        add_resent(w, o, 0);
        conclude(w, o);
        return;
    }
    switch ((int)o->task->row.kind) {
    case SLUICE__V1__TASK_KIND__STAT: stat_ended(w, o, l); break;
    case SLUICE__V1__TASK_KIND__OPEN: open_ended(w, o, l); break;
    case SLUICE__V1__TASK_KIND__PART: part_ended(w, o, l); break;
    case SLUICE__V1__TASK_KIND__SYNC: sync_ended(w, o, l); break;
    default: finish_ended(w, o, l); break;
    }
}
