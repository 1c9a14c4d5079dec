// SPDX-License-Identifier: Apache-2.0
// One assignment of a task to this agent: what is to be done, how far it is, and whether it may
// still be done.
#ifndef AGENT_LEASE_H
#define AGENT_LEASE_H

#include "agent/hold.h"
#include "dataplane/sink.h"
#include "dataplane/source.h"
#include "dataplane/transfer.h"
#include "sluice/v1/task.pb-c.h"

#include <pthread.h>

enum lease_stop {
    LEASE_GOES_ON,
    LEASE_REVOKED, // at the master's wish, or because the agent stops
    LEASE_FENCED,  // the hold lapsed
};

// How to make what the lease's thread waits for return. Called with the lease's lock.
struct interrupt {
    void (*fn)(void *arg);
    void *arg;
};
enum { LEASE_MAX_INTERRUPTS = 3 };

struct lease {
    // constant
    Sluice__V1__Lease *message; // owned; lease, epoch and spec are there
    const struct hold *hold;
    uint64_t hold_generation;
    // any thread
    struct transfer_control control;
    _Atomic int stop; // enum lease_stop; once it is set it stays
    // under the lock
    pthread_mutex_t lock;
    struct interrupt interrupts[LEASE_MAX_INTERRUPTS];
    // the executor's, under its lock
    struct lease *next;
    bool is_running;
    bool is_with_store; // it moves data to or from an object store
    uint64_t started_us;
};

// A copy of @m. ERR_INVALID: it has no epoch or no spec.
MUST_CHECK enum err lease_new(const Sluice__V1__Lease *m, const struct hold *hold,
                              struct lease **ret_lease);
void lease_free(struct lease *l);
bool lease_is(const struct lease *l, uint64_t task_id, uint64_t term, uint64_t counter);

// The fence: may this lease still change anything? @lease is a struct lease.
bool lease_may_act(void *lease);
// Ends what is under way, soon. Any thread; the first reason stays.
void lease_stop(struct lease *l, enum lease_stop why);
enum lease_stop lease_stopped(const struct lease *l); // also LEASE_FENCED once the hold lapsed
void lease_yield(struct lease *l);

// @fn(@arg) will be called by lease_stop() until it is removed; at once, if the lease is stopped
// already. At most LEASE_MAX_INTERRUPTS at a time.
void lease_add_interrupt(struct lease *l, void (*fn)(void *arg), void *arg);
void lease_remove_interrupt(struct lease *l, const void *arg);

#endif
