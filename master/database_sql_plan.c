// SPDX-License-Identifier: Apache-2.0
// What the SQL store answers to the planner.
#include "master/database_sql.h"

#include <stdlib.h>
#include <string.h>

enum { TASKS_MAX_BYTES = 1 << 20 }; // of specs in one answer

// Binds flow, then the numbers, from parameter 2 on.
static enum err ask(struct store_sql *s, enum sql_query which, const char *flow,
                    const int64_t *numbers, int n_numbers, struct sql_statement **ret_statement,
                    struct failure *ret_failure) {
    enum err e = sql_prepared(s, which, ret_statement, ret_failure);
    if (e == OK) {
        if (flow != NULL) {
            (*ret_statement)->ops->bind_text(*ret_statement, 1, flow);
        }
        for (int i = 0; i < n_numbers; i++) {
            (*ret_statement)
                ->ops->bind_number(*ret_statement, i + (flow != NULL ? 2 : 1), numbers[i]);
        }
    }
    return e;
}

static enum err ask_number(struct store_sql *s, enum sql_query which, const char *flow,
                           int64_t number, bool has_number, int64_t *ret_answer,
                           struct failure *ret_failure) {
    struct sql_statement *st;
    enum err e = ask(s, which, flow, &number, has_number ? 1 : 0, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    if (sql_next(st, &e, ret_failure)) {
        *ret_answer = sql_number(st, 0);
    }
    st->ops->reset(st);
    return e;
}

// ---- the plan ----
static enum err read_plan(struct store_sql *s, struct query *q, struct arena *a,
                          struct failure *ret_failure) {
    struct sql_statement *st;
    enum err e = ask(s, SQL_PLAN, q->flow, NULL, 0, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    q->plan = (struct plan_answer){0};
    if (sql_next(st, &e, ret_failure)) {
        q->plan.exists = true;
        if (!sql_blob(st, 0, a, &q->plan.body)) {
            e = ERR_NO_MEMORY;
        }
        sql_progress(st, 1, &q->plan.progress);
    }
    st->ops->reset(st);
    return e;
}

// ---- large objects ----
static bool large_columns(struct sql_statement *st, const char *flow, struct arena *a,
                          struct large_row *l) {
    memcpy(l->flow, flow, sizeof l->flow);
    l->object = sql_unsigned(st, 0);
    l->state = (enum large_state)sql_number(st, 1);
    l->size = sql_unsigned(st, 2);
    l->acked_bytes = sql_unsigned(st, 3);
    l->next_offset = sql_unsigned(st, 4);
    l->generation = sql_unsigned(st, 5);
    l->attempt = (uint32_t)sql_number(st, 6);
    l->fresh = sql_number(st, 7) != 0;
    l->opened = sql_number(st, 8) != 0;
    l->quiet_ms = sql_number(st, 9);
    return sql_blob(st, 10, a, &l->entry) && sql_blob(st, 11, a, &l->receipt);
}

static enum err read_larges(struct store_sql *s, struct query *q, struct arena *a,
                            struct failure *ret_failure) {
    const int64_t numbers[] = {(int64_t)q->from, q->limit};
    struct sql_statement *st;
    enum err e = ask(s, q->object == 0 ? SQL_LARGES : SQL_LARGES_IDLE, q->flow, numbers, 2, &st,
                     ret_failure);
    if (e != OK) {
        return e;
    }
    size_t cap = 0;
    while (sql_next(st, &e, ret_failure)) {
        struct large_row *l = sql_add_row(a, &q->rows, &q->n_rows, &cap, sizeof *l);
        if (l == NULL || !large_columns(st, q->flow, a, l)) {
            e = ERR_NO_MEMORY;
            break;
        }
    }
    st->ops->reset(st);
    return e;
}

// ---- tasks ----
static void task_columns(struct sql_statement *st, const char *flow, struct task_row *t) {
    memcpy(t->flow, flow, sizeof t->flow);
    t->task_id = sql_unsigned(st, 0);
    t->kind = (uint32_t)sql_number(st, 1);
    t->stage = (uint32_t)sql_number(st, 2);
    t->rank = (uint32_t)sql_number(st, 3);
    t->status = (enum task_status)sql_number(st, 4);
    t->attempt = (uint32_t)sql_number(st, 5);
    t->not_before_ms = sql_number(st, 6);
    sql_name(st, 7, t->avoid, sizeof t->avoid);
    t->object = sql_unsigned(st, 8);
    t->walk = sql_unsigned(st, 9);
    t->generation = sql_unsigned(st, 10);
    t->bytes = sql_unsigned(st, 11);
    t->objects = (uint32_t)sql_number(st, 12);
}

static enum err read_leases(struct store_sql *s, struct task_row *t, struct arena *a,
                            struct failure *ret_failure) {
    const int64_t id = (int64_t)t->task_id;
    struct sql_statement *st;
    enum err e = ask(s, SQL_TASK_LEASES, NULL, &id, 1, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    void *rows = NULL;
    size_t cap = 0;
    while (sql_next(st, &e, ret_failure)) {
        struct lease_row *l = sql_add_row(a, &rows, &t->n_leases, &cap, sizeof *l);
        if (l == NULL) {
            e = ERR_NO_MEMORY;
            break;
        }
        l->epoch.term = sql_unsigned(st, 0);
        l->epoch.counter = sql_unsigned(st, 1);
        sql_name(st, 2, l->agent, sizeof l->agent);
    }
    t->leases = rows;
    st->ops->reset(st);
    return e;
}

// What else belongs to a task: spec, leases, and its large object.
static enum err read_rest(struct store_sql *s, struct task_row *t, struct arena *a,
                          struct failure *ret_failure) {
    const int64_t id = (int64_t)t->task_id;
    struct sql_statement *st;
    enum err e = ask(s, SQL_TASK_SPEC, NULL, &id, 1, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    if (sql_next(st, &e, ret_failure) && !sql_blob(st, 0, a, &t->spec)) {
        e = ERR_NO_MEMORY;
    }
    st->ops->reset(st);
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
    if (sql_next(st, &e, ret_failure)) {
        struct large_row *l = arena_alloc(a, sizeof *l);
        if (l == NULL || !large_columns(st, t->flow, a, l)) {
            e = ERR_NO_MEMORY;
        }
        t->large = l;
    }
    st->ops->reset(st);
    return e;
}

static int compare_ids(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

// Up to @n tasks that are not to be skipped, from one of the two statements.
static enum err add_tasks(struct store_sql *s, struct query *q, struct arena *a,
                          enum sql_query which, size_t n, size_t *cap,
                          struct failure *ret_failure) {
    const struct tasks_wanted *w = &q->wanted;
    // Those to be skipped, those wanted, and one that says that there are more.
    const int64_t numbers[] = {w->max_stage, (int64_t)(n + w->n_skip) + 1};
    struct sql_statement *st;
    enum err e = ask(s, which, q->flow, numbers, 2, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    size_t bytes = 0;
    while (sql_next(st, &e, ret_failure)) {
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
        struct task_row *row = sql_add_row(a, &q->rows, &q->n_rows, cap, sizeof *row);
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
    st->ops->reset(st);
    return e;
}

static enum err read_tasks(struct store_sql *s, struct query *q, struct arena *a,
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

static enum err read_waiting(struct store_sql *s, struct query *q, struct arena *a,
                             struct failure *ret_failure) {
    struct sql_statement *st;
    enum err e = ask(s, SQL_TASKS_WAITING, q->flow, NULL, 0, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    size_t cap = 0;
    while (sql_next(st, &e, ret_failure)) {
        struct task_row *t = sql_add_row(a, &q->rows, &q->n_rows, &cap, sizeof *t);
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
    st->ops->reset(st);
    return e;
}

// ---- the walk ----
static enum err read_walks(struct store_sql *s, struct query *q, struct arena *a,
                           enum sql_query which, struct failure *ret_failure) {
    const int64_t limit = q->limit;
    struct sql_statement *st;
    enum err e = ask(s, which, q->flow, &limit, 1, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    size_t cap = 0;
    while (sql_next(st, &e, ret_failure)) {
        struct walk_row *w = sql_add_row(a, &q->rows, &q->n_rows, &cap, sizeof *w);
        if (w == NULL) {
            e = ERR_NO_MEMORY;
            break;
        }
        memcpy(w->flow, q->flow, sizeof w->flow);
        w->id = sql_unsigned(st, 0);
        w->state = (enum walk_state)sql_number(st, 1);
        w->task = sql_unsigned(st, 2);
        w->depth = (uint32_t)sql_number(st, 3);
        w->attempt = (uint32_t)sql_number(st, 4);
        w->partial = sql_number(st, 5) != 0;
        w->generation = sql_unsigned(st, 6);
        w->counts = (struct walk_counts){
            .objects = sql_unsigned(st, 7),
            .bytes = sql_unsigned(st, 8),
            .objects_done = sql_unsigned(st, 9),
            .bytes_done = sql_unsigned(st, 10),
            .failed = sql_unsigned(st, 11),
            .skipped = sql_unsigned(st, 12),
        };
        w->failed = which == SQL_WALK_DEEPEST && sql_number(st, 14) != 0;
        if (!sql_blob(st, 13, a, &w->entry)) {
            e = ERR_NO_MEMORY;
            break;
        }
    }
    st->ops->reset(st);
    return e;
}

// ---- what was seen ----
static enum err read_seen(struct store_sql *s, struct query *q, struct arena *a,
                          struct failure *ret_failure) {
    size_t n = q->blob.len / SEEN_BYTES;
    bool *seen = arena_alloc(a, n * sizeof *seen);
    const int64_t walk = (int64_t)q->object;
    struct sql_statement *st;
    enum err e = ask(s, SQL_SEEN, q->flow, &walk, 1, &st, ret_failure);
    if (seen == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < n && e == OK; i++) {
        const struct blob digest = {q->blob.bytes + i * SEEN_BYTES, SEEN_BYTES};
        st->ops->bind_blob(st, 3, digest);
        seen[i] = sql_next(st, &e, ret_failure);
        st->ops->reset(st);
    }
    q->rows = seen;
    q->n_rows = n;
    return e;
}

// ---- acknowledgements ----
static enum err read_acks(struct store_sql *s, struct query *q, struct arena *a,
                          enum sql_query which, struct failure *ret_failure) {
    const int64_t numbers[] = {(int64_t)q->from, (int64_t)q->limit + 1, (int64_t)q->object};
    struct sql_statement *st;
    enum err e = sql_prepared(s, which, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    st->ops->bind_text(st, 1, q->flow);
    for (int i = 0; i < 3; i++) {
        st->ops->bind_number(st, i + 2, numbers[i]);
    }
    if (which == SQL_ACKS_OF_AGENT) {
        st->ops->bind_text(st, 5, q->text);
    }
    size_t cap = 0;
    while (sql_next(st, &e, ret_failure)) {
        if (q->n_rows == q->limit) {
            q->more = true;
            break;
        }
        struct ack_row *r = sql_add_row(a, &q->rows, &q->n_rows, &cap, sizeof *r);
        if (r == NULL) {
            e = ERR_NO_MEMORY;
            break;
        }
        memcpy(r->flow, q->flow, sizeof r->flow);
        r->object = q->object;
        r->offset = sql_unsigned(st, 0);
        r->length = sql_unsigned(st, 1);
        r->synced = sql_number(st, 2) != 0;
        r->agent = sql_text(st, 3, a);
        r->boot_id = sql_text(st, 4, a);
        if (r->agent == NULL || r->boot_id == NULL || !sql_blob(st, 5, a, &r->leaves) ||
            !sql_blob(st, 6, a, &r->receipt)) {
            e = ERR_NO_MEMORY;
            break;
        }
    }
    st->ops->reset(st);
    return e;
}

enum err sql_read_plan(struct store_sql *s, struct query *q, struct arena *a,
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
