// SPDX-License-Identifier: Apache-2.0
// SQLite under the SQL store: connections, statements, transactions.
#include "master/database_sqlite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUSY_MS = 10000 };

struct sqlite_statement {
    struct sql_statement statement; // first member
    sqlite3_stmt *st;
    int bound; // SQLITE_OK, or why a parameter could not be bound
};

struct sqlite {
    struct sql sql; // first member; its name is the file's path
    char path[4096];
    sqlite3 *db;
    struct sql_statement *begin, *commit, *rollback;
};

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
    const bool is_damaged = (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB;
    failure_set(ret_failure, is_damaged ? ERR_CORRUPT : e, op, path,
                path == NULL ? 0 : strlen(path), "%s",
                db == NULL ? sqlite3_errstr(rc) : sqlite3_errmsg(db));
    switch (rc & 0xff) {
    case SQLITE_FULL:
        failure_remedy(ret_failure, "make room on the file system of the state directory");
        break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: failure_remedy(ret_failure, "restore a backup (docs/database.md)"); break;
    default: break;
    }
    return e;
}

// ---- statements ----
static struct sqlite_statement *of(struct sql_statement *st) {
    return (struct sqlite_statement *)st;
}

static const struct sql_ops ops;

static enum err prepare(struct sql *c, const char *text, struct sql_statement **ret_statement,
                        struct failure *ret_failure) {
    struct sqlite *s = (struct sqlite *)c;
    struct sqlite_statement *st = calloc(1, sizeof *st);
    if (st == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "prepare", NULL, 0, NULL);
    }
    int rc = sqlite3_prepare_v3(s->db, text, -1, SQLITE_PREPARE_PERSISTENT, &st->st, NULL);
    if (rc != SQLITE_OK) {
        free(st);
        return sqlite_failure(s->db, rc, text, ret_failure);
    }
    st->statement.ops = &ops;
    st->statement.n_parameters = sqlite3_bind_parameter_count(st->st);
    *ret_statement = &st->statement;
    return OK;
}

static void finalize(struct sql_statement *st) {
    if (st != NULL) {
        sqlite3_finalize(of(st)->st);
        free(st);
    }
}

static void bound(struct sqlite_statement *st, int rc) {
    if (st->bound == SQLITE_OK) {
        st->bound = rc;
    }
}

static void bind_text(struct sql_statement *st, int at, const char *text) {
    bound(of(st), sqlite3_bind_text(of(st)->st, at, text, -1, SQLITE_STATIC));
}

static void bind_number(struct sql_statement *st, int at, int64_t number) {
    bound(of(st), sqlite3_bind_int64(of(st)->st, at, number));
}

static void bind_blob(struct sql_statement *st, int at, struct blob b) {
    bound(of(st), b.len == 0 ? sqlite3_bind_zeroblob(of(st)->st, at, 0)
                             : sqlite3_bind_blob64(of(st)->st, at, b.bytes, b.len, SQLITE_STATIC));
}

static enum err step(struct sql_statement *statement, bool *ret_row, struct failure *ret_failure) {
    struct sqlite_statement *st = of(statement);
    int rc = st->bound != SQLITE_OK ? st->bound : sqlite3_step(st->st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        return sqlite_failure(sqlite3_db_handle(st->st), rc, sqlite3_sql(st->st), ret_failure);
    }
    *ret_row = rc == SQLITE_ROW;
    return OK;
}

static void reset(struct sql_statement *st) {
    sqlite3_reset(of(st)->st);
    of(st)->bound = SQLITE_OK;
}

static int64_t number(const struct sql_statement *st, int column) {
    return sqlite3_column_int64(((const struct sqlite_statement *)st)->st, column);
}

static struct blob blob(const struct sql_statement *statement, int column) {
    sqlite3_stmt *st = ((const struct sqlite_statement *)statement)->st;
    bool is_text = sqlite3_column_type(st, column) == SQLITE_TEXT;
    const void *bytes =
        is_text ? (const void *)sqlite3_column_text(st, column) : sqlite3_column_blob(st, column);
    int len = bytes == NULL ? 0 : sqlite3_column_bytes(st, column);
    return (struct blob){len == 0 ? (const uint8_t *)"" : bytes, (size_t)len};
}

// ---- transactions ----
// Whatever fails here, the transaction is to be done again.
static enum err run(struct sqlite *s, struct sql_statement **st, const char *text,
                    struct failure *ret_failure) {
    enum err e = OK;
    if (*st == NULL) {
        e = prepare(&s->sql, text, st, ret_failure);
    }
    if (e == OK) {
        bool row;
        e = step(*st, &row, ret_failure);
        reset(*st);
    }
    return e == OK ? OK : ERR_DATABASE;
}

static enum err begin(struct sql *c, struct failure *ret_failure) {
    struct sqlite *s = (struct sqlite *)c;
    return run(s, &s->begin, "BEGIN", ret_failure);
}

static enum err commit(struct sql *c, struct failure *ret_failure) {
    struct sqlite *s = (struct sqlite *)c;
    return run(s, &s->commit, "COMMIT", ret_failure);
}

static void rollback(struct sql *c) {
    struct sqlite *s = (struct sqlite *)c;
    struct failure ignored;
    if (!sqlite3_get_autocommit(s->db) && run(s, &s->rollback, "ROLLBACK", &ignored) != OK) {
        return; // the next begin fails, and says so
    }
}

// ---- opening ----
static void close_connection(struct sql *c) {
    struct sqlite *s = (struct sqlite *)c;
    finalize(s->begin);
    finalize(s->commit);
    finalize(s->rollback);
    sqlite3_close(s->db);
    free(s);
}

static const struct sql_ops ops = {
    .prepare = prepare,
    .finalize = finalize,
    .bind_text = bind_text,
    .bind_number = bind_number,
    .bind_blob = bind_blob,
    .step = step,
    .reset = reset,
    .number = number,
    .blob = blob,
    .begin = begin,
    .commit = commit,
    .rollback = rollback,
    .close = close_connection,
};

enum err store_sqlite_open(const char *state_dir, enum store_role role, struct store **ret_store,
                           struct failure *ret_failure) {
    static const int flags[] = {
        [STORE_WRITER] = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
        [STORE_READER] = SQLITE_OPEN_READWRITE,
        [STORE_CHECK] = SQLITE_OPEN_READONLY,
    };
    struct sqlite *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "open", NULL, 0, NULL);
    }
    s->sql.ops = &ops;
    s->sql.name = s->path;
    int n = snprintf(s->path, sizeof s->path, "%s/sluice.db", state_dir);
    if (n < 0 || (size_t)n >= sizeof s->path) {
        free(s);
        return failure_set(ret_failure, ERR_NAME_TOO_LONG, "open", state_dir, strlen(state_dir),
                           NULL);
    }
    enum err e = role == STORE_READER ? OK : sqlite_first_look(s->path, ret_failure);
    int rc = SQLITE_OK;
    if (e == OK) {
        rc = sqlite3_open_v2(s->path, &s->db, flags[role] | SQLITE_OPEN_NOMUTEX, NULL);
    }
    if (rc != SQLITE_OK) {
        sqlite_failure(s->db, rc, "open", ret_failure);
        e = ERR_DATABASE;
    } else if (e == OK) {
        sqlite3_extended_result_codes(s->db, 1);
        sqlite3_busy_timeout(s->db, BUSY_MS);
        // What is refused keeps its log: closing would bring it into the file.
        sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        e = sqlite_schema_check(s->db, s->path, role, ret_failure);
    }
    if (e == OK) {
        sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    }
    if (e != OK) {
        close_connection(&s->sql);
        return e;
    }
    return store_sql_new(&s->sql, ret_store, ret_failure);
}
