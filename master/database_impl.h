// SPDX-License-Identifier: Apache-2.0
// For those who write a store behind the database: requests as plain values, and the table of
// operations that a store has. database.c queues, groups and answers; a store only executes.
#ifndef MASTER_DATABASE_IMPL_H
#define MASTER_DATABASE_IMPL_H

#include "master/arena.h"
#include "master/database.h"
#include "master/database_plan.h"

// ---- changes ----
// One for each kind of row change; texts, numbers and blobs are bound in this order as the
// parameters 1, 2, 3, … of the kind's statements.
enum row_kind {
    ROW_FLOW,
    ROW_EVENT,
    ROW_EVENT_THIN,
    ROW_OUTBOX_ADD,
    ROW_OUTBOX_DONE,
    ROW_OUTBOX_LATER,
    ROW_OUTBOX_DEAD,
    ROW_OUTBOX_REVIVE,
    ROW_PLAN,
    ROW_PLAN_END,
    ROW_PLAN_ABANDON,
    ROW_PLAN_RESTART,
    ROW_TASK_PUT,
    ROW_TASK_STATE,
    ROW_TASK_REMOVE,
    ROW_TASKS_OF_OBJECT_REMOVE,
    ROW_TASKS_DROP,
    ROW_LEASE_ADD,
    ROW_LEASE_REMOVE,
    ROW_WALK_PUT,
    ROW_WALK_STATE,
    ROW_WALK_REMOVE,
    ROW_LARGE_PUT,
    ROW_LARGE_FRESH,
    ROW_LARGE_REMOVE,
    ROW_SEEN_ADD,
    ROW_SEEN_DROP,
    ROW_ACK_ADD,
    ROW_ACKS_DROP_UNSYNCED,
    ROW_ACKS_DROP,
    ROW_ACKS_SYNCED,
    ROW_OBJECT_FAILED,
    ROW_FAILED_DROP,
    ROW_CREDENTIAL_PUT,
    ROW_CREDENTIAL_REMOVE,
    ROW_KIND_COUNT,
};
enum { ROW_TEXTS = 3, ROW_NUMBERS = 16, ROW_BLOBS = 3 };
struct row {
    struct row *next;
    enum row_kind kind;
    uint32_t n_texts, n_numbers, n_blobs;
    const char *texts[ROW_TEXTS];
    int64_t numbers[ROW_NUMBERS];
    struct blob blobs[ROW_BLOBS];
};
struct change {
    struct arena arena;
    struct row *first, **last;
    bool out_of_memory;
};

// ---- questions ----
enum query_kind {
    QUERY_FLOWS_UNFINISHED, // text: after; limit
    QUERY_FLOW,             // flow
    QUERY_FLOWS,            // filter
    QUERY_EVENTS,           // flow, from, limit
    QUERY_FAILED,           // flow, from (excluded), limit
    QUERY_OUTBOX,           // limit
    QUERY_OUTBOX_DEAD,      // from (excluded), limit
    QUERY_PLAN,             // flow
    QUERY_TASKS,            // flow, wanted
    QUERY_TASKS_WAITING,    // flow
    QUERY_WALK_FRONTIER,    // flow, limit
    QUERY_WALK_PARTIALS,    // flow
    QUERY_WALK_DEEPEST,     // flow, limit
    QUERY_LARGES,           // flow, object: 1 for idle ones; from (excluded), limit
    QUERY_SEEN,             // flow, object: the walk; blob: digests
    QUERY_ACKS,             // flow, object, text: the agent; from, limit
    QUERY_WRITERS,          // flow, object
    QUERY_CREDENTIALS,      // limit
};
struct query {
    enum query_kind kind;
    char flow[IDENT_SIZE];
    const char *text; // NULL: none
    struct blob blob;
    uint64_t object;
    uint64_t from;
    uint32_t limit;
    struct flow_filter filter;
    struct tasks_wanted wanted;
    // The answer, from the request's arena: rows of the kind that the question asks for.
    void *rows;
    size_t n_rows;
    bool more;
    uint64_t n_all;
    struct tasks_answer tasks;
    struct plan_answer plan;
};

struct flow_insert {
    struct flow_row row;
    const struct flow_label *labels;
    size_t n_labels;
    struct flow_event_row event;
    const char *callback_target; // NULL: none
    struct blob callback;
    bool only_find; // is the request known? Nothing is stored
    // the answer
    char existing[IDENT_SIZE];
    bool same;
};

// ---- a store: one connection, one thread at a time ----
struct store {
    const struct store_ops *ops;
};
// What a connection is for.
enum store_role {
    STORE_WRITER, // makes the tables and brings them up to date, and holds the database
    STORE_READER,
    STORE_CHECK, // looks whether the database is whole, and changes nothing
};
// ERR_DATABASE: the store failed (the failure says how), the transaction is to be rolled back
// and tried again later. ERR_INTERNAL, ERR_NO_MEMORY: only this request failed, and nothing of
// it remains in the transaction.
struct store_ops {
    enum err (*raise_term)(struct store *s, uint64_t *ret_term, char ret_cluster[IDENT_SIZE],
                           struct failure *ret_failure);
    // ERR_EXISTS: the commit whose answer was lost was done after all: nothing is to be done
    // again. ERR_FENCED: another master has the database: nothing can be written any more.
    enum err (*begin)(struct store *s, struct failure *ret_failure);
    enum err (*commit)(struct store *s, struct failure *ret_failure); // ERR_DATABASE or OK
    void (*rollback)(struct store *s);
    enum err (*apply)(struct store *s, const struct change *c, struct failure *ret_failure);
    enum err (*insert_flow)(struct store *s, struct flow_insert *i, struct failure *ret_failure);
    enum err (*read)(struct store *s, struct query *q, struct arena *a,
                     struct failure *ret_failure);
    // Optional: outside of transactions, every STORE_ALIVE_MS if nothing else happens. Answers
    // like begin().
    enum err (*alive)(struct store *s, struct failure *ret_failure);
    void (*free)(struct store *s);
};
enum { STORE_ALIVE_MS = 1000 };

// In the database that @place names.
MUST_CHECK enum err store_open(const struct database_place *place, enum store_role role,
                               struct store **ret_store, struct failure *ret_failure);

// Opens a connection to the database in @state_dir. The writer comes first.
MUST_CHECK enum err store_sqlite_open(const char *state_dir, enum store_role role,
                                      struct store **ret_store, struct failure *ret_failure);
// Opens one to the PostgreSQL database at place->url. The writer waits until it is the only one.
MUST_CHECK enum err store_postgres_open(const struct database_place *place, enum store_role role,
                                        struct store **ret_store, struct failure *ret_failure);

#endif
