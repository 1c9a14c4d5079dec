// SPDX-License-Identifier: Apache-2.0
// What SQLite answers: flows, events, failed objects and the outbox; and how rows are gathered.
#include "master/database_sqlite.h"

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
#define ACK_COLUMNS "offset, length, synced, agent, boot_id, leaves, receipt FROM ack"

static const char *const texts[SQL_STATEMENT_COUNT] = {
    [SQL_BEGIN] = "BEGIN",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_SAVEPOINT] = "SAVEPOINT request",
    [SQL_ROLLBACK_TO] = "ROLLBACK TO request",
    [SQL_RELEASE] = "RELEASE request",
    [SQL_FLOW_FIND_REQUEST] = "SELECT id, spec FROM flow WHERE owner = ?1 AND request_id = ?2"
                              " AND request_id <> ''",
    [SQL_FLOW_INSERT] =
        "INSERT INTO flow (id, owner, request_id, created_ms, state, phase, outcome, holders,"
        " cancel_wanted, cleanup_pending, started_ms, ended_ms, last_seq, spec, error, places,"
        " tally) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,"
        " ?17)",
    [SQL_LABEL_INSERT] = "INSERT OR IGNORE INTO flow_label (flow, key, value) VALUES (?1, ?2, ?3)",
    [SQL_FLOWS_UNFINISHED] = "SELECT " FLOW_COLUMNS " WHERE state < 7 AND flow.id > ?1"
                             " ORDER BY flow.id LIMIT ?2",
    [SQL_FLOW_GET] = "SELECT " FLOW_COLUMNS " WHERE flow.id = ?1 LIMIT ?2",
    [SQL_EVENTS] = "SELECT seq, at_ms, kind, thin, message FROM event WHERE flow = ?1"
                   " AND seq >= ?2 ORDER BY seq LIMIT ?3",
    [SQL_FAILED] = "SELECT number, path, failure FROM object_failed WHERE flow = ?1"
                   " AND number > ?2 ORDER BY number LIMIT ?3",
    [SQL_OUTBOX] =
        "SELECT " OUTBOX_COLUMNS " WHERE dead_ms = 0 AND id > ?2"
        " AND not_before_ms < " SQLITE_OUTBOX_NOT_ITS_TURN " ORDER BY not_before_ms, id LIMIT ?3",
    [SQL_OUTBOX_DEAD] = "SELECT " OUTBOX_COLUMNS " WHERE dead_ms > 0 AND id > ?2"
                        " ORDER BY id LIMIT ?3",
    [SQL_CREDENTIALS] = "SELECT name, updated_ms, sealed FROM credential WHERE name > ?1"
                        " ORDER BY name LIMIT ?2",
    [SQL_PLAN] = "SELECT body, progress FROM plan WHERE flow = ?1",
    [SQL_TASKS] = "SELECT " TASK_COLUMNS " WHERE flow = ?1 AND status = 0 AND stage <= ?2"
                  " AND kind <> 1 ORDER BY stage, rank, task_id",
    [SQL_TASKS_LIST] = "SELECT " TASK_COLUMNS " WHERE flow = ?1 AND status = 0 AND stage <= ?2"
                       " AND kind = 1 ORDER BY stage, rank, task_id",
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
                                " AND state = 0 LIMIT 10000)",
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
    [SQL_ACKS] = "SELECT " ACK_COLUMNS " WHERE flow = ?1 AND object = ?4 AND offset >= ?2"
                 " ORDER BY offset LIMIT ?3",
    [SQL_ACKS_OF_AGENT] = "SELECT " ACK_COLUMNS " WHERE flow = ?1 AND object = ?4"
                          " AND offset >= ?2 AND agent = ?5 AND synced = 0"
                          " ORDER BY offset LIMIT ?3",
    [SQL_WRITERS] = "SELECT DISTINCT 0, 0, 0, agent, boot_id, x'', x'' FROM ack WHERE flow = ?1"
                    " AND object = ?4 AND synced = 0 ORDER BY agent, boot_id",
};

enum err sqlite_prepared(struct store_sqlite *s, enum sqlite_statement which,
                         sqlite3_stmt **ret_statement, struct failure *ret_failure) {
    sqlite3_stmt **st = &s->queries[which];
    if (*st == NULL) {
        int rc = sqlite3_prepare_v3(s->db, texts[which], -1, SQLITE_PREPARE_PERSISTENT, st, NULL);
        if (rc != SQLITE_OK) {
            return sqlite_failure(s->db, rc, "prepare", ret_failure);
        }
    }
    *ret_statement = *st;
    return OK;
}

// ---- gathering rows ----
void *sqlite_add_row(struct arena *a, void **rows, size_t *n_rows, size_t *cap, size_t row_bytes) {
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

bool sqlite_column_blob(sqlite3_stmt *st, int column, struct arena *a, struct blob *ret_blob) {
    const void *bytes = sqlite3_column_blob(st, column);
    size_t len = (size_t)sqlite3_column_bytes(st, column);
    *ret_blob = (struct blob){0};
    if (len > 0) {
        if (bytes == NULL) {
            return false;
        }
        ret_blob->bytes = arena_copy(a, bytes, len);
        ret_blob->len = len;
    }
    return len == 0 || ret_blob->bytes != NULL;
}

const char *sqlite_column_text(sqlite3_stmt *st, int column, struct arena *a) {
    const unsigned char *text = sqlite3_column_text(st, column);
    return text == NULL ? NULL : arena_text(a, (const char *)text);
}

void sqlite_column_name(sqlite3_stmt *st, int column, char *ret_text, size_t cap) {
    const unsigned char *text = sqlite3_column_text(st, column);
    snprintf(ret_text, cap, "%s", text == NULL ? "" : (const char *)text);
}

void sqlite_progress(sqlite3_stmt *st, int column, struct flow_progress *p) {
    const uint8_t *bytes = sqlite3_column_blob(st, column);
    size_t len = (size_t)sqlite3_column_bytes(st, column);
    uint64_t n[18] = {0};
    for (size_t i = 0; bytes != NULL && i < len && i < ARRAY_LEN(n) * 8; i++) {
        n[i / 8] |= (uint64_t)bytes[i] << (i % 8 * 8);
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
    };
}

// ---- rows ----
// Each reads one row; false: out of memory.
static bool read_flow(sqlite3_stmt *st, struct arena *a, void *row) {
    struct flow_row *f = row;
    sqlite_column_name(st, 0, f->id, sizeof f->id);
    f->owner = sqlite_column_text(st, 1, a);
    f->request_id = sqlite_column_text(st, 2, a);
    f->created_ms = sqlite3_column_int64(st, 4);
    f->state = (enum flow_state)sqlite3_column_int(st, 5);
    f->phase = (enum flow_phase)sqlite3_column_int(st, 6);
    f->outcome = (enum flow_outcome)sqlite3_column_int(st, 7);
    f->holders = (uint32_t)sqlite3_column_int64(st, 8);
    f->cancel_wanted = sqlite3_column_int(st, 9) != 0;
    f->cleanup_pending = sqlite3_column_int(st, 10) != 0;
    f->started_ms = sqlite3_column_int64(st, 11);
    f->ended_ms = sqlite3_column_int64(st, 12);
    f->last_seq = (uint64_t)sqlite3_column_int64(st, 13);
    sqlite_progress(st, 17, &f->progress);
    return f->owner != NULL && f->request_id != NULL && sqlite_column_blob(st, 3, a, &f->spec) &&
           sqlite_column_blob(st, 14, a, &f->error) && sqlite_column_blob(st, 15, a, &f->places) &&
           sqlite_column_blob(st, 16, a, &f->tally);
}

static bool read_event(sqlite3_stmt *st, struct arena *a, void *row) {
    struct flow_event_row *e = row;
    e->seq = (uint64_t)sqlite3_column_int64(st, 0);
    e->at_ms = sqlite3_column_int64(st, 1);
    e->kind = sqlite_column_text(st, 2, a);
    e->thin = sqlite3_column_int(st, 3) != 0;
    return e->kind != NULL && sqlite_column_blob(st, 4, a, &e->message);
}

static bool read_failed(sqlite3_stmt *st, struct arena *a, void *row) {
    struct failed_object_row *f = row;
    f->number = (uint64_t)sqlite3_column_int64(st, 0);
    return sqlite_column_blob(st, 1, a, &f->path) && sqlite_column_blob(st, 2, a, &f->failure);
}

static bool read_outbox(sqlite3_stmt *st, struct arena *a, void *row) {
    struct outbox_row *o = row;
    o->id = (uint64_t)sqlite3_column_int64(st, 0);
    o->flow = sqlite_column_text(st, 1, a);
    o->seq = (uint64_t)sqlite3_column_int64(st, 2);
    o->target = sqlite_column_text(st, 3, a);
    o->attempts = (uint32_t)sqlite3_column_int64(st, 5);
    o->not_before_ms = sqlite3_column_int64(st, 6);
    o->dead_ms = sqlite3_column_int64(st, 7);
    o->error = sqlite_column_text(st, 8, a);
    return o->flow != NULL && o->target != NULL && o->error != NULL &&
           sqlite_column_blob(st, 4, a, &o->body);
}

static bool read_credential(sqlite3_stmt *st, struct arena *a, void *row) {
    struct credential_row *c = row;
    c->name = sqlite_column_text(st, 0, a);
    c->updated_ms = sqlite3_column_int64(st, 1);
    return c->name != NULL && sqlite_column_blob(st, 2, a, &c->sealed);
}

// Steps through @st and gathers up to @limit rows; one more than that only sets q->more.
static enum err gather(struct store_sqlite *s, sqlite3_stmt *st, struct query *q, struct arena *a,
                       size_t row_bytes, bool (*read_row)(sqlite3_stmt *, struct arena *, void *),
                       struct failure *ret_failure) {
    size_t cap = 0;
    int rc;
    enum err e = OK;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (q->n_rows == q->limit) {
            q->more = true;
            rc = SQLITE_DONE;
            break;
        }
        void *row = sqlite_add_row(a, &q->rows, &q->n_rows, &cap, row_bytes);
        if (row == NULL || !read_row(st, a, row)) {
            e = ERR_NO_MEMORY;
            rc = SQLITE_DONE;
            break;
        }
    }
    if (rc != SQLITE_DONE) {
        e = sqlite_failure(s->db, rc, "read", ret_failure);
    }
    sqlite3_reset(st);
    return e;
}

// The labels make the statement's text, so it is not kept.
static enum err read_flows(struct store_sqlite *s, struct query *q, struct arena *a,
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
                                  " AND (?3 = 0 OR (?3 >> state) & 1)");
    for (size_t i = 0; i < f->n_labels; i++) {
        len += (size_t)snprintf(sql + len, sizeof sql - len,
                                " AND EXISTS (SELECT 1 FROM flow_label l WHERE l.flow = flow.id"
                                " AND l.key = ?%zu AND l.value = ?%zu)",
                                5 + 2 * i, 6 + 2 * i);
    }
    snprintf(sql + len, sizeof sql - len, " ORDER BY flow.id DESC LIMIT ?4");
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, &st, NULL);
    if (rc != SQLITE_OK) {
        return sqlite_failure(s->db, rc, "prepare", ret_failure);
    }
    sqlite3_bind_text(st, 1, q->flow, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 2, f->owner, -1, SQLITE_STATIC);
    sqlite3_bind_int64(st, 3, f->states);
    sqlite3_bind_int64(st, 4, (int64_t)q->limit + 1);
    for (size_t i = 0; i < f->n_labels; i++) {
        sqlite3_bind_text(st, (int)(5 + 2 * i), f->labels[i].key, -1, SQLITE_STATIC);
        sqlite3_bind_text(st, (int)(6 + 2 * i), f->labels[i].value, -1, SQLITE_STATIC);
    }
    enum err e = gather(s, st, q, a, sizeof(struct flow_row), read_flow, ret_failure);
    sqlite3_finalize(st);
    return e;
}

static enum err read_simple(struct store_sqlite *s, struct query *q, struct arena *a,
                            enum sqlite_statement which, bool has_from, size_t row_bytes,
                            bool (*read_row)(sqlite3_stmt *, struct arena *, void *),
                            struct failure *ret_failure) {
    sqlite3_stmt *st = NULL;
    enum err e = sqlite_prepared(s, which, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    if (which != SQL_OUTBOX && which != SQL_OUTBOX_DEAD) {
        sqlite3_bind_text(st, 1, q->flow, -1, SQLITE_STATIC);
    }
    int at = 2;
    if (has_from) {
        sqlite3_bind_int64(st, at++, (int64_t)q->from);
    }
    sqlite3_bind_int64(st, at, (int64_t)q->limit + 1);
    return gather(s, st, q, a, row_bytes, read_row, ret_failure);
}

enum err sqlite_read(struct store *store, struct query *q, struct arena *a,
                     struct failure *ret_failure) {
    struct store_sqlite *s = (struct store_sqlite *)store;
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
    case QUERY_WRITERS: return sqlite_read_plan(s, q, a, ret_failure);
    }
    return ERR_INTERNAL;
}
