// SPDX-License-Identifier: Apache-2.0
// The promises of master/database.h, checked against a database.
#ifndef TESTS_CONTRACT_MASTER_DATABASE_CONTRACT_H
#define TESTS_CONTRACT_MASTER_DATABASE_CONTRACT_H

#include "master/database.h"

struct database_kind {
    const char *name;
    char *(*make)(void); // the URL of an empty one, to be freed; NULL: SQLite
    // Runs statements on it, beside the master.
    void (*execute)(const char *dir, const char *url, const char *statements);
    // The version of its schema, or another number that changes with its bytes.
    int64_t (*mark)(const char *dir, const char *url);
};

// How many of the tests failed.
int database_contract(const struct database_kind *k);
// Versions of the schema. The program wraps sql_schema_version().
int schema_contract(const struct database_kind *k);
// Events of a flow, and how many are kept.
int event_contract(const struct database_kind *k);

// ---- for the tests of one kind ----
struct database_world {
    char dir[64];
    char *url;
    struct loop *loop;
    struct database *database;
    // what the last callback said
    enum err result;
    char existing[27];
    bool same, more;
    size_t n_rows;
    uint64_t first, last;
    struct flow_progress progress;
    int order;
};
void database_world_open(struct database_world *w); // loop and database
void database_world_close(struct database_world *w);
struct database_place database_world_place(const struct database_world *w);
const struct database_kind *database_world_kind_now(void);
// For cmocka; @kind is the one to use from now on.
void database_world_kind(const struct database_kind *kind);
int database_world_set_up(void **state);
int database_world_set_up_closed(void **state); // the database is not opened
int database_world_tear_down(void **state);     // also of a world whose database is NULL
// Stores a flow and says in w->result how that ended.
void database_world_insert(struct database_world *w, const char *id, const char *request,
                           const char *spec);
// Commits, and says in w->result how that ended.
void database_world_commit(struct database_world *w, struct change *take_change);
// Asks for the flows that have not ended; their number is in w->n_rows.
void database_world_unfinished(struct database_world *w);

#endif
