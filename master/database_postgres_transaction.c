// SPDX-License-Identifier: Apache-2.0
// Transactions on PostgreSQL. Those of the writer are fenced: each changes the one row of
// `cluster`, if that still has this master's term, and leaves its number there. A commit whose
// answer was lost is looked up by that number on the next connection.
#include "master/database_postgres.h"

#include "common/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_connected(const struct postgres *p) {
    return p->connection != NULL && PQstatus(p->connection) == CONNECTION_OK;
}

static enum err fenced(const struct postgres *p, struct failure *f) {
    enum err e = failure_set(f, ERR_FENCED, "write", p->name, strlen(p->name),
                             "another master has taken over this database");
    failure_remedy(f, "start this one again: it will wait until the other ends");
    return e;
}

// The term and the number of the last transaction that was committed.
static enum err read_mark(struct postgres *p, uint64_t *ret_term, uint64_t *ret_written,
                          struct failure *f) {
    PGresult *r = NULL;
    enum err e = postgres_execute(p, "SELECT term, written FROM cluster", &r, f);
    if (e != OK) {
        return ERR_DATABASE;
    }
    bool found = PQntuples(r) == 1;
    *ret_term = found ? strtoull(PQgetvalue(r, 0, 0), NULL, 10) : 0;
    *ret_written = found ? strtoull(PQgetvalue(r, 0, 1), NULL, 10) : 0;
    PQclear(r);
    return OK;
}

// Connects again as the active master. Only who has the lock may believe what it reads: then the
// session before this one has ended, with all that it had begun.
static enum err reclaim(struct postgres *p, struct failure *f) {
    uint64_t term = 0;
    uint64_t written = 0;
    bool locked = false;
    enum err e = postgres_connect(p, f);
    if (e == OK) {
        e = postgres_try_lock(p, &locked, f);
    }
    if (e == OK) {
        e = read_mark(p, &term, &written, f);
    }
    if (e != OK) {
        return ERR_DATABASE;
    }
    if (term != p->term) {
        return fenced(p, f);
    }
    if (!locked) {
        PQfinish(p->connection); // so that the next attempt begins here again
        p->connection = NULL;
        return failure_set(f, ERR_DATABASE, "lock", p->name, strlen(p->name),
                           "the session before this one, or a standby, holds the master's lock");
    }
    log_event(LOG_INFO, "database_reconnected", LOG_STR("database", p->name));
    if (p->unknown) {
        p->unknown = false;
        return written == p->written ? ERR_EXISTS : OK;
    }
    return OK;
}

enum err postgres_begin(struct sql *c, struct failure *ret_failure) {
    struct postgres *p = (struct postgres *)c;
    bool owns = p->role == STORE_WRITER && p->term != 0;
    enum err e = OK;
    if (!is_connected(p)) {
        e = owns ? reclaim(p, ret_failure) : postgres_connect(p, ret_failure);
    }
    if (e != OK || p->role != STORE_WRITER) {
        return e;
    }
    if (!owns) {
        return postgres_execute(p, "BEGIN", NULL, ret_failure) == OK ? OK : ERR_DATABASE;
    }
    char text[192];
    snprintf(text, sizeof text,
             "BEGIN; UPDATE cluster SET written = %" PRIu64 " WHERE one = 1 AND term = %" PRIu64,
             p->written + 1, p->term);
    PGresult *r = NULL;
    e = postgres_execute(p, text, &r, ret_failure);
    if (e != OK) {
        return ERR_DATABASE;
    }
    bool ours = strcmp(PQcmdTuples(r), "1") == 0;
    PQclear(r);
    p->written++;
    return ours ? OK : fenced(p, ret_failure);
}

enum err postgres_commit(struct sql *c, struct failure *ret_failure) {
    struct postgres *p = (struct postgres *)c;
    if (p->role != STORE_WRITER) {
        return OK;
    }
    if (p->connection == NULL) {
        return postgres_lost(p, "commit", ret_failure);
    }
    PGresult *r = NULL;
    enum err e = postgres_execute(p, "COMMIT", &r, ret_failure);
    if (e != OK) {
        // Whether it was done shows when the connection is there again.
        p->unknown = !is_connected(p);
        return ERR_DATABASE;
    }
    if (strcmp(PQcmdStatus(r), "COMMIT") != 0) {
        e = failure_set(ret_failure, ERR_DATABASE, "commit", p->name, strlen(p->name),
                        "the server rolled the transaction back");
    }
    PQclear(r);
    return e;
}

void postgres_rollback(struct sql *c) {
    struct postgres *p = (struct postgres *)c;
    struct failure ignored;
    if (p->connection == NULL || p->role != STORE_WRITER) {
        return;
    }
    if (!is_connected(p) || postgres_execute(p, "ROLLBACK", NULL, &ignored) != OK) {
        PQfinish(p->connection); // the server rolls back what a session leaves
        p->connection = NULL;
    }
}

enum err postgres_alive(struct sql *c, struct failure *ret_failure) {
    struct postgres *p = (struct postgres *)c;
    if (p->role != STORE_WRITER || p->term == 0) {
        return OK;
    }
    if (!is_connected(p)) {
        enum err e = reclaim(p, ret_failure);
        return e == ERR_EXISTS ? OK : e;
    }
    // The session lives, so the lock is held, so nobody else has raised the term.
    return postgres_execute(p, "SELECT 1", NULL, ret_failure) == OK ? OK : ERR_DATABASE;
}

void postgres_set_term(struct sql *c, uint64_t term) {
    struct postgres *p = (struct postgres *)c;
    p->term = term;
    p->written = 0;
}

void postgres_close(struct sql *c) {
    struct postgres *p = (struct postgres *)c;
    PQfinish(p->connection);
    free(p->url);
    free(p);
}
