// SPDX-License-Identifier: Apache-2.0
// Statements on PostgreSQL: one at a time, or sent in batches that are answered together.
#include "master/database_postgres.h"

#include "common/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARAMETERS_MAX = 40, OID_BYTEA = 17, OID_INT8 = 20, OID_TEXT = 25 };

struct postgres_statement {
    struct sql_statement statement; // first member
    struct postgres *postgres;
    char *text; // with $1 for ?1
    char name[24];
    uint64_t prepared_on; // the connection; 0: not prepared
    bool used;            // on its second use it is prepared
    struct postgres_statement *next_prepared;
    bool unbindable; // no memory
    Oid types[PARAMETERS_MAX];
    const char *values[PARAMETERS_MAX];
    int lengths[PARAMETERS_MAX];
    int formats[PARAMETERS_MAX];
    uint8_t numbers[PARAMETERS_MAX][8];
    char *copies[PARAMETERS_MAX]; // of texts that had to be changed
    PGresult *result;             // NULL: not run yet
    int row;
};

static struct postgres_statement *of(struct sql_statement *st) {
    return (struct postgres_statement *)st;
}

static void reset(struct sql_statement *statement) {
    struct postgres_statement *st = of(statement);
    PQclear(st->result);
    st->result = NULL;
    st->unbindable = false;
    for (int i = 0; i < PARAMETERS_MAX; i++) {
        free(st->copies[i]);
        st->copies[i] = NULL;
        st->values[i] = NULL;
    }
}

static void finalize(struct sql_statement *statement) {
    if (statement != NULL) {
        reset(statement);
        free(of(statement)->text);
        free(statement);
    }
}

static enum err prepare(struct sql *c, const char *text, struct sql_statement **ret_statement,
                        struct failure *ret_failure) {
    struct postgres_statement *st = calloc(1, sizeof *st);
    char *copy = strdup(text);
    if (st == NULL || copy == NULL) {
        free(st);
        free(copy);
        return failure_set(ret_failure, ERR_NO_MEMORY, "prepare", NULL, 0, NULL);
    }
    for (char *at = copy; (at = strchr(at, '?')) != NULL; at++) {
        *at = '$';
        int n = atoi(at + 1);
        if (n > st->statement.n_parameters) {
            st->statement.n_parameters = n;
        }
    }
    st->statement.ops = &postgres_ops;
    st->postgres = (struct postgres *)c;
    st->text = copy;
    for (int i = 0; i < PARAMETERS_MAX; i++) {
        st->types[i] = OID_TEXT;
        st->formats[i] = 1;
    }
    if (st->statement.n_parameters > PARAMETERS_MAX) {
        finalize(&st->statement);
        return failure_set(ret_failure, ERR_INTERNAL, "prepare", NULL, 0, "too many parameters");
    }
    *ret_statement = &st->statement;
    return OK;
}

// ---- parameters ----
static void bind(struct postgres_statement *st, int at, Oid type, const void *bytes, size_t len) {
    st->types[at - 1] = type;
    st->values[at - 1] = bytes;
    st->lengths[at - 1] = (int)len;
}

// What is free text (a message of a server, say) may hold bytes that PostgreSQL does not take.
static void bind_text(struct sql_statement *statement, int at, const char *text) {
    struct postgres_statement *st = of(statement);
    size_t len = text == NULL ? 0 : strlen(text);
    if (text != NULL && !utf8_is_valid(text, len)) {
        char *copy = strdup(text);
        st->unbindable = copy == NULL;
        for (char *c = copy; c != NULL && *c != '\0'; c++) {
            *c = (unsigned char)*c < 0x80 ? *c : '?';
        }
        free(st->copies[at - 1]);
        st->copies[at - 1] = copy;
        text = copy;
    }
    bind(st, at, OID_TEXT, text, len);
}

static void bind_number(struct sql_statement *statement, int at, int64_t number) {
    struct postgres_statement *st = of(statement);
    for (int i = 0; i < 8; i++) {
        st->numbers[at - 1][i] = (uint8_t)((uint64_t)number >> (56 - 8 * i));
    }
    bind(st, at, OID_INT8, st->numbers[at - 1], 8);
}

static void bind_blob(struct sql_statement *statement, int at, struct blob b) {
    bind(of(statement), at, OID_BYTEA, b.len == 0 ? (const uint8_t *)"" : b.bytes, b.len);
}

// ---- running ----
static bool send_parse(struct postgres_statement *st) {
    struct postgres *p = st->postgres;
    snprintf(st->name, sizeof st->name, "s%llu", (unsigned long long)++p->n_names);
    if (PQsendPrepare(p->connection, st->name, st->text, st->statement.n_parameters, st->types) ==
        0) {
        return false;
    }
    st->prepared_on = p->n_connects;
    return true;
}

static bool send_run(struct postgres_statement *st) {
    PGconn *c = st->postgres->connection;
    int n = st->statement.n_parameters;
    return st->prepared_on == st->postgres->n_connects
               ? PQsendQueryPrepared(c, st->name, n, st->values, st->lengths, st->formats, 1) != 0
               : PQsendQueryParams(c, st->text, n, st->types, st->values, st->lengths, st->formats,
                                   1) != 0;
}

static enum err add_to_batch(struct postgres_statement *st, struct failure *f) {
    struct postgres *p = st->postgres;
    if (st->used && st->prepared_on != p->n_connects) {
        if (!send_parse(st)) {
            return postgres_lost(p, "send", f);
        }
        st->next_prepared = p->prepared;
        p->prepared = st;
        p->n_sent++;
    }
    st->used = true;
    if (!send_run(st)) {
        return postgres_lost(p, "send", f);
    }
    p->n_sent++;
    return OK;
}

// The one result of what was sent.
static enum err single_result(struct postgres_statement *st, PGresult **ret_result,
                              struct failure *f) {
    PGresult *result = NULL;
    PGresult *end = NULL;
    enum err e = postgres_result(st->postgres, &result, f);
    if (e == OK && result != NULL) {
        e = postgres_result(st->postgres, &end, f);
    }
    if (e == OK && !postgres_succeeded(result)) {
        e = postgres_failure(st->postgres, result, st->text, f);
    }
    PQclear(end);
    if (e != OK) {
        PQclear(result);
        return e;
    }
    *ret_result = result;
    return OK;
}

static enum err run(struct postgres_statement *st, struct failure *f) {
    struct postgres *p = st->postgres;
    PGresult *parsed = NULL;
    if (st->used && st->prepared_on != p->n_connects) {
        if (!send_parse(st)) {
            return postgres_lost(p, "send", f);
        }
        enum err e = single_result(st, &parsed, f);
        PQclear(parsed);
        if (e != OK) {
            st->prepared_on = 0;
            return e;
        }
    }
    st->used = true;
    if (!send_run(st)) {
        return postgres_lost(p, "send", f);
    }
    st->row = -1;
    return single_result(st, &st->result, f);
}

static enum err step(struct sql_statement *statement, bool *ret_row, struct failure *ret_failure) {
    struct postgres_statement *st = of(statement);
    if (st->unbindable) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "run", NULL, 0, NULL);
    }
    if (st->result == NULL) {
        if (st->postgres->connection == NULL) {
            return postgres_lost(st->postgres, "run", ret_failure);
        }
        *ret_row = false;
        enum err e = st->postgres->batching ? add_to_batch(st, ret_failure) : run(st, ret_failure);
        if (e != OK || st->postgres->batching) {
            return e;
        }
    }
    st->row++;
    *ret_row = st->row < PQntuples(st->result);
    return OK;
}

// ---- batches ----
void postgres_batch_begin(struct sql *c) {
    struct postgres *p = (struct postgres *)c;
    p->n_sent = 0;
    p->prepared = NULL;
    p->batching = p->connection != NULL && PQenterPipelineMode(p->connection) != 0;
}

// All results of a batch, up to its end. The first failure counts: the others follow from it.
static enum err gather(struct postgres *p, struct failure *f) {
    enum err first = OK;
    for (size_t seen = 0; seen <= p->n_sent; seen++) {
        PGresult *r = NULL;
        enum err e = postgres_result(p, &r, f);
        if (e != OK) {
            return e;
        }
        if (PQresultStatus(r) == PGRES_PIPELINE_SYNC) {
            PQclear(r);
            break;
        }
        if (first == OK && !postgres_succeeded(r)) {
            first = postgres_failure(p, r, "write", f);
        }
        PQclear(r);
        r = NULL;
        e = postgres_result(p, &r, f); // NULL: the end of this statement
        PQclear(r);
        if (e != OK) {
            return e;
        }
    }
    return first;
}

enum err postgres_batch_end(struct sql *c, struct failure *ret_failure) {
    struct postgres *p = (struct postgres *)c;
    if (!p->batching) {
        return p->connection == NULL ? postgres_lost(p, "write", ret_failure) : OK;
    }
    if (PQpipelineSync(p->connection) == 0) {
        return postgres_lost(p, "write", ret_failure);
    }
    enum err e = gather(p, ret_failure);
    // Which of its statements were still prepared is not known: they will be, by another name.
    for (struct postgres_statement *st = p->prepared; st != NULL && e != OK;
         st = st->next_prepared) {
        st->prepared_on = 0;
    }
    p->prepared = NULL;
    p->batching = false;
    if (p->connection != NULL && PQexitPipelineMode(p->connection) == 0) {
        return postgres_lost(p, "write", ret_failure);
    }
    return e;
}

// ---- the row ----
static int64_t number(const struct sql_statement *statement, int column) {
    const struct postgres_statement *st = (const struct postgres_statement *)statement;
    const char *bytes = PQgetvalue(st->result, st->row, column);
    int len = PQgetlength(st->result, st->row, column);
    uint64_t n = 0;
    for (int i = 0; i < len && i < 8; i++) {
        n = n << 8 | (uint8_t)bytes[i];
    }
    return len == 4 ? (int32_t)(uint32_t)n : (int64_t)n;
}

static struct blob blob(const struct sql_statement *statement, int column) {
    const struct postgres_statement *st = (const struct postgres_statement *)statement;
    return (struct blob){(const uint8_t *)PQgetvalue(st->result, st->row, column),
                         (size_t)PQgetlength(st->result, st->row, column)};
}

const struct sql_ops postgres_ops = {
    .prepare = prepare,
    .finalize = finalize,
    .bind_text = bind_text,
    .bind_number = bind_number,
    .bind_blob = bind_blob,
    .step = step,
    .reset = reset,
    .number = number,
    .blob = blob,
    .begin = postgres_begin,
    .commit = postgres_commit,
    .rollback = postgres_rollback,
    .batch_begin = postgres_batch_begin,
    .batch_end = postgres_batch_end,
    .alive = postgres_alive,
    .set_term = postgres_set_term,
    .close = postgres_close,
};
