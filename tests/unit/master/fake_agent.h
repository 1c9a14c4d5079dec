// SPDX-License-Identifier: Apache-2.0
// Agents that exist as far as their session goes, and a core without planner or database: all on
// one loop, which runs while a test waits.
#ifndef TESTS_UNIT_MASTER_FAKE_AGENT_H
#define TESTS_UNIT_MASTER_FAKE_AGENT_H

#include "tests/lib/test.h"

#include "common/rpc/rpc.h"
#include "master/agents.h"
#include "master/core.h"
#include "master/scheduler.h"

enum { FAKE_MAX_LEASES = 32 };

struct fake_lease {
    uint64_t task_id, term, counter;
    uint64_t result; // of what it holds: the number of the result that is kept of it; 0: none
};

struct fake_agent {
    char name[32], site[32], incarnation[IDENT_SIZE];
    int storage; // agents with the same one see each other's files
    bool writable;
    bool is_full;                             // takes no proof of its volume
    const char *root;                         // of the volume "data"
    struct fake_lease holds[FAKE_MAX_LEASES]; // told when it registers
    size_t n_holds;
    uint64_t next_number;
    // what the master said
    struct rpc *call;
    bool welcomed, closed;
    char goodbye[256];
    uint64_t committed, pinged;
    struct fake_lease assigned[FAKE_MAX_LEASES], revoked[FAKE_MAX_LEASES], refused[FAKE_MAX_LEASES];
    size_t n_assigned, n_revoked, n_refused;
    char source[32];
    uint8_t ticket[TICKET_MAX_BYTES];
    size_t ticket_len;
    uint8_t ticket_key[SIGNING_KEY_BYTES];
};

struct fake_cluster {
    struct master_options options;
    struct core core;
    struct loop *loop;
    struct rpc_server *server;
    struct rpc_channel *channel;
    char address[64];
};

extern struct fake_cluster cluster;

void cluster_start(int64_t lost_after_ms);
void cluster_stop(void);
// Runs the loop until @holds(@arg); fails after a long time.
void wait_until(bool (*holds)(const void *arg), const void *arg);

void fake_init(struct fake_agent *a, const char *name, const char *site, int storage);
void fake_dial(struct fake_agent *a); // and register
void fake_up(struct fake_agent *a);   // ... and wait until it is welcome
void fake_beat(struct fake_agent *a, uint64_t sequence);
void fake_result(struct fake_agent *a, uint64_t number, const struct fake_lease *l);
void fake_stopped(struct fake_agent *a, const struct fake_lease *l);
void fake_leave(struct fake_agent *a); // Draining, then the end of the call
void fake_cut(struct fake_agent *a);

bool is_welcome(const void *agent);
bool is_closed(const void *agent);
bool has_lease(const void *agent);

#endif
