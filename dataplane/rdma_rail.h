// SPDX-License-Identifier: Apache-2.0
// The rails to other agents: an agent has one for each of its RDMA addresses. Which is used for
// the next connection, and which failed lately and is left alone until a while has passed.
//
// A plain value; its owner guards it. It needs no device, and is built in any case.
#ifndef DATAPLANE_RDMA_RAIL_H
#define DATAPLANE_RDMA_RAIL_H

#include "common/failure.h"
#include "common/ticket.h"
#include "dataplane/transport.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    RDMA_RAILS_MAX = 256, // that are known; more push out those whose rest is over first
    RDMA_RAIL_NONE = -1,
};

struct rdma_rail {
    char agent[TICKET_NAME_MAX];
    char address[WIRE_ADDRESS_MAX]; // without its prefix
    int64_t until_ms;               // it rests until then
    uint32_t n_failed;              // in a row; 0: it works, as far as is known
    uint32_t n_used;                // connections that are in use now
};

struct rdma_rails {
    int64_t rest_ms; // after the first failure; set by the owner
    uint32_t n;
    struct rdma_rail rails[RDMA_RAILS_MAX];
};

// Of @n addresses (NULL: no rail), the one that is used least now; of equals the first. Those that
// rest are left out, unless @is_forced. RDMA_RAIL_NONE: none is left.
int rdma_rail_choose(const struct rdma_rails *r, const char *agent, const char *const *addresses,
                     size_t n, bool is_forced, int64_t now_ms);
// A connection is used from now on, and no more.
void rdma_rail_use(struct rdma_rails *r, const char *agent, const char *address);
void rdma_rail_leave(struct rdma_rails *r, const char *agent, const char *address);
// It rests. Logs the first failure of a series: that the rail was dropped if the agent can be
// reached over @n_others, else that TCP is used.
void rdma_rail_failed(struct rdma_rails *r, const char *agent, const char *address, int64_t now_ms,
                      size_t n_others, const struct failure *reason);
// Logs that it works, if it had failed.
void rdma_rail_worked(struct rdma_rails *r, const char *agent, const char *address);

#endif
