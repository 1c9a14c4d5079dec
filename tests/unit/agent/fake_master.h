// SPDX-License-Identifier: Apache-2.0
// A master that does as the test says: welcomes, assigns, commits or does not, counts what it
// hears. On a loop of its own.
#ifndef TESTS_UNIT_AGENT_FAKE_MASTER_H
#define TESTS_UNIT_AGENT_FAKE_MASTER_H

#include "common/rpc/rpc.h"
#include "common/ticket.h"
#include "sluice/v1/agent_service.pb-c.h"
#include "tests/unit/agent/scratch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define FAKE_CLUSTER "01BX5ZZKBKACTAV9WEVGEMMVRY"

struct fake_master {
    // settings, any time
    const char *cluster;
    struct signing_key *key; // the same for all fake masters
    _Atomic uint64_t term;
    _Atomic bool commits;  // results, as they arrive
    _Atomic bool confirms; // heartbeats
    _Atomic bool takes_pages;
    _Atomic bool welcomes; // or answers Register with nothing
    _Atomic uint32_t hold_ms;
    // what was heard
    struct tally *registers, *heartbeats, *results, *stopped, *drainings, *proofs, *pages, *closed,
        *lists_closed;
    pthread_mutex_t lock;
    // under the lock
    uint64_t last_result, committed;
    uint8_t agent_key[SIGNING_KEY_BYTES];
    uint64_t n_registered_leases;   // in the last Register, each counted once
    uint64_t registered_results;    // and the sum of the numbers of their results
    uint64_t stopped_task;          // the last
    Sluice__V1__TaskResult *result; // the last
    char seen[64];                  // of the last proof
    uint64_t n_entries;             // in pages
    // the loop's
    struct loop *loop;
    pthread_t thread;
    struct rpc_server *server;
    struct rpc *session;
    int port;
    uint64_t n_pages; // in the listing at hand
};

// @port 0: any.
struct fake_master *fake_master_new(int port, uint64_t term);
void fake_master_free(struct fake_master *m);
// Sends @message to the agent that is connected. Any thread.
void fake_master_send(struct fake_master *m, const Sluice__V1__MasterMessage *message);
void fake_master_assign(struct fake_master *m, Sluice__V1__Lease *l);
void fake_master_hang_up(struct fake_master *m);

#endif
