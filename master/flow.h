// SPDX-License-Identifier: Apache-2.0
// Flows: what was asked, what state it is in, how far it is. One function writes the state
// (flow_move, in flow.c), and it logs the move, stores it with its event, and tells watchers.
// Core thread.
#ifndef MASTER_FLOW_H
#define MASTER_FLOW_H

#include "common/err.h"
#include "common/failure.h"
#include "common/flow_state.h"
#include "common/ident.h"
#include "master/limits.h"
#include "master/place.h"
#include "sluice/v1/flow_service.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

struct core;
struct flows;

enum { FLOW_MAX_AGENT_SHARES = 256, FLOW_TRANSPORTS_MAX = 64 };

struct flow_share {
    char agent[PLACE_NAME_MAX];
    uint64_t bytes_written, bytes_read, objects;
    double bytes_per_s; // as executor, lately; flow_progress.c
    uint64_t rated_bytes;
};

// Kept in memory while the flow is not final (and a while after).
struct flow {
    // fixed at submission
    char id[IDENT_SIZE];
    Sluice__V1__FlowSpec *spec; // owned
    int64_t created_ms;
    // owned by flow.c: changed by flow_move() and the calls below only
    enum flow_state state;
    enum flow_phase phase;
    enum flow_outcome outcome;
    uint32_t holders; // bit 1 << SuspensionHolder
    bool cancel_wanted;
    bool cleanup_pending;
    int64_t started_ms, ended_ms;
    uint64_t last_seq;
    struct failure error;
    char error_agent[PLACE_NAME_MAX]; // where it was seen; empty: here
    struct failure held_up;           // flow_tries_again(); not stored
    char held_up_agent[PLACE_NAME_MAX];
    // resolved when the flow begins; stored with it
    bool is_resolved;
    struct place source, sink;
    bool source_is_contents; // "the contents of": a trailing '/'
    bool sink_is_named;      // its root is final (flow_sink_into_directory())
    // progress: only grows
    struct flow_progress {
        uint64_t bytes_done, bytes_total, bytes_resent;
        uint64_t objects_done, objects_total, objects_failed, objects_skipped;
        uint64_t cpu_us_source, cpu_us_sink;
        uint64_t walk_us, read_us, hash_us, send_us, receive_us, write_us, sync_us, wait_us;
        uint64_t store_retries; // requests to object stores that were sent again
        bool listing;
    } progress;
    char transports[FLOW_TRANSPORTS_MAX]; // "tcp,local"
    struct flow_share *shares;            // owned
    size_t n_shares;
    double bytes_per_s; // lately
    void *plan;         // the planner's; it lets go of it with flow_planned_out() or with the
                        // end of planner_flow_abandon()
};

MUST_CHECK enum err flows_new(struct core *c, struct flows **ret_flows);
void flows_free(struct flows *f);
// Takes all unfinished flows from the database, then calls @done; at start, once.
void flows_load(struct flows *f, void (*done)(void *arg, const struct failure *failure), void *arg);
// The master stops: nothing new begins, callers that wait are told, watchers are sent home.
void flows_stop(struct flows *f);
// flows_queued, flows_active, watchers and events_per_flow, in this order.
void flows_limits(const struct flows *f, struct limit_use ret_uses[4]);
void flows_count(const struct flows *f, uint32_t *ret_queued, uint32_t *ret_active);
struct flow *flows_find(struct flows *f, const char *id); // NULL: not in memory (perhaps stored)

// ---- for the services ----
// Room for one more? ERR_FULL: the queue is full; ERR_DATABASE: nothing can be stored now;
// ERR_AGAIN: the master stops.
MUST_CHECK enum err flows_admit(struct flows *f, struct failure *ret_failure);
// A new flow from here to there, in no table yet. Takes the spec, also if it fails
// (ERR_NO_MEMORY).
MUST_CHECK enum err flow_new(struct core *c, Sluice__V1__FlowSpec *take_spec, struct flow **ret_f);
void flow_free(struct flow *f);
// The sink's root gets the source's name at its end. ERR_NAME_TOO_LONG.
MUST_CHECK enum err flow_name_sink(struct flow *f);
// Stores the flow and puts it into the queue. @done after the commit: with its id; or with that
// of the flow that the same request made before (@existed); or with the failure (ERR_EXISTS:
// the same request id with another spec), and then the flow is gone.
void flow_accept(struct core *c, struct flow *take_f, const char *request_id,
                 void (*done)(void *arg, const char *flow_id, bool existed,
                              const struct failure *failure),
                 void *arg);
// ERR_STATE: @what is not possible as the flow is now; says why.
MUST_CHECK enum err flow_refuse(const struct flow *f, const char *what,
                                struct failure *ret_failure);
// The failure of a request whose id another one has (ERR_EXISTS).
void flow_same_request(const char *existing_flow, const char *request_id,
                       struct failure *ret_failure);
// @done(NULL) when no byte moves any more and that is stored. ERR_STATE: it is not STARTED, or
// this holder suspended it before; or it ended, or was resumed, meanwhile.
void flow_suspend(struct core *c, struct flow *f, unsigned holder, const char *reason,
                  void (*done)(void *arg, const struct failure *failure), void *arg);
// @done(NULL) once it is stored. ERR_STATE: it is not suspended by this holder.
void flow_resume(struct core *c, struct flow *f, unsigned holder,
                 void (*done)(void *arg, const struct failure *failure), void *arg);
// @done(NULL) when the flow has ended and that is stored. ERR_STATE: it ended before.
void flow_terminate(struct core *c, struct flow *f, const char *reason,
                    void (*done)(void *arg, const struct failure *failure), void *arg);

// ---- keys to object stores (flow_credentials.c) ----
// Is this what keys that a store refuses look like?
bool flow_may_lack_credentials(const struct flow *f, enum err e);
// Suspends it with that reason, which is also its error, until flows_go_on_with_credentials().
// Does nothing if it is already.
void flow_suspend_for_credentials(struct core *c, struct flow *f, const struct failure *why,
                                  const char *agent);
// There are other keys of that name: flows that were suspended so, and use them, go on. How many.
size_t flows_go_on_with_credentials(struct flows *fl, const char *name);

// ---- for the planner ----
// rsync's rules for a source named without a trailing '/': a directory goes below the
// destination under its own name, and so does a file if the destination is a directory. The
// planner says so when it finds out, before it makes tasks for the sink: the sink's root then
// has the name at its end. Does nothing if it has been done, or does not apply.
void flow_sink_into_directory(struct core *c, struct flow *f);
// Progress of one flow moved. The planner changes f->progress itself (only upwards), then:
void flow_progressed(struct core *c, struct flow *f);
void flow_add_share(struct flow *f, const char *agent, uint64_t written, uint64_t read,
                    uint64_t objects);
void flow_add_transport(struct flow *f, const char *transport);
void flow_set_phase(struct core *c, struct flow *f, enum flow_phase phase);
// One object failed for good: it is stored and logged (the planner stores it in the same
// transaction as the task's result; this tells the log and the watchers).
void flow_object_failed(struct core *c, struct flow *f, const uint8_t *path, size_t path_len,
                        const struct failure *why, const char *agent);
// Something of it failed and is tried again: `why` tells, until something arrives. ERR OK: nothing.
void flow_tries_again(struct flow *f, const struct failure *why, const char *agent);
void flow_gets_on(struct flow *f);
// The planner has nothing left to do: COMPLETED if no object failed, else TERMINATED, partial or
// failed. @why: the failure that ended the flow as a whole; NULL: none.
void flow_planned_out(struct core *c, struct flow *f, const struct failure *why);
// The scheduler says that no lease of the flow is open (after pause or removal).
void flow_is_quiet(struct core *c, const char *flow_id);

#endif
