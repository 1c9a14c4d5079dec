// SPDX-License-Identifier: Apache-2.0
// To which agents RDMA failed lately, so that TCP is used instead until a while has passed.
//
// A plain value; its owner guards it. It needs no device, and is built in any case.
#ifndef DATAPLANE_RDMA_REST_H
#define DATAPLANE_RDMA_REST_H

#include "common/failure.h"
#include "common/ticket.h"

#include <stdbool.h>
#include <stdint.h>

enum { RDMA_REST_AGENTS = 256 }; // more push out those whose time is over first

struct rdma_resting {
    char agent[TICKET_NAME_MAX];
    int64_t until_ms;
    uint32_t n_failed;
};

struct rdma_rest {
    int64_t rest_ms; // after the first failure; set by the owner
    uint32_t n;
    struct rdma_resting agents[RDMA_REST_AGENTS];
};

bool rdma_rest_is_over(const struct rdma_rest *r, const char *agent, int64_t now_ms);
// Logs the first of a series.
void rdma_rest_begin(struct rdma_rest *r, const char *agent, int64_t now_ms,
                     const struct failure *reason);
// It works; logs that, if it had failed.
void rdma_rest_end(struct rdma_rest *r, const char *agent);

#endif
