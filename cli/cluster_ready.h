// SPDX-License-Identifier: Apache-2.0
// Does the master see all of a local cluster?
#ifndef CLI_CLUSTER_READY_H
#define CLI_CLUSTER_READY_H

#include "cli/client.h"
#include "cli/cluster.h"

struct cluster_ready {
    const struct cluster *cluster;
    struct client client;
    int64_t usable_ms; // since when only proofs of sharing are missing; 0: more is
    char missing[256]; // what is, for people
};

MUST_CHECK enum err cluster_ready_init(const struct cluster *c, struct cluster_ready *ret_ready,
                                       struct failure *ret_failure);
void cluster_ready_deinit(struct cluster_ready *r);
// Asks once. true: every agent is connected and can use every volume of its site, and volumes
// of several agents are proven shared (or could not be in good time).
bool cluster_ready_ask(struct cluster_ready *r);

#endif
