// SPDX-License-Identifier: Apache-2.0
// The slots: threads that run one task each, and the leases that wait for one.
//
// Tasks that move data are *streams*, each with a data connection of its own. How many run at a
// time is the flow's `streams` if that is set, for each such flow; all others share a number that
// stream_tuner finds, and with object stores at least what store_streams says. The other slots do
// what moves nothing.
//
// A lease is *held* from executor_assign() until its end was told: its result appended to the
// journal, or `stopped` called. Thread-safe.
#ifndef AGENT_EXECUTOR_H
#define AGENT_EXECUTOR_H

#include "agent/lease.h"
#include "agent/run.h"
#include "agent/under_way.h"

struct executor;
struct journal;

enum { EXECUTOR_MAX_LEASES = 4096 };

struct executor_options {
    uint32_t slots;
    uint64_t buffer_bytes; // of each slot
    const struct run_tools *tools;
    const struct hold *hold;
    struct journal *journal;     // results go there
    struct under_way *under_way; // NULL: none is kept
    // The lease is over with nothing to tell but that. On a slot's thread, or in the call that
    // caused it; the lease is not held any more.
    void (*stopped)(void *user, uint64_t task_id, uint64_t term, uint64_t counter);
    // Nothing is held any more (not called at the start). As above.
    void (*idle)(void *user);
    void *user;
};
MUST_CHECK enum err executor_new(const struct executor_options *o, struct executor **ret_executor,
                                 struct failure *ret_failure);
// Stops all that is running and waits for it.
void executor_free(struct executor *e);

// Takes on a lease. ERR_FULL: EXECUTOR_MAX_LEASES are held. ERR_EXISTS: this one is held.
// ERR_INVALID, ERR_NO_MEMORY.
MUST_CHECK enum err executor_assign(struct executor *e, const Sluice__V1__Lease *m);
// Ends a lease: one that waits at once, one that runs soon. false: it is not held.
bool executor_revoke(struct executor *e, uint64_t task_id, uint64_t term, uint64_t counter,
                     enum lease_stop why);
// What has not begun of a lease comes back. One that waits is stopped.
void executor_yield(struct executor *e, uint64_t task_id, uint64_t term, uint64_t counter);
void executor_revoke_waiting(struct executor *e);
// How many leases were stopped by this.
size_t executor_revoke_all(struct executor *e, enum lease_stop why);

// Adapts how many tasks move data at a time to what was measured. About once a second.
void executor_tune(struct executor *e);

size_t executor_held(struct executor *e);
size_t executor_running(struct executor *e);
// Calls @each for all that are held, with the executor's lock.
void executor_each(struct executor *e, void (*each)(void *user, const struct lease *l), void *user);

#endif
