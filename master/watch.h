// SPDX-License-Identifier: Apache-2.0
// WatchFlow: events of the past from the database, then those of now. Each watcher is bounded: a
// slow one gets fewer events of progress, and reads state changes from the database when it has
// caught up. Core thread.
#ifndef MASTER_WATCH_H
#define MASTER_WATCH_H

#include "sluice/v1/flow_service.pb-c.h"

#include <stdbool.h>

struct core;
struct flow_entry;
struct flows;
struct rpc_server;

enum {
    WATCH_QUEUE_PROGRESS = 4, // messages queued, above which progress is dropped
    WATCH_QUEUE_STATES = 32,  // and above which state changes are read later
    WATCH_PAGE = 100,         // events read at a time
};

// Adds the method WatchFlow.
void watch_add(struct rpc_server *s, struct core *c);

// An event of @e for those who watch it. @is_stored: it can be found in the database later; if
// not, it may be dropped.
void watch_tell(struct flow_entry *e, const Sluice__V1__FlowEvent *m, bool is_stored);
// A stored event could not be told: watchers read it.
void watch_fell_behind(struct flow_entry *e);
// @e is freed next; all its events are stored.
void watch_flow_gone(struct flow_entry *e);
void watches_stop(struct flows *fl);

#endif
