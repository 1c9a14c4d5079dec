// SPDX-License-Identifier: Apache-2.0
#include "dataplane/rdma_device.h"

#include "dataplane/transport_rdma.h"

#include <errno.h>
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { CAP_IPC_LOCK_BIT = 14 };
static const char cm_device[] = "/dev/infiniband/rdma_cm";

// The first line of a file below /sys or /proc; "" if there is none.
static void read_line(const char *path, char *buf, size_t cap) {
    FILE *f = fopen(path, "re");

    buf[0] = '\0';
    if (f) {
        if (!fgets(buf, (int)cap, f)) {
            buf[0] = '\0';
        }
        buf[strcspn(buf, "\n")] = '\0';
        (void)fclose(f);
    }
}

// May this process lock as much memory as it likes?
static bool may_lock_anything(void) {
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    unsigned long long capabilities = 0;

    while (f && fgets(line, sizeof(line), f)) {
        if (strncmp(line, "CapEff:", 7) == 0) {
            capabilities = strtoull(line + 7, NULL, 16);
        }
    }
    if (f) {
        (void)fclose(f);
    }
    return (capabilities >> CAP_IPC_LOCK_BIT & 1) != 0;
}

// The pool, and on top of it what connections register of it once more for their peers.
static uint64_t memlock_needed(uint64_t pool_bytes) {
    return 2 * pool_bytes;
}

// false: the limit is high enough.
static bool is_memlock_short(uint64_t pool_bytes, uint64_t *ret_limit) {
    struct rlimit limit;

    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
        limit.rlim_cur >= memlock_needed(pool_bytes) || may_lock_anything()) {
        return false;
    }
    *ret_limit = limit.rlim_cur;
    return true;
}

void rdma_explain_memlock(uint64_t pool_bytes, struct failure *f) {
    uint64_t limit;

    if (f && is_memlock_short(pool_bytes, &limit)) {
        failure_remedy(f,
                       "the limit of locked memory is %llu bytes, %llu are needed: set "
                       "LimitMEMLOCK=%llu in the systemd unit, or '* - memlock %llu' in "
                       "/etc/security/limits.conf",
                       (unsigned long long)limit, (unsigned long long)memlock_needed(pool_bytes),
                       (unsigned long long)memlock_needed(pool_bytes),
                       (unsigned long long)(memlock_needed(pool_bytes) / 1024));
    }
}

static int mtu_bytes(enum ibv_mtu mtu) {
    return mtu >= IBV_MTU_256 && mtu <= IBV_MTU_4096 ? 128 << mtu : 0;
}

static uint64_t rate_bit_s(const struct ibv_port_attr *a) {
    uint64_t lanes = a->active_width == 1   ? 1
                     : a->active_width == 2 ? 4
                     : a->active_width == 4 ? 8
                     : a->active_width == 8 ? 12
                                            : 2;
    uint64_t mbit_s = a->active_speed == 1    ? 2500
                      : a->active_speed == 2  ? 5000
                      : a->active_speed == 4  ? 10000
                      : a->active_speed == 8  ? 10000
                      : a->active_speed == 16 ? 14000
                      : a->active_speed == 32 ? 25000
                      : a->active_speed == 64 ? 50000
                                              : 100000;
    return a->active_speed == 0 ? 0 : lanes * mbit_s * 1000000;
}

static bool has_gid(struct ibv_context *verbs, uint8_t port, int n) {
    static const union ibv_gid none = {.raw = {0}};

    for (int i = 0; i < n; i++) {
        union ibv_gid gid;
        if (ibv_query_gid(verbs, port, i, &gid) == 0 && memcmp(&gid, &none, sizeof(gid)) != 0) {
            return true;
        }
    }
    return false;
}

static void look_at_interface(struct rdma_device_report *r, const struct ibv_port_attr *a) {
    char path[256], text[64];

    (void)snprintf(path, sizeof(path), "/sys/class/infiniband/%s/ports/1/gid_attrs/ndevs/0",
                   r->name);
    read_line(path, text, sizeof(text));
    (void)snprintf(r->interface, sizeof(r->interface), "%.31s", text);
    if (r->interface[0] && a->active_mtu < a->max_mtu) {
        (void)snprintf(path, sizeof(path), "/sys/class/net/%s/mtu", r->interface);
        read_line(path, text, sizeof(text));
        (void)snprintf(r->advice, sizeof(r->advice),
                       "its messages are cut at %d bytes although it can take %d, as the MTU of "
                       "%s is %.16s: ip link set %s mtu %d, on all nodes and switches alike",
                       mtu_bytes(a->active_mtu), mtu_bytes(a->max_mtu), r->interface, text,
                       r->interface, mtu_bytes(a->max_mtu) + 104);
    }
}

static void look_at_port(struct rdma_device_report *r, struct ibv_context *verbs) {
    struct ibv_port_attr a;

    if (ibv_query_port(verbs, 1, &a) != 0) {
        (void)snprintf(r->why, sizeof(r->why), "its port cannot be queried: %s", strerror(errno));
        return;
    }
    r->rate_bit_s = rate_bit_s(&a);
    look_at_interface(r, &a);
    if (a.state != IBV_PORT_ACTIVE) {
        (void)snprintf(r->why, sizeof(r->why), "its port is %s: bring up the link%s%s",
                       ibv_port_state_str(a.state), r->interface[0] ? ", ip link set up " : "",
                       r->interface);
    } else if (!has_gid(verbs, 1, a.gid_tbl_len)) {
        (void)snprintf(r->why, sizeof(r->why),
                       "it has no GID: give %s an IP address (ip address add ADDRESS/BITS dev %s)",
                       r->interface[0] ? r->interface : "its interface",
                       r->interface[0] ? r->interface : "INTERFACE");
    }
}

static void look_at_memory(struct rdma_device_report *r, struct ibv_context *verbs,
                           uint64_t pool_bytes) {
    struct ibv_device_attr a;
    uint64_t limit;

    if (ibv_query_device(verbs, &a) == 0 && a.max_mr_size > 0 && a.max_mr_size < pool_bytes) {
        (void)snprintf(r->why, sizeof(r->why),
                       "it registers at most %llu bytes: lower rdma: {pool: BYTES}",
                       (unsigned long long)a.max_mr_size);
    } else if (is_memlock_short(pool_bytes, &limit)) {
        (void)snprintf(r->why, sizeof(r->why),
                       "the limit of locked memory is %llu bytes, %llu are needed: set "
                       "LimitMEMLOCK=%llu in the systemd unit, or '* - memlock %llu' in "
                       "/etc/security/limits.conf",
                       (unsigned long long)limit, (unsigned long long)memlock_needed(pool_bytes),
                       (unsigned long long)memlock_needed(pool_bytes),
                       (unsigned long long)(memlock_needed(pool_bytes) / 1024));
    }
}

int rdma_device_numa_node(const char *device) {
    char path[256], text[32];

    (void)snprintf(path, sizeof(path), "/sys/class/infiniband/%.63s/device/numa_node", device);
    read_line(path, text, sizeof(text));
    return text[0] ? atoi(text) : -1;
}

static void look_at(struct rdma_device_report *r, struct ibv_device *device, uint64_t pool_bytes) {
    struct ibv_context *verbs;

    *r = (struct rdma_device_report){.numa_node = -1};
    (void)snprintf(r->name, sizeof(r->name), "%.63s", ibv_get_device_name(device));
    r->numa_node = rdma_device_numa_node(r->name);
    verbs = ibv_open_device(device);
    if (!verbs) {
        (void)snprintf(r->why, sizeof(r->why),
                       "it cannot be opened: %s: give the agent's user read and write permission "
                       "for /dev/infiniband/uverbs* and rdma_cm (a udev rule, or a group)",
                       strerror(errno));
        return;
    }
    if (access(cm_device, R_OK | W_OK) != 0) {
        (void)snprintf(r->why, sizeof(r->why), "%s: %s: %s", cm_device, strerror(errno),
                       errno == ENOENT ? "load the module rdma_ucm"
                                       : "give the agent's user read and write permission");
    } else {
        look_at_port(r, verbs);
        if (!r->why[0]) {
            look_at_memory(r, verbs, pool_bytes);
        }
    }
    (void)ibv_close_device(verbs);
}

enum err transport_rdma_check(uint64_t pool_bytes, struct rdma_device_report *ret_reports,
                              size_t *ret_n, struct failure *ret_failure) {
    int n = 0;
    struct ibv_device **all = ibv_get_device_list(&n);
    size_t filled = 0;

    if (!all || n == 0) {
        enum err e = failure_set(ret_failure, ERR_NOT_FOUND, "open RDMA device", NULL, 0,
                                 "this node has no RDMA device");
        failure_remedy(ret_failure, "load the driver of the adapter and install the package "
                                    "ibverbs-providers; ibv_devices must name it");
        if (all) {
            ibv_free_device_list(all);
        }
        return e;
    }
    for (int i = 0; i < n && filled < RDMA_REPORTS_MAX; i++) {
        look_at(&ret_reports[filled++], all[i], pool_bytes > 0 ? pool_bytes : RDMA_POOL_BYTES);
    }
    ibv_free_device_list(all);
    *ret_n = filled;
    return OK;
}
