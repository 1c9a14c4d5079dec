// SPDX-License-Identifier: Apache-2.0
// What the files of the SQL store share. Inside the database only.
#ifndef MASTER_DATABASE_SQL_H
#define MASTER_DATABASE_SQL_H

#include "master/database_sql_impl.h"

enum { ROW_STATEMENTS = 8, QUERY_STATEMENTS = 48 };

// When a callback may be sent that has others of its flow before it. INT64_MAX.
#define SQL_OUTBOX_NOT_ITS_TURN "9223372036854775807"

struct store_sql {
    struct store store;                                         // first member
    struct sql *sql;                                            // owned
    struct sql_statement *rows[ROW_KIND_COUNT][ROW_STATEMENTS]; // prepared when first used
    struct sql_statement *queries[QUERY_STATEMENTS];
};

// Statements that are kept prepared, for all but the rows.
enum sql_query {
    SQL_SAVEPOINT,
    SQL_ROLLBACK_TO,
    SQL_RELEASE,
    SQL_RAISE_TERM,
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
const char *const *sql_row_statements(enum row_kind kind);
const char *sql_query_text(enum sql_query which);

MUST_CHECK enum err sql_prepared(struct store_sql *s, enum sql_query which,
                                 struct sql_statement **ret_statement, struct failure *ret_failure);
// Runs a statement whose rows do not matter, and resets it.
MUST_CHECK enum err sql_run(struct sql_statement *st, struct failure *ret_failure);

MUST_CHECK enum err sql_insert_flow(struct store *s, struct flow_insert *i,
                                    struct failure *ret_failure);
MUST_CHECK enum err sql_read(struct store *s, struct query *q, struct arena *a,
                             struct failure *ret_failure);

// ---- for reading ----
// To the next row; false: there is none, or it failed, or *@e was not OK before.
static inline bool sql_next(struct sql_statement *st, enum err *e, struct failure *ret_failure) {
    bool row = false;
    if (*e == OK) {
        *e = st->ops->step(st, &row, ret_failure);
    }
    return *e == OK && row;
}
static inline int64_t sql_number(const struct sql_statement *st, int column) {
    return st->ops->number(st, column);
}
static inline uint64_t sql_unsigned(const struct sql_statement *st, int column) {
    return (uint64_t)st->ops->number(st, column);
}
// Grows an array of rows, in the arena; NULL: out of memory.
void *sql_add_row(struct arena *a, void **rows, size_t *n_rows, size_t *cap, size_t row_bytes);
bool sql_blob(const struct sql_statement *st, int column, struct arena *a, struct blob *ret_blob);
const char *sql_text(const struct sql_statement *st, int column,
                     struct arena *a); // NULL: no memory
void sql_name(const struct sql_statement *st, int column, char *ret_text, size_t cap);
void sql_progress(const struct sql_statement *st, int column, struct flow_progress *ret_progress);
// The planner's questions (database_sql_plan.c).
MUST_CHECK enum err sql_read_plan(struct store_sql *s, struct query *q, struct arena *a,
                                  struct failure *ret_failure);

#endif
