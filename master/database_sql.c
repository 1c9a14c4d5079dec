// SPDX-License-Identifier: Apache-2.0
// The store on an SQL database, whichever: changes, new flows, and the term.
#include "master/database_sql.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <stdlib.h>
#include <string.h>

enum err sql_run(struct sql_statement *st, struct failure *ret_failure) {
    bool row;
    enum err e = st->ops->step(st, &row, ret_failure);
    st->ops->reset(st);
    return e;
}

static enum err run_named(struct store_sql *s, enum sql_query which, struct failure *ret_failure) {
    struct sql_statement *st;
    enum err e = sql_prepared(s, which, &st, ret_failure);
    return e == OK ? sql_run(st, ret_failure) : e;
}

// ---- transactions ----
static struct sql *sql_of(struct store *store) {
    return ((struct store_sql *)store)->sql;
}

static enum err begin(struct store *store, struct failure *ret_failure) {
    return sql_of(store)->ops->begin(sql_of(store), ret_failure);
}

static enum err commit(struct store *store, struct failure *ret_failure) {
    return sql_of(store)->ops->commit(sql_of(store), ret_failure);
}

static void rollback(struct store *store) {
    sql_of(store)->ops->rollback(sql_of(store));
}

static enum err alive(struct store *store, struct failure *ret_failure) {
    struct sql *c = sql_of(store);
    return c->ops->alive == NULL ? OK : c->ops->alive(c, ret_failure);
}

// ---- changes ----
static void bind_row(struct sql_statement *st, const struct row *r) {
    int n = st->n_parameters;
    int at = 1;
    for (uint32_t i = 0; i < r->n_texts && at <= n; i++, at++) {
        st->ops->bind_text(st, at, r->texts[i]);
    }
    for (uint32_t i = 0; i < r->n_numbers && at <= n; i++, at++) {
        st->ops->bind_number(st, at, r->numbers[i]);
    }
    for (uint32_t i = 0; i < r->n_blobs && at <= n; i++, at++) {
        st->ops->bind_blob(st, at, r->blobs[i]);
    }
}

static enum err apply_row(struct store_sql *s, const struct row *r, struct failure *ret_failure) {
    const char *const *texts = sql_row_statements(r->kind);
    for (size_t i = 0; texts[i] != NULL; i++) {
        struct sql_statement **st = &s->rows[r->kind][i];
        enum err e = OK;
        if (*st == NULL) {
            e = s->sql->ops->prepare(s->sql, texts[i], st, ret_failure);
        }
        if (e == OK) {
            bind_row(*st, r);
            e = sql_run(*st, ret_failure);
        }
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

// An error of the request itself leaves the transaction as it was before the savepoint.
static enum err undo(struct store_sql *s, enum err result) {
    struct failure f;
    if (result == ERR_DATABASE || run_named(s, SQL_ROLLBACK_TO, &f) != OK ||
        run_named(s, SQL_RELEASE, &f) != OK) {
        return ERR_DATABASE;
    }
    return result;
}

// What @fn does with @arg is done as a whole, or not at all.
static enum err within_savepoint(struct store_sql *s,
                                 enum err (*fn)(struct store_sql *s, const void *arg,
                                                struct failure *ret_failure),
                                 const void *arg, struct failure *ret_failure) {
    const struct sql_ops *ops = s->sql->ops;
    if (ops->batch_begin != NULL) {
        ops->batch_begin(s->sql);
    }
    enum err e = run_named(s, SQL_SAVEPOINT, ret_failure);
    if (e == OK) {
        e = fn(s, arg, ret_failure);
    }
    if (e == OK) {
        e = run_named(s, SQL_RELEASE, ret_failure);
    }
    if (ops->batch_begin != NULL) {
        struct failure f = {0};
        enum err sent = ops->batch_end(s->sql, &f);
        if (e == OK && sent != OK) {
            e = sent;
            *ret_failure = f;
        }
    }
    return e == OK ? OK : undo(s, e);
}

static enum err apply_rows(struct store_sql *s, const void *arg, struct failure *ret_failure) {
    const struct change *c = arg;
    enum err e = OK;
    for (const struct row *r = c->first; r != NULL && e == OK; r = r->next) {
        e = apply_row(s, r, ret_failure);
    }
    return e;
}

static enum err apply(struct store *store, const struct change *c, struct failure *ret_failure) {
    return within_savepoint((struct store_sql *)store, apply_rows, c, ret_failure);
}

// ---- new flows ----
static enum err insert_labels(struct store_sql *s, const struct flow_insert *i,
                              struct failure *ret_failure) {
    struct sql_statement *st;
    enum err e = sql_prepared(s, SQL_LABEL_INSERT, &st, ret_failure);
    for (size_t n = 0; n < i->n_labels && e == OK; n++) {
        st->ops->bind_text(st, 1, i->row.id);
        st->ops->bind_text(st, 2, i->labels[n].key);
        st->ops->bind_text(st, 3, i->labels[n].value);
        e = sql_run(st, ret_failure);
    }
    return e;
}

static enum err find_request(struct store_sql *s, struct flow_insert *i,
                             struct failure *ret_failure) {
    struct sql_statement *st;
    enum err e = sql_prepared(s, SQL_FLOW_FIND_REQUEST, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    st->ops->bind_text(st, 1, i->row.owner);
    st->ops->bind_text(st, 2, i->row.request_id);
    if (sql_next(st, &e, ret_failure)) {
        sql_name(st, 0, i->existing, sizeof i->existing);
        const struct blob spec = st->ops->blob(st, 1);
        i->same = spec.len == i->row.spec.len &&
                  (spec.len == 0 || memcmp(spec.bytes, i->row.spec.bytes, spec.len) == 0);
    }
    st->ops->reset(st);
    return e;
}

static enum err insert_row(struct store_sql *s, const struct flow_insert *i,
                           struct failure *ret_failure) {
    struct sql_statement *st;
    enum err e = sql_prepared(s, SQL_FLOW_INSERT, &st, ret_failure);
    if (e != OK) {
        return e;
    }
    const struct flow_row *f = &i->row;
    const int64_t numbers[] = {
        f->created_ms,    f->state,           f->phase,      f->outcome,  f->holders,
        f->cancel_wanted, f->cleanup_pending, f->started_ms, f->ended_ms, (int64_t)f->last_seq};
    const struct blob blobs[] = {f->spec, f->error, f->places, f->tally};
    const struct row texts = {.texts = {f->id, f->owner, f->request_id}, .n_texts = 3};
    bind_row(st, &texts);
    for (size_t n = 0; n < ARRAY_LEN(numbers); n++) {
        st->ops->bind_number(st, (int)n + 4, numbers[n]);
    }
    for (size_t n = 0; n < ARRAY_LEN(blobs); n++) {
        st->ops->bind_blob(st, (int)(n + ARRAY_LEN(numbers)) + 4, blobs[n]);
    }
    return sql_run(st, ret_failure);
}

static enum err insert_event(struct store_sql *s, const struct flow_insert *i,
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

static enum err insert_callback(struct store_sql *s, const struct flow_insert *i,
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

static enum err insert_all(struct store_sql *s, const void *arg, struct failure *ret_failure) {
    const struct flow_insert *i = arg;
    enum err e = insert_row(s, i, ret_failure);
    if (e == OK) {
        e = insert_labels(s, i, ret_failure);
    }
    if (e == OK) {
        e = insert_event(s, i, ret_failure);
    }
    if (e == OK) {
        e = insert_callback(s, i, ret_failure);
    }
    return e;
}

enum err sql_insert_flow(struct store *store, struct flow_insert *i, struct failure *ret_failure) {
    struct store_sql *s = (struct store_sql *)store;
    i->existing[0] = '\0';
    i->same = false;
    if (i->row.request_id[0] != '\0') {
        enum err e = find_request(s, i, ret_failure);
        if (e != OK || i->existing[0] != '\0') {
            return e;
        }
    }
    return i->only_find ? OK : within_savepoint(s, insert_all, i, ret_failure);
}

// ---- the term ----
static enum err raise_term(struct store *store, uint64_t *ret_term, char ret_cluster[IDENT_SIZE],
                           struct failure *ret_failure) {
    struct store_sql *s = (struct store_sql *)store;
    char cluster[IDENT_SIZE];
    ident_new(clock_wall_ms(&clock_system), cluster);
    enum err e = s->sql->ops->begin(s->sql, ret_failure);
    if (e != OK) {
        return e;
    }
    struct sql_statement *st;
    uint64_t term = 0;
    e = sql_prepared(s, SQL_RAISE_TERM, &st, ret_failure);
    if (e == OK) {
        st->ops->bind_text(st, 1, cluster);
        if (sql_next(st, &e, ret_failure)) {
            term = sql_unsigned(st, 0);
            sql_name(st, 1, cluster, sizeof cluster);
        }
        st->ops->reset(st);
    }
    if (e == OK) {
        e = s->sql->ops->commit(s->sql, ret_failure);
    }
    if (e != OK) {
        s->sql->ops->rollback(s->sql);
        return ERR_DATABASE;
    }
    if (s->sql->ops->set_term != NULL) {
        s->sql->ops->set_term(s->sql, term);
    }
    *ret_term = term;
    memcpy(ret_cluster, cluster, sizeof cluster);
    return OK;
}

// ---- opening ----
static void store_free(struct store *store) {
    struct store_sql *s = (struct store_sql *)store;
    const struct sql_ops *ops = s->sql->ops;
    for (size_t k = 0; k < ROW_KIND_COUNT; k++) {
        for (size_t i = 0; i < ROW_STATEMENTS; i++) {
            ops->finalize(s->rows[k][i]);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(s->queries); i++) {
        ops->finalize(s->queries[i]);
    }
    ops->close(s->sql);
    free(s);
}

static const struct store_ops store_ops = {
    .raise_term = raise_term,
    .begin = begin,
    .commit = commit,
    .rollback = rollback,
    .apply = apply,
    .insert_flow = sql_insert_flow,
    .read = sql_read,
    .alive = alive,
    .free = store_free,
};

enum err store_sql_new(struct sql *take_connection, struct store **ret_store,
                       struct failure *ret_failure) {
    struct store_sql *s = calloc(1, sizeof *s);
    if (s == NULL) {
        take_connection->ops->close(take_connection);
        return failure_set(ret_failure, ERR_NO_MEMORY, "open the database", NULL, 0, NULL);
    }
    s->store.ops = &store_ops;
    s->sql = take_connection;
    *ret_store = &s->store;
    return OK;
}
