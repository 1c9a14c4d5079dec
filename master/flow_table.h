// SPDX-License-Identifier: Apache-2.0
// What flow_*.c share: a flow with what only they may know of it, and the table of all flows in
// memory. A flow is here until it is final and that is stored. Core thread.
#ifndef MASTER_FLOW_TABLE_H
#define MASTER_FLOW_TABLE_H

#include "master/core.h"
#include "master/flow.h"

#include <uthash.h>

struct watch;

enum {
    REQUEST_ID_MAX = 256,
    FLOW_TICK_MS = 500,               // progress is told to watchers at most once in this
    FLOW_LOG_MS = 1000,               // and to the log
    FLOW_STORE_PROGRESS_MS = 10000,   // and to the database
    FLOW_CALLBACK_PROGRESS_MS = 1000, // and to its callback
    FLOW_FAILED_EVENTS_PER_TICK = 20,
};

// A caller that waits for a flow.
struct flow_wait {
    struct flow_wait *next;
    void (*done)(void *arg, const struct failure *failure);
    void *arg;
};

struct flow_entry {
    struct flow flow; // first member
    UT_hash_handle hh;
    char request_id[REQUEST_ID_MAX]; // while it is being stored
    bool stored;                     // the client may know of it
    bool begun;                      // the planner has it
    enum flow_counted { COUNTED_NOT, COUNTED_QUEUED, COUNTED_ACTIVE } counted;
    bool pausing;       // the scheduler was told to pause; SCHED_QUIET has not come
    bool ending;        // being taken apart: cancelled, or the deadline passed
    bool abandoning;    // SCHED_QUIET has come for that
    bool abandon_again; // there was no memory for it
    bool ended;         // final; its last event is on its way to the database
    enum flow_outcome ending_outcome;
    char suspend_reason[128];
    uint64_t after_open;  // bit i: spec.after[i] is not known to be COMPLETED
    bool after_again;     // look again: there was no memory, or no answer
    uint32_t uncommitted; // events and changes that the database has not confirmed
    const char *unstored; // an event that could not even be given to it; tried again
    // progress
    bool dirty, log_dirty;                  // moved since it was last told, or logged
    bool callback_dirty;                    // since the last callback
    int64_t logged_ms, stored_ms, rated_ms; // monotonic
    int64_t callback_ms;                    // monotonic
    int64_t now_wall_ms;                    // of the last tick
    uint64_t rated_bytes;
    uint32_t failed_events; // in this tick
    // callers
    struct flow_wait *wait_quiet;  // suspend
    struct flow_wait *wait_stored; // resume: until what is under way is committed
    struct flow_wait *wait_end;    // terminate
    struct watch *watches;         // watch.c
};

struct flows {
    struct core *core;
    struct flow_entry *by_id; // uthash
    struct loop_timer *tick;
    uint32_t n_queued, n_active, n_watches;
    uint64_t n_flows_refused, n_watches_refused; // for want of room
    bool stopping;
    bool in_trouble;
    struct failure trouble; // the database's
};

static inline struct flow_entry *flow_entry_of(struct flow *f) {
    return (struct flow_entry *)(void *)f;
}

// ---- flow_table.c ----
// ERR_EXISTS if its id is there.
MUST_CHECK enum err flows_add(struct flows *fl, struct flow_entry *e);
// Takes it out of the table and frees it. Nothing may be under way for it.
void flows_forget(struct flows *fl, struct flow_entry *e);
struct flow_entry *flows_entry(struct flows *fl, const char *id);
// Begins queued flows while there is room: by priority, then by age.
void flows_start_waiting(struct flows *fl);
// Counts @e as queued or active, by what it is now. Call it after every such change.
void flow_recount(struct flows *fl, struct flow_entry *e);
void flow_uncount(struct flows *fl, struct flow_entry *e);

// ---- flow.c ----
// The only writer of a flow's state. ERR_STATE: the table has no such edge. Stores the new state
// and its event in one transaction, logs it, and tells watchers after the commit.
MUST_CHECK enum err flow_move(struct core *c, struct flow *f, enum flow_event ev,
                              const char *reason);
void flow_begin(struct core *c, struct flow_entry *e);
// Takes the flow apart and ends it TERMINATED; @why goes into flow.error if there is none yet.
void flow_end(struct core *c, struct flow_entry *e, enum flow_outcome outcome,
              const struct failure *why);
// After a restart: it is suspended, or was about to be.
void flow_go_on_suspending(struct core *c, struct flow_entry *e);
void flow_abandon_again(struct core *c, struct flow_entry *e); // if that is wanted

// ---- flow_wait.c: callers that wait, and what else happens after a commit ----
// Out of memory: @done is called with that failure at once.
void flow_wait_add(struct flow_wait **list, void (*done)(void *arg, const struct failure *failure),
                   void *arg);
// Calls and forgets all of *@list.
void flow_waits_finish(struct flow_wait **list, const struct failure *failure);
// All that was under way for @e is stored. May free it.
void flow_committed(struct core *c, struct flow_entry *e);

// ---- flow_after.c: spec.after ----
// Asks for those that are not in memory; the others tell when they end.
void flow_after_look(struct core *c, struct flow_entry *e);
// @ended is final and stored: begin, or fail, those that wait for it.
void flow_after_ended(struct core *c, const struct flow_entry *ended);

// ---- flow_progress.c ----
// Every FLOW_TICK_MS: rates, events, log lines, deadlines.
void flow_tick(struct flows *fl, struct flow_entry *e, int64_t now_ms);
// One line in the log: the truth of now.
void flow_progress_log(struct flow_entry *e);

// ---- flow_event.c ----
// Stores what the flow is now together with an event of that name ("state_changed",
// "progress"), tells watchers after the commit, and then what waits for it.
void flow_event_stored(struct core *c, struct flow_entry *e, const char *name);
// The same without an event: nobody is told.
void flow_store(struct core *c, struct flow_entry *e);
// Stores "progress" with a callback that tells it, which replaces one that was not sent yet.
void flow_callback_progress(struct core *c, struct flow_entry *e);
// An event for those who watch now, without a number of its own; nothing is stored. @error NULL:
// the flow's. false: not now (an event before it is not stored yet).
bool flow_event_live(struct flow_entry *e, const char *name, const struct failure *error);
// The packed FlowEvent for the flow as it is now, with its next number. ERR_NO_MEMORY.
struct flow_event_row;
MUST_CHECK enum err flow_event_pack(struct core *c, struct flow_entry *e, const char *name,
                                    uint8_t **ret_bytes, struct flow_event_row *ret_row);

#endif
