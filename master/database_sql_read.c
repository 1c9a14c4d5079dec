// SPDX-License-Identifier: Apache-2.0
// What the SQL store answers: flows, events, failed objects and the outbox; and how rows are
// gathered.
#include "master/database_sql.h"

#include "common/cleanup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLOW_COLUMNS                                                                               \
    "flow.id, owner, request_id, spec, created_ms, state, phase, outcome, holders, cancel_wanted," \
    " cleanup_pending, started_ms, ended_ms, last_seq, error, places, tally, plan.progress"        \
    " FROM flow LEFT JOIN plan ON plan.flow = flow.id"
#define TASK_COLUMNS                                                                               \
    "task_id, kind, stage, rank, status, attempt, not_before_ms, avoid, object, walk, generation," \
    " bytes, objects FROM task_state"
#define WALK_COLUMNS                                                                               \
    "id, state, task, depth, attempt, partial, generation, objects, bytes, objects_done,"          \
    " bytes_done, failed, skipped, entry FROM walk"
#define LARGE_COLUMNS                                                                              \
    "object, state, size, acked_bytes, next_offset, generation, attempt, fresh, opened, quiet_ms," \
    " entry, receipt FROM large"
#define OUTBOX_COLUMNS                                                                             \
    "id, flow, seq, target, body, attempts, not_before_ms, dead_ms, error FROM outbox"
#define ACK_COLUMNS "\"offset\", length, synced, agent, boot_id, leaves, receipt FROM ack"

static const char *const texts[SQL_STATEMENT_COUNT] = {
    [SQL_SAVEPOINT] = "SAVEPOINT request",
    [SQL_ROLLBACK_TO] = "ROLLBACK TO request",
    [SQL_RELEASE] = "RELEASE request",
    [SQL_RAISE_TERM] = "INSERT INTO cluster (one, id, term) VALUES (1, ?1, 1) ON CONFLICT (one)"
                       " DO UPDATE SET term = cluster.term + 1, written = 0 RETURNING term, id",
    [SQL_FLOW_FIND_REQUEST] = "SELECT id, spec FROM flow WHERE owner = ?1 AND request_id = ?2"
                              " AND request_id <> ''",
    [SQL_FLOW_INSERT] =
        "INSERT INTO flow (id, owner, request_id, created_ms, state, phase, outcome, holders,"
        " cancel_wanted, cleanup_pending, started_ms, ended_ms, last_seq, spec, error, places,"
        " tally) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,"
        " ?17)",
    [SQL_LABEL_INSERT] = "INSERT INTO flow_label (flow, key, value) VALUES (?1, ?2, ?3)"
                         " ON CONFLICT DO NOTHING",
    [SQL_FLOWS_UNFINISHED] = "SELECT " FLOW_COLUMNS " WHERE state < 7 AND flow.id > ?1"
                             " ORDER BY flow.id LIMIT ?2",
    [SQL_FLOW_GET] = "SELECT " FLOW_COLUMNS " WHERE flow.id = ?1 LIMIT ?2",
    [SQL_EVENTS] = "SELECT seq, at_ms, kind, thin, message FROM event WHERE flow = ?1"
                   " AND seq >= ?2 ORDER BY seq LIMIT ?3",
    [SQL_FAILED] = "SELECT number, path, failure FROM object_failed WHERE flow = ?1"
                   " AND number > ?2 ORDER BY number LIMIT ?3",
    [SQL_OUTBOX] =
        "SELECT " OUTBOX_COLUMNS " WHERE dead_ms = 0 AND id > ?2"
        " AND not_before_ms < " SQL_OUTBOX_NOT_ITS_TURN " ORDER BY not_before_ms, id LIMIT ?3",
    [SQL_OUTBOX_DEAD] = "SELECT " OUTBOX_COLUMNS " WHERE dead_ms > 0 AND id > ?2"
                        " ORDER BY id LIMIT ?3",
    [SQL_CREDENTIALS] = "SELECT name, updated_ms, sealed FROM credential WHERE name > ?1"
                        " ORDER BY name LIMIT ?2",
    [SQL_PLAN] = "SELECT body, progress FROM plan WHERE flow = ?1",
    [SQL_TASKS] = "SELECT " TASK_COLUMNS " WHERE flow = ?1 AND status = 0 AND stage <= ?2"
                  " AND kind <> 1 ORDER BY stage, rank, task_id LIMIT ?3",
    [SQL_TASKS_LIST] = "SELECT " TASK_COLUMNS " WHERE flow = ?1 AND status = 0 AND stage <= ?2"
                       " AND kind = 1 ORDER BY stage, rank, task_id LIMIT ?3",
    [SQL_TASK_SPEC] = "SELECT spec FROM task_spec WHERE task_id = ?1",
    [SQL_TASK_LEASES] = "SELECT term, counter, agent FROM task_lease WHERE task_id = ?1"
                        " ORDER BY term, counter",
    [SQL_TASKS_ANY] = "SELECT EXISTS (SELECT 1 FROM task_state WHERE flow = ?1"
                      " AND status IN (0, 1, 2) AND stage <= ?2)",
    [SQL_WALK_ANY] = "SELECT EXISTS (SELECT 1 FROM walk WHERE flow = ?1 AND state IN (0, 1))",
    [SQL_LARGE_ANY] = "SELECT EXISTS (SELECT 1 FROM large WHERE flow = ?1)",
    [SQL_LARGE_GET] = "SELECT " LARGE_COLUMNS " WHERE flow = ?1 AND object = ?2",
    [SQL_TASKS_WAITING] = "SELECT " TASK_COLUMNS " WHERE flow = ?1 AND status = 1"
                          " ORDER BY stage, rank, task_id",
    [SQL_WALK_FRONTIER] = "SELECT " WALK_COLUMNS " WHERE flow = ?1 AND state = 0"
                          " ORDER BY depth, id LIMIT ?2",
    [SQL_WALK_FRONTIER_COUNT] = "SELECT count(*) FROM (SELECT 1 FROM walk WHERE flow = ?1"
                                " AND state = 0 LIMIT 10000) AS waiting",
    [SQL_WALK_PARTIALS] = "SELECT " WALK_COLUMNS " WHERE flow = ?1 AND partial = 1 LIMIT ?2",
    [SQL_WALK_DEEPEST] =
        "SELECT id, state, task, depth, attempt, partial, generation, objects, bytes,"
        " objects_done, bytes_done, failed, skipped, entry, EXISTS (SELECT 1 FROM"
        " object_failed o WHERE o.flow = walk.flow AND o.number = walk.id)"
        " FROM walk WHERE flow = ?1 AND state = 2"
        " ORDER BY depth DESC, id DESC LIMIT ?2",
    [SQL_LARGES] = "SELECT " LARGE_COLUMNS " WHERE flow = ?1 AND object > ?2 ORDER BY object"
                   " LIMIT ?3",
    [SQL_LARGES_IDLE] = "SELECT " LARGE_COLUMNS " WHERE flow = ?1 AND object > ?2 AND NOT EXISTS"
                        " (SELECT 1 FROM task_state t WHERE t.flow = ?1 AND t.object = large.object"
                        " AND t.object <> 0) ORDER BY object LIMIT ?3",
    [SQL_OBJECT_TASKS] = "SELECT EXISTS (SELECT 1 FROM task_state WHERE flow = ?1 AND object = ?2"
                         " AND object <> 0)",
    [SQL_SEEN] = "SELECT 1 FROM seen WHERE flow = ?1 AND walk = ?2 AND digest = ?3",
    [SQL_ACKS] = "SELECT " ACK_COLUMNS " WHERE flow = ?1 AND object = ?4 AND \"offset\" >= ?2"
                 " ORDER BY \"offset\" LIMIT ?3",
    [SQL_ACKS_OF_AGENT] = "SELECT " ACK_COLUMNS " WHERE flow = ?1 AND object = ?4"
                          " AND \"offset\" >= ?2 AND agent = ?5 AND synced = 0"
                          " ORDER BY \"offset\" LIMIT ?3",
    [SQL_WRITERS] = "SELECT DISTINCT 0, 0, 0, agent, boot_id, '', '' FROM ack WHERE flow = ?1"
                    " AND object = ?4 AND synced = 0 ORDER BY agent, boot_id",
};

enum err sql_prepared(struct store_sql *s, enum sql_query which,
                      struct sql_statement **ret_statement, struct failure *ret_failure) {
    enum err e = OK;
    if (s->queries[which] == NULL) {
        e = s->sql->ops->prepare(s->sql, texts[which], &s->queries[which], ret_failure);
    }
    *ret_statement = s->queries[which];
    return e;
}

// ---- gathering rows ----
void *sql_add_row(struct arena *a, void **rows, size_t *n_rows, size_t *cap, size_t row_bytes) {
    if (*n_rows == *cap) {
        size_t more = *cap == 0 ? 16 : *cap * 2;
        unsigned char *grown = arena_alloc(a, more * row_bytes);
        if (grown == NULL) {
            return NULL;
        }
        if (*n_rows > 0) {
            memcpy(grown, *rows, *n_rows * row_bytes);
        }
        *rows = grown;
        *cap = more;
    }
    return (unsigned char *)*rows + (*n_rows)++ * row_bytes;
}

bool sql_blob(const struct sql_statement *st, int column, struct arena *a, struct blob *ret_blob) {
    const struct blob b = st->ops->blob(st, column);
    *ret_blob = (struct blob){0};
    if (b.len > 0) {
        ret_blob->bytes = arena_copy(a, b.bytes, b.len);
        ret_blob->len = b.len;
    }
    return b.len == 0 || ret_blob->bytes != NULL;
}

const char *sql_text(const struct sql_statement *st, int column, struct arena *a) {
    return arena_text(a, (const char *)st->ops->blob(st, column).bytes);
}

void sql_name(const struct sql_statement *st, int column, char *ret_text, size_t cap) {
    const struct blob text = st->ops->blob(st, column);
    snprintf(ret_text, cap, "%s", text.len == 0 ? "" : (const char *)text.bytes);
}

void sql_progress(const struct sql_statement *st, int column, struct flow_progress *p) {
    const struct blob b = st->ops->blob(st, column);
    uint64_t n[19] = {0};
    for (size_t i = 0; i < b.len && i < ARRAY_LEN(n) * 8; i++) {
        n[i / 8] |= (uint64_t)b.bytes[i] << (i % 8 * 8);
    }
    *p = (struct flow_progress){
        .bytes_done = n[0],
        .bytes_total = n[1],
        .bytes_resent = n[2],
        .objects_done = n[3],
        .objects_total = n[4],
        .objects_failed = n[5],
        .objects_skipped = n[6],
        .cpu_us_source = n[7],
        .cpu_us_sink = n[8],
        .walk_us = n[9],
        .read_us = n[10],
        .hash_us = n[11],
        .send_us = n[12],
        .receive_us = n[13],
        .write_us = n[14],
        .sync_us = n[15],
        .wait_us = n[16],
        .listing = n[17] != 0,
        .store_retries = n[18],
    };
}

// ---- rows ----
// Each reads one row; false: out of memory.
static bool read_flow(struct sql_statement *st, struct arena *a, void *row) {
    struct flow_row *f = row;
    sql_name(st, 0, f->id, sizeof f->id);
    f->owner = sql_text(st, 1, a);
    f->request_id = sql_text(st, 2, a);
    f->created_ms = sql_number(st, 4);
    f->state = (enum flow_state)sql_number(st, 5);
    f->phase = (enum flow_phase)sql_number(st, 6);
    f->outcome = (enum flow_outcome)sql_number(st, 7);
    f->holders = (uint32_t)sql_number(st, 8);
    f->cancel_wanted = sql_number(st, 9) != 0;
    f->cleanup_pending = sql_number(st, 10) != 0;
    f->started_ms = sql_number(st, 11);
    f->ended_ms = sql_number(st, 12);
    f->last_seq = sql_unsigned(st, 13);
    sql_progress(st, 17, &f->progress);
    return f->owner != NULL && f->request_id != NULL && sql_blob(st, 3, a, &f->spec) &&
           sql_blob(st, 14, a, &f->error) && sql_blob(st, 15, a, &f->places) &&
           sql_blob(st, 16, a, &f->tally);
}

static bool read_event(struct sql_statement *st, struct arena *a, void *row) {
    struct flow_event_row *e = row;
    e->seq = sql_unsigned(st, 0);
    e->at_ms = sql_number(st, 1);
    e->kind = sql_text(st, 2, a);
    e->thin = sql_number(st, 3) != 0;
    return e->kind != NULL && sql_blob(st, 4, a, &e->message);
}

static bool read_failed(struct sql_statement *st, struct arena *a, void *row) {
    struct failed_object_row *f = row;
    f->number = sql_unsigned(st, 0);
    return sql_blob(st, 1, a, &f->path) && sql_blob(st, 2, a, &f->failure);
}

static bool read_outbox(struct sql_statement *st, struct arena *a, void *row) {
    struct outbox_row *o = row;
    o->id = sql_unsigned(st, 0);
    o->flow = sql_text(st, 1, a);
    o->seq = sql_unsigned(st, 2);
    o->target = sql_text(st, 3, a);
    o->attempts = (uint32_t)sql_number(st, 5);
    o->not_before_ms = sql_number(st, 6);
    o->dead_ms = sql_number(st, 7);
    o->error = sql_text(st, 8, a);
    return o->flow != NULL && o->target != NULL && o->error != NULL && sql_blob(st, 4, a, &o->body);
}

static bool read_credential(struct sql_statement *st, struct arena *a, void *row) {
    struct credential_row *c = row;
    c->name = sql_text(st, 0, a);
    c->updated_ms = sql_number(st, 1);
    return c->name != NULL && sql_blob(st, 2, a, &c->sealed);
}

// Steps through @st and gathers up to @limit rows; one more than that only sets q->more.
static enum err gather(struct sql_statement *st, struct query *q, struct arena *a, size_t row_bytes,
                       bool (*read_row)(struct sql_statement *, struct arena *, void *),
                       struct failure *ret_failure) {
    size_t cap = 0;
    enum err e = OK;
    while (sql_next(st, &e, ret_failure)) {
        if (q->n_rows == q->limit) {
            q->more = true;
            break;
        }
        void *row = sql_add_row(a, &q->rows, &q->n_rows, &cap, row_bytes);
        if (row == NULL || !read_row(st, a, row)) {
            e = ERR_NO_MEMORY;
            break;
        }
    }
    st->ops->reset(st);
    return e;
}

// The labels make the statement's text, so it is not kept.
static enum err read_flows(struct store_sql *s, struct query *q, struct arena *a,
                           struct failure *ret_failure) {
    const struct flow_filter *f = &q->filter;
    enum { LABELS_MAX = 16 };
    if (f->n_labels > LABELS_MAX) {
        return failure_set(ret_failure, ERR_INVALID, "list", NULL, 0, "too many labels");
    }
    char sql[4096];
    size_t len = (size_t)snprintf(sql, sizeof sql,
                                  "SELECT " FLOW_COLUMNS " WHERE (?1 = '' OR flow.id < ?1)"
                                  " AND (?2 = '' OR owner = ?2)"
                                  " AND (?3 = 0 OR ((?3 >> CAST(state AS INTEGER)) & 1) = 1)");
    for (size_t i = 0; i < f->n_labels; i++) {
        len += (size_t)snprintf(sql + len, sizeof sql - len,
                                " AND EXISTS (SELECT 1 FROM flow_label l WHERE l.flow = flow.id"
                                " AND l.key = ?%zu AND l.value = ?%zu)",
                                5 + 2 * i, 6 + 2 * i);
    }
    snprintf(sql + len, sizeof sql - len, " ORDER BY flow.id DESC LIMIT ?4");
    struct sql_statement *st = NULL;
    enum err e = s->sql->ops->prepare(s->sql, sql, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    st->ops->bind_text(st, 1, q->flow);
    st->ops->bind_text(st, 2, f->owner);
    st->ops->bind_number(st, 3, f->states);
    st->ops->bind_number(st, 4, (int64_t)q->limit + 1);
    for (size_t i = 0; i < f->n_labels; i++) {
        st->ops->bind_text(st, (int)(5 + 2 * i), f->labels[i].key);
        st->ops->bind_text(st, (int)(6 + 2 * i), f->labels[i].value);
    }
    e = gather(st, q, a, sizeof(struct flow_row), read_flow, ret_failure);
    st->ops->finalize(st);
    return e;
}

static enum err read_simple(struct store_sql *s, struct query *q, struct arena *a,
                            enum sql_query which, bool has_from, size_t row_bytes,
                            bool (*read_row)(struct sql_statement *, struct arena *, void *),
                            struct failure *ret_failure) {
    struct sql_statement *st = NULL;
    enum err e = sql_prepared(s, which, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    if (which != SQL_OUTBOX && which != SQL_OUTBOX_DEAD) {
        st->ops->bind_text(st, 1, q->flow);
    }
    int at = 2;
    if (has_from) {
        st->ops->bind_number(st, at++, (int64_t)q->from);
    }
    st->ops->bind_number(st, at, (int64_t)q->limit + 1);
    return gather(st, q, a, row_bytes, read_row, ret_failure);
}

enum err sql_read(struct store *store, struct query *q, struct arena *a,
                  struct failure *ret_failure) {
    struct store_sql *s = (struct store_sql *)store;
    q->rows = NULL;
    q->n_rows = 0;
    q->more = false;
    q->n_all = 0;
    switch (q->kind) {
    case QUERY_FLOWS_UNFINISHED:
        return read_simple(s, q, a, SQL_FLOWS_UNFINISHED, false, sizeof(struct flow_row), read_flow,
                           ret_failure);
    case QUERY_FLOW:
        return read_simple(s, q, a, SQL_FLOW_GET, false, sizeof(struct flow_row), read_flow,
                           ret_failure);
    case QUERY_FLOWS: return read_flows(s, q, a, ret_failure);
    case QUERY_EVENTS:
        return read_simple(s, q, a, SQL_EVENTS, true, sizeof(struct flow_event_row), read_event,
                           ret_failure);
    case QUERY_FAILED:
        return read_simple(s, q, a, SQL_FAILED, true, sizeof(struct failed_object_row), read_failed,
                           ret_failure);
    case QUERY_OUTBOX:
        return read_simple(s, q, a, SQL_OUTBOX, true, sizeof(struct outbox_row), read_outbox,
                           ret_failure);
    case QUERY_OUTBOX_DEAD:
        return read_simple(s, q, a, SQL_OUTBOX_DEAD, true, sizeof(struct outbox_row), read_outbox,
                           ret_failure);
    case QUERY_CREDENTIALS:
        return read_simple(s, q, a, SQL_CREDENTIALS, false, sizeof(struct credential_row),
                           read_credential, ret_failure);
    case QUERY_PLAN:
    case QUERY_TASKS:
    case QUERY_TASKS_WAITING:
    case QUERY_WALK_FRONTIER:
    case QUERY_WALK_PARTIALS:
    case QUERY_WALK_DEEPEST:
    case QUERY_LARGES:
    case QUERY_SEEN:
    case QUERY_ACKS:
    case QUERY_WRITERS: return sql_read_plan(s, q, a, ret_failure);
    }
    return ERR_INTERNAL;
}
