// SPDX-License-Identifier: Apache-2.0
// What the master must not forget. One writer thread; writes are queued in order and committed
// in groups; `done` callbacks come on the core's thread after the commit, in order. Readers page
// in short transactions on a thread of their own. SQLite or PostgreSQL, behind the same table of
// operations (database_impl.h).
//
// All calls are made on the core's thread, but for those that say otherwise; all arguments are
// copied. Every call is answered by exactly one `done` (that of a write may be NULL), from within
// the call only if there is no memory left to ask. What it is given is valid during the callback
// only.
//
// A write either succeeds or ends with ERR_NO_MEMORY (nothing was changed), ERR_INTERNAL (it
// contradicts what is stored: a defect, logged), or ERR_CANCELLED (the database was closed before
// it could be committed). Trouble with the disk does not end a write: see database_on_trouble().
#ifndef MASTER_DATABASE_H
#define MASTER_DATABASE_H

#include "common/err.h"
#include "common/failure.h"
#include "common/flow_state.h"
#include "common/ident.h"
#include "common/rpc/loop.h"
#include "master/flow.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct database;

// Where it is. All texts are borrowed while it is opened, and the URL as long as it is open.
struct database_place {
    const char *state_dir; // locked, and for SQLite the database's directory
    const char *url;       // postgresql://…; NULL: SQLite. It may hold a password
    int64_t session_ms;    // PostgreSQL ends a session of a master that is silent for so long
    int64_t outage_ms;     // after so long without PostgreSQL the database is lost
    // Another master is active (on PostgreSQL): called once when waiting begins, and then again
    // and again. False: no more waiting. NULL: does not wait at all.
    bool (*wait)(void *arg, bool begins);
    void *wait_arg;
};
// Opens (or makes) the database. Blocking. ERR_LOCKED: another master has it; ERR_DATABASE: not
// ours, newer than this program, damaged, not reachable or refused; the failure says which;
// ERR_CANCELLED: place->wait() ended the waiting.
MUST_CHECK enum err database_open(const struct database_place *place, struct loop *core,
                                  struct database **ret_database, struct failure *ret_failure);
// Looks whether a master could use it, and is whole, and changes nothing. Otherwise as
// database_open().
MUST_CHECK enum err database_check(const struct database_place *place, struct failure *ret_failure);
// The first half of closing: commits what is queued, and answers all that was asked, as
// database_close() does. What is asked after it is answered with ERR_CANCELLED.
void database_stop(struct database *d);
// Commits what is queued (and gives up after a few seconds if the disk does not take it). The
// last `done` callbacks are posted to the loop before it returns: run it, or free it, after.
void database_close(struct database *d);
// Raises the term durably and gives it. Blocking; at start only.
MUST_CHECK enum err database_raise_term(struct database *d, uint64_t *ret_term,
                                        char ret_cluster[27], struct failure *ret_failure);
// If the database fails for good (disk full, EIO), writes stay queued and are tried again;
// @changed tells when that begins (@f) and ends (NULL), so that submits can be refused
// meanwhile.
void database_on_trouble(struct database *d, void (*changed)(void *arg, const struct failure *f),
                         void *arg);
// The database is another master's now, or was away for too long: nothing that is queued or asked
// for will be committed. @lost is called once, on the database's own thread.
void database_on_lost(struct database *d, void (*lost)(void *arg, const struct failure *f),
                      void *arg);
// Writes that wait. Whoever produces without bound (listings) stops above a limit.
size_t database_queued(const struct database *d);

// Some bytes; NULL and 0 for none.
struct blob {
    const uint8_t *bytes;
    size_t len;
};

// ---- flows ----
struct flow_label {
    const char *key, *value;
};
// A row of `flow`. In: the caller's; out: the database's, during the callback.
struct flow_row {
    // fixed at submission
    char id[IDENT_SIZE];
    const char *owner;      // "" for none
    const char *request_id; // "": not idempotent
    struct blob spec;       // packed FlowSpec
    int64_t created_ms;
    // changed by change_flow()
    enum flow_state state;
    enum flow_phase phase;
    enum flow_outcome outcome;
    uint32_t holders;
    bool cancel_wanted, cleanup_pending;
    int64_t started_ms, ended_ms; // 0: not yet
    uint64_t last_seq;
    struct blob error;  // packed Failure
    struct blob places; // opaque: what flow.c needs to know the resolved places again
    struct blob tally;  // opaque: agents' shares, transports
    // Out only: written by the planner, in the transactions that move it. All 0 before.
    struct flow_progress progress;
};
struct flow_event_row {
    uint64_t seq;
    int64_t at_ms;
    const char *kind;    // "state_changed", "progress", …
    bool thin;           // progress: may be thinned, see change_event()
    struct blob message; // packed FlowEvent
};

// Stores a new flow with its first event, and the callback that it causes (@callback_target NULL:
// none), once for each (owner, request_id).
// @done: OK with @existing NULL: it is stored. OK with @existing: that flow has this request_id
// already, nothing was stored, and @same says whether its spec is the same bytes.
void database_flow_insert(struct database *d, const struct flow_row *row,
                          const struct flow_label *labels, size_t n_labels,
                          const struct flow_event_row *event, const char *callback_target,
                          struct blob callback,
                          void (*done)(void *arg, enum err result, const char *existing, bool same),
                          void *arg);

// Is this request known? @done as above, but nothing is ever stored. In order with writes.
void database_flow_by_request(
    struct database *d, const char *owner, const char *request_id, struct blob spec,
    void (*done)(void *arg, enum err result, const char *existing, bool same), void *arg);

typedef void database_flows_fn(void *arg, enum err result, const struct flow_row *rows,
                               size_t n_rows, bool more);
// Flows that have not ended, oldest first, those after @after_id ("" to begin). In order with
// writes.
void database_flows_unfinished(struct database *d, const char *after_id, uint32_t limit,
                               database_flows_fn *done, void *arg);
// By the reader. 0 or 1 row.
void database_flow_get(struct database *d, const char *id, database_flows_fn *done, void *arg);
struct flow_filter {
    uint32_t states;                 // bit 1 << enum flow_state; 0: all
    const char *owner;               // NULL or "": all
    const struct flow_label *labels; // all must match
    size_t n_labels;
    const char *before_id; // "" or NULL: from the newest
    uint32_t limit;
};
// By the reader. Newest first.
void database_flows_list(struct database *d, const struct flow_filter *filter,
                         database_flows_fn *done, void *arg);
// By the reader. Events with seq >= @from_seq, rising.
typedef void database_events_fn(void *arg, enum err result, const struct flow_event_row *rows,
                                size_t n_rows, bool more);
void database_events_read(struct database *d, const char *flow, uint64_t from_seq, uint32_t limit,
                          database_events_fn *done, void *arg);
// By the reader. Objects that failed for good, in the order of @number (rising).
struct failed_object_row {
    uint64_t number;
    struct blob path;
    struct blob failure; // packed Failure
};
typedef void database_failed_fn(void *arg, enum err result, const struct failed_object_row *rows,
                                size_t n_rows, bool more);
void database_failed_objects(struct database *d, const char *flow, uint64_t after_number,
                             uint32_t limit, database_failed_fn *done, void *arg);

// ---- changes: rows that are stored together, or not at all ----
// Building one never fails: if memory runs out, database_commit() reports it.
struct change;
struct change *change_new(void); // NULL is a valid change that has run out of memory
void change_free(struct change *c);
// Gives the change to the database.
void database_commit(struct database *d, struct change *take_change,
                     void (*done)(void *arg, enum err result), void *arg);

// The changing columns of a flow's row (not what is fixed at submission, not the progress).
void change_flow(struct change *c, const struct flow_row *row);
// Of the flow's thin ones at most @kept stay (16 or more): when there are nearly so many, every
// other one goes. That is looked at now and then, by the event's number: numbers have no gaps.
void change_event(struct change *c, const char *flow, const struct flow_event_row *event,
                  uint32_t kept);
// A callback to be sent at least once; committed with the event that causes it. It takes the
// place of the flow's pending progress. @thin: progress itself.
void change_outbox_add(struct change *c, const char *flow, uint64_t seq, bool thin,
                       const char *target, struct blob body);
// It was delivered: the flow's next one may be sent.
void change_outbox_done(struct change *c, const char *flow, uint64_t outbox_id);
void change_outbox_later(struct change *c, uint64_t outbox_id, int64_t not_before_ms);
// Given up and kept, and the flow's next one may be sent. Only the youngest @kept stay.
void change_outbox_dead(struct change *c, const char *flow, uint64_t outbox_id, const char *error,
                        int64_t now_ms, uint32_t kept);
// A dead one is to be sent again, with all its attempts. Does nothing if there is none.
void change_outbox_revive(struct change *c, const char *flow, uint64_t seq);

// Keys to object stores, sealed; the row's name is that of the keys.
struct credential_row {
    const char *name;
    int64_t updated_ms;
    struct blob sealed;
};
void change_credential_put(struct change *c, const struct credential_row *row);
void change_credential_remove(struct change *c, const char *name);
typedef void database_credentials_fn(void *arg, enum err result, const struct credential_row *rows,
                                     size_t n_rows, bool more);
// By name. In order with writes.
void database_credentials(struct database *d, uint32_t limit, database_credentials_fn *done,
                          void *arg);

struct outbox_row {
    uint64_t id;
    const char *flow;
    uint64_t seq;
    const char *target;
    struct blob body;
    uint32_t attempts;
    int64_t not_before_ms; // wall clock
    int64_t dead_ms;       // when it was given up; 0: it was not
    const char *error;     // why
};
typedef void database_outbox_fn(void *arg, enum err result, const struct outbox_row *rows,
                                size_t n_rows, bool more);
// Those whose turn it is, one for each flow, by the time before which they are not to be sent.
// In order with writes.
void database_outbox_read(struct database *d, uint32_t limit, database_outbox_fn *done, void *arg);
// By the reader. Dead ones, oldest first, those after @after_id.
void database_outbox_dead(struct database *d, uint64_t after_id, uint32_t limit,
                          database_outbox_fn *done, void *arg);

#endif
