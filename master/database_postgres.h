// SPDX-License-Identifier: Apache-2.0
// What the files of PostgreSQL's driver share. Inside the database only.
#ifndef MASTER_DATABASE_POSTGRES_H
#define MASTER_DATABASE_POSTGRES_H

#include "master/database_sql_impl.h"

#include <libpq-fe.h>

struct postgres_statement;

struct postgres {
    struct sql sql; // first member; its name is the address without its password
    char name[256];
    char *url; // never logged: it may hold a password
    enum store_role role;
    int64_t session_ms;  // after which the server ends a session that says nothing
    PGconn *connection;  // NULL: lost
    uint64_t n_connects; // statements are prepared once for each
    uint64_t n_names;    // of prepared statements
    // between batch_begin() and batch_end()
    bool batching;
    size_t n_sent;
    struct postgres_statement *prepared; // in this batch
    // the writer
    uint64_t term;    // 0: not raised yet
    uint64_t written; // the number of the transaction that is open, or was the last
    bool unknown;     // its commit was not answered
};

// ---- the connection (database_postgres.c) ----
// Ends what is there and connects anew, with what the role needs set. ERR_DATABASE.
MUST_CHECK enum err postgres_connect(struct postgres *p, struct failure *ret_failure);
// The next result of what was sent; NULL when there are no more. ERR_DATABASE: the connection is
// lost, and closed.
MUST_CHECK enum err postgres_result(struct postgres *p, PGresult **ret_result,
                                    struct failure *ret_failure);
// One text with one or several statements. *@ret_result (NULL: not wanted) is the last
// statement's, to be cleared by the caller.
MUST_CHECK enum err postgres_execute(struct postgres *p, const char *text, PGresult **ret_result,
                                     struct failure *ret_failure);
// Fills the failure and gives ERR_DATABASE; the connection is closed.
enum err postgres_lost(struct postgres *p, const char *operation, struct failure *ret_failure);
// What a result that is an error means: ERR_DATABASE, ERR_NO_MEMORY or ERR_INTERNAL.
enum err postgres_failure(const struct postgres *p, const PGresult *r, const char *operation,
                          struct failure *ret_failure);
bool postgres_succeeded(const PGresult *r);

// ---- statements (database_postgres_statement.c) ----
extern const struct sql_ops postgres_ops;
void postgres_batch_begin(struct sql *c);
MUST_CHECK enum err postgres_batch_end(struct sql *c, struct failure *ret_failure);

// ---- transactions (database_postgres_transaction.c) ----
MUST_CHECK enum err postgres_begin(struct sql *c, struct failure *ret_failure);
MUST_CHECK enum err postgres_commit(struct sql *c, struct failure *ret_failure);
void postgres_rollback(struct sql *c);
MUST_CHECK enum err postgres_alive(struct sql *c, struct failure *ret_failure);
void postgres_set_term(struct sql *c, uint64_t term);
void postgres_close(struct sql *c);

// ---- the schema and the lock (database_postgres_schema.c) ----
// ERR_DATABASE: not ours, or newer. Changes nothing. @ret_version: 0 for an empty database.
MUST_CHECK enum err postgres_version(struct postgres *p, int *ret_version,
                                     struct failure *ret_failure);
MUST_CHECK enum err postgres_migrate(struct postgres *p, int from, struct failure *ret_failure);
// The lock of the active master, which ends with the session. *@ret_locked: it is ours now.
MUST_CHECK enum err postgres_try_lock(struct postgres *p, bool *ret_locked,
                                      struct failure *ret_failure);
// Waits for it as long as @place lets it, through lost connections. ERR_CANCELLED: it did not.
MUST_CHECK enum err postgres_wait_lock(struct postgres *p, const struct database_place *place,
                                       struct failure *ret_failure);

#endif
