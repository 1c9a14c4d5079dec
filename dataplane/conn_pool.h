// SPDX-License-Identifier: Apache-2.0
// Idle data connections to other agents, kept open across tasks and flows.
//
// Thread-safe. A connection is used by one stream thread at a time.
#ifndef DATAPLANE_CONN_POOL_H
#define DATAPLANE_CONN_POOL_H

#include "common/ticket.h"
#include "dataplane/conn.h"

struct conn_pool;
struct transport;

struct conn_pool_options {
    struct transport *transport;   // borrowed
    const char *cluster;           // its id; NULL until known: see conn_pool_set_cluster()
    const char *agent;             // our name
    const struct signing_key *key; // proves that the tickets are ours; borrowed
    uint32_t max_idle;             // 0: 64
    int64_t idle_ms;               // closed after so long; 0: 60,000
};
MUST_CHECK enum err conn_pool_new(const struct conn_pool_options *o, struct conn_pool **ret_pool);
void conn_pool_set_cluster(struct conn_pool *p, const char *cluster);
void conn_pool_free(struct conn_pool *p); // nothing may be in use any more; NULL is fine
const char *conn_pool_transport_name(const struct conn_pool *p);

// ---- for sources ----
struct conn_pool_target {
    const char *agent;
    const char *const *addresses; // "host:port", best first
    size_t n_addresses;
    int64_t timeout_ms;            // for each address
    const _Atomic bool *cancelled; // NULL is fine
    bool fresh;                    // not one that was idle
};
// A connection to that agent: an idle one that is still good (*@ret_reused), or a new one from
// the first address that answers.
MUST_CHECK enum err conn_pool_take(struct conn_pool *p, const struct conn_pool_target *t,
                                   struct conn **ret_conn, bool *ret_reused,
                                   struct failure *ret_failure);
// Gives it back, with nothing outstanding on it.
void conn_pool_give(struct conn_pool *p, struct conn *take_conn);
// The proof that we hold the key of @ticket, for the agent at the other end of @c.
MUST_CHECK enum err conn_pool_prove(struct conn_pool *p, const struct conn *c, const void *ticket,
                                    size_t ticket_len, uint8_t ret_proof[SIGNATURE_BYTES]);

#endif
