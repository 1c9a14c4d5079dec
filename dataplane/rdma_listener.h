// SPDX-License-Identifier: Apache-2.0
// Listens for wires over RDMA. A thread of its own answers those who connect, so that dialling
// needs nobody in listener_accept(), as with TCP. When the device goes away it listens again as
// soon as it is back.
#ifndef DATAPLANE_RDMA_LISTENER_H
#define DATAPLANE_RDMA_LISTENER_H

#include "dataplane/rdma_pool.h"
#include "dataplane/transport_impl.h"

// @pool is borrowed, and outlives the listener. ERR_BUSY_PORT, ERR_INVALID; ERR_NOT_FOUND: no
// RDMA device has this address.
MUST_CHECK enum err rdma_listener_new(struct rdma_pool *pool, const char *address,
                                      struct listener **ret_listener, struct failure *ret_failure);

#endif
