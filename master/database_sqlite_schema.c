// SPDX-License-Identifier: Apache-2.0
// A file of SQLite that is opened: is it ours, which version is it, and is it whole?
#include "common/cleanup.h"
#include "common/log.h"
#include "master/database_sqlite.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { APPLICATION_ID = 0x534c5543 }; // "SLUC"

static enum err execute(sqlite3 *db, const char *sql, struct failure *ret_failure) {
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? OK : sqlite_failure(db, rc, "execute", ret_failure);
}

static enum err read_number(sqlite3 *db, const char *sql, int *ret_number,
                            struct failure *ret_failure) {
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
    }
    if (rc == SQLITE_ROW) {
        *ret_number = sqlite3_column_int(st, 0);
    }
    enum err e = rc == SQLITE_ROW ? OK : sqlite_failure(db, rc, sql, ret_failure);
    sqlite3_finalize(st);
    return e;
}

static enum err migrate(sqlite3 *db, int from, struct failure *ret_failure) {
    for (int v = from; v < sql_schema_version(); v++) {
        char version[96];
        snprintf(version, sizeof version,
                 "PRAGMA user_version = %d; PRAGMA application_id = %d; COMMIT", v + 1,
                 (int)APPLICATION_ID);
        enum err e = execute(db, "BEGIN IMMEDIATE", ret_failure);
        if (e == OK) {
            e = execute(db, sql_schema_step(v), ret_failure);
        }
        if (e == OK) {
            e = execute(db, version, ret_failure);
        }
        if (e != OK) {
            return e;
        }
        log_event(LOG_INFO, "database_schema_step", LOG_U64("version", (uint64_t)(v + 1)));
    }
    return OK;
}

// ---- before it is opened ----
static int64_t size_of(const char *path, const char *suffix) {
    char name[4200];
    struct stat st;
    snprintf(name, sizeof name, "%s%s", path, suffix);
    return stat(name, &st) == 0 ? (int64_t)st.st_size : 0;
}

// SQLITE_NOTADB: its first page is none. Through SQLite, because closing a descriptor of one's own
// would let go of the locks that this process may have on the file; and immutable, so that nothing
// beside it is looked at.
static int read_header(const char *path) {
    char uri[3 * 4096 + 32] = "file:";
    size_t n = strlen(uri);
    sqlite3 *db = NULL;
    for (const char *p = path; *p != '\0' && n + 32 < sizeof uri; p++) {
        n += (size_t)snprintf(uri + n, sizeof uri - n, strchr("?#%", *p) != NULL ? "%%%02X" : "%c",
                              (unsigned char)*p);
    }
    snprintf(uri + n, sizeof uri - n, "?immutable=1");
    int rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX,
                             NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_exec(db, "PRAGMA application_id", NULL, NULL, NULL);
    }
    sqlite3_close(db);
    return rc;
}

enum err sqlite_first_look(const char *path, struct failure *ret_failure) {
    const int64_t size = size_of(path, ""), log = size_of(path, "-wal");
    const char *why = NULL;
    if (size == 0 && log > 0) {
        why = "the file is empty or missing, and there is a log (-wal) beside it";
    } else if (size > 0 && size_of(path, "-journal") == 0 && read_header(path) == SQLITE_NOTADB) {
        why = "file is not a database";
    }
    if (why == NULL) {
        return OK;
    }
    (void)failure_set(ret_failure, ERR_CORRUPT, "open", path, strlen(path), "%s", why);
    failure_remedy(ret_failure, "nothing was changed; keep a copy of sluice.db and what is beside"
                                " it, and restore a backup (docs/database.md)");
    return ERR_DATABASE;
}

// ---- opened ----
// All pages and indices are read: minutes for a large file.
static enum err check_pages(sqlite3 *db, const char *path, struct failure *ret_failure) {
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &st, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
    }
    enum err e = OK;
    if (rc != SQLITE_ROW) {
        e = sqlite_failure(db, rc, "check", ret_failure);
    } else if (strcmp((const char *)sqlite3_column_text(st, 0), "ok") != 0) {
        e = failure_set(ret_failure, ERR_DATABASE, "check", path, strlen(path), "damaged: %s",
                        (const char *)sqlite3_column_text(st, 0));
        failure_remedy(ret_failure, "restore a backup (docs/database.md)");
    }
    sqlite3_finalize(st);
    return e;
}

enum err sqlite_schema_check(sqlite3 *db, const char *path, enum store_role role,
                             struct failure *ret_failure) {
    // Order matters: the journal mode is the database's, the rest the connection's.
    static const char *const pragmas[] = {
        [STORE_WRITER] = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                         "PRAGMA foreign_keys = ON; PRAGMA cache_size = -4096;"
                         "PRAGMA wal_autocheckpoint = 2000; PRAGMA journal_size_limit = 67108864;",
        [STORE_READER] = "PRAGMA query_only = ON; PRAGMA cache_size = -2048;",
        [STORE_CHECK] = "PRAGMA query_only = ON;",
    };
    int application = 0;
    int version = 0;
    int tables = 0;
    enum err e = read_number(db, "PRAGMA application_id", &application, ret_failure);
    if (e == OK) {
        e = read_number(db, "PRAGMA user_version", &version, ret_failure);
    }
    if (e == OK) {
        e = read_number(db, "SELECT count(*) FROM sqlite_schema", &tables, ret_failure);
    }
    if (e != OK) {
        return ERR_DATABASE;
    }
    if (application != APPLICATION_ID && tables > 0) {
        return sql_schema_refuse_foreign(path, ret_failure);
    }
    if (version < 0 || version > sql_schema_version()) {
        return sql_schema_refuse_newer(path, version, ret_failure);
    }
    e = execute(db, pragmas[role], ret_failure);
    if (e == OK && role == STORE_WRITER) {
        e = migrate(db, version, ret_failure);
    }
    if (e == OK && role == STORE_CHECK) {
        e = check_pages(db, path, ret_failure);
    }
    return e;
}
