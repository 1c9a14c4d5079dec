// SPDX-License-Identifier: Apache-2.0
// A source that is another agent, asked over a data connection. Several source agents can be
// given: when one cannot be reached, breaks the protocol or stalls, the next one is asked, from
// the byte where the last left off, without the caller noticing.
#ifndef DATAPLANE_SOURCE_AGENT_H
#define DATAPLANE_SOURCE_AGENT_H

#include "common/ticket.h"
#include "dataplane/conn_pool.h" // connections outlive tasks
#include "dataplane/source.h"

struct source_agent_peer {
    const char *name;
    const char *const *addresses; // "host:port" or "rdma:host:port", best first
    size_t n_addresses;
    const uint8_t *ticket;
    size_t ticket_len;
};

struct source_agent_options {
    struct conn_pool *pool;
    const struct source_agent_peer *peers; // in the order to try; borrowed
    size_t n_peers;
    const uint8_t *objects; // the encoded object table, as the ticket's hash covers it
    size_t objects_len;
    uint64_t task_id;
    enum hash_algorithm digest;
    enum conn_choice choice;
    int64_t stall_ms; // no byte for so long: on to the next; 0: 30,000
};

MUST_CHECK enum err source_agent_new(const struct source_agent_options *o,
                                     struct source **ret_source, struct failure *ret_failure);
// The peer that served last; "" before the first.
const char *source_agent_peer_name(const struct source *s);

#endif
