// SPDX-License-Identifier: Apache-2.0
// Idle data connections to other agents, kept open across tasks and flows; and whether they are
// made over RDMA or TCP.
//
// Thread-safe. A connection is used by one stream thread at a time.
#ifndef DATAPLANE_CONN_POOL_H
#define DATAPLANE_CONN_POOL_H

#include "common/ticket.h"
#include "dataplane/conn.h"

struct conn_pool;
struct transport;

// An address of the second transport begins with that: "rdma:host:port".
#define CONN_RDMA_PREFIX "rdma:"

struct conn_pool_options {
    struct transport *transport;   // borrowed
    struct transport *rdma;        // for addresses with CONN_RDMA_PREFIX; borrowed; NULL: none
    const char *cluster;           // its id; NULL until known: see conn_pool_set_cluster()
    const char *agent;             // our name
    const struct signing_key *key; // proves that the tickets are ours; borrowed
    uint32_t max_idle;             // 0: 64
    int64_t idle_ms;               // closed after so long; 0: 60,000
    int64_t rdma_dial_ms;          // over RDMA, at most, as there is another way; 0: 5,000
    int64_t rest_ms;               // RDMA that failed is tried again after so long; 0: 60,000
};
MUST_CHECK enum err conn_pool_new(const struct conn_pool_options *o, struct conn_pool **ret_pool);
void conn_pool_set_cluster(struct conn_pool *p, const char *cluster);
void conn_pool_free(struct conn_pool *p); // nothing may be in use any more; NULL is fine
const char *conn_pool_transport_name(const struct conn_pool *p); // of the first transport

enum conn_choice {
    CONN_AUTO, // RDMA where both agents have it and it works; the other transport where not
    CONN_NO_RDMA,
    CONN_RDMA_ONLY,
};

// ---- for sources ----
struct conn_pool_target {
    const char *agent;
    const char *const *addresses; // best first
    size_t n_addresses;
    enum conn_choice choice;
    int64_t timeout_ms;            // for each address
    const _Atomic bool *cancelled; // NULL is fine
    bool fresh;                    // not one that was idle
};
// A connection to that agent: an idle one that is still good (*@ret_reused), or a new one from
// the first address that answers. RDMA comes first; of several rails (RDMA addresses), that with
// the fewest connections in use.
MUST_CHECK enum err conn_pool_take(struct conn_pool *p, const struct conn_pool_target *t,
                                   struct conn **ret_conn, bool *ret_reused,
                                   struct failure *ret_failure);
// Gives it back, with nothing outstanding on it.
void conn_pool_give(struct conn_pool *p, struct conn *take_conn);
// Closes it, with whatever is outstanding. NULL is fine.
void conn_pool_drop(struct conn_pool *p, struct conn *take_conn);
// Did it come from the RDMA transport?
bool conn_pool_is_rdma(const struct conn_pool *p, const struct conn *c);
// The rail of @c to @t failed, for @reason: it is left alone for a while, and longer each time.
// This is logged once, and so is its coming back.
void conn_pool_rest_rdma(struct conn_pool *p, const struct conn_pool_target *t,
                         const struct conn *c, const struct failure *reason);
// The proof that we hold the key of @ticket, for the agent at the other end of @c.
MUST_CHECK enum err conn_pool_prove(struct conn_pool *p, const struct conn *c, const void *ticket,
                                    size_t ticket_len, uint8_t ret_proof[SIGNATURE_BYTES]);

#endif
