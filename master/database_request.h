// SPDX-License-Identifier: Apache-2.0
// One request to the database, from the call to its answer. Inside the database only.
#ifndef MASTER_DATABASE_REQUEST_H
#define MASTER_DATABASE_REQUEST_H

#include "master/database_impl.h"

enum request_kind { REQUEST_CHANGE, REQUEST_INSERT_FLOW, REQUEST_QUERY };

struct request {
    struct request *next;
    struct database *database;
    enum request_kind kind;
    struct arena arena;    // of the question
    struct arena answer;   // of the answer
    struct change *change; // owned
    struct flow_insert insert;
    struct query query;
    enum err result;
    // On the core's thread: calls @done, which has the type that the request's call asks for.
    void (*deliver)(struct request *r);
    void *arg;
    union {
        void (*change)(void *arg, enum err result);
        void (*insert)(void *arg, enum err result, const char *existing, bool same);
        database_flows_fn *flows;
        database_events_fn *events;
        database_failed_fn *failed;
        database_outbox_fn *outbox;
        database_credentials_fn *credentials;
        void (*plan)(void *arg, enum err result, const struct plan_answer *plan);
        void (*tasks)(void *arg, enum err result, const struct tasks_answer *a);
        database_tasks_fn *waiting;
        database_walks_fn *walks;
        database_larges_fn *larges;
        database_acks_fn *acks;
        database_seen_fn *seen;
        void (*writers)(void *arg, enum err result, const struct ack_row *rows, size_t n_rows,
                        bool has_tasks);
    } done;
};

// NULL: out of memory.
struct request *database_request_new(struct database *d, enum request_kind kind);
void database_request_free(struct request *r);
// In order with all writes; or by the reader, whenever it comes to it.
void database_request_write(struct database *d, struct request *take_request);
void database_request_read(struct database *d, struct request *take_request);

#endif
