// SPDX-License-Identifier: Apache-2.0
// An agent's RDMA: the transport, and for each of its interfaces the data server that other agents
// reach over it. Without a usable device the agent works over TCP, and says why.
#ifndef AGENT_AGENT_RDMA_H
#define AGENT_AGENT_RDMA_H

#include "agent/agent_options.h"
#include "dataplane/data_server.h"

struct agent_rail {
    struct data_server *server;
    char *address; // "rdma:host:port", for other agents
};

struct agent_rdma {
    struct transport *transport; // NULL: no RDMA
    struct agent_rail rails[AGENT_MAX_RAILS];
    size_t n; // of those that can be used
};

// Does nothing if RDMA is not configured; if it cannot be used, logs why. @server: what the data
// server over TCP was made with. ERR_NO_MEMORY.
MUST_CHECK enum err agent_rdma_start(struct agent_rdma *r, const struct agent_options *o,
                                     const struct data_server_options *server,
                                     struct failure *ret_failure);
void agent_rdma_set_authority(struct agent_rdma *r, const char *cluster,
                              const uint8_t ticket_key[SIGNING_KEY_BYTES]);
uint64_t agent_rdma_bytes_served(const struct agent_rdma *r);
void agent_rdma_stop(struct agent_rdma *r); // nothing may use the transport any more

// Prints the devices of this node and why they can or cannot be used. With RDMA configured and
// no device for it: the reason.
MUST_CHECK enum err agent_rdma_check(const struct agent_options *o, struct failure *ret_failure);

#endif
