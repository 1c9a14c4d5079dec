// SPDX-License-Identifier: Apache-2.0
// What SQLite answers to the planner.
#include "master/database_sqlite.h"

#include <stdlib.h>
#include <string.h>

enum { TASKS_MAX_BYTES = 16 << 20 }; // of specs in one answer

// Binds flow, then the numbers, from parameter 2 on.
static enum err ask(struct store_sqlite *s, enum sqlite_statement which, const char *flow,
                    const int64_t *numbers, int n_numbers, sqlite3_stmt **ret_statement,
                    struct failure *ret_failure) {
    enum err e = sqlite_prepared(s, which, ret_statement, ret_failure);
    if (e == OK) {
        if (flow != NULL) {
            sqlite3_bind_text(*ret_statement, 1, flow, -1, SQLITE_STATIC);
        }
        for (int i = 0; i < n_numbers; i++) {
            sqlite3_bind_int64(*ret_statement, i + (flow != NULL ? 2 : 1), numbers[i]);
        }
    }
    return e;
}

static enum err ask_number(struct store_sqlite *s, enum sqlite_statement which, const char *flow,
                           int64_t number, bool has_number, int64_t *ret_answer,
                           struct failure *ret_failure) {
    sqlite3_stmt *st;
    enum err e = ask(s, which, flow, &number, has_number ? 1 : 0, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        *ret_answer = sqlite3_column_int64(st, 0);
    } else {
        e = sqlite_failure(s->db, rc, "read", ret_failure);
    }
    sqlite3_reset(st);
    return e;
}

// Ends a statement that was stepped through until @rc.
static enum err ended(struct store_sqlite *s, sqlite3_stmt *st, int rc, enum err e,
                      struct failure *ret_failure) {
    if (e == OK && rc != SQLITE_DONE && rc != SQLITE_ROW) {
        e = sqlite_failure(s->db, rc, "read", ret_failure);
    }
    sqlite3_reset(st);
    return e;
}

// ---- the plan ----
static enum err read_plan(struct store_sqlite *s, struct query *q, struct arena *a,
                          struct failure *ret_failure) {
    sqlite3_stmt *st;
    enum err e = ask(s, SQL_PLAN, q->flow, NULL, 0, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    q->plan = (struct plan_answer){0};
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        q->plan.exists = true;
        if (!sqlite_column_blob(st, 0, a, &q->plan.body)) {
            e = ERR_NO_MEMORY;
        }
        sqlite_progress(st, 1, &q->plan.progress);
    }
    return ended(s, st, rc, e, ret_failure);
}

// ---- large objects ----
static bool large_columns(sqlite3_stmt *st, const char *flow, struct arena *a,
                          struct large_row *l) {
    memcpy(l->flow, flow, sizeof l->flow);
    l->object = (uint64_t)sqlite3_column_int64(st, 0);
    l->state = (enum large_state)sqlite3_column_int(st, 1);
    l->size = (uint64_t)sqlite3_column_int64(st, 2);
    l->acked_bytes = (uint64_t)sqlite3_column_int64(st, 3);
    l->next_offset = (uint64_t)sqlite3_column_int64(st, 4);
    l->generation = (uint64_t)sqlite3_column_int64(st, 5);
    l->attempt = (uint32_t)sqlite3_column_int64(st, 6);
    l->fresh = sqlite3_column_int(st, 7) != 0;
    l->opened = sqlite3_column_int(st, 8) != 0;
    l->quiet_ms = sqlite3_column_int64(st, 9);
    return sqlite_column_blob(st, 10, a, &l->entry) && sqlite_column_blob(st, 11, a, &l->receipt);
}

static enum err read_larges(struct store_sqlite *s, struct query *q, struct arena *a,
                            struct failure *ret_failure) {
    const int64_t numbers[] = {(int64_t)q->from, q->limit};
    sqlite3_stmt *st;
    enum err e = ask(s, q->object == 0 ? SQL_LARGES : SQL_LARGES_IDLE, q->flow, numbers, 2, &st,
                     ret_failure);
    if (e != OK) {
        return e;
    }
    size_t cap = 0;
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct large_row *l = sqlite_add_row(a, &q->rows, &q->n_rows, &cap, sizeof *l);
        if (l == NULL || !large_columns(st, q->flow, a, l)) {
            e = ERR_NO_MEMORY;
            break;
        }
    }
    return ended(s, st, rc, e, ret_failure);
}

// ---- tasks ----
static void task_columns(sqlite3_stmt *st, const char *flow, struct task_row *t) {
    memcpy(t->flow, flow, sizeof t->flow);
    t->task_id = (uint64_t)sqlite3_column_int64(st, 0);
    t->kind = (uint32_t)sqlite3_column_int64(st, 1);
    t->stage = (uint32_t)sqlite3_column_int64(st, 2);
    t->rank = (uint32_t)sqlite3_column_int64(st, 3);
    t->status = (enum task_status)sqlite3_column_int(st, 4);
    t->attempt = (uint32_t)sqlite3_column_int64(st, 5);
    t->not_before_ms = sqlite3_column_int64(st, 6);
    sqlite_column_name(st, 7, t->avoid, sizeof t->avoid);
    t->object = (uint64_t)sqlite3_column_int64(st, 8);
    t->walk = (uint64_t)sqlite3_column_int64(st, 9);
    t->generation = (uint64_t)sqlite3_column_int64(st, 10);
    t->bytes = (uint64_t)sqlite3_column_int64(st, 11);
    t->objects = (uint32_t)sqlite3_column_int64(st, 12);
}

static enum err read_leases(struct store_sqlite *s, struct task_row *t, struct arena *a,
                            struct failure *ret_failure) {
    const int64_t id = (int64_t)t->task_id;
    sqlite3_stmt *st;
    enum err e = ask(s, SQL_TASK_LEASES, NULL, &id, 1, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    void *rows = NULL;
    size_t cap = 0;
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct lease_row *l = sqlite_add_row(a, &rows, &t->n_leases, &cap, sizeof *l);
        if (l == NULL) {
            e = ERR_NO_MEMORY;
            break;
        }
        l->epoch.term = (uint64_t)sqlite3_column_int64(st, 0);
        l->epoch.counter = (uint64_t)sqlite3_column_int64(st, 1);
        sqlite_column_name(st, 2, l->agent, sizeof l->agent);
    }
    t->leases = rows;
    return ended(s, st, rc, e, ret_failure);
}

// What else belongs to a task: spec, leases, and its large object.
static enum err read_rest(struct store_sqlite *s, struct task_row *t, struct arena *a,
                          struct failure *ret_failure) {
    const int64_t id = (int64_t)t->task_id;
    sqlite3_stmt *st;
    enum err e = ask(s, SQL_TASK_SPEC, NULL, &id, 1, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW && !sqlite_column_blob(st, 0, a, &t->spec)) {
        e = ERR_NO_MEMORY;
    }
    e = ended(s, st, rc, e, ret_failure);
    if (e == OK) {
        e = read_leases(s, t, a, ret_failure);
    }
    if (e != OK || t->object == 0) {
        return e;
    }
    const int64_t object = (int64_t)t->object;
    e = ask(s, SQL_LARGE_GET, t->flow, &object, 1, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        struct large_row *l = arena_alloc(a, sizeof *l);
        if (l == NULL || !large_columns(st, t->flow, a, l)) {
            e = ERR_NO_MEMORY;
        }
        t->large = l;
    }
    return ended(s, st, rc, e, ret_failure);
}

static int compare_ids(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

// Up to @n tasks that are not to be skipped, from one of the two statements.
static enum err add_tasks(struct store_sqlite *s, struct query *q, struct arena *a,
                          enum sqlite_statement which, size_t n, size_t *cap,
                          struct failure *ret_failure) {
    const struct tasks_wanted *w = &q->wanted;
    const int64_t stage = w->max_stage;
    sqlite3_stmt *st;
    enum err e = ask(s, which, q->flow, &stage, 1, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    size_t bytes = 0;
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct task_row t = {0};
        task_columns(st, q->flow, &t);
        if (w->n_skip > 0 &&
            bsearch(&t.task_id, w->skip, w->n_skip, sizeof *w->skip, compare_ids) != NULL) {
            continue;
        }
        if (n == 0 || bytes > TASKS_MAX_BYTES) {
            q->tasks.more = true;
            break;
        }
        struct task_row *row = sqlite_add_row(a, &q->rows, &q->n_rows, cap, sizeof *row);
        if (row == NULL) {
            e = ERR_NO_MEMORY;
            break;
        }
        *row = t;
        e = read_rest(s, row, a, ret_failure);
        if (e != OK) {
            break;
        }
        bytes += row->spec.len;
        n--;
    }
    return ended(s, st, rc, e, ret_failure);
}

static enum err read_tasks(struct store_sqlite *s, struct query *q, struct arena *a,
                           struct failure *ret_failure) {
    const struct tasks_wanted *w = &q->wanted;
    q->tasks = (struct tasks_answer){0};
    size_t cap = 0;
    size_t n_list = w->n_list < w->n ? w->n_list : w->n;
    enum err e = add_tasks(s, q, a, SQL_TASKS_LIST, n_list, &cap, ret_failure);
    if (e == OK) {
        e = add_tasks(s, q, a, SQL_TASKS, w->n - q->n_rows, &cap, ret_failure);
    }
    int64_t any = 0;
    int64_t walking = 0;
    int64_t objects = 0;
    if (e == OK) {
        e = ask_number(s, SQL_TASKS_ANY, q->flow, w->max_stage, true, &any, ret_failure);
    }
    if (e == OK) {
        e = ask_number(s, SQL_WALK_ANY, q->flow, 0, false, &walking, ret_failure);
    }
    if (e == OK) {
        e = ask_number(s, SQL_LARGE_ANY, q->flow, 0, false, &objects, ret_failure);
    }
    q->tasks.rows = q->rows;
    q->tasks.n_rows = q->n_rows;
    q->tasks.any = any != 0;
    q->tasks.walking = walking != 0;
    q->tasks.objects = objects != 0;
    return e;
}

static enum err read_waiting(struct store_sqlite *s, struct query *q, struct arena *a,
                             struct failure *ret_failure) {
    sqlite3_stmt *st;
    enum err e = ask(s, SQL_TASKS_WAITING, q->flow, NULL, 0, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    size_t cap = 0;
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct task_row *t = sqlite_add_row(a, &q->rows, &q->n_rows, &cap, sizeof *t);
        if (t == NULL) {
            e = ERR_NO_MEMORY;
            break;
        }
        task_columns(st, q->flow, t);
        e = read_leases(s, t, a, ret_failure);
        if (e != OK) {
            break;
        }
    }
    return ended(s, st, rc, e, ret_failure);
}

// ---- the walk ----
static enum err read_walks(struct store_sqlite *s, struct query *q, struct arena *a,
                           enum sqlite_statement which, struct failure *ret_failure) {
    const int64_t limit = q->limit;
    sqlite3_stmt *st;
    enum err e = ask(s, which, q->flow, &limit, 1, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    size_t cap = 0;
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct walk_row *w = sqlite_add_row(a, &q->rows, &q->n_rows, &cap, sizeof *w);
        if (w == NULL) {
            e = ERR_NO_MEMORY;
            break;
        }
        memcpy(w->flow, q->flow, sizeof w->flow);
        w->id = (uint64_t)sqlite3_column_int64(st, 0);
        w->state = (enum walk_state)sqlite3_column_int(st, 1);
        w->task = (uint64_t)sqlite3_column_int64(st, 2);
        w->depth = (uint32_t)sqlite3_column_int64(st, 3);
        w->attempt = (uint32_t)sqlite3_column_int64(st, 4);
        w->partial = sqlite3_column_int(st, 5) != 0;
        w->generation = (uint64_t)sqlite3_column_int64(st, 6);
        w->counts = (struct walk_counts){
            .objects = (uint64_t)sqlite3_column_int64(st, 7),
            .bytes = (uint64_t)sqlite3_column_int64(st, 8),
            .objects_done = (uint64_t)sqlite3_column_int64(st, 9),
            .bytes_done = (uint64_t)sqlite3_column_int64(st, 10),
            .failed = (uint64_t)sqlite3_column_int64(st, 11),
            .skipped = (uint64_t)sqlite3_column_int64(st, 12),
        };
        w->failed = which == SQL_WALK_DEEPEST && sqlite3_column_int(st, 14) != 0;
        if (!sqlite_column_blob(st, 13, a, &w->entry)) {
            e = ERR_NO_MEMORY;
            break;
        }
    }
    return ended(s, st, rc, e, ret_failure);
}

// ---- what was seen ----
static enum err read_seen(struct store_sqlite *s, struct query *q, struct arena *a,
                          struct failure *ret_failure) {
    size_t n = q->blob.len / SEEN_BYTES;
    bool *seen = arena_alloc(a, n * sizeof *seen);
    const int64_t walk = (int64_t)q->object;
    sqlite3_stmt *st;
    enum err e = ask(s, SQL_SEEN, q->flow, &walk, 1, &st, ret_failure);
    if (seen == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < n && e == OK; i++) {
        sqlite3_bind_blob(st, 3, q->blob.bytes + i * SEEN_BYTES, SEEN_BYTES, SQLITE_STATIC);
        int rc = sqlite3_step(st);
        seen[i] = rc == SQLITE_ROW;
        e = ended(s, st, rc, OK, ret_failure);
    }
    q->rows = seen;
    q->n_rows = n;
    return e;
}

// ---- acknowledgements ----
static enum err read_acks(struct store_sqlite *s, struct query *q, struct arena *a,
                          enum sqlite_statement which, struct failure *ret_failure) {
    const int64_t numbers[] = {(int64_t)q->from, (int64_t)q->limit + 1, (int64_t)q->object};
    sqlite3_stmt *st;
    enum err e = sqlite_prepared(s, which, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    sqlite3_bind_text(st, 1, q->flow, -1, SQLITE_STATIC);
    for (int i = 0; i < 3; i++) {
        sqlite3_bind_int64(st, i + 2, numbers[i]);
    }
    if (which == SQL_ACKS_OF_AGENT) {
        sqlite3_bind_text(st, 5, q->text, -1, SQLITE_STATIC);
    }
    size_t cap = 0;
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (q->n_rows == q->limit) {
            q->more = true;
            break;
        }
        struct ack_row *r = sqlite_add_row(a, &q->rows, &q->n_rows, &cap, sizeof *r);
        if (r == NULL) {
            e = ERR_NO_MEMORY;
            break;
        }
        memcpy(r->flow, q->flow, sizeof r->flow);
        r->object = q->object;
        r->offset = (uint64_t)sqlite3_column_int64(st, 0);
        r->length = (uint64_t)sqlite3_column_int64(st, 1);
        r->synced = sqlite3_column_int(st, 2) != 0;
        r->agent = sqlite_column_text(st, 3, a);
        r->boot_id = sqlite_column_text(st, 4, a);
        if (r->agent == NULL || r->boot_id == NULL || !sqlite_column_blob(st, 5, a, &r->leaves) ||
            !sqlite_column_blob(st, 6, a, &r->receipt)) {
            e = ERR_NO_MEMORY;
            break;
        }
    }
    return ended(s, st, rc, e, ret_failure);
}

enum err sqlite_read_plan(struct store_sqlite *s, struct query *q, struct arena *a,
                          struct failure *ret_failure) {
    enum err e = ERR_INTERNAL;
    int64_t n_all = 0;
    switch ((int)q->kind) {
    case QUERY_PLAN: return read_plan(s, q, a, ret_failure);
    case QUERY_TASKS: return read_tasks(s, q, a, ret_failure);
    case QUERY_TASKS_WAITING: return read_waiting(s, q, a, ret_failure);
    case QUERY_WALK_FRONTIER:
        e = read_walks(s, q, a, SQL_WALK_FRONTIER, ret_failure);
        if (e == OK) {
            e = ask_number(s, SQL_WALK_FRONTIER_COUNT, q->flow, 0, false, &n_all, ret_failure);
        }
        q->n_all = (uint64_t)n_all;
        return e;
    case QUERY_WALK_PARTIALS: return read_walks(s, q, a, SQL_WALK_PARTIALS, ret_failure);
    case QUERY_WALK_DEEPEST: return read_walks(s, q, a, SQL_WALK_DEEPEST, ret_failure);
    case QUERY_LARGES: return read_larges(s, q, a, ret_failure);
    case QUERY_ACKS:
        return read_acks(s, q, a, q->text != NULL ? SQL_ACKS_OF_AGENT : SQL_ACKS, ret_failure);
    case QUERY_SEEN: return read_seen(s, q, a, ret_failure);
    case QUERY_WRITERS:
        e = read_acks(s, q, a, SQL_WRITERS, ret_failure);
        if (e == OK) {
            e = ask_number(s, SQL_OBJECT_TASKS, q->flow, (int64_t)q->object, true, &n_all,
                           ret_failure);
        }
        q->n_all = (uint64_t)n_all;
        return e;
    default: break;
    }
    return e;
}
