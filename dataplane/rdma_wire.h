// SPDX-License-Identifier: Apache-2.0
// One wire over RDMA: a queue pair that rdma_cm connects, and the stream of bytes on it.
//
// Included only by dataplane/transport_rdma.c, rdma_*.c and tests.
#ifndef DATAPLANE_RDMA_WIRE_H
#define DATAPLANE_RDMA_WIRE_H

#include "dataplane/rdma_pool.h"
#include "dataplane/transport_impl.h"

#include <rdma/rdma_cma.h>

enum {
    RDMA_GREETING_BYTES = 16, // in the private data of rdma_connect() and rdma_accept()
    RDMA_REFUSED_FULL = 1,    // the first byte of the private data of rdma_reject()
};

struct rdma_wire_options {
    struct rdma_pool *pool;            // borrowed
    struct rdma_cm_id *id;             // of a device, not connected; taken on success
    struct rdma_event_channel *events; // the id's, not shared; taken on success
    const char *peer;                  // its address
    bool offers;                       // offer buffers, to which the peer writes large pieces
};
// A queue pair that is ready to receive. ERR_FULL: the pool has no memory left for it.
MUST_CHECK enum err rdma_wire_new(const struct rdma_wire_options *o, struct wire **ret_wire,
                                  struct failure *ret_failure);
// What the peer must know of us before it sends.
void rdma_wire_greeting(uint8_t ret_greeting[RDMA_GREETING_BYTES]);
// What it told us, before the first call that sends. ERR_PROTOCOL: no proper greeting.
MUST_CHECK enum err rdma_wire_greet(struct wire *w, const void *greeting, size_t len);
// The parameters of a connection, with @greeting as its private data.
struct rdma_conn_param rdma_wire_parameters(const uint8_t greeting[RDMA_GREETING_BYTES]);
// Connected, from the dialling end's point of view: buffers are offered from now on.
void rdma_wire_begin(struct wire *w);

#endif
