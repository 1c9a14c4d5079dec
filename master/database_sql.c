// SPDX-License-Identifier: Apache-2.0
// A connection to SQLite: transactions, changes, and the term.
#include "master/database_sqlite.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUSY_MS = 10000 };

enum err sqlite_failure(sqlite3 *db, int rc, const char *operation, struct failure *ret_failure) {
    enum err e = ERR_INTERNAL;
    switch (rc & 0xff) {
    case SQLITE_NOMEM: e = ERR_NO_MEMORY; break;
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_CANTOPEN:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_PROTOCOL:
    case SQLITE_INTERRUPT: e = ERR_DATABASE; break;
    default: break;
    }
    // An error may have ended the whole transaction: then all of it is to be done again.
    if (db != NULL && e != ERR_DATABASE && sqlite3_get_autocommit(db)) {
        e = ERR_DATABASE;
    }
    char op[32];
    snprintf(op, sizeof op, "%s", operation);
    const char *path = db == NULL ? NULL : sqlite3_db_filename(db, "main");
    failure_set(ret_failure, e, op, path, path == NULL ? 0 : strlen(path), "%s",
                db == NULL ? sqlite3_errstr(rc) : sqlite3_errmsg(db));
    if ((rc & 0xff) == SQLITE_FULL) {
        failure_remedy(ret_failure, "make room on the file system of the state directory");
    }
    return e;
}

enum err sqlite_execute(sqlite3 *db, const char *sql, struct failure *ret_failure) {
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? OK : sqlite_failure(db, rc, "execute", ret_failure);
}

enum err sqlite_run(struct store_sqlite *s, sqlite3_stmt *statement, const char *operation,
                    struct failure *ret_failure) {
    int rc = sqlite3_step(statement);
    enum err e = rc == SQLITE_DONE || rc == SQLITE_ROW
                     ? OK
                     : sqlite_failure(s->db, rc, operation, ret_failure);
    sqlite3_reset(statement);
    return e;
}

static enum err run_named(struct store_sqlite *s, enum sqlite_statement which,
                          const char *operation, struct failure *ret_failure) {
    sqlite3_stmt *st;
    enum err e = sqlite_prepared(s, which, &st, ret_failure);
    return e == OK ? sqlite_run(s, st, operation, ret_failure) : e;
}

// ---- transactions ----
static enum err begin(struct store *store, struct failure *ret_failure) {
    struct store_sqlite *s = (struct store_sqlite *)store;
    enum err e = run_named(s, SQL_BEGIN, "begin", ret_failure);
    return e == OK ? OK : ERR_DATABASE;
}

static enum err commit(struct store *store, struct failure *ret_failure) {
    struct store_sqlite *s = (struct store_sqlite *)store;
    enum err e = run_named(s, SQL_COMMIT, "commit", ret_failure);
    return e == OK ? OK : ERR_DATABASE;
}

static void rollback(struct store *store) {
    struct store_sqlite *s = (struct store_sqlite *)store;
    if (!sqlite3_get_autocommit(s->db)) {
        struct failure ignored;
        if (run_named(s, SQL_ROLLBACK, "rollback", &ignored) != OK) {
            return; // the next begin fails, and says so
        }
    }
}

// ---- changes ----
static int bind_row(sqlite3_stmt *st, const struct row *r) {
    int n = sqlite3_bind_parameter_count(st);
    int at = 1;
    int rc = SQLITE_OK;
    for (uint32_t i = 0; i < r->n_texts && at <= n && rc == SQLITE_OK; i++, at++) {
        rc = sqlite3_bind_text(st, at, r->texts[i], -1, SQLITE_STATIC);
    }
    for (uint32_t i = 0; i < r->n_numbers && at <= n && rc == SQLITE_OK; i++, at++) {
        rc = sqlite3_bind_int64(st, at, r->numbers[i]);
    }
    for (uint32_t i = 0; i < r->n_blobs && at <= n && rc == SQLITE_OK; i++, at++) {
        rc = r->blobs[i].len == 0
                 ? sqlite3_bind_zeroblob(st, at, 0)
                 : sqlite3_bind_blob64(st, at, r->blobs[i].bytes, r->blobs[i].len, SQLITE_STATIC);
    }
    return rc;
}

static enum err apply_row(struct store_sqlite *s, const struct row *r,
                          struct failure *ret_failure) {
    const char *const *texts = sqlite_row_statements(r->kind);
    for (size_t i = 0; texts[i] != NULL; i++) {
        sqlite3_stmt **st = &s->rows[r->kind][i];
        int rc = SQLITE_OK;
        if (*st == NULL) {
            rc = sqlite3_prepare_v3(s->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, st, NULL);
        }
        if (rc == SQLITE_OK) {
            rc = bind_row(*st, r);
        }
        if (rc != SQLITE_OK) {
            return sqlite_failure(s->db, rc, texts[i], ret_failure);
        }
        enum err e = sqlite_run(s, *st, texts[i], ret_failure);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

// Ends a savepoint. An error of the request itself leaves the transaction as it was before.
static enum err end_savepoint(struct store_sqlite *s, enum err result,
                              struct failure *ret_failure) {
    if (result == ERR_DATABASE) {
        return result;
    }
    struct failure f;
    if (result != OK && run_named(s, SQL_ROLLBACK_TO, "rollback to", &f) != OK) {
        return ERR_DATABASE;
    }
    if (run_named(s, SQL_RELEASE, "release", result == OK ? ret_failure : &f) != OK) {
        return ERR_DATABASE;
    }
    return result;
}

static enum err apply(struct store *store, const struct change *c, struct failure *ret_failure) {
    struct store_sqlite *s = (struct store_sqlite *)store;
    enum err e = run_named(s, SQL_SAVEPOINT, "savepoint", ret_failure);
    if (e != OK) {
        return e;
    }
    for (const struct row *r = c->first; r != NULL && e == OK; r = r->next) {
        e = apply_row(s, r, ret_failure);
    }
    return end_savepoint(s, e, ret_failure);
}

static enum err insert_labels(struct store_sqlite *s, const struct flow_insert *i,
                              struct failure *ret_failure) {
    sqlite3_stmt *st;
    enum err e = sqlite_prepared(s, SQL_LABEL_INSERT, &st, ret_failure);
    for (size_t n = 0; n < i->n_labels && e == OK; n++) {
        sqlite3_bind_text(st, 1, i->row.id, -1, SQLITE_STATIC);
        sqlite3_bind_text(st, 2, i->labels[n].key, -1, SQLITE_STATIC);
        sqlite3_bind_text(st, 3, i->labels[n].value, -1, SQLITE_STATIC);
        e = sqlite_run(s, st, "label", ret_failure);
    }
    return e;
}

static enum err find_request(struct store_sqlite *s, struct flow_insert *i,
                             struct failure *ret_failure) {
    sqlite3_stmt *st;
    enum err e = sqlite_prepared(s, SQL_FLOW_FIND_REQUEST, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    sqlite3_bind_text(st, 1, i->row.owner, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 2, i->row.request_id, -1, SQLITE_STATIC);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        sqlite_column_name(st, 0, i->existing, sizeof i->existing);
        size_t len = (size_t)sqlite3_column_bytes(st, 1);
        i->same = len == i->row.spec.len &&
                  (len == 0 || memcmp(sqlite3_column_blob(st, 1), i->row.spec.bytes, len) == 0);
    } else if (rc != SQLITE_DONE) {
        e = sqlite_failure(s->db, rc, "find request", ret_failure);
    }
    sqlite3_reset(st);
    return e;
}

static enum err insert_row(struct store_sqlite *s, const struct flow_insert *i,
                           struct failure *ret_failure) {
    sqlite3_stmt *st;
    enum err e = sqlite_prepared(s, SQL_FLOW_INSERT, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    const struct flow_row *f = &i->row;
    const int64_t numbers[] = {
        f->created_ms,    f->state,           f->phase,      f->outcome,  f->holders,
        f->cancel_wanted, f->cleanup_pending, f->started_ms, f->ended_ms, (int64_t)f->last_seq};
    const struct blob blobs[] = {f->spec, f->error, f->places, f->tally};
    struct row r = {.texts = {f->id, f->owner, f->request_id}, .n_texts = 3};
    int rc = bind_row(st, &r);
    for (size_t n = 0; n < ARRAY_LEN(numbers) && rc == SQLITE_OK; n++) {
        rc = sqlite3_bind_int64(st, (int)n + 4, numbers[n]);
    }
    for (size_t n = 0; n < ARRAY_LEN(blobs) && rc == SQLITE_OK; n++) {
        int at = (int)(n + ARRAY_LEN(numbers)) + 4;
        rc = blobs[n].len == 0
                 ? sqlite3_bind_zeroblob(st, at, 0)
                 : sqlite3_bind_blob64(st, at, blobs[n].bytes, blobs[n].len, SQLITE_STATIC);
    }
    return rc == SQLITE_OK ? sqlite_run(s, st, "insert flow", ret_failure)
                           : sqlite_failure(s->db, rc, "insert flow", ret_failure);
}

static enum err insert_event(struct store_sqlite *s, const struct flow_insert *i,
                             struct failure *ret_failure) {
    struct row r = {.kind = ROW_EVENT,
                    .n_texts = 2,
                    .n_numbers = 3,
                    .n_blobs = 1,
                    .texts = {i->row.id, i->event.kind},
                    .numbers = {(int64_t)i->event.seq, i->event.at_ms, i->event.thin},
                    .blobs = {i->event.message}};
    return apply_row(s, &r, ret_failure);
}

static enum err insert_callback(struct store_sqlite *s, const struct flow_insert *i,
                                struct failure *ret_failure) {
    struct row r = {.kind = ROW_OUTBOX_ADD,
                    .n_texts = 2,
                    .n_numbers = 2,
                    .n_blobs = 1,
                    .texts = {i->row.id, i->callback_target},
                    .numbers = {(int64_t)i->event.seq, 0},
                    .blobs = {i->callback}};
    return i->callback_target == NULL ? OK : apply_row(s, &r, ret_failure);
}

enum err sqlite_insert_flow(struct store *store, struct flow_insert *i,
                            struct failure *ret_failure) {
    struct store_sqlite *s = (struct store_sqlite *)store;
    i->existing[0] = '\0';
    i->same = false;
    enum err e = OK;
    if (i->row.request_id[0] != '\0') {
        e = find_request(s, i, ret_failure);
        if (e != OK || i->existing[0] != '\0') {
            return e;
        }
    }
    if (i->only_find) {
        return OK;
    }
    e = run_named(s, SQL_SAVEPOINT, "savepoint", ret_failure);
    if (e != OK) {
        return e;
    }
    e = insert_row(s, i, ret_failure);
    if (e == OK) {
        e = insert_labels(s, i, ret_failure);
    }
    if (e == OK) {
        e = insert_event(s, i, ret_failure);
    }
    if (e == OK) {
        e = insert_callback(s, i, ret_failure);
    }
    return end_savepoint(s, e, ret_failure);
}

// ---- the term ----
static enum err raise_term(struct store *store, uint64_t *ret_term, char ret_cluster[IDENT_SIZE],
                           struct failure *ret_failure) {
    struct store_sqlite *s = (struct store_sqlite *)store;
    char cluster[IDENT_SIZE];
    ident_new(clock_wall_ms(&clock_system), cluster);
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(s->db,
                                "INSERT INTO cluster (one, id, term) VALUES (1, ?1, 1)"
                                " ON CONFLICT (one) DO UPDATE SET term = term + 1"
                                " RETURNING term, id",
                                -1, &st, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_bind_text(st, 1, cluster, -1, SQLITE_STATIC);
    }
    uint64_t term = 0;
    if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        term = (uint64_t)sqlite3_column_int64(st, 0);
        sqlite_column_name(st, 1, cluster, sizeof cluster);
        rc = sqlite3_step(st); // it commits when it is done
    }
    enum err e = rc == SQLITE_DONE ? OK : sqlite_failure(s->db, rc, "raise term", ret_failure);
    sqlite3_finalize(st);
    if (e == OK) {
        *ret_term = term;
        memcpy(ret_cluster, cluster, sizeof cluster);
    }
    return e == OK ? OK : ERR_DATABASE;
}

// ---- opening ----
static void store_free(struct store *store) {
    struct store_sqlite *s = (struct store_sqlite *)store;
    for (size_t k = 0; k < ROW_KIND_COUNT; k++) {
        for (size_t i = 0; i < ROW_STATEMENTS; i++) {
            sqlite3_finalize(s->rows[k][i]);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(s->queries); i++) {
        sqlite3_finalize(s->queries[i]);
    }
    sqlite3_close(s->db);
    free(s);
}

static const struct store_ops ops = {
    .raise_term = raise_term,
    .begin = begin,
    .commit = commit,
    .rollback = rollback,
    .apply = apply,
    .insert_flow = sqlite_insert_flow,
    .read = sqlite_read,
    .free = store_free,
};

enum err store_sqlite_open(const char *state_dir, bool writer, struct store **ret_store,
                           struct failure *ret_failure) {
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/sluice.db", state_dir);
    if (n < 0 || (size_t)n >= sizeof path) {
        return failure_set(ret_failure, ERR_NAME_TOO_LONG, "open", state_dir, strlen(state_dir),
                           NULL);
    }
    struct store_sqlite *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "open", path, strlen(path), NULL);
    }
    s->store.ops = &ops;
    int rc = sqlite3_open_v2(
        path, &s->db,
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (writer ? SQLITE_OPEN_CREATE : 0), NULL);
    enum err e = OK;
    if (rc != SQLITE_OK) {
        sqlite_failure(s->db, rc, "open", ret_failure);
        e = ERR_DATABASE;
    } else {
        sqlite3_extended_result_codes(s->db, 1);
        sqlite3_busy_timeout(s->db, BUSY_MS);
        e = sqlite_schema_check(s->db, path, writer, ret_failure);
    }
    if (e != OK) {
        store_free(&s->store);
        return e;
    }
    *ret_store = &s->store;
    return OK;
}
