// SPDX-License-Identifier: Apache-2.0
// Which RDMA devices this node has, and why those that cannot be used cannot.
#ifndef DATAPLANE_RDMA_DEVICE_H
#define DATAPLANE_RDMA_DEVICE_H

#include "common/err.h"
#include "common/failure.h"

#include <stdint.h>

// The NUMA node of the device with this name; -1: unknown.
int rdma_device_numa_node(const char *device);
// The remedy of @f: the limit of locked memory, what is needed for a pool of @pool_bytes, and
// the line that sets it; or nothing, if the limit is not what stands in the way.
void rdma_explain_memlock(uint64_t pool_bytes, struct failure *f);

#endif
