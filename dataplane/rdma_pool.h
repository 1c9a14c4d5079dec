// SPDX-License-Identifier: Apache-2.0
// The memory that RDMA devices read and write: taken, pinned and registered once. It is shared out
// evenly over the NUMA nodes that have a device.
//
// Thread-safe. A device may only read and write the pool on our own behalf; what a peer may
// write to is registered for one connection on top of it, by its owner. What is taken from the
// pool is given back before the pool is freed.
#ifndef DATAPLANE_RDMA_POOL_H
#define DATAPLANE_RDMA_POOL_H

#include "common/err.h"
#include "common/failure.h"

#include <infiniband/verbs.h>
#include <stddef.h>
#include <stdint.h>

struct rdma_pool;

enum {
    RDMA_POOL_UNIT = 64 * 1024, // pieces are multiples of it, and aligned to a page
    RDMA_POOL_DEVICES_MAX = 64,
};

// What a device needs to know of the pool.
struct rdma_domain {
    struct ibv_pd *pd;
    uint32_t lkey;
    int numa_node; // of the device; -1: unknown
};

// Maps @bytes (rounded up; huge pages if there are any) between guard pages, and registers them
// with every device that is there. ERR_NOT_FOUND: there is no device. ERR_NO_MEMORY: the limit
// of locked memory is too low; the failure says which line raises it.
MUST_CHECK enum err rdma_pool_new(uint64_t bytes, struct rdma_pool **ret_pool,
                                  struct failure *ret_failure);
void rdma_pool_free(struct rdma_pool *p); // NULL is fine
// That of the device @verbs; one that came later is registered now.
MUST_CHECK enum err rdma_pool_domain(struct rdma_pool *p, struct ibv_context *verbs,
                                     struct rdma_domain *ret_domain, struct failure *ret_failure);
// Of that NUMA node, if there is some left. NULL: there is no free piece of @bytes.
void *rdma_pool_take(struct rdma_pool *p, size_t bytes, int numa_node);
void rdma_pool_give(struct rdma_pool *p, void *memory, size_t bytes); // NULL is fine
uint64_t rdma_pool_bytes_free(struct rdma_pool *p);

#endif
