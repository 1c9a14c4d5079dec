// SPDX-License-Identifier: Apache-2.0
// What the files of the SQLite store share. Inside the database only.
#ifndef MASTER_DATABASE_SQLITE_H
#define MASTER_DATABASE_SQLITE_H

#include "master/database_impl.h"

#include <sqlite3.h>

enum { ROW_STATEMENTS = 8, QUERY_STATEMENTS = 48 };

// When a callback may be sent that has others of its flow before it. INT64_MAX.
#define SQLITE_OUTBOX_NOT_ITS_TURN "9223372036854775807"

struct store_sqlite {
    struct store store; // first member
    sqlite3 *db;
    sqlite3_stmt *rows[ROW_KIND_COUNT][ROW_STATEMENTS]; // prepared when first used
    sqlite3_stmt *queries[QUERY_STATEMENTS];
};

// Statements that are kept prepared, for all but the rows.
enum sqlite_statement {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_SAVEPOINT,
    SQL_ROLLBACK_TO,
    SQL_RELEASE,
    SQL_FLOW_FIND_REQUEST,
    SQL_FLOW_INSERT,
    SQL_LABEL_INSERT,
    SQL_FLOWS_UNFINISHED,
    SQL_FLOW_GET,
    SQL_EVENTS,
    SQL_FAILED,
    SQL_OUTBOX,
    SQL_OUTBOX_DEAD,
    SQL_CREDENTIALS,
    SQL_PLAN,
    SQL_TASKS,
    SQL_TASKS_LIST,
    SQL_TASK_SPEC,
    SQL_TASK_LEASES,
    SQL_TASKS_ANY,
    SQL_WALK_ANY,
    SQL_LARGE_ANY,
    SQL_LARGE_GET,
    SQL_TASKS_WAITING,
    SQL_WALK_FRONTIER,
    SQL_WALK_FRONTIER_COUNT,
    SQL_WALK_PARTIALS,
    SQL_WALK_DEEPEST,
    SQL_LARGES,
    SQL_LARGES_IDLE,
    SQL_OBJECT_TASKS,
    SQL_SEEN,
    SQL_ACKS,
    SQL_ACKS_OF_AGENT,
    SQL_WRITERS,
    SQL_STATEMENT_COUNT,
};
_Static_assert((int)SQL_STATEMENT_COUNT <= (int)QUERY_STATEMENTS, "too many statements");

// The texts of a row kind's statements, NULL at the end; see database_impl.h for the parameters.
const char *const *sqlite_row_statements(enum row_kind kind);

// Opening: pragmas and tables.
MUST_CHECK enum err sqlite_schema_check(sqlite3 *db, const char *path, bool writer,
                                        struct failure *ret_failure);

// Classifies @rc, fills the failure, logs nothing. ERR_DATABASE: the store is in trouble;
// ERR_NO_MEMORY, ERR_INTERNAL: only the statement.
enum err sqlite_failure(sqlite3 *db, int rc, const char *operation, struct failure *ret_failure);
MUST_CHECK enum err sqlite_prepared(struct store_sqlite *s, enum sqlite_statement which,
                                    sqlite3_stmt **ret_statement, struct failure *ret_failure);
// Runs a statement that gives no rows, and resets it.
MUST_CHECK enum err sqlite_run(struct store_sqlite *s, sqlite3_stmt *statement,
                               const char *operation, struct failure *ret_failure);
// Whole statements in text, for pragmas and schema.
MUST_CHECK enum err sqlite_execute(sqlite3 *db, const char *sql, struct failure *ret_failure);

MUST_CHECK enum err sqlite_insert_flow(struct store *s, struct flow_insert *i,
                                       struct failure *ret_failure);
MUST_CHECK enum err sqlite_read(struct store *s, struct query *q, struct arena *a,
                                struct failure *ret_failure);

// ---- for reading ----
// Grows an array of rows, in the arena; NULL: out of memory.
void *sqlite_add_row(struct arena *a, void **rows, size_t *n_rows, size_t *cap, size_t row_bytes);
bool sqlite_column_blob(sqlite3_stmt *st, int column, struct arena *a, struct blob *ret_blob);
const char *sqlite_column_text(sqlite3_stmt *st, int column, struct arena *a); // NULL: no memory
void sqlite_column_name(sqlite3_stmt *st, int column, char *ret_text, size_t cap);
// The planner's questions (database_sqlite_plan.c).
MUST_CHECK enum err sqlite_read_plan(struct store_sqlite *s, struct query *q, struct arena *a,
                                     struct failure *ret_failure);
void sqlite_progress(sqlite3_stmt *st, int column, struct flow_progress *ret_progress);

#endif
