// SPDX-License-Identifier: Apache-2.0
// For those who put a database library behind the SQL store: connections and statements as a
// table of operations. The store's own statements (database_sql*.c) are written in what SQLite
// and PostgreSQL both understand; parameters are ?1, ?2, ….
#ifndef MASTER_DATABASE_SQL_IMPL_H
#define MASTER_DATABASE_SQL_IMPL_H

#include "master/database_impl.h"

struct sql; // a connection; one thread at a time

// First member of the library's own.
struct sql_statement {
    const struct sql_ops *ops;
    int n_parameters;
};

struct sql_ops {
    MUST_CHECK enum err (*prepare)(struct sql *c, const char *text,
                                   struct sql_statement **ret_statement,
                                   struct failure *ret_failure);
    void (*finalize)(struct sql_statement *st); // NULL: does nothing
    // What is bound is borrowed until the statement is reset. A failure shows when it is stepped.
    void (*bind_text)(struct sql_statement *st, int at, const char *text);
    void (*bind_number)(struct sql_statement *st, int at, int64_t number);
    void (*bind_blob)(struct sql_statement *st, int at, struct blob blob);
    // To the next row. ERR_DATABASE, ERR_INTERNAL, ERR_NO_MEMORY: as in database_impl.h.
    MUST_CHECK enum err (*step)(struct sql_statement *st, bool *ret_row,
                                struct failure *ret_failure);
    void (*reset)(struct sql_statement *st);
    // Of the row; valid until the next step. Texts are blobs with a NUL behind them.
    int64_t (*number)(const struct sql_statement *st, int column);
    struct blob (*blob)(const struct sql_statement *st, int column);
    // Transactions: as in database_impl.h.
    MUST_CHECK enum err (*begin)(struct sql *c, struct failure *ret_failure);
    MUST_CHECK enum err (*commit)(struct sql *c, struct failure *ret_failure);
    void (*rollback)(struct sql *c);
    // Optional: between these two statements have no rows and are only sent; the second waits for
    // all of them. If one fails, those after it do nothing.
    void (*batch_begin)(struct sql *c);
    MUST_CHECK enum err (*batch_end)(struct sql *c, struct failure *ret_failure);
    // Optional: see struct store_ops.
    MUST_CHECK enum err (*alive)(struct sql *c, struct failure *ret_failure);

    // The term was raised through this connection: no other may be written from now on.
    void (*set_term)(struct sql *c, uint64_t term); // optional
    void (*close)(struct sql *c);
};

// First member of the library's own.
struct sql {
    const struct sql_ops *ops;
    const char *name; // for people: the file, or the address without its password
};

// A store on a connection; the connection is the store's, also if there is no memory for it.
MUST_CHECK enum err store_sql_new(struct sql *take_connection, struct store **ret_store,
                                  struct failure *ret_failure);

// ---- the schema (database_sql_schema.c) ----
// How many steps this program knows: the version of the schema it makes.
int sql_schema_version(void);
// The step from version @from to the next, in the words of SQLite.
const char *sql_schema_step(int from);
enum err sql_schema_refuse_foreign(const char *name, struct failure *ret_failure);
enum err sql_schema_refuse_newer(const char *name, int version, struct failure *ret_failure);

#endif
