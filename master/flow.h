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
    // resolved when the flow begins; stored with it
    bool is_resolved;
    struct place source, sink;
    bool source_is_contents; // "the contents of": a trailing '/'
    // progress: only grows
    struct flow_progress {
        uint64_t bytes_done, bytes_total, bytes_resent;
        uint64_t objects_done, objects_total, objects_failed, objects_skipped;
        uint64_t cpu_us_source, cpu_us_sink;
        uint64_t walk_us, read_us, hash_us, send_us, receive_us, write_us, sync_us, wait_us;
        bool listing;
    } progress;
    char transports[FLOW_TRANSPORTS_MAX]; // "tcp,local"
    struct flow_share *shares;            // owned
    size_t n_shares;
    double bytes_per_s; // lately
    void *plan;         // the planner's
    void *service;      // the services': watchers, callers that wait
};

MUST_CHECK enum err flows_new(struct core *c, struct flows **ret_flows);
void flows_free(struct flows *f);
struct flow *flows_find(struct flows *f, const char *id); // NULL: not in memory (perhaps stored)

// ---- for the planner ----
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
// The planner has nothing left to do: COMPLETED if no object failed, else TERMINATED, partial or
// failed. @why: the failure that ended the flow as a whole; NULL: none.
void flow_planned_out(struct core *c, struct flow *f, const struct failure *why);
// The scheduler says that no lease of the flow is open (after pause or removal).
void flow_is_quiet(struct core *c, const char *flow_id);

#endif
