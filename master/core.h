// SPDX-License-Identifier: Apache-2.0
// The core: one thread (a loop) that owns flows, planner, scheduler and agents. Everything of
// the master below it is called on that thread only, unless its header says otherwise.
#ifndef MASTER_CORE_H
#define MASTER_CORE_H

#include "common/clock.h"
#include "common/ident.h"
#include "common/rpc/loop.h"
#include "common/ticket.h"
#include "master/master_options.h"

struct agents;
struct callbacks;
struct credentials;
struct database;
struct database_place;
struct flows;
struct limits;
struct planner;
struct rpc_server;
struct scheduler;

struct core {
    const struct master_options *options; // constant
    const struct clock *clock;
    struct loop *loop;
    char cluster[IDENT_SIZE];
    uint64_t term; // raised durably before anything else happens
    int64_t started_ms;
    int64_t reconcile_until_ms; // mono; agents report leases of earlier terms; 0: there are none
    bool stopping;              // nothing new begins
    struct signing_key *key;    // signs tickets; kept in the state directory
    struct rpc_server *server;  // NULL until it is made
    struct database *database;
    struct flows *flows;             // flow.h
    struct planner *planner;         // planner.h
    struct scheduler *scheduler;     // scheduler.h
    struct agents *agents;           // agents.h
    struct callbacks *callbacks;     // callbacks.h; NULL: they are off
    struct credentials *credentials; // credentials.h
    struct limits *limits;           // limits.h
    struct {                         // core_dispatch()'s
        struct loop_timer *wake;
        bool busy;
        struct order *orders; // that agents are still to be told, in order
        uint32_t n_orders;
    } dispatch;
};

// Opens the database in the state directory, raises the term, and makes all parts, in the order
// in which they need each other. The loop does not run yet. The failure names what was in the
// way: ERR_LOCKED (another master on this state directory), ERR_DATABASE, those of the key's
// file, ERR_NO_MEMORY. @o, @clock and @loop must outlive the core.
MUST_CHECK enum err core_new(const struct master_options *o, const struct clock *clock,
                             struct loop *loop, struct core **ret_core,
                             struct failure *ret_failure);
struct database_place core_database_place(const struct master_options *o);
// After the loop has ended, and the server is gone.
void core_free(struct core *c);

// Runs the scheduler's commands until there are none and arms its timer. Call after anything
// that told the scheduler something; cheap if nothing is to be done. (dispatch.c)
void core_dispatch(struct core *c);
void core_dispatch_deinit(struct core *c); // after the planner is gone

#endif
