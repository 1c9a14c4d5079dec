// SPDX-License-Identifier: Apache-2.0
// Idle data connections to other agents, kept open across tasks and flows.
//
// Thread-safe. A connection is used by one stream thread at a time.
#ifndef DATAPLANE_CONN_POOL_H
#define DATAPLANE_CONN_POOL_H

#include "common/ticket.h"

struct conn_pool;
struct transport;

struct conn_pool_options {
    struct transport *transport; // borrowed
    const char *cluster;         // its id, once known; see conn_pool_set_cluster()
    const char *agent;           // our name
    const struct signing_key *key; // proves that the tickets are ours; borrowed
    uint32_t max_idle;           // 0: 64
    int64_t idle_ms;             // closed after so long; 0: 60,000
};
MUST_CHECK enum err conn_pool_new(const struct conn_pool_options *o, struct conn_pool **ret_pool);
void conn_pool_set_cluster(struct conn_pool *p, const char *cluster);
void conn_pool_free(struct conn_pool *p); // nothing may be in use any more

#endif
