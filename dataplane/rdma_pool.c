// SPDX-License-Identifier: Apache-2.0
#include "dataplane/rdma_pool.h"

#include "dataplane/rdma_device.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <rdma/rdma_cma.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    HUGE_BYTES = 2 * 1024 * 1024,
    NODES_MAX = 16, // NUMA nodes that memory is shared out over
};

struct registration {
    struct ibv_context *verbs;
    struct ibv_pd *pd;
    struct ibv_mr *mr;
    int numa_node; // -1: unknown
};

struct arena { // the memory of one NUMA node
    int numa_node;
    size_t begin, end; // units
};

struct rdma_pool {
    uint8_t *memory; // between two guard pages
    size_t bytes;
    size_t n_units;
    struct arena arenas[NODES_MAX];
    size_t n_arenas;

    pthread_mutex_t mutex; // guards what follows
    bool *is_taken;        // n_units
    size_t n_taken;
    struct registration registrations[RDMA_POOL_DEVICES_MAX];
    size_t n_registrations;
};

// Reserves address space with a guard page at both ends, then puts memory into it.
static uint8_t *map_guarded(size_t bytes, int *ret_errnum) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    // Room to align the memory to a huge page, and a guard page on either side.
    size_t reserved = bytes + 2 * (size_t)HUGE_BYTES;
    uint8_t *all =
        mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint8_t *at, *end = NULL;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    void *got = MAP_FAILED;

    if (all == MAP_FAILED) {
        *ret_errnum = errno;
        return NULL;
    }
    at = (uint8_t *)(((uintptr_t)all + page + HUGE_BYTES - 1) & ~((uintptr_t)HUGE_BYTES - 1));
    end = at + bytes;
    if (bytes % HUGE_BYTES == 0) {
        got = mmap(at, bytes, PROT_READ | PROT_WRITE, flags | MAP_HUGETLB, -1, 0);
    }
    if (got == MAP_FAILED) {
        got = mmap(at, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
        (void)madvise(at, bytes, MADV_HUGEPAGE);
    }
    if (got == MAP_FAILED) {
        *ret_errnum = errno;
        munmap(all, reserved);
        return NULL;
    }
    if (at - page > all) {
        munmap(all, (size_t)(at - page - all));
    }
    munmap(end + page, (size_t)(all + reserved - (end + page)));
    (void)madvise(at, bytes, MADV_DONTFORK); // what a child writes would move our pages
    return at;
}

// Which NUMA nodes have devices: those of them that are known.
static size_t list_nodes(int nodes[NODES_MAX]) {
    int n = 0;
    struct ibv_context **all = rdma_get_devices(&n);
    size_t n_nodes = 0;

    for (int i = 0; all && i < n && n_nodes < NODES_MAX; i++) {
        int node = rdma_device_numa_node(ibv_get_device_name(all[i]->device));
        size_t k = 0;
        while (k < n_nodes && nodes[k] != node) {
            k++;
        }
        if (node >= 0 && k == n_nodes) {
            nodes[n_nodes++] = node;
        }
    }
    if (all) {
        rdma_free_devices(all);
    }
    return n_nodes;
}

// Asks for pages of that node; where there are none any more, others do.
static void prefer_node(void *at, size_t bytes, int node) {
    enum { MASK_BITS = 8 * sizeof(unsigned long) };
    unsigned long mask[16] = {0};

    if (node < (int)(MASK_BITS * (sizeof(mask) / sizeof(mask[0])))) {
        mask[node / MASK_BITS] = 1UL << node % MASK_BITS;
        (void)syscall(SYS_mbind, at, bytes, MPOL_PREFERRED, mask, 8 * sizeof(mask), 0);
    }
}

// Cuts the pool into an arena for each node, at huge pages, and fetches all pages.
static void share_out(struct rdma_pool *p) {
    int nodes[NODES_MAX];
    size_t n = list_nodes(nodes), page = (size_t)sysconf(_SC_PAGESIZE);
    size_t each = n > 1 ? p->bytes / n / HUGE_BYTES * HUGE_BYTES / RDMA_POOL_UNIT : 0;

    if (each == 0) { // one node, or too little to share
        p->arenas[0] = (struct arena){.numa_node = n == 1 ? nodes[0] : -1, .end = p->n_units};
        p->n_arenas = 1;
    }
    for (size_t i = 0; each > 0 && i < n; i++) {
        p->arenas[p->n_arenas++] = (struct arena){.numa_node = nodes[i],
                                                  .begin = i * each,
                                                  .end = i + 1 < n ? (i + 1) * each : p->n_units};
    }
    for (size_t i = 0; i < p->n_arenas; i++) {
        const struct arena *a = &p->arenas[i];
        uint8_t *at = p->memory + a->begin * RDMA_POOL_UNIT;
        size_t bytes = (a->end - a->begin) * RDMA_POOL_UNIT;
        if (a->numa_node >= 0) {
            prefer_node(at, bytes, a->numa_node);
        }
        for (size_t k = 0; k < bytes; k += page) {
            ((volatile uint8_t *)at)[k] = 0; // a page for it, now
        }
    }
}

static void unmap_guarded(uint8_t *memory, size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    munmap(memory - page, page);
    munmap(memory, bytes);
    munmap(memory + bytes, page);
}

// Under the mutex, or before others know the pool.
static enum err add_device(struct rdma_pool *p, struct ibv_context *verbs, struct failure *f) {
    const char *name = ibv_get_device_name(verbs->device);
    struct registration r = {.verbs = verbs};
    enum err e;
    int errnum;

    if (p->n_registrations == RDMA_POOL_DEVICES_MAX) {
        return failure_set(f, ERR_FULL, "register memory", name, strlen(name), NULL);
    }
    r.pd = ibv_alloc_pd(verbs);
    if (!r.pd) {
        return failure_errno(f, errno, "open RDMA device", name, strlen(name));
    }
    r.mr = ibv_reg_mr(r.pd, p->memory, p->bytes, IBV_ACCESS_LOCAL_WRITE);
    if (!r.mr) {
        errnum = errno;
        ibv_dealloc_pd(r.pd);
        e = failure_errno(f, errnum, "register memory", name, strlen(name));
        if (errnum == ENOMEM || errnum == EPERM || errnum == EAGAIN) {
            rdma_explain_memlock(p->bytes, f);
        }
        return e;
    }
    r.numa_node = rdma_device_numa_node(name);
    p->registrations[p->n_registrations++] = r;
    return OK;
}

static enum err add_all_devices(struct rdma_pool *p, struct failure *f) {
    int n = 0;
    struct ibv_context **all = rdma_get_devices(&n);
    enum err e = OK;

    for (int i = 0; all && i < n && !e; i++) {
        e = add_device(p, all[i], f);
    }
    if (all) {
        rdma_free_devices(all);
    }
    if (!e && p->n_registrations == 0) {
        e = failure_set(f, ERR_NOT_FOUND, "open RDMA device", NULL, 0,
                        "there is no RDMA device that can be used");
        failure_remedy(f, "see what sluice-agent --check says about devices");
    }
    return e;
}

enum err rdma_pool_new(uint64_t bytes, struct rdma_pool **ret_pool, struct failure *ret_failure) {
    struct rdma_pool *p = calloc(1, sizeof(*p));
    enum err e;
    int errnum = 0;

    if (!p || pthread_mutex_init(&p->mutex, NULL) != 0) {
        free(p);
        return failure_set(ret_failure, ERR_NO_MEMORY, "register memory", NULL, 0, NULL);
    }
    p->bytes = (size_t)((bytes + RDMA_POOL_UNIT - 1) / RDMA_POOL_UNIT) * RDMA_POOL_UNIT;
    p->n_units = p->bytes / RDMA_POOL_UNIT;
    p->is_taken = calloc(p->n_units > 0 ? p->n_units : 1, sizeof(*p->is_taken));
    if (p->is_taken) {
        p->memory = map_guarded(p->bytes, &errnum);
    }
    if (!p->is_taken || !p->memory) {
        rdma_pool_free(p);
        return failure_errno(ret_failure, errnum ? errnum : ENOMEM, "map memory", NULL, 0);
    }
    share_out(p);
    e = add_all_devices(p, ret_failure);
    if (e) {
        rdma_pool_free(p);
        return e;
    }
    *ret_pool = p;
    return OK;
}

void rdma_pool_free(struct rdma_pool *p) {
    if (!p) {
        return;
    }
    for (size_t i = 0; i < p->n_registrations; i++) {
        // They fail for a device that is gone, which has forgotten them anyway.
        (void)ibv_dereg_mr(p->registrations[i].mr);
        (void)ibv_dealloc_pd(p->registrations[i].pd);
    }
    if (p->memory) {
        unmap_guarded(p->memory, p->bytes);
    }
    pthread_mutex_destroy(&p->mutex);
    free(p->is_taken);
    free(p);
}

enum err rdma_pool_domain(struct rdma_pool *p, struct ibv_context *verbs,
                          struct rdma_domain *ret_domain, struct failure *ret_failure) {
    size_t i = 0;
    enum err e = OK;

    pthread_mutex_lock(&p->mutex);
    while (i < p->n_registrations && p->registrations[i].verbs != verbs) {
        i++;
    }
    if (i == p->n_registrations) {
        e = add_device(p, verbs, ret_failure);
    }
    if (!e) {
        *ret_domain = (struct rdma_domain){.pd = p->registrations[i].pd,
                                           .lkey = p->registrations[i].mr->lkey,
                                           .numa_node = p->registrations[i].numa_node};
    }
    pthread_mutex_unlock(&p->mutex);
    return e;
}

// The first run of @n free units in @a; n_units: there is none.
static size_t find_run(const struct rdma_pool *p, const struct arena *a, size_t n) {
    size_t run = 0;

    for (size_t i = a->begin; i < a->end; i++) {
        run = p->is_taken[i] ? 0 : run + 1;
        if (run == n) {
            return i + 1 - n;
        }
    }
    return p->n_units;
}

// The same, best in the arena of @numa_node.
static size_t find_near(const struct rdma_pool *p, int numa_node, size_t n) {
    size_t at = p->n_units;

    for (int is_near = 1; is_near >= 0; is_near--) {
        for (size_t i = 0; i < p->n_arenas && at == p->n_units; i++) {
            if ((p->arenas[i].numa_node == numa_node) == (is_near == 1)) {
                at = find_run(p, &p->arenas[i], n);
            }
        }
    }
    return at;
}

void *rdma_pool_take(struct rdma_pool *p, size_t bytes, int numa_node) {
    size_t n = (bytes + RDMA_POOL_UNIT - 1) / RDMA_POOL_UNIT, at;
    void *memory = NULL;

    if (n == 0) {
        return NULL;
    }
    pthread_mutex_lock(&p->mutex);
    at = find_near(p, numa_node, n);
    if (at < p->n_units) {
        memset(&p->is_taken[at], true, n * sizeof(p->is_taken[0]));
        p->n_taken += n;
        memory = p->memory + at * RDMA_POOL_UNIT;
    }
    pthread_mutex_unlock(&p->mutex);
    return memory;
}

void rdma_pool_give(struct rdma_pool *p, void *memory, size_t bytes) {
    size_t n = (bytes + RDMA_POOL_UNIT - 1) / RDMA_POOL_UNIT;

    if (!memory) {
        return;
    }
    pthread_mutex_lock(&p->mutex);
    memset(&p->is_taken[(size_t)((uint8_t *)memory - p->memory) / RDMA_POOL_UNIT], false,
           n * sizeof(p->is_taken[0]));
    p->n_taken -= n;
    pthread_mutex_unlock(&p->mutex);
}

uint64_t rdma_pool_bytes_free(struct rdma_pool *p) {
    uint64_t n;

    pthread_mutex_lock(&p->mutex);
    n = p->n_units - p->n_taken;
    pthread_mutex_unlock(&p->mutex);
    return n * RDMA_POOL_UNIT;
}
