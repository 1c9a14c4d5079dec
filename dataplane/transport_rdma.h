// SPDX-License-Identifier: Apache-2.0
// Wires over RDMA: reliable connected queue pairs, set up through rdma_cm.
//
// Addresses are those of TCP: "host:port", "[v6]:port", with the IP address of an interface that
// has an RDMA device. The bytes are the same as over TCP. Small pieces travel by SEND; large ones
// by RDMA WRITE WITH IMM into buffers that the dialling end offers, which the bytes come to.
#ifndef DATAPLANE_TRANSPORT_RDMA_H
#define DATAPLANE_TRANSPORT_RDMA_H

#include "dataplane/transport.h"

// The least memory that is of use: one connection each way.
#define RDMA_POOL_MIN_BYTES ((uint64_t)8 * 1024 * 1024)
#define RDMA_POOL_BYTES     ((uint64_t)64 * 1024 * 1024) // the default

struct transport_rdma_options {
    uint64_t pool_bytes; // registered at once, with every device; 0: RDMA_POOL_BYTES
};
// ERR_NOT_FOUND: no device can be used. ERR_NO_MEMORY: too little memory may be locked.
// ERR_UNIMPLEMENTED: built without RDMA (SLUICE_RDMA=OFF).
MUST_CHECK enum err transport_rdma_new(const struct transport_rdma_options *o,
                                       struct transport **ret_transport,
                                       struct failure *ret_failure);

// What a look at one device found.
struct rdma_device_report {
    char name[64];       // of the device: "mlx5_0"
    char interface[32];  // of the network: "eth0"; "": none
    char why[320];       // why it cannot be used, and what to do; "": it can
    char advice[320];    // it can, but not at its best; "": nothing to say
    uint64_t rate_bit_s; // of the link; 0: unknown
    int numa_node;       // -1: unknown
};
enum { RDMA_REPORTS_MAX = 32 };
// Looks at every device, with a pool of @pool_bytes in mind. Fills up to RDMA_REPORTS_MAX
// reports; ERR_NOT_FOUND: there are none, and the failure says why that may be.
// ERR_UNIMPLEMENTED: built without RDMA.
MUST_CHECK enum err transport_rdma_check(uint64_t pool_bytes,
                                         struct rdma_device_report *ret_reports, size_t *ret_n,
                                         struct failure *ret_failure);

#endif
